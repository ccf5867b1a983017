"""What a conversion did: plain data, for people (``deploykit convert``) and programs (``to_json``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from deploykit.graph import Graph


@dataclass
class PassReport:
    """All runs of one pass together: what it did, by kind, and how long it took."""

    name: str
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    runs: int = 0
    checked: int = 0  # runs whose result was compared with the graph before

    @property
    def changes(self) -> int:
        """Number of rewrites."""
        return sum(self.counts.values())

    @property
    def summary(self) -> str:
        """The counts as text: ``silu 12, layer_norm 4``."""
        return ", ".join(f"{k} {n}" for k, n in self.counts.items())

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "changes": self.changes,
            "counts": dict(self.counts),
            "seconds": round(self.seconds, 6),
            "runs": self.runs,
            "checked": self.checked,
        }


@dataclass
class Transpose:
    """One transpose that is left: its result by name, its perm, and the bytes it moves (unknown dims estimated)."""

    name: str
    perm: tuple[int, ...]
    bytes: int
    reader: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"name": self.name, "perm": list(self.perm), "bytes": self.bytes, "reader": self.reader}


@dataclass
class Report:
    """The record of one conversion.  ``graph`` is the result and not part of the JSON."""

    passes: list[PassReport] = field(default_factory=list)
    ops_before: dict[str, int] = field(default_factory=dict)
    ops_after: dict[str, int] = field(default_factory=dict)
    weight_bytes_before: int = 0
    weight_bytes_after: int = 0
    transposes: list[Transpose] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    source: str = ""
    output: str | None = None
    output_bytes: int = 0
    runtime: str | None = None  # the first engine that runs the result; None for other formats
    quantization: dict[str, Any] | None = None  # scheme, counts, nearness to the source
    verification: dict[str, Any] | None = None
    diagnosis: dict[str, Any] | None = None  # with report=: errors and times of layers, sizes, memory plan
    seconds: float = 0.0
    graph: Graph | None = field(default=None, repr=False)

    def after(self, first: Report) -> None:
        """Count the passes of an earlier report in, and begin where it began."""
        self.ops_before, self.weight_bytes_before = first.ops_before, first.weight_bytes_before
        mine = {p.name: p for p in self.passes}
        for p in first.passes:
            q = mine.pop(p.name, PassReport(p.name))
            p.counts = {k: p.counts.get(k, 0) + q.counts.get(k, 0) for k in (*p.counts, *q.counts)}
            p.seconds, p.runs, p.checked = p.seconds + q.seconds, p.runs + q.runs, p.checked + q.checked
        self.passes = [*first.passes, *mine.values()]

    @property
    def nodes_before(self) -> int:
        """Nodes of the imported graph, bodies included."""
        return sum(self.ops_before.values())

    @property
    def nodes_after(self) -> int:
        """Nodes of the result, bodies included."""
        return sum(self.ops_after.values())

    @property
    def transposes_left(self) -> int:
        """Transposes that could not be proved away."""
        return len(self.transposes)

    @property
    def transpose_bytes(self) -> int:
        """Bytes they move in one run."""
        return sum(t.bytes for t in self.transposes)

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``json.dumps``; the order of keys is fixed."""
        return {
            "source": self.source,
            "output": self.output,
            "output_bytes": self.output_bytes,
            "runtime": self.runtime,
            "seconds": round(self.seconds, 6),
            "nodes_before": self.nodes_before,
            "nodes_after": self.nodes_after,
            "ops_before": dict(self.ops_before),
            "ops_after": dict(self.ops_after),
            "weight_bytes_before": self.weight_bytes_before,
            "weight_bytes_after": self.weight_bytes_after,
            "transposes_left": self.transposes_left,
            "transpose_bytes": self.transpose_bytes,
            "transposes": [t.to_json() for t in self.transposes],
            "passes": [p.to_json() for p in self.passes],
            "notes": list(self.notes),
            "quantization": self.quantization,
            "verification": self.verification,
            "diagnosis": self.diagnosis,
        }
