"""The import hook: adds our name to the lists of backends in Keras' sources while they are imported."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType

from deploykit.errors import UnsupportedError

VERSIONS = "3.15"
_HOME = "deploykit.keras_backend"

# module of Keras: pairs of (a passage of its source, what stands before it for us)
GATES: dict[str, list[tuple[str, str]]] = {
    "keras.src.backend": [
        (
            'else:\n    raise ValueError(f"Unable to import backend',
            'elif backend() == "deploykit":\n'
            f"    from {_HOME}.backend import *\n"
            f"    from {_HOME}.core import Variable as BackendVariable\n"
            "    distribution_lib = None\n",
        ),
    ],
    "keras.src.models.model": [
        (
            "else:\n    raise RuntimeError(\n",
            f'elif backend.backend() == "deploykit":\n    from {_HOME}.trainer import Trainer\n',
        ),
        (
            "        from keras.src.export import export_litert\n",
            '        if backend.backend() == "deploykit":\n'
            f"            from {_HOME}.export import export, suffix_of\n\n"
            "            if suffix_of(filepath, format) or format == 'tf_saved_model':\n"
            "                return export(self, filepath, format, input_signature=input_signature, **kwargs)\n",
        ),
    ],
    "keras.src.layers.layer": [
        (
            "else:\n    raise RuntimeError(\n",
            f'elif backend.backend() == "deploykit":\n    from {_HOME}.layer import BackendLayer\n',
        ),
    ],
    # inner loops that our engine has in one op (fused.py)
    "keras.src.optimizers.optimizer": [
        (
            "else:\n\n    class BackendOptimizer(base_optimizer.BaseOptimizer):\n",
            f'elif backend.backend() == "deploykit":\n    from {_HOME}.fused import Optimizer as BackendOptimizer\n',
        ),
    ],
    "keras.src.layers.normalization.batch_normalization": [
        (
            "        if training and self.trainable:\n            mean, variance = self._moments(inputs, mask)\n",
            f"        from {_HOME}.fused import batch_normalization\n\n"
            "        outputs = batch_normalization(self, inputs, gamma, beta, training, mask)\n"
            "        if outputs is not None:\n"
            "            return ops.cast(outputs, self.compute_dtype)\n",
        ),
    ],
    "keras.src.ops.nn": [
        (
            '    elif backend.config.backend() == "torch" and is_continuous_axis(axis):\n',
            "    elif [a % ndims for a in axis] == list(range(ndims - len(axis), ndims)):\n"
            f"        from {_HOME}.fused import layer_norm\n\n"
            "        outputs = layer_norm(x, gamma, beta, axis, epsilon)\n",
        ),
    ],
    "keras.src.utils.backend_utils": [
        (
            '        if self._backend == "openvino":\n            module',
            '        if self._backend == "deploykit":\n            return getattr(backend_module, name)\n',
        ),
    ],
    "keras.src.export.saved_model": [
        (
            "else:\n    raise RuntimeError(\n",
            f'elif backend.backend() == "deploykit":\n    from {_HOME}.export import BackendSavedModelExportArchive\n',
        ),
    ],
}


class _Loader(SourceFileLoader):
    """Compiles a file of Keras with our entry in its list of backends; reads and writes no bytecode."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        text = self.get_data(path).decode()
        for passage, ours in GATES[fullname]:
            if text.count(passage) != 1:
                raise UnsupportedError(
                    f"keras_backend: {path} is not of Keras {VERSIONS}: it has {text.count(passage)} times what we look for. "
                    f"Install a version that fits: pip install 'keras=={VERSIONS}.*'"
                )
            text = text.replace(passage, ours + passage)
        return compile(text, path, "exec", dont_inherit=True)


class Finder:
    """Answers for the modules of :data:`GATES`, and only for our backend."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The module's own spec, loaded through the patch."""
        if name not in GATES or _chosen() not in (None, "deploykit"):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.origin is None:
            return None
        loader = _Loader(name, spec.origin)
        made = ModuleSpec(name, loader, origin=spec.origin, is_package=spec.submodule_search_locations is not None)
        made.submodule_search_locations = spec.submodule_search_locations
        made.has_location = True
        return made


def _chosen() -> str | None:
    """The backend that Keras has chosen, None before it has."""
    config = sys.modules.get("keras.src.backend.config")
    return None if config is None or not hasattr(config, "backend") else config.backend()
