"""Decide in which order each tensor keeps its dims, so that as few bytes as possible are transposed.

Importers of channels-first formats put a transpose before and after each op that works channels last.  Here these
transposes are not ops but changes of name: a transpose and its source are one tensor under two orders of axes.  What is
left is a choice for each op: the order in which it works.  An op whose kernel wants channels last has no choice;
arithmetic, reductions, concat, pad, resize, softmax, views and so on can work in any (:mod:`...ir.layout`).  A tensor
that is read in another order than it is made in costs its bytes, once for each such order.

Candidate orders are those that the transposes of the graph speak of, carried through the graph along shared axes.  The
cost is lowered by expansion moves (Boykov, Veksler, Zabih 2001): for one candidate order, a minimum cut finds the best
set of ops to switch to it, all at once; candidates are tried in turn until none helps.  So transposes meet and cancel,
move to where tensors are small, or past ops to the edge of the graph, whichever is cheapest in total.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from deploykit.converters.ir import layout, views, walk
from deploykit.converters.ir.layout import Perm
from deploykit.converters.ir.mincut import INFINITE, Cut
from deploykit.converters.ir.rewriter import Rewriter
from deploykit.converters.passes.simplify import perm_of
from deploykit.graph import Graph, Node, Value

TOLERANCE = "float"  # reductions may add in another order
CANDIDATES = 64
ROUNDS = 4
VIEW_COST = 1  # a transpose that moves only dims of size 1 is a view
START = 1024  # bytes that a transpose costs besides those it moves: a node to run, a fusion prevented
SCALE = 64  # bytes are scaled, so that small preferences (views, changes) decide only between equals


def run(graph: Graph) -> dict[str, int]:
    """Rewrite each graph to its cheapest layout found; counts of transposes before and after, and of ops switched.

    >>> from deploykit.ops import GraphBuilder
    >>> b = GraphBuilder()
    >>> x = b.input("x", "float32", (1, 8, 8, 3))
    >>> y = b.op("relu", b.op("transpose", x, perm=(0, 3, 1, 2)))
    >>> g = b.output(b.op("transpose", y, perm=(0, 2, 3, 1)))
    >>> run(g), [n.op for n in g.nodes]
    ({'switched': 1, 'transposes': 2}, ['relu'])
    """
    return walk.each_graph(graph, _one)


def _one(graph: Graph) -> Counter[str]:
    if not any(n.op == "transpose" for n in graph.nodes):
        return Counter()
    rw = Rewriter(graph)
    plan = _Plan(rw)
    counts: Counter[str] = Counter()
    old = sum(n.op == "transpose" for n in graph.nodes)
    now = plan.cost_now()
    if plan.improve() < now:
        counts["switched"] = _apply(rw, plan)
        rw.sweep()
    _views(rw)
    if rw.commit():
        counts["transposes"] = max(0, old - sum(n.op == "transpose" for n in graph.nodes))
    return counts


def _views(rw: Rewriter) -> None:
    """Transposes that move only dims of size 1 and could not be proved away become views, which cost nothing."""
    for n in rw.nodes():
        x = n.inputs[0] if n.op == "transpose" else None
        if x is None or x.shape is None or not views.is_view_perm(x.shape, perm_of(n)):
            continue
        with rw.before(n):
            new = views.view(rw, x, views.permuted(x.shape, perm_of(n)))
        if new is not None:
            rw.replace(n.output, new)


Names = tuple[int, ...]


@dataclass
class _Net:
    """One tensor under all its orders: who makes it and who reads it."""

    root: Value
    producer: Node | None  # None: an input of the graph
    readers: list[tuple[Node | None, Value]] = field(default_factory=list)  # None: the outside; the alias it reads
    cost: int = 0


class _Plan:
    """The choice of an order for every op."""

    def __init__(self, rw: Rewriter) -> None:
        self.rw = rw
        self.graph = rw.graph
        self.alias: dict[Value, tuple[Value, Perm]] = {}  # v = transpose(root, perm)
        self.nodes: list[Node] = []
        for n in self.graph.nodes:
            x = n.inputs[0] if n.inputs else None
            if n.op == "transpose" and layout.moves(x):
                root, perm = self.root(x)  # type: ignore[arg-type]
                self.alias[n.output] = root, views.compose(perm, perm_of(n))
            else:
                self.nodes.append(n)
        self.rules = {n: layout.rule(n) for n in self.nodes}
        self._name_axes()
        self._collect_nets()
        self.order: dict[Node, tuple[int, ...] | None] = dict.fromkeys(self.nodes)  # None: its own
        self._fits: dict[tuple[Node, Names], bool] = {}

    def root(self, v: Value) -> tuple[Value, Perm]:
        """The tensor behind a value, and the perm that makes the value of it."""
        return self.alias.get(v) or (v, views.identity(v.rank or 0))

    # ---- names of axes
    def _name_axes(self) -> None:
        self._parent: list[int] = []
        self._members: list[set[Value]] = []
        self._slots: dict[Value, list[int]] = {}
        for n in self.nodes:
            for a, b in self.rules[n].ties(self.rw, n):
                self._tie(self._slot(*a), self._slot(*b))

    def _slot(self, v: Value, axis: int) -> int:
        root, perm = self.root(v)
        if root not in self._slots:
            first = len(self._parent)
            self._slots[root] = list(range(first, first + (root.rank or 0)))
            self._parent += self._slots[root]
            self._members += [{root} for _ in self._slots[root]]
        return self._slots[root][perm[axis]]

    def _find(self, i: int) -> int:
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i

    def _tie(self, i: int, j: int) -> None:
        i, j = self._find(i), self._find(j)
        if i == j or self._members[i] & self._members[j]:
            return  # one tensor cannot have an axis twice
        if len(self._members[i]) < len(self._members[j]):
            i, j = j, i
        self._parent[j] = i
        self._members[i] |= self._members[j]
        self._members[j] = set()

    def names(self, v: Value) -> Names:
        """The names of a value's axes."""
        return tuple(self._find(self._slot(v, a)) for a in range(v.rank or 0))

    # ---- tensors
    def _collect_nets(self) -> None:
        self.nets: dict[Value, _Net] = {}
        for v in self.graph.inputs:
            if layout.moves(v):
                self.nets[v] = _Net(v, None)
        for n in self.nodes:
            for v in n.outputs:
                if v is not None and v.rank is not None:
                    self.nets[v] = _Net(v, n)
        for n in self.nodes:
            for v in dict.fromkeys(n.inputs):
                if layout.moves(v):
                    self.nets[self.root(v)[0]].readers.append((n, v))  # type: ignore[arg-type, index]
        for v in dict.fromkeys(self.graph.outputs):
            if layout.moves(v):
                self.nets[self.root(v)[0]].readers.append((None, v))
        for net in self.nets.values():
            net.cost = (walk.estimated_bytes(net.root) + START) * SCALE

    def move_cost(self, net: _Net, a: Perm, b: Perm) -> int:
        """What it costs to turn a tensor from one order into another."""
        if a == b:
            return 0
        shape = net.root.shape
        assert shape is not None
        kept = [i for i in a if shape[i] != 1]
        return VIEW_COST if kept == [i for i in b if shape[i] != 1] else net.cost

    # ---- orders
    def perm(self, v: Value, order: Names | None) -> Perm | None:
        """The perm by which an order stores a value; None when the order does not know an axis of it."""
        if order is None:
            return views.identity(v.rank or 0)
        place = self._places(order)
        names = self.names(v)
        if any(x not in place for x in names):
            return views.identity(1) if len(names) == 1 else (() if not names else None)
        return tuple(sorted(range(len(names)), key=lambda a: place[names[a]]))

    def _places(self, order: Names) -> dict[int, int]:
        cache: dict[Names, dict[int, int]] = self.__dict__.setdefault("_place_cache", {})
        if order not in cache:
            cache[order] = {x: i for i, x in enumerate(order)}
        return cache[order]

    def perms(self, n: Node, order: Names | None) -> tuple[list[Perm | None], list[Perm | None]] | None:
        """Perms of a node's inputs and outputs under an order; None when the order does not reach."""
        sides: list[list[Perm | None]] = []
        for values in (n.inputs, n.outputs):
            side: list[Perm | None] = []
            for v in values:
                if not layout.moves(v):
                    side.append(None)
                    continue
                p = self.perm(v, order)  # type: ignore[arg-type]
                if p is None:
                    return None
                side.append(p)
            sides.append(side)
        return sides[0], sides[1]

    def fits(self, n: Node, order: Names) -> bool:
        """Whether a node can work in an order."""
        key = (n, order)
        if key not in self._fits:
            got = self.perms(n, order)
            self._fits[key] = got is not None and self.rules[n].fits(self.rw, n, *got)
        return self._fits[key]

    def layout(self, n: Node | None, v: Value, order: Names | None) -> Perm:
        """The order of the root's axes in which a node in this order makes or reads a value."""
        _, perm = self.root(v)
        p = views.identity(v.rank or 0) if n is None else self.perm(v, order)
        assert p is not None
        return views.compose(perm, p)

    # ---- cost
    def cost_now(self) -> int:
        """Cost of the graph as it stands."""
        total = sum(self.penalty(n, None) for n in self.nodes)
        for n in self.graph.nodes:
            if n.op == "transpose" and n.output in self.alias:
                x = n.inputs[0]
                assert x is not None and x.shape is not None
                small = views.is_view_perm(x.shape, perm_of(n))
                total += VIEW_COST if small else (walk.estimated_bytes(n.output) + START) * SCALE
        return total

    def cost(self) -> int:
        """Cost of the current choice."""
        total = 0
        for net in self.nets.values():
            made = self.layout(net.producer, net.root, self._order(net.producer))
            wanted = {self.layout(n, v, self._order(n)) for n, v in net.readers}
            total += sum(self.move_cost(net, made, w) for w in wanted)
        return total + sum(self.penalty(n, o) for n, o in self.order.items())

    def _order(self, n: Node | None) -> Names | None:
        return None if n is None else self.order[n]

    def penalty(self, n: Node, order: Names | None) -> int:
        """Softmax across strides is slower."""
        x = n.inputs[0] if n.op in ("softmax", "log_softmax") else None
        if x is None or not layout.moves(x) or not x.rank:
            return 0
        p = self.perm(x, order)
        if p is None or p[-1] == walk.attr(n, "axis") % x.rank:
            return 0
        return walk.estimated_bytes(x) * SCALE // 4

    def improve(self) -> int:
        """Try all candidates until none helps; the cost reached."""
        best = self.cost()
        orders = self.candidates()
        for _ in range(ROUNDS):
            start = best
            for order in orders:
                saved = dict(self.order)
                self._expand(order)
                got = self.cost()
                if got < best:
                    best = got
                else:
                    self.order = saved
            if best == start:
                break
        return best

    def _expand(self, order: Names) -> None:
        """Switch the best set of nodes to ``order`` (a minimum cut; the source side keeps what it has)."""
        cut = Cut()
        var: dict[Node, int] = {}
        for n in self.nodes:
            if self.order[n] != order and self.fits(n, order):
                var[n] = cut.node()
                new, old = self.penalty(n, order), self.penalty(n, self.order[n])
                cut.edge(cut.SOURCE, var[n], max(new - old, 0) + (self.order[n] is None))  # no change for its own sake
                cut.edge(var[n], cut.SINK, max(old - new, 0))
        for net in self.nets.values():
            if net.producer in var or any(n in var for n, _ in net.readers):
                self._net_terms(cut, var, net, order)
        cut.solve()
        for n, k in var.items():
            if not cut.on_source_side(k):
                self.order[n] = order

    def _net_terms(self, cut: Cut, var: dict[Node, int], net: _Net, order: Names) -> None:
        target = self.perm(net.root, order)
        if target is None:
            return
        made = self.layout(net.producer, net.root, self._order(net.producer))
        maker = var.get(net.producer) if net.producer is not None and made != target else None  # None: never changes
        groups: dict[Perm, list[int | None]] = {}
        for n, v in net.readers:
            wanted = self.layout(n, v, self._order(n))
            groups.setdefault(wanted, []).append(var.get(n) if n is not None and wanted != target else None)
        # readers in the new order, the maker not
        if made != target:
            price = self.move_cost(net, made, target)
            tail = cut.SOURCE if maker is None else maker
            if target in groups:
                cut.edge(tail, cut.SINK, price)
            else:
                some = cut.node()  # on the sink side when any reader switches
                cut.edge(tail, some, price)
                for members in groups.values():
                    for k in members:
                        if k is not None:
                            cut.edge(some, k, INFINITE)
        # readers that stay behind in an order that the maker does not give
        for wanted, members in groups.items():
            if wanted == target:
                continue
            stays = cut.SOURCE
            if all(k is not None for k in members):
                stays = cut.node()  # on the source side when any reader stays
                for k in members:
                    cut.edge(k, stays, INFINITE)  # type: ignore[arg-type]
            if wanted == made:
                if maker is not None:
                    cut.edge(stays, maker, self.move_cost(net, target, wanted))
            else:
                cut.edge(stays, cut.SINK, self.move_cost(net, made, wanted))

    # ---- candidates
    def candidates(self) -> list[Names]:
        """Total orders of axis names, grown from the orders in which transposes read and write."""
        seeds: Counter[Names] = Counter()
        for n in self.graph.nodes:
            if n.op == "transpose" and n.output in self.alias:
                size = walk.estimated_bytes(n.output)
                for v in (n.inputs[0], n.output):
                    assert v is not None
                    seeds[self.names(v)] += size
        ranked = sorted(seeds, key=lambda s: -seeds[s])  # stable: equal weights stay in graph order
        out: dict[Names, None] = {}
        for s in ranked[:CANDIDATES]:
            out.setdefault(self._grow(s), None)
        return list(out)

    def _grow(self, seed: Names) -> Names:
        """Place all axes that hang together with a seed: pieces of a reshaped axis where the axis was, others next to
        their neighbours."""
        order = list(seed)
        placed = set(seed)
        splits, values = self._relations()
        progress = True
        while progress:
            progress = False
            for source, target in splits:
                for a, b in ((source, target), (target, source)):
                    if set(a) <= placed and not set(b) & placed and len(set(b)) == len(b):
                        at = max(order.index(x) for x in a) + 1
                        order[at:at] = list(b)
                        placed |= set(b)
                        progress = True
            if progress:
                continue
            for names in values:
                new = next((i for i, x in enumerate(names) if x not in placed), None)
                if new is None or not any(x in placed for x in names):
                    continue
                if new > 0:
                    at = order.index(names[new - 1]) + 1
                else:
                    at = min(order.index(x) for x in names if x in placed)
                order.insert(at, names[new])
                placed.add(names[new])
                progress = True
                break
        return tuple(order)

    def _relations(self) -> tuple[list[tuple[Names, Names]], list[Names]]:
        """Groups of axes that views merge or split, and the distinct tuples of names of all values."""
        if not hasattr(self, "_related"):
            splits: dict[tuple[Names, Names], None] = {}
            values: dict[Names, None] = {}
            for n in self.nodes:
                for v in (*n.inputs, *n.outputs):
                    if layout.moves(v) and v.rank:  # type: ignore[union-attr]
                        values.setdefault(self.names(v))  # type: ignore[arg-type]
                r = self.rules[n]
                if isinstance(r, layout.View) and layout.moves(n.inputs[0]):
                    x, y = self.names(n.inputs[0]), self.names(n.output)  # type: ignore[arg-type]
                    for g in r.groups(n) or ():
                        if len(g.source) > 1 or len(g.target) > 1:
                            splits.setdefault((tuple(x[a] for a in g.source), tuple(y[a] for a in g.target)))
            self._related = list(splits), list(values)
        return self._related


