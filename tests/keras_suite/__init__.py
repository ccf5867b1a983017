"""Keras' own tests, straight from its wheel, on a backend: ``python -m tests.keras_suite --help``."""
