"""What users may ask of a model's interface: a fixed batch, other outputs, another layout of images; and the promise
that names and order of inputs and outputs stay."""

from __future__ import annotations

from collections.abc import Iterable

from deploykit.errors import InputError, VerifyError
from deploykit.graph import Dim, Graph, Value
from deploykit.ops import GraphBuilder
from deploykit.ops.infer import infer_graph

LAYOUTS = ("nchw", "nhwc")
_CHANNELS_FIRST = ("onnx", "pytorch")  # formats whose images are NCHW


def names(graph: Graph) -> tuple[list[str], list[str]]:
    """Names of inputs and outputs, in order."""
    return [v.name for v in graph.inputs], graph.public_outputs


def hold(before: tuple[list[str], list[str]], graph: Graph, when: str) -> None:
    """Raise VerifyError unless the graph has the names that it had, in the same order: a promise to who wrote the model."""
    for what, a, b in zip(("inputs", "outputs"), before, names(graph), strict=True):
        if a != b:
            raise VerifyError(f"{when} changed the names or the order of the {what}: {a} became {b}. Please report it.")


def fix_batch(graph: Graph, size: int) -> None:
    """Give the leading dim of every input this size; raises InputError where a model says another one.

    Symbols are replaced in all inputs, so dims that follow from the batch follow here too.
    """
    env: dict[str, int | Dim] = {}
    for v in graph.inputs:
        d = v.shape[0] if v.shape else None
        if isinstance(d, int) and d != size:
            raise InputError(
                f"--fix-batch: input '{v.name}' has a batch of {d} for ever; got {size}. Export the model with an open batch."
            )
        if isinstance(d, Dim):
            if len(d.terms) != 1 or d != Dim.symbol(next(iter(d.names))):
                raise InputError(f"--fix-batch: the leading dim of input '{v.name}' is {d}, which is no plain batch.")
            env[next(iter(d.names))] = size
    for v in graph.inputs:
        if v.shape is not None:
            v.shape = tuple(d.subs(env) if isinstance(d, Dim) else d for d in v.shape)
    infer_graph(graph)


def select_outputs(graph: Graph, wanted: Iterable[str]) -> None:
    """Let the graph give these, in this order: outputs by their names, or inner tensors by theirs.

    Inputs stay, also those that are no longer needed.  Raises InputError for names that are not there.
    """
    public = dict(zip(graph.public_outputs, graph.outputs, strict=True))
    inner = {v.name: v for n in graph.nodes for v in n.outputs if v is not None}
    chosen: list[Value] = []
    given = list(wanted)
    for name in given:
        v = public.get(name) or inner.get(name)
        if v is None:
            import difflib

            near = difflib.get_close_matches(name, [*public, *inner], 3)
            hint = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
            raise InputError(
                f"--outputs: there is no tensor '{name}'; the outputs are {', '.join(map(repr, public))}.{hint}"
            )
        chosen.append(v)
    graph.outputs, graph.output_names = chosen, given


def source_layout(graph: Graph) -> str:
    """The layout of images in the format that the model came from."""
    return "nchw" if graph.metadata.get("source_format", "onnx") in _CHANNELS_FIRST else "nhwc"


def set_layout(graph: Graph, layout: str) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Let inputs and outputs of rank 4 come and go in this layout.

    Returns the perms that bring the old form of each changed input and output into the new one.  The transposes that
    this needs usually meet those of the model and vanish.
    """
    if layout not in LAYOUTS:
        raise InputError(f"--io-layout: got {layout!r}, expected nchw or nhwc.")
    if layout == source_layout(graph):
        return {}, {}
    there, back = ((0, 2, 3, 1), (0, 3, 1, 2)) if layout == "nhwc" else ((0, 3, 1, 2), (0, 2, 3, 1))
    builder = GraphBuilder(graph)
    old_nodes, graph.nodes = graph.nodes, []
    changed_in: dict[str, tuple[int, ...]] = {}
    replaced: dict[Value, Value] = {}
    for i, v in enumerate(graph.inputs):
        if v.shape is None or len(v.shape) != 4:
            continue
        new = Value(v.name, v.dtype, tuple(v.shape[p] for p in there), quant=v.quant)
        graph.inputs[i] = new
        replaced[v] = builder.op("transpose", new, perm=back, out=f"{v.name}/{layout}")
        changed_in[v.name] = there
    for n in old_nodes:
        n.inputs = [replaced.get(x, x) if x is not None else None for x in n.inputs]
    graph.nodes += old_nodes
    changed_out: dict[str, tuple[int, ...]] = {}
    public = graph.public_outputs
    outputs = []
    for v, name in zip(graph.outputs, public, strict=True):
        v = replaced.get(v, v)
        if v.shape is not None and len(v.shape) == 4:
            v = builder.op("transpose", v, perm=there, out=f"{name}/{layout}")
            changed_out[name] = there
        outputs.append(v)
    graph.outputs, graph.output_names = outputs, public
    graph.metadata["io_layout"] = layout
    infer_graph(graph)
    return changed_in, changed_out