def _place(
    rw: Rewriter, plan: _Plan, n: Node, fetch: Callable[[Value, Node | None, Names | None], Value]
) -> tuple[Names | None, list[Value | None], list[Perm | None]]:
    """The node in its chosen order; in its own where the new one cannot be built (shapes that were inferred anew may
    prove less than those the choice was made by)."""
    for order in dict.fromkeys((plan.order[n], None)):
        perms = plan.perms(n, order)
        assert perms is not None
        pin, pout = perms
        ins = [fetch(v, n, order) if layout.moves(v) else v for v in n.inputs]  # type: ignore[arg-type]
        if all(p is None or p == views.identity(len(p)) for p in (*pin, *pout)):
            break
        outs = plan.rules[n].build(rw, n, ins, pin, pout)
        if all(v is None or w is not None for v, w in zip(n.outputs, outs, strict=False)):
            return order, outs, pout
    for i, v in enumerate(ins):
        if v is not n.inputs[i]:
            rw.set_input(n, i, v)
    return order, list(n.outputs), pout


def _apply(rw: Rewriter, plan: _Plan) -> int:
    """Rebuild the nodes that switched; put transposes where orders still differ."""
    stored: dict[Value, dict[Perm, Value]] = {}
    made: dict[Value, Perm] = {}
    for v, net in plan.nets.items():
        if net.producer is None:
            made[v] = views.identity(v.rank or 0)
            stored[v] = {made[v]: v}

    def fetch(v: Value, n: Node | None, order: Names | None) -> Value:
        root, _ = plan.root(v)
        want = plan.layout(n, v, order)
        have = stored[root]
        if want not in have:
            source = have[made[root]]
            perm = views.compose(views.inverse(made[root]), want)
            assert source.shape is not None
            new = None
            if views.is_view_perm(source.shape, perm):
                new = views.view(rw, source, views.permuted(source.shape, perm))
            if new is None:
                new = rw.op("transpose", source, perm=perm, out=f"{root.name}.transposed")
            have[want] = new
        return have[want]

    switched = 0
    for n in plan.nodes:
        with rw.before(n):
            order, outs, pout = _place(rw, plan, n, fetch)
        switched += outs != n.outputs
        for old, new, p in zip(n.outputs, outs, pout, strict=False):
            if old is None or old.rank is None:
                continue
            assert new is not None
            if new is not old and new not in rw.graph.inputs:  # whose names are a promise
                if p is None or p == views.identity(len(p)):
                    old.name, new.name = new.name, old.name
                elif new.producer is not None and new.producer is not n:
                    new.name = rw.unique(f"{old.name}.nhwc" if len(p) == 4 else f"{old.name}.moved")
            made[old] = plan.layout(n, old, order)
            stored[old] = {made[old]: new}
    with rw.before(None):
        for v in dict.fromkeys(rw.graph.outputs):
            if layout.moves(v) and (v in plan.alias or v in stored):
                rw.replace(v, fetch(v, None, None))
    return switched
