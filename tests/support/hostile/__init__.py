"""Model files made to do harm: to fill memory, to run without end, to read other files, to run code.

Each function writes one into a folder and returns its path (or an action that uses it).  ``CASES`` names them all.
"""

from tests.support.hostile import keras_files, onnx_files, tfjs_files, tflite_files, torch_files
from tests.support.hostile.cases import CASES

__all__ = ["CASES", "keras_files", "onnx_files", "tfjs_files", "tflite_files", "torch_files"]
