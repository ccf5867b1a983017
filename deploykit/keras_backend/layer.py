"""The mixin of ``keras.Layer``: nothing to add."""


class BackendLayer:
    """Keras' own layer is enough."""
