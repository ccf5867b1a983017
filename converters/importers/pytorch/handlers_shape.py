"""Views, joins, cuts, pads, indexing, making tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.converters.importers.pytorch.call import Call, Complex, handles
from deploykit.errors import UnsupportedError
from deploykit.graph import Value

_END = 2**63 - 1
_SAME = ("clone", "alias", "detach", "contiguous", "lift_fresh_copy", "lift", "_unsafe_alias", "expand_as_self",
         "conj", "resolve_conj", "resolve_neg", "detach_")  # fmt: skip


@handles(*_SAME)
def same(c: Call) -> Value:
    return c.op("identity", c.x())


@handles("_to_copy", "to.dtype", "to.dtype_layout", "to.device", "type_as", "_assert_tensor_metadata")
def to_copy(c: Call) -> Any:
    if "_assert" in str(c.node.target):
        return None
    x = c.x()
    if getattr(getattr(c.meta, "dtype", None), "is_complex", False) and not c.wants_part:
        re = c.cast(x, c.dtype)
        return Complex(re, c.op("sub", re, re))
    return c.cast(x, c.dtype) if x.dtype is not c.dtype else c.op("identity", x)


@handles("_assert_scalar", "sym_constrain_range_for_size", "sym_constrain_range", "_assert_async")
def assertion(c: Call) -> None:
    """Checks on sizes: the engine checks shapes itself."""
    return None


@handles("copy")
def copy(c: Call) -> Value:
    return c.op("expand", c.x("src", c.dtype), c.dims(c.x()))


@handles("view", "reshape", "_unsafe_view", "_reshape_alias", "view_copy")
def view(c: Call) -> Value:
    size = c.arg("size" if "size" in c.args else "shape")
    shape = c.vector(size)
    return c.op("reshape", c.x(), shape, allow_zero=True)


@handles("flatten")
def flatten(c: Call) -> Value:
    x = c.x()
    r = c.rank(x)
    a, b = c.axis(c.number("start_dim"), max(r, 1)), c.axis(c.number("end_dim"), max(r, 1))
    if r == 0:
        return c.reshape(x, 1)
    parts = [c.dims(x, 0, a), c.i64(-1), c.dims(x, b + 1, r)]
    return c.op("reshape", x, c.op("concat", *parts, axis=0))


@handles("unsqueeze")
def unsqueeze(c: Call) -> Value:
    x = c.x()
    return c.op("unsqueeze", x, c.i64(c.axis(c.number("dim"), c.rank(x) + 1)))


@handles("squeeze")
def squeeze(c: Call) -> Value:
    """Only dims of size 1 go away."""
    x = c.x()
    dims = c.dim_list("dim", x) if c.args.get("dim") is not None else list(range(c.rank(x)))
    gone = [d for d in dims if c.rank(x) and c.shape(x)[d] == 1]
    return c.op("squeeze", x, c.i64(*gone)) if gone else c.op("identity", x)


@handles("permute")
def permute(c: Call) -> Value:
    x = c.x()
    return c.transpose(x, [c.axis(d, c.rank(x)) for d in c.ints("dims")])


@handles("transpose.int", "t", "swapaxes", "transpose_copy")
def transpose(c: Call) -> Value:
    x = c.x()
    r = c.rank(x)
    if r < 2:
        return c.op("identity", x)
    a, b = (0, 1) if ".t." in str(c.node.target) else (c.axis(c.number("dim0"), r), c.axis(c.number("dim1"), r))
    perm = list(range(r))
    perm[a], perm[b] = b, a
    return c.transpose(x, perm)


@handles("movedim")
def movedim(c: Call) -> Value:
    x = c.x()
    r = c.rank(x)
    source, target = ([c.axis(d, r) for d in c.ints(k)] for k in ("source", "destination"))
    rest = iter(d for d in range(r) if d not in source)
    return c.transpose(x, [source[target.index(i)] if i in target else next(rest) for i in range(r)])


@handles("expand", "broadcast_to")
def expand(c: Call) -> Value:
    """-1 keeps a dim, which 1 does in ours."""
    size = [1 if isinstance(d, int) and d == -1 else d for d in c.arg("size")]
    return c.op("expand", c.x(), c.vector(size))


@handles("repeat")
def repeat(c: Call) -> Value:
    x, times = c.x(), c.arg("repeats")
    if len(times) > c.rank(x):
        x = c.op("unsqueeze", x, c.i64(*range(len(times) - c.rank(x))))
    return c.op("tile", x, c.vector(times))


@handles("repeat_interleave.self_int")
def repeat_interleave(c: Call) -> Value:
    x, times = c.x(), c.number("repeats")
    if c.args.get("dim") is None:
        x, dim = c.reshape(x, -1), 0
    else:
        dim = c.dim()
    r = c.rank(x)
    y = c.op("tile", c.op("unsqueeze", x, c.i64(dim + 1)), c.i64(*[times if i == dim + 1 else 1 for i in range(r + 1)]))
    shape = [c.dims(y, 0, dim), c.i64(-1), c.dims(y, dim + 2, r + 1)]
    return c.op("reshape", y, c.op("concat", *shape, axis=0))


@handles("cat", "concat", "concatenate")
def cat(c: Call) -> Value:
    """Old models join empty vectors to tensors of any rank: those are left out."""
    xs = [c.cast(x, c.dtype) for x in c.arg("tensors") if x.shape != (0,) or len(c.arg("tensors")) == 1]
    if not xs:
        xs = c.arg("tensors")[:1]
    return xs[0] if len(xs) == 1 else c.op("concat", *xs, axis=c.axis(c.number("dim"), c.rank(xs[0])))


@handles("stack")
def stack(c: Call) -> Value:
    xs = [c.cast(x, c.dtype) for x in c.arg("tensors")]
    dim = c.axis(c.number("dim"), c.rank(xs[0]) + 1)
    each = [c.op("unsqueeze", x, c.i64(dim)) for x in xs]
    return each[0] if len(each) == 1 else c.op("concat", *each, axis=dim)


@handles("split", "split_with_sizes", "chunk", "tensor_split", "split_copy", "split_with_sizes_copy")
def split(c: Call) -> list[Value]:
    x, dim = c.x(), c.dim()
    metas = c.meta
    sizes = [m.shape[dim] for m in metas]
    if not all(isinstance(s, int) for s in sizes):
        raise UnsupportedError("into parts of open sizes")
    if len(sizes) == 1:
        return [c.op("identity", x)]
    return c.op("split", x, c.i64(*sizes), outputs=len(sizes), axis=dim)


@handles("unbind")
def unbind(c: Call) -> list[Value]:
    x, dim = c.x(), c.dim()
    n = len(c.meta)
    parts = [x] if n == 1 else c.op("split", x, c.i64(*[1] * n), outputs=n, axis=dim)
    return [c.op("squeeze", p, c.i64(dim)) for p in parts]


@handles("slice.Tensor", "slice_copy")
def slice_(c: Call) -> Value:
    x, dim = c.x(), c.dim()
    start, end = c.arg("start"), c.arg("end")
    start = 0 if start is None else start
    end = _END if end is None else end
    if isinstance(start, int) and start == 0 and isinstance(end, int) and end >= _END and c.number("step") == 1:
        return c.op("identity", x)
    return c.op("slice", x, c.vector(start), c.vector(end), c.i64(dim), c.i64(c.number("step")))


@handles("narrow")
def narrow(c: Call) -> Value:
    x, dim = c.x(), c.dim()
    start, length = c.arg("start"), c.arg("length")
    end = (
        start + length
        if isinstance(start, int) and isinstance(length, int)
        else c.op("add", c.vector(start), c.vector(length))
    )
    return c.op("slice", x, c.vector(start), c.vector(end) if isinstance(end, int) else end, c.i64(dim))


@handles("select.int", "select_copy")
def select(c: Call) -> Value:
    index = c.arg("index")
    at = c.const(np.int64(index)) if isinstance(index, int) else c.cast(index, "int64")
    return c.op("gather", c.x(), at, axis=c.dim())


@handles("diagonal")
def diagonal(c: Call) -> Value:
    """Elements (i, i + offset) of two dims as the last dim."""
    x = c.x()
    r = c.rank(x)
    a, b = c.axis(c.number("dim1"), r), c.axis(c.number("dim2"), r)
    rows, cols = c.shape(x)[a], c.shape(x)[b]
    if not isinstance(rows, int) or not isinstance(cols, int):
        raise UnsupportedError("a diagonal of open sizes")
    k = c.number("offset")
    n = max(min(rows + min(k, 0), cols - max(k, 0)), 0)
    at = [[i - min(k, 0), i + max(k, 0)] for i in range(n)]
    rest = [i for i in range(r) if i not in (a, b)]
    y = c.op("gather_nd", c.transpose(x, (a, b, *rest)), c.const(np.array(at, np.int64).reshape(n, 2)))
    return c.transpose(y, (*range(1, r - 1), 0))


@handles("select_scatter", "slice_scatter")
def put_slice(c: Call) -> Value:
    """x with a slice replaced: by position, so that any step works."""
    x, src = c.x(), c.x("src")
    dim = c.dim()
    if "select_scatter" in str(c.node.target):
        index = c.arg("index")
        at = c.vector(index)
        src = c.op("unsqueeze", src, c.i64(dim))
        if isinstance(index, int) and index < 0:
            at = c.op("add", at, c.dims(x, dim, dim + 1))
    else:
        start, end, step = c.arg("start"), c.arg("end"), c.number("step")
        size = c.dims(x, dim, dim + 1)
        every = c.op("range", c.const(np.int64(0)), c.reshape(size), c.const(np.int64(1)))
        at = c.op(
            "slice",
            every,
            c.vector(0 if start is None else start),
            c.vector(_END if end is None else end),
            c.i64(0),
            c.i64(step),
        )
    if dim:
        r = c.rank(x)
        perm = (dim, *(i for i in range(r) if i != dim))
        back = tuple(perm.index(i) for i in range(r))
        y = c.op("scatter_nd", c.transpose(x, perm), c.op("unsqueeze", at, c.i64(-1)), c.transpose(src, perm))
        return c.transpose(y, back)
    return c.op("scatter_nd", x, c.op("unsqueeze", at, c.i64(-1)), src)


@handles("flip")
def flip(c: Call) -> Value:
    x = c.x()
    return c.op("reverse", x, axes=tuple(c.axis(d, c.rank(x)) for d in c.ints("dims")))


@handles("roll")
def roll(c: Call) -> Value:
    x = c.x()
    shifts, dims = c.ints("shifts"), c.ints("dims")
    if not dims:
        flat = c.reshape(x, -1)
        return c.op("reshape", rolled(c, flat, 0, shifts[0]), c.dims(x))
    for s, d in zip(shifts, dims, strict=True):
        x = rolled(c, x, c.axis(d, c.rank(x)), s)
    return x


def rolled(c: Call, x: Value, dim: int, shift: int) -> Value:
    """x moved along a dim, what falls out comes in at the other end."""
    size = c.shape(x)[dim]
    if isinstance(size, int):
        shift = shift % size if size else 0
    if not shift:
        return x
    tail = c.op("slice", x, c.i64(-shift), c.i64(_END), c.i64(dim))
    head = c.op("slice", x, c.i64(0), c.i64(-shift), c.i64(dim))
    return c.op("concat", tail, head, axis=dim)


# ---- pads: torch counts from the last dim
def pads(c: Call, amounts: list[Any], rank: int) -> Value:
    """[left, right, top, bottom ...] as all befores, then all afters."""
    before: list[Any] = [0] * rank
    after: list[Any] = [0] * rank
    for i in range(len(amounts) // 2):
        before[rank - 1 - i], after[rank - 1 - i] = amounts[2 * i], amounts[2 * i + 1]
    return c.vector([*before, *after])


@handles("constant_pad_nd")
def constant_pad(c: Call) -> Value:
    x = c.x()
    return c.op("pad", x, pads(c, c.arg("pad"), c.rank(x)), c.x("value", x.dtype))


@handles(
    "reflection_pad1d",
    "reflection_pad2d",
    "reflection_pad3d",
    "replication_pad1d",
    "replication_pad2d",
    "replication_pad3d",
)
def other_pad(c: Call) -> Value:
    x = c.x()
    mode = "reflect" if "reflection" in str(c.node.target) else "edge"
    return c.op("pad", x, pads(c, c.arg("padding"), c.rank(x)), mode=mode)


@handles("pad")
def pad(c: Call) -> Value:
    x = c.x()
    mode = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}[c.arg("mode")]
    value = c.args.get("value")
    fill = c.scalar(value or 0, x) if mode == "constant" else None
    return c.op("pad", x, pads(c, c.arg("pad"), c.rank(x)), fill, mode=mode)


# ---- indexing
@handles("index_select")
def index_select(c: Call) -> Value:
    return c.op("gather", c.x(), c.x("index"), axis=c.dim())


@handles("gather")
def gather(c: Call) -> Value:
    return c.op("gather_elements", c.x(), c.x("index"), axis=c.dim())


@handles("take_along_dim")
def take_along(c: Call) -> Value:
    return c.op("gather_elements", c.x(), c.x("indices"), axis=c.dim())


def index_tuples(c: Call, x: Value, indices: list[Value | None]) -> tuple[Value, list[int], int]:
    """(index tuples broadcast together, the dims they name, rank of the index)."""
    used = [i for i, v in enumerate(indices) if v is not None]
    given = [v for v in indices if v is not None]
    if any(v.dtype is dtypes.bool_ for v in given):
        raise UnsupportedError("indexing by a mask together with other indices")
    rank = max(c.rank(v) for v in given)
    given = [c.cast(v, "int64") for v in given]
    if len(given) == 1:
        return c.op("unsqueeze", given[0], c.i64(-1)), used, rank
    shapes = [c.shape(v) for v in given]
    if any(s != shapes[0] for s in shapes):
        total = given[0]
        for v in given[1:]:
            total = c.op("add", total, v)
        shape = c.dims(total)
        given = [c.op("expand", v, shape) for v in given]
    each = [c.op("unsqueeze", v, c.i64(-1)) for v in given]
    return c.op("concat", *each, axis=-1), used, rank


@handles("index.Tensor", "_unsafe_index")
def index(c: Call) -> Value:
    """NumPy's advanced indexing: adjacent index dims stay in place, separated ones come first."""
    x = c.x()
    indices: list[Value | None] = c.arg("indices")
    masks = [(i, v) for i, v in enumerate(indices) if v is not None and v.dtype is dtypes.bool_]
    if masks:
        if len([v for v in indices if v is not None]) > 1 or masks[0][0] != 0:
            raise UnsupportedError("indexing by a mask together with other indices")
        at = c.op("transpose", c.op("non_zero", masks[0][1]), perm=(1, 0))
        return c.op("gather_nd", x, at)
    used = [i for i, v in enumerate(indices) if v is not None]
    if len(used) == 1:
        only = indices[used[0]]
        assert only is not None
        return c.op("gather", x, only, axis=used[0])
    tuples, used, k = index_tuples(c, x, indices)
    r = c.rank(x)
    rest = [i for i in range(r) if i not in used]
    y = c.op("gather_nd", c.transpose(x, (*used, *rest)), tuples)
    if used != list(range(used[0], used[0] + len(used))) or used[0] == 0:
        return y
    n = used[0]  # the index dims go back to where the first of them was
    return c.transpose(y, (*range(k, k + n), *range(k), *range(k + n, k + len(rest))))


