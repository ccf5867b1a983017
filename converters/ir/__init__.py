"""Editing machinery over :mod:`deploykit.graph`: walking and cloning, the rewriter, patterns, checks, layouts."""
