"""What was given -> ExportedProgram, taken apart into the ops that the handlers know."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploykit.converters.importers.pytorch.guard import check_members, guarded, refused
from deploykit.errors import FormatError, InputError, UnsupportedError
from deploykit.graph.growth import check_bytes, check_shape, open_zip
from deploykit.graph.sniff import what_is

_WAY = "Export it where the model's code is: torch.export.save(torch.export.export(model.eval(), (example_input,)), 'm.pt2')"
# composite ops that are imported whole; torch would take them apart into many small ones
KEEP = (
    "lstm.input gru.input rnn_tanh.input rnn_relu.input scaled_dot_product_attention.default linear.default "
    "conv1d.default conv2d.default conv3d.default conv2d.padding conv1d.padding conv_transpose1d.default "
    "conv_transpose2d.input conv_transpose3d.input batch_norm.default layer_norm.default group_norm.default "
    "rms_norm.default hardswish.default hardsigmoid.default silu.default mish.default softplus.default relu6.default "
    "hardtanh.default leaky_relu.default prelu.default selu.default celu.default matmul.default pixel_shuffle.default "
    "pixel_unshuffle.default upsample_nearest1d.vec upsample_nearest2d.vec upsample_bilinear2d.vec upsample_linear1d.vec "
    "upsample_nearest2d.default upsample_bilinear2d.default upsample_bicubic2d.vec upsample_bicubic2d.default "
    "adaptive_avg_pool2d.default adaptive_avg_pool1d.default max_pool2d.default max_pool1d.default softmax.int "
    "log_softmax.int dropout.default einsum.default cumprod.default logsumexp.default grid_sampler_2d.default "
    "grid_sampler.default chunk.default unbind.int stack.default instance_norm.default log_sigmoid.default "
    "avg_pool1d.default one_hot.default linalg_vector_norm.default reflection_pad2d.default reflection_pad1d.default "
    "replication_pad2d.default replication_pad1d.default tril.default triu.default masked_fill.Scalar "
    "masked_fill.Tensor roll.default index_fill.int_Scalar softshrink.default hardshrink.default threshold.default "
    "std.correction var_mean.correction addcmul.default addcdiv.default baddbmm.default im2col.default col2im.default "
    "meshgrid.indexing movedim.intlist narrow.default unfold_backward.default"
).split()


def torch_module() -> Any:
    """The installed torch, or an error that says how to get one."""
    try:
        import torch
    except ImportError:
        raise UnsupportedError("PyTorch models need torch, which is not installed: pip install torch") from None
    return torch


def read_program(source: Any) -> Any:
    """An ExportedProgram out of a path or as given, decomposed to the ops that handlers know."""
    torch = torch_module()
    if isinstance(source, (str, os.PathLike)):
        source = _load(torch, Path(source))
    if not isinstance(source, torch.export.ExportedProgram):
        if isinstance(source, torch.jit.ScriptModule):
            raise UnsupportedError(f"a TorchScript module cannot be imported; it holds code, not a graph. {_WAY}")
        if isinstance(source, torch.nn.Module):
            raise InputError(f"a module alone says nothing of its inputs. {_WAY}, or give the program itself")
        raise InputError(
            f"got {type(source).__name__}, expected torch.export.ExportedProgram or the path of a .pt2 file."
        )
    table = torch.export.default_decompositions()
    for name in KEEP:
        op, _, overload = name.partition(".")
        target = getattr(getattr(torch.ops.aten, op, None), overload, None)
        if target is not None and target in table:
            del table[target]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return source.run_decompositions(table)


def _load(torch: Any, path: Path) -> Any:
    with open(path, "rb") as f:
        head = f.read(512)
    if not head.startswith(b"PK\x03\x04"):
        kind = what_is(head)
        if kind is not None and "pickle" in kind:
            raise UnsupportedError(
                f"{path.name} is a Python pickle, which could run any code: it is not loaded. {_WAY}"
            )
        raise FormatError(f"{path.name} is not a .pt2 file" + (f": it is {kind}." if kind else "."))
    size = path.stat().st_size
    with open_zip(path, path.name, size) as z:
        names = z.namelist()
    if any(n.endswith(("constants.pkl", ".debug_pkl")) or "/code/" in n for n in names) and not _exported(names):
        raise UnsupportedError(f"{path.name} is a TorchScript file; it holds code, not a graph. {_WAY}")
    if not _exported(names):
        what = "a checkpoint (a pickle of weights)" if any(n.endswith("data.pkl") for n in names) else "a zip file"
        raise UnsupportedError(
            f"{path.name} is {what}, not an exported program: the network itself is not in it. {_WAY}"
        )
    check_members(path.name, names, _WAY)
    with warnings.catch_warnings(), guarded(torch), _quiet():
        warnings.simplefilter("ignore")
        try:
            program = torch.export.load(str(path))
        except Exception as e:  # torch raises many kinds here
            why = refused(e)
            if why is not None:
                raise UnsupportedError(
                    f"{path.name} holds {why}, which could run any code: it is not loaded. {_WAY}"
                ) from None
            text = str(e).splitlines()[0] if str(e) else type(e).__name__
            raise FormatError(f"{path.name}: torch {torch.__version__} cannot load it: {text}") from e
    taken = 0
    for k, t in {**program.state_dict, **program.constants}.items():
        if isinstance(t, torch.Tensor):  # strides of 0 make much of little
            taken += check_shape(f"{path.name}: weight '{k}'", t.shape, t.element_size()) * t.element_size()
            check_bytes(f"{path.name}: weight '{k}'", taken, size)
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """torch logs what it is about to raise."""
    log = logging.getLogger("torch")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def _exported(names: list[str]) -> bool:
    """Whether a zip's names are those of an exported program, in the forms of torch 2.1 to today."""
    marks = ("archive_format", "serialized_exported_program.json", "archive_version")
    return any(n.rsplit("/", 1)[-1] in marks or "/models/" in f"/{n}" for n in names)
