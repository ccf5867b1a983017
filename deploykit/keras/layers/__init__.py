"""Layers with Keras 3's names, arguments and defaults; all channels last.

Each file of this folder is imported when one of its layers is first asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

from deploykit.keras.layers.base import InputSpec, Layer  # noqa: F401

# file: what it offers (tests/keras/test_layers.py holds the two together)
_NAMES = {
    "core": """Activation ActivityRegularization Add AlphaDropout Average Concatenate Cropping1D Cropping2D Cropping3D Dense
    Dot Dropout ELU EinsumDense Embedding Flatten GaussianDropout GaussianNoise Identity Lambda LeakyReLU Masking
    Maximum Minimum Multiply PReLU Permute ReLU RepeatVector Reshape Softmax SpatialDropout1D SpatialDropout2D
    SpatialDropout3D Subtract UpSampling1D UpSampling2D UpSampling3D Wrapper ZeroPadding1D ZeroPadding2D
    ZeroPadding3D add average concatenate dot maximum minimum multiply subtract""",
    "conv": """AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D AdaptiveMaxPooling1D
    AdaptiveMaxPooling2D AdaptiveMaxPooling3D AveragePooling1D AveragePooling2D AveragePooling3D AvgPool1D
    AvgPool2D AvgPool3D Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose Convolution1D
    Convolution2D Convolution3D Convolution1DTranspose Convolution2DTranspose Convolution3DTranspose DepthwiseConv1D DepthwiseConv2D GlobalAveragePooling1D GlobalAveragePooling2D
    GlobalAveragePooling3D GlobalAvgPool1D GlobalAvgPool2D GlobalAvgPool3D GlobalMaxPool1D GlobalMaxPool2D
    GlobalMaxPool3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D MaxPool1D MaxPool2D MaxPool3D
    MaxPooling1D MaxPooling2D MaxPooling3D SeparableConv1D SeparableConv2D SeparableConvolution1D
    SeparableConvolution2D""",
    "audio": "MelSpectrogram STFTSpectrogram",
    "norm": """BatchNormalization GroupNormalization LayerNormalization RMSNormalization SpectralNormalization
    UnitNormalization""",
    "attention": """AdditiveAttention Attention GroupQueryAttention MultiHeadAttention""",
    "rnn": """Bidirectional ConvLSTM1D ConvLSTM2D ConvLSTM3D GRU GRUCell LSTM LSTMCell RNN SimpleRNN SimpleRNNCell
    StackedRNNCells TimeDistributed""",
    "preprocessing": """AugMix CategoryEncoding CenterCrop CutMix Discretization MixUp Normalization RandAugment
    RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop RandomElasticTransform
    RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHue RandomInvert RandomPerspective
    RandomPosterization RandomRotation RandomSaturation RandomSharpness RandomShear RandomTranslation RandomZoom
    Rescaling Resizing""",
    "text": "IntegerLookup StringLookup TextVectorization",
}  # fmt: skip
_FILE_OF = {name: file for file, names in _NAMES.items() for name in names.split()}
__all__ = sorted(["InputSpec", "Layer", *_FILE_OF])


def load_all() -> None:
    """Import every file: then all layer classes are known by name, which reading a saved model relies on."""
    for file in (*_NAMES, "foreign"):
        importlib.import_module(f"deploykit.keras.layers.{file}")


def __getattr__(name: str) -> Any:
    if name in _FILE_OF:
        globals()[name] = found = getattr(importlib.import_module(f"deploykit.keras.layers.{_FILE_OF[name]}"), name)
        return found
    # Input and InputLayer live with the functional models, which stand above the layers
    if name in ("Input", "InputLayer"):
        from deploykit.keras.models import functional

        return getattr(functional, name)
    if name in _NAMES:
        return importlib.import_module(f"deploykit.keras.layers.{name}")
    raise AttributeError(f"module 'deploykit.keras.layers' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