@handles("index_put", "_unsafe_index_put", "index_put_")
def index_put(c: Call) -> Value:
    x, values = c.x(), c.x("values", c.dtype)
    indices: list[Value | None] = c.arg("indices")
    add = bool(c.args.get("accumulate"))
    masks = [v for v in indices if v is not None and v.dtype is dtypes.bool_]
    if masks:
        if len([v for v in indices if v is not None]) > 1 or add or indices[0] is None:
            raise UnsupportedError("writing by a mask together with other indices")
        mask = masks[0]
        if c.rank(values) == 0 or values.shape == (1,):
            extra = c.rank(x) - c.rank(mask)
            if extra:
                mask = c.op("unsqueeze", mask, c.i64(*range(c.rank(mask), c.rank(x))))
            return c.op("where", mask, values if c.rank(values) == 0 else c.reshape(values), x)
        at = c.op("transpose", c.op("non_zero", mask), perm=(1, 0))
        return c.op("scatter_nd", x, at, values)
    tuples, used, k = index_tuples(c, x, indices)
    r = c.rank(x)
    rest = [i for i in range(r) if i not in used]
    if len(used) > 1 and used[0] != 0 and used == list(range(used[0], used[0] + len(used))) or used[0] != 0:
        # values come with the index dims in the place of the first indexed dim: bring those to the front
        n = used[0]
        full = k + len(rest)
        if c.rank(values) == full:
            values = c.transpose(values, (*range(n, n + k), *range(n), *range(n + k, full)))
        elif c.rank(values) != 0:
            raise UnsupportedError("values that must be broadcast while the first dims are not indexed")
    base = c.transpose(x, (*used, *rest))
    outer = c.dims(tuples, 0, k)
    shape = c.op("concat", outer, c.dims(base, len(used), r), axis=0) if rest else outer
    values = c.op("expand", values, shape)
    y = c.op("scatter_nd", base, tuples, values, reduction="add" if add else "none")
    perm = (*used, *rest)
    return c.transpose(y, tuple(perm.index(i) for i in range(r)))


