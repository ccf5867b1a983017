"""Control flow and state.  Bodies are closed graphs: what they need from outside comes as inputs (captures)."""

from __future__ import annotations

from deploykit.ops.core import Required, op


@op(270, "condition, captures* -> ys*", attrs=dict(then_graph=Required("graph"), else_graph=Required("graph")), n_outputs=True)
class if_:
    "Run one of two graphs; both take the captures as inputs, in order, and give the node's outputs, in order."


@op(271, "trip_count?, condition?, values* -> ys*", attrs=dict(body=Required("graph"), carried=Required("int")), n_outputs=True)
class loop:
    """values = ``carried`` loop-carried values, then captures.  body(iteration int64 scalar, condition bool scalar,
    carried..., captures...) -> (condition, carried..., scanned...).  Runs while the condition holds and iteration <
    trip_count (absent: no limit).  Outputs: final carried values, then each scanned value stacked along a new axis 0.
    """


@op(272, " -> y", attrs=dict(variable=Required("str")), flags="effect", not_differentiable="state")
class read_variable:
    "Current value of a variable of the model (attr: its name)."


@op(273, "x -> y", attrs=dict(variable=Required("str")), flags="effect", not_differentiable="state")
class assign_variable:
    "Set a variable; gives x."
