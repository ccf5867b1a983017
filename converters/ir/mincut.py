"""Minimum s-t cut of a small directed graph (Dinic's algorithm, 1970), deterministic."""

from __future__ import annotations

from collections import deque

INFINITE = 1 << 60


class Cut:
    """Build with :meth:`node` and :meth:`edge`, then :meth:`solve`.

    >>> c = Cut()
    >>> a = c.node()
    >>> c.edge(c.SOURCE, a, 3); c.edge(a, c.SINK, 2)
    >>> c.solve(), c.on_source_side(a)
    (2, True)
    """

    SOURCE, SINK = 0, 1

    def __init__(self) -> None:
        self.out: list[list[int]] = [[], []]  # edge numbers by tail
        self.head: list[int] = []
        self.room: list[int] = []  # edge e and its reverse e ^ 1 lie side by side
        self._level: list[int] = []

    def node(self) -> int:
        """A new node."""
        self.out.append([])
        return len(self.out) - 1

    def edge(self, u: int, v: int, capacity: int) -> None:
        """Cutting u (source side) from v (sink side) costs ``capacity``."""
        if capacity <= 0 or u == v:
            return
        self.out[u].append(len(self.head))
        self.head.append(v)
        self.room.append(capacity)
        self.out[v].append(len(self.head))
        self.head.append(u)
        self.room.append(0)

    def solve(self) -> int:
        """The cost of the cheapest cut."""
        flow = 0
        while self._label():
            at = [0] * len(self.out)
            while True:
                pushed = self._push(at)
                if not pushed:
                    break
                flow += pushed
        return flow

    def on_source_side(self, node: int) -> bool:
        """After :meth:`solve`; ties go to the sink side where they can (the source side is the smallest possible)."""
        return self._level[node] >= 0

    def _label(self) -> bool:
        self._level = [-1] * len(self.out)
        self._level[self.SOURCE] = 0
        todo = deque([self.SOURCE])
        while todo:
            u = todo.popleft()
            for e in self.out[u]:
                v = self.head[e]
                if self.room[e] and self._level[v] < 0:
                    self._level[v] = self._level[u] + 1
                    todo.append(v)
        return self._level[self.SINK] >= 0

    def _push(self, at: list[int]) -> int:
        """One augmenting path along rising levels, without recursion."""
        path: list[int] = []
        u = self.SOURCE
        while u != self.SINK:
            while at[u] < len(self.out[u]):
                e = self.out[u][at[u]]
                if self.room[e] and self._level[self.head[e]] == self._level[u] + 1:
                    break
                at[u] += 1
            else:
                if not path:
                    return 0
                e = path.pop()
                u = self.head[e ^ 1]
                at[u] += 1
                continue
            path.append(e)
            u = self.head[e]
        least = min(self.room[e] for e in path)
        for e in path:
            self.room[e] -= least
            self.room[e ^ 1] += least
        return least