@handles("scatter.src", "scatter.value", "scatter_add", "scatter.reduce", "scatter.value_reduce", "scatter_reduce")
def scatter(c: Call) -> Value:
    x, at = c.x(), c.x("index")
    how = c.args.get("reduce")
    if "scatter_add" in str(c.node.target):
        how = "add"
    kinds = {None: "none", "add": "add", "sum": "add", "multiply": "mul", "prod": "mul", "amax": "max", "amin": "min"}
    if how not in kinds or c.args.get("include_self") is False:
        raise UnsupportedError(f"reduction {how}, include_self {c.args.get('include_self')}")
    src = c.arg("src") if c.args.get("src") is not None else c.arg("value")
    if not isinstance(src, Value):
        src = c.op("fill", c.dims(at), c.scalar(src, x))
    elif c.shape(src) != c.shape(at):
        ends = c.dims(at)
        src = c.op("slice", src, c.i64(*[0] * c.rank(at)), ends, c.i64(*range(c.rank(at))))
    return c.op("scatter_elements", x, at, src, axis=c.dim(), reduction=kinds[how])


@handles("masked_scatter")
def masked_scatter(c: Call) -> Value:
    """Places where mask holds take the next elements of the source, in order."""
    x, mask = c.x(), c.x("mask")
    mask = c.op("expand", mask, c.dims(x))
    flat = c.reshape(mask, -1)
    at = c.op("transpose", c.op("non_zero", flat), perm=(1, 0))
    source = c.op("slice", c.reshape(c.x("source", c.dtype), -1), c.i64(0), c.dims(at, 0, 1), c.i64(0))
    return c.op("reshape", c.op("scatter_nd", c.reshape(x, -1), at, source), c.dims(x))


