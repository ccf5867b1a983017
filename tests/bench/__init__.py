"""Benchmark programs (not tests: nothing here asserts on time)."""
