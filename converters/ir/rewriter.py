"""The rewriter: edits one graph in place, keeping users, order, names and shapes right while it does.

A pass makes one for each graph, changes what it wants, and commits::

    rw = Rewriter(graph)
    for node in rw.nodes():
        if node.op == "pow" and scalar(node.inputs[1]) == 2:
            with rw.before(node):
                rw.replace(node.output, rw.op("square", node.inputs[0]))
    rw.commit()

New nodes go before the node named by :meth:`before` (at the end of the graph otherwise); their shapes are inferred as
they come.  A value that takes the place of another takes its name too, so that names in a report still mean something
after fusing; public output names never change.  Nodes whose results nobody reads are dropped at commit.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from deploykit.converters.ir.walk import each_graph, is_effect
from deploykit.errors import DeploykitError, GraphError
from deploykit.graph import Graph, Node, Value
from deploykit.ops import GraphBuilder, Op, Spec
from deploykit.ops.infer import VALUE_OPS, infer_node, spec_of

VALUED = VALUE_OPS | {"shape_of", "size_of"}


class Rewriter(GraphBuilder):
    """See the module's docstring.  All methods of :class:`GraphBuilder` work too (``op``, ``constant``, tracing)."""

    def __init__(self, graph: Graph) -> None:
        self._counts: dict[str, int] = {}
        super().__init__(graph)
        if not graph.output_names:
            graph.output_names = [v.name for v in graph.outputs]
        self.changes = 0
        self._prev: dict[Node | None, Node | None] = {}
        self._next: dict[Node | None, Node | None] = {}
        self._users: dict[Value, dict[Node, int]] = {}
        self._cursor: Node | None = None
        self._made: set[Value] = set()
        last: Node | None = None
        users, following, before = self._users, self._next, self._prev
        for n in graph.nodes:  # a training step has thousands, and a pass looks at them several times
            following[last], before[n] = n, last
            last = n
            for v in n.inputs:
                if v is not None:
                    counts = users.get(v)
                    if counts is None:
                        users[v] = {n: 1}
                    else:
                        counts[n] = counts.get(n, 0) + 1
        following[last], before[None] = None, last

    def _taken(self) -> set[str]:
        return super()._taken() | {v.name for v in self.graph.used()}

    # ---- reading
    def nodes(self) -> Iterator[Node]:
        """The nodes in order; those that are erased meanwhile are left out, new ones are not visited."""
        snapshot, n = [], self._next[None] if self._next else None
        while n is not None:
            snapshot.append(n)
            n = self._next[n]
        for n in snapshot:
            if n in self._next:
                yield n

    def alive(self, node: Node) -> bool:
        """False once a node was erased."""
        return node in self._next

    def users(self, v: Value) -> list[Node]:
        """The nodes that read a value, each once."""
        return list(self._users.get(v, ()))

    def is_output(self, v: Value) -> bool:
        """True when the graph gives this value out."""
        return any(o is v for o in self.graph.outputs)

    def sole_user(self, v: Value) -> Node | None:
        """The only node that reads the value (in one place or several), None when others do or it is an output."""
        users = self._users.get(v, {})
        return next(iter(users)) if len(users) == 1 and not self.is_output(v) else None

    def unused(self, v: Value | None) -> bool:
        """True when nobody reads the value."""
        return v is None or (not self._users.get(v) and not self.is_output(v))

    def spec(self, v: Value) -> Spec:
        """dtype, shape and, through shape arithmetic, the known (perhaps symbolic) content of a value."""
        if v in self.specs:
            return self.specs[v]
        pending = [v]
        while pending:
            top = pending[-1]
            if top in self.specs:
                pending.pop()
                continue
            node = top.producer
            if node is None or node.op not in VALUED or (top.rank or 0) > 1:
                self.specs[top] = spec_of(top)  # type: ignore[assignment]
                continue
            missing = [i for i in node.inputs if i is not None and i not in self.specs]
            if missing:
                pending += missing
                continue
            spec: Spec = spec_of(top)  # type: ignore[assignment]
            self.specs[top] = spec
            with contextlib.suppress(DeploykitError):
                outs = infer_node(node, [None if i is None else self.specs[i] for i in node.inputs])
                spec.value = outs[[o is top for o in node.outputs].index(True)].value
        return self.specs[v]

    # ---- writing
    @contextlib.contextmanager
    def before(self, node: Node | None) -> Iterator[Rewriter]:
        """Put new nodes before this one (None: at the end)."""
        saved, self._cursor = self._cursor, node
        try:
            yield self
        finally:
            self._cursor = saved

    @contextlib.contextmanager
    def after(self, node: Node) -> Iterator[Rewriter]:
        """Put new nodes after this one."""
        with self.before(self._next[node]):
            yield self

    def insert(self, node: Node) -> Node:
        """Add a ready-made node at the cursor; its outputs must have dtype and shape."""
        self._link(node, self._prev.get(self._cursor), self._cursor)
        for v in node.inputs:
            self._use(node, v)
        for v in node.outputs:
            if v is not None:
                self._made.add(v)
        self.changes += 1
        return node

    def replace(self, old: Value, new: Value, *, but: Node | None = None) -> None:
        """Make every reader of ``old`` (all ``but`` one) read ``new``.

        The name goes along when ``new`` was made in this session.
        """
        if old is new:
            return
        self.changes += 1
        for user in self.users(old):
            if user is but:
                continue
            for i, v in enumerate(user.inputs):
                if v is old:
                    self.set_input(user, i, new)
        self.graph.outputs = [new if v is old else v for v in self.graph.outputs]
        if new in self._made and new not in self.graph.inputs and old not in self.graph.inputs:
            old.name, new.name = new.name, old.name
            a, b = old.producer, new.producer
            if a is not None and b is not None and not b.name:
                b.name = a.name
            self._made.discard(new)  # named for good

    def set_input(self, node: Node, i: int, v: Value | None) -> None:
        """Change one input of a node (appending when ``i`` is its next one)."""
        self.changes += 1
        while len(node.inputs) <= i:
            node.inputs.append(None)
        old, node.inputs[i] = node.inputs[i], v
        if old is not None:
            counts = self._users[old]
            counts[node] -= 1
            if not counts[node]:
                del counts[node]
        self._use(node, v)

    def set_attrs(self, node: Node, **attrs: Any) -> None:
        """Change attrs of a node in place."""
        self.changes += 1
        node.attrs.update(attrs)

    def erase(self, node: Node) -> None:
        """Remove a node that nobody reads; raises GraphError otherwise."""
        for v in node.outputs:
            if not self.unused(v):
                raise GraphError(f"cannot erase {node.op} '{node.name}': '{v.name}' is still read.")  # type: ignore[union-attr]
        self.changes += 1
        for i in range(len(node.inputs)):
            self.set_input(node, i, None)
        prev, following = self._prev.pop(node), self._next.pop(node)
        self._next[prev] = following
        self._prev[following] = prev
        for v in node.outputs:
            if v is not None:
                v.producer = None

    def sweep(self) -> int:
        """Erase nodes whose results nobody reads, effects excepted; the number of erased nodes."""
        count = 0
        for n in reversed(list(self.nodes())):
            if all(self.unused(v) for v in n.outputs) and not is_effect(n):
                self.erase(n)
                count += 1
        return count

    def commit(self, *, sweep: bool = True) -> int:
        """Write the node list back to the graph; the number of changes made in this session."""
        if sweep and self.changes:
            self.sweep()
        self.graph.nodes = list(self.nodes())
        return self.changes

    def unique(self, hint: str) -> str:
        """A value name not used yet: the hint, or the hint with the least free number (independent of order)."""
        hint = hint or "v"
        name, k = hint, 0
        while name in self._names:
            k = self._counts[hint] = self._counts.get(hint, 0) + 1
            name = f"{hint}_{k}"
        self._names.add(name)
        return name

    def _append(
        self, p: Op, ins: list[Value | None], attrs: dict[str, Any], outputs: int | None, node: str, out: list[str]
    ) -> list[Value]:
        tail, _ = self.graph.nodes, self._names
        self.graph.nodes = []
        try:
            values = super()._append(p, ins, attrs, outputs, node, out)
            made = self.graph.nodes.pop()
        finally:
            self.graph.nodes = tail
        self.insert(made)
        return values

    def _link(self, node: Node, prev: Node | None, following: Node | None = None) -> None:
        self._prev[node], self._next[node] = prev, following
        self._next[prev] = node
        self._prev[following] = node

    def _use(self, node: Node, v: Value | None) -> None:
        if v is not None:
            counts = self._users.setdefault(v, {})
            counts[node] = counts.get(node, 0) + 1

    def like(self, node: Node, inputs: list[Value | None], **attrs: Any) -> Value:
        """The same op with other inputs and some other attrs; its first output."""
        got = self.op(node.op, *inputs, node=node.name, outputs=len(node.outputs), **{**node.attrs, **attrs})
        return got[0] if isinstance(got, list) else got


def each_node(graph: Graph, visit: Callable[[Rewriter, Node], str]) -> dict[str, int]:
    """Let ``visit`` edit around every node of the graph, its bodies and signatures; counts of what it says it has done
    ("": nothing)."""

    def one(g: Graph) -> Counter[str]:
        rw = Rewriter(g)
        counts = Counter(visit(rw, node) for node in rw.nodes())
        rw.commit()
        del counts[""]
        return counts

    return each_graph(graph, one)
