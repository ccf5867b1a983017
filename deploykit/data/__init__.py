"""Data pipelines (``dk.data.Dataset``) and the small data sets that ship with Deploykit.

>>> Dataset.range(5).map(lambda x: x * x).batch(2).as_list()
[array([0, 1]), array([4, 9]), array([16])]
"""

from __future__ import annotations

from deploykit.data.dataset import Dataset
from deploykit.data.sources import digits, fashion_mnist, idx

__all__ = ["Dataset", "digits", "fashion_mnist", "idx"]