@handles("nonzero")
def nonzero(c: Call) -> Value:
    return c.op("transpose", c.op("non_zero", c.x()), perm=(1, 0))


@handles("sort", "topk")
def sort(c: Call) -> list[Value]:
    x = c.x()
    if c.rank(x) == 0:
        return [c.op("identity", x), c.const(np.int64(0))]
    dim = c.dim()
    if "topk" in str(c.node.target):
        k = c.vector(c.arg("k"))
        return c.op("top_k", x, k, outputs=2, axis=dim, largest=bool(c.arg("largest")), sorted=bool(c.arg("sorted")))
    return c.op("top_k", x, c.dims(x, dim, dim + 1), outputs=2, axis=dim, largest=bool(c.arg("descending")))


@handles("argsort")
def argsort(c: Call) -> Value:
    x, dim = c.x(), c.dim()
    return c.op("top_k", x, c.dims(x, dim, dim + 1), outputs=2, axis=dim, largest=bool(c.arg("descending")))[1]


@handles("one_hot")
def one_hot(c: Call) -> Value:
    n = c.number("num_classes")
    if n < 0:
        raise UnsupportedError("a number of classes that depends on the data")
    return c.op("one_hot", c.x(), c.const(np.int64(n)), c.i64(0, 1), axis=-1)


