"""Functions: local ones of the model, and ops whose meaning ONNX itself gives as a body of simpler ops.

The second kind is the safety net of the importer: an op without a handler of ours is taken apart as the standard says.
"""

from __future__ import annotations

import functools
from typing import Any

from deploykit.converters.importers.onnx.call import Call
from deploykit.converters.importers.onnx.reader import enum_of
from deploykit.converters.importers.onnx.scope import Optional, Sequence
from deploykit.errors import FormatError
from deploykit.graph import Dim, Value


def schema_of(domain: str, op_type: str, version: int) -> Any:
    """The op's schema in that version of its domain's operator set, or None when ONNX does not define it."""
    import onnx

    try:
        return onnx.defs.get_schema(op_type, version, domain)
    except (onnx.defs.SchemaError, TypeError):  # TypeError: a version that no C int holds
        return None


@functools.lru_cache(512)
def attributes_of(domain: str, op_type: str, since: int) -> dict[str, tuple[str, int, bool]]:
    """Name -> (kind, its number, whether it must be written) of the attributes that ONNX gives the op."""
    schema = schema_of(domain, op_type, since)
    if schema is None:
        return {}
    return {k: (a.type.name, int(a.type.value), a.required) for k, a in schema.attributes.items()}


def has_body(schema: Any) -> bool:
    """Whether ONNX defines the op by simpler ones."""
    return schema is not None and (schema.has_function or schema.has_context_dependent_function)


def standard_body(call: Call, schema: Any) -> Any:
    """The FunctionProto for this node, or None when the standard gives none for its inputs."""
    import onnx

    fitting = [v for v in schema.function_opset_versions if v <= call.version]
    plain = bool(fitting) or (schema.has_function and schema.function_opset_versions)
    if plain:
        version = max(fitting) if fitting else min(schema.function_opset_versions)
        data = schema.get_function_with_opset_version(version)
    else:
        versions = schema.context_dependent_function_opset_versions
        fitting = [v for v in versions if v <= call.version]
        version = max(fitting) if fitting else min(versions)
        node = onnx.NodeProto()
        node.CopyFrom(call.proto)
        del node.attribute[:]
        for name, a in call.attr_protos().items():
            node.attribute.add().CopyFrom(a)
            node.attribute[-1].name = name
            node.attribute[-1].ClearField("ref_attr_name")
        for name, declared in schema.attributes.items():
            if name not in call.attr_names() and declared.default_value is not None and declared.default_value.type:
                node.attribute.add().CopyFrom(declared.default_value)
        types = [_type_of(call.item(i)).SerializeToString() for i in range(call.n)]
        try:
            data = schema.get_context_dependent_function_with_opset_version(version, node.SerializeToString(), types)
        except RuntimeError as e:  # onnx writes attributes and names into a text, and parses that
            raise FormatError(f"onnx makes no body of it: {str(e)[:120]}") from None
    if not data:
        return None
    f = onnx.FunctionProto()
    f.ParseFromString(data)
    for name, declared in schema.attributes.items():  # defaults that the body refers to
        if declared.default_value is not None and declared.default_value.type:
            f.attribute_proto.add().CopyFrom(declared.default_value)
            f.attribute_proto[-1].name = name
    return f


def _type_of(item: Any) -> Any:
    from onnx import TypeProto

    t = TypeProto()
    if isinstance(item, Optional):
        item = item.item
    if isinstance(item, Sequence):
        inner = _type_of(item.items[0]) if item.items else TypeProto()
        t.sequence_type.elem_type.CopyFrom(inner)
    elif isinstance(item, Value) and item.dtype is not None:
        t.tensor_type.elem_type = enum_of(item.dtype)
        if item.shape is not None:
            t.tensor_type.shape.SetInParent()
            for d in item.shape:
                dim = t.tensor_type.shape.dim.add()
                if isinstance(d, Dim):
                    dim.dim_param = str(d)
                else:
                    dim.dim_value = d
    return t
