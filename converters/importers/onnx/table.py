"""ONNX ops that are ours under another name: taken from the passports' ``onnx`` names, attrs matched by name.

An entry says: same operands in the same order, attrs of the same meaning.  Attr defaults come from the ONNX schema of
the op's version, so that a default that differs between the two cannot slip through.
"""

from __future__ import annotations

from typing import Any

from deploykit.converters.importers.onnx.call import Call, attribute_value
from deploykit.errors import UnsupportedError
from deploykit.ops.core import REGISTRY, Op

# first opset version in which the op has the form that the passport describes (older forms have handlers)
SINCE = {"Clip": 11, "Slice": 10, "TopK": 10, "Reshape": 5}
# our attr -> ONNX attribute, where the names differ
RENAMED = {
    "allow_zero": "allowzero",
    "select_last": "select_last_index",
}


def find_op(domain: str, op_type: str, version: int) -> Op | None:
    """The passport that an ONNX op maps onto 1:1 in this opset version, or None."""
    if domain:
        return None
    if not _by_onnx:
        _by_onnx.update({p.names["onnx"]: p for p in REGISTRY.values() if "onnx" in p.names})
    p = _by_onnx.get(op_type)
    return p if p is not None and version >= SINCE.get(op_type, 1) else None


_by_onnx: dict[str, Op] = {}


def apply(call: Call, p: Op, schema: Any) -> Any:
    """Emit the op for the node; raises UnsupportedError on an attribute it cannot express."""
    ours = {RENAMED.get(a, a): a for a in p.attrs}
    attrs = {}
    for name, declared in (schema.attributes if schema is not None else {}).items():
        if call.has(name):
            value = call.attr(name)
        elif declared.default_value is not None and declared.default_value.type:
            value = attribute_value(declared.default_value)
        else:
            continue
        if name in ours:
            attrs[ours[name]] = value
        elif call.has(name):
            raise UnsupportedError(f"attribute '{name}' = {value!r} has no counterpart in our op '{p.name}'")
    inputs = [call.opt(i) for i in range(call.n)]
    if len(p.results) == 1 and not p.results[0].variadic:
        return call.op(p.name, *inputs, **attrs)
    return call.op(p.name, *inputs, outputs=len(call.outputs), **attrs)