@handles("bucketize")
def bucketize(c: Call) -> Value:
    x, bounds = c.x(), c.x("boundaries")
    hit = c.op("greater_equal" if c.arg("right") else "greater", c.op("unsqueeze", x, c.i64(-1)), bounds)
    return c.op("reduce_sum", c.cast(hit, "int64"), c.i64(-1), keepdims=False)


@handles("tril", "triu")
def triangle(c: Call) -> Value:
    upper = "triu" in str(c.node.target)
    x = c.x()
    k = c.const(np.int64(c.number("diagonal")))
    if x.dtype is dtypes.bool_:
        return c.cast(c.op("trilu", c.cast(x, "uint8"), k, upper=upper), "bool")
    return c.op("trilu", x, k, upper=upper)


# ---- making tensors
@handles("sym_size")
def sym_size(c: Call) -> Value:
    x = c.x()
    return c.reshape(c.dims(x, c.dim(), c.dim() + 1))


@handles("sym_stride", "sym_storage_offset", "sym_is_contiguous")
def sym_stride(c: Call) -> int:
    """What torch knows of its own memory."""
    if not isinstance(c.meta, int):
        raise UnsupportedError("strides of open dims; make the tensor contiguous, or fix its shape")
    return c.meta


@handles("sym_numel", "numel")
def sym_numel(c: Call) -> Value:
    return c.op("size_of", c.x())


