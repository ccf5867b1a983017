"""TFLite models of one operator, written table by table (not by our exporter's rules)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploykit.converters.exporters.tflite.writer import Table, options, pack
from deploykit.converters.ir.tflite_schema import BUILTINS, TYPES

_TYPES = {t.lower(): i for i, t in enumerate(TYPES)}


@dataclass
class Quant:
    """Scale and zero point of a tensor, per tensor or along an axis."""

    scale: Any
    zero: Any = 0
    axis: int = 0


@dataclass
class Case:
    """One operator: inputs (``fixed`` ones baked in), options, dtypes of the outputs, quantization by tensor."""

    op: str
    inputs: list[np.ndarray | None]
    fixed: tuple[int, ...] = ()
    kind: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("float32",)
    quant: dict[str, Quant] = field(default_factory=dict)  # "0", "1" for inputs, "y0" for outputs
    version: int = 1
    loose: float = 2e-6  # of the largest output
    name: str = ""
    custom: bytes | None = None
    variables: tuple[int, ...] = ()  # inputs that are state: kept between runs, zero at first

    @property
    def id(self) -> str:
        """For pytest."""
        return f"{self.op}{'-' + self.name if self.name else ''}"

    def feeds(self) -> dict[str, np.ndarray]:
        """The inputs that are not baked in."""
        return {
            f"x{i}": a for i, a in enumerate(self.inputs) if a is not None and i not in (*self.fixed, *self.variables)
        }


def model(case: Case, open_batch: bool = False) -> bytes:
    """The file's bytes."""
    buffers, tensors = [Table("Buffer")], []
    ins, entries = [], []

    def tensor(name: str, dtype: str, shape: Any, buffer: int, q: Quant | None, entry: bool = False) -> int:
        extra: dict[str, Any] = {}
        if q is not None:
            scale = np.atleast_1d(np.asarray(q.scale, np.float32))
            zero = np.broadcast_to(np.asarray(q.zero, np.int64), scale.shape)
            extra["quantization"] = Table(
                "QuantizationParameters", scale=scale, zero_point=zero, quantized_dimension=q.axis
            )
        if entry and open_batch and len(shape):
            extra["shape_signature"] = [-1, *shape[1:]]
        tensors.append(Table("Tensor", name=name, type=_TYPES[dtype], shape=list(shape), buffer=buffer, **extra))
        return len(tensors) - 1

    for i, a in enumerate(case.inputs):
        if a is None:
            ins.append(-1)
            continue
        fixed = i in case.fixed or i in case.variables
        if i in case.fixed:
            buffers.append(Table("Buffer", data=np.ascontiguousarray(a).reshape(-1).view(np.uint8)))
        at = len(buffers) - 1 if i in case.fixed else 0
        ins.append(tensor(f"x{i}", a.dtype.name, a.shape, at, case.quant.get(str(i)), not fixed))
        if i in case.variables:
            tensors[-1].fields["is_variable"] = True
        if not fixed:
            entries.append(ins[-1])
    outs = [tensor(f"y{i}", d, [], 0, case.quant.get(f"y{i}")) for i, d in enumerate(case.outputs)]
    extra = options(case.kind, **case.fields) if case.kind else {}
    custom = case.op.startswith("CUSTOM:")
    code = BUILTINS.index("CUSTOM" if custom else case.op)
    if custom:
        extra["custom_options"] = np.frombuffer(case.custom or b"", np.uint8)
    op = Table("Operator", opcode_index=0, inputs=ins, outputs=outs, **extra)
    row = Table("OperatorCode", deprecated_builtin_code=min(code, 127), builtin_code=code, version=case.version)
    if custom:
        row.fields["custom_code"] = case.op[7:]
    graph = Table("SubGraph", tensors=tensors, inputs=entries, outputs=outs, operators=[op], name="main")
    return pack(
        Table("Model", version=3, operator_codes=[row], subgraphs=[graph], buffers=buffers, description="one op")
    )
