"""PyTorch importer: exported programs (``torch.export``) by their aten ops.

* ``reader``: a program in memory or a ``.pt2`` file; TorchScript and pickles are refused with the way to go.
* ``importer``: parameters, buffers (those that are written become variables), dims, nodes; every problem at once.
* ``call``: what a handler sees.  ``handlers_*``: aten ops by family.

torch is the user's own install and is imported here only.
"""

from deploykit.converters.importers.pytorch.importer import import_pytorch

__all__ = ["import_pytorch"]