@handles("item", "_local_scalar_dense")
def item(c: Call) -> Value:
    return c.reshape(c.x())


@handles("full", "new_full", "zeros", "ones", "empty", "new_zeros", "new_ones", "new_empty", "empty_permuted",
         "empty_strided")  # fmt: skip
def full(c: Call) -> Value:
    name = str(c.node.target).split(".")[1]
    value = c.args["fill_value"] if "full" in name else 1 if "ones" in name else 0
    fill = c.tensor(c.resolve(value), c.dtype)
    return c.op("fill", c.vector(c.arg("size")), fill)


@handles("full_like", "zeros_like", "ones_like", "empty_like", "fill")
def like(c: Call) -> Value:
    name = str(c.node.target).split(".")[1]
    value = (
        c.args["fill_value"]
        if name == "full_like"
        else c.args["value"]
        if name == "fill"
        else 1
        if "ones" in name
        else 0
    )
    fill = c.tensor(c.resolve(value), c.dtype)
    return c.op("fill", c.dims(c.x()), fill if c.rank(fill) == 0 else c.reshape(fill))


@handles("scalar_tensor")
def scalar_tensor(c: Call) -> Value:
    return c.tensor(c.arg("s"), c.dtype)


@handles("arange")
def arange(c: Call) -> Value:
    def bound(name: str, default: int) -> Value:
        v = c.args.get(name)
        return c.tensor(c.resolve(default if v is None else v), c.dtype)

    return c.op("range", bound("start", 0), bound("end", 0), bound("step", 1))


@handles("linspace")
def linspace(c: Call) -> Value:
    steps = c.number("steps")
    return c.const(np.linspace(c.arg("start"), c.arg("end"), steps).astype(c.dtype.np))


@handles("eye")
def eye(c: Call) -> Value:
    n = c.number("n")
    m = c.number("m") if c.args.get("m") is not None else n
    return c.const(np.eye(n, m).astype(c.dtype.np))


@handles("meshgrid")
def meshgrid(c: Call) -> list[Value]:
    """Vectors spread over a grid; indexing xy exchanges the first two dims."""
    xs = [c.reshape(x, -1) for x in c.arg("tensors")]
    swap = c.args.get("indexing") == "xy" and len(xs) > 1
    n = len(xs)
    shape = c.op("concat", *(c.dims(x) for x in xs), axis=0) if n > 1 else c.dims(xs[0])
    out = []
    for i, x in enumerate(xs):
        y = c.op("expand", c.reshape(x, *[-1 if j == i else 1 for j in range(n)]), shape)
        out.append(c.transpose(y, (1, 0, *range(2, n))) if swap else y)
    return out


@handles("unfold")
def unfold(c: Call) -> Value:
    """Windows of a dim as a new last dim."""
    x = c.x()
    dim, size, step = c.axis(c.number("dimension"), c.rank(x)), c.number("size"), c.number("step")
    end = c.op("add", c.op("reshape", c.dims(x, dim, dim + 1), c.i64()), c.const(np.int64(1 - size)))
    starts = c.op("range", c.const(np.int64(0)), end, c.const(np.int64(step)))
    at = c.op("add", c.op("unsqueeze", starts, c.i64(1)), c.const(np.arange(size)))
    y = c.op("gather", x, at, axis=dim)
    r = c.rank(x)
    return c.transpose(y, (*range(dim + 1), *range(dim + 2, r + 1), dim + 1))


@handles("rand", "randn", "rand_like", "randn_like", "randperm", "randint")
def random(c: Call) -> Value:
    name = str(c.node.target).split(".")[1]
    if name in ("randperm", "randint"):
        raise UnsupportedError("random integers; make them outside of the model")
    shape = c.dims(c.x()) if name.endswith("_like") else c.vector(c.arg("size"))
    return c.op("random_normal" if "randn" in name else "random_uniform", shape, dtype=c.dtype.name)


@handles("as_strided")
def as_strided(c: Call) -> Value:
    """Elements of the storage picked one by one: of a contiguous tensor, with known sizes."""
    x = c.x()
    size, stride = c.ints("size"), c.ints("stride")
    offset = c.number("storage_offset") if c.args.get("storage_offset") is not None else 0
    at = np.full(size, offset, np.int64)
    for i, (n, s) in enumerate(zip(size, stride, strict=True)):
        at = at + (np.arange(n) * s).reshape([-1 if j == i else 1 for j in range(len(size))])
    return c.op("gather", c.reshape(x, -1), c.const(at), axis=0)
