"""Recurrent networks: RNN, GRU and LSTM, of one direction or two.

The recurrence is sequential, its derivative as well, but all that it is made of is not. The hidden
states are the operator's own output, so one product recomputes the gates of all steps; slopes and
factors of all steps follow elementwise. What is left for each step is linear: a product with R and
a few products and sums, forward for the tangents and backward for the cotangents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Dim, Type, Var
from gradcli.numbers import Array, Numbers
from gradcli.ops.card import Card, Site, Vars
from gradcli.ops.kinds import custom
from gradcli.ops.linearised import LINEAR, Linear
from gradcli.ops.steps import ATTRS, InGraph, InNumbers, Noting, begun, directions_of, run, ways_of

LENGTHS = "a number of steps"


def _types(s: Site) -> Sequence[Type]:
    directions = directions_of(s["direction"])
    shape, recurrent = s.x.shape, s.input(2).shape
    if shape is not None and len(shape) != 3:
        raise ValueError(f"a sequence of shape {shape} instead of [steps, batch, features]")
    first, second = s.b.fresh(2) if shape is None else shape[:2]
    hidden: Dim = s["hidden_size"] or s.b.fresh(1)[0]
    if recurrent is not None:
        hidden = recurrent[-1]
    steps, batch = (second, first) if s["layout"] else (first, second)
    y = (batch, steps, directions, hidden) if s["layout"] else (steps, directions, batch, hidden)
    state = (batch, directions, hidden) if s["layout"] else (directions, batch, hidden)
    states = 2 if s.key == "LSTM" else 1
    return [(s.x.dtype, y), *[(s.x.dtype, state)] * states]


# ---- the rules -----------------------------------------------------------------------------------


def _linearised(s: Site) -> list[Linear]:
    """Every direction at this point."""
    o, b = InGraph(s.b), s.b
    x = b.transpose(s.x, (1, 0, 2)) if s["layout"] else s.x
    if x.shape is None or not isinstance(x.shape[0], int) or not x.shape[0]:
        raise UnsupportedError(
            f"the derivative of {s.key} needs a known number of steps, at least 1",
            "fix the sequence's length in the model",
        )
    y = s.outputs[0] or s.again(*s.inputs)
    y = b.transpose(y, (1, 2, 0, 3)) if s["layout"] else y
    ways = list(ways_of(o, s.key, x, s.inputs[1:], s.attrs))
    one = len(ways) == 1
    return [
        LINEAR[s.key](
            way,
            x,
            b.op("Squeeze", y, b.ints([1]))
            if one
            else b.op("Gather", y, b.constant(np.int64(d)), axis=1),
        )
        for d, way in enumerate(ways)
    ]


def _state(layout: int, o: InGraph, v: Var | None, d: int) -> Var | None:
    """This direction's part of a state or of its derivative, [1, batch, hidden]."""
    if v is None:
        return None
    return o.spread(o.pick(o.transpose(v, (1, 0, 2)) if layout else v, d), 0)


def _jvp(s: Site, dots: Vars) -> Vars:
    x_dot, w_dot, r_dot, b_dot, _, h_dot, c_dot, p_dot = (*dots, *[None] * 8)[:8]
    layout = s["layout"]
    ys, hs, cs = [], [], []
    o = InGraph(s.b)
    if x_dot is not None and layout:
        x_dot = o.transpose(x_dot, (1, 0, 2))
    for d, lin in enumerate(_linearised(s)):
        way = lin.way
        own = [None if v is None else o.pick(v, d) for v in (w_dot, r_dot, b_dot, p_dot)]
        biases = [None, None] if own[2] is None else o.parts(own[2], 2)
        terms = [
            None if x_dot is None else o.product(x_dot, way.w),
            None if own[0] is None else o.product(lin.x, own[0]),
            biases[0],
            lin.bend(own[1], biases[1], own[3]),
        ]
        z_dot = s.b.total(terms)
        z_dots = [None] * way.count if z_dot is None else o.steps(s.b.expand_like(z_dot, lin.z))
        states = (_state(layout, o, v, d) for v in (h_dot, c_dot))
        first = [lin.start() if v is None else begun(o, way.lengths, v) for v in states]
        taken, h, c = lin.push(z_dots, *first)
        y = lin.keep(way.join(taken))
        ys.append(o.spread(y, 1))
        hs.append(h)
        cs.append(c)
    made = [o.join(ys, 1), o.join(hs, 0), o.join(cs, 0)]
    if layout:
        perms = ((2, 0, 1, 3), (1, 0, 2), (1, 0, 2))
        made = [o.transpose(v, p) for v, p in zip(made, perms, strict=True)]
    return made[: len(s.outputs)]


def _vjp(s: Site, bars: Vars) -> Vars:
    y_bar, h_bar, c_bar = (*bars, None, None)[:3]
    o, b, layout = InGraph(s.b), s.b, s["layout"]
    if y_bar is not None and layout:
        y_bar = b.transpose(y_bar, (1, 2, 0, 3))
    found: list[list[Var | None]] = []
    for d, lin in enumerate(_linearised(s)):
        way = lin.way
        y_bars: Sequence[Var | None] = [None] * way.count
        if y_bar is not None:
            own = b.op("Gather", y_bar, b.constant(np.int64(d)), axis=1)
            y_bars = o.steps(lin.keep(own))
        last = [_state(layout, o, v, d) or lin.start() for v in (h_bar, c_bar)]
        taken, h, c = lin.pull(y_bars, *last)
        h, c = (begun(o, way.lengths, v) for v in (h, c))
        z_bar = way.join(taken)
        r_bar, rb_bar, p_bar = lin.unbend(z_bar)
        found.append(
            [
                b.op("MatMul", z_bar, way.w) if s.wants(0) else None,
                lin.shrunk(z_bar, lin.x) if s.wants(1) else None,
                r_bar,
                o.join([lin.over_steps(z_bar), rb_bar], -1) if s.wants(3) else None,
                None,
                h,
                c,
                p_bar,
            ]
        )
    out: list[Var | None] = []
    for k, parts in enumerate(zip(*found, strict=True)):
        there = [v for v in parts if v is not None]
        if not there or not s.wants(k):
            out.append(None)
        elif k == 0:
            x_bar = b.total(there)
            out.append(b.transpose(x_bar, (1, 0, 2)) if layout and x_bar is not None else x_bar)
        elif k in (5, 6):
            state = o.join(there, 0)
            out.append(b.transpose(state, (1, 0, 2)) if layout else state)
        else:
            out.append(o.join([o.spread(v, 0) for v in there], 0))
    return out[: len(s.inputs)]


def _expand(s: Site) -> Sequence[Var]:
    x = s.x.shape
    steps = None if x is None else x[1 if s["layout"] else 0]
    if not isinstance(steps, int) or not steps:
        raise UnsupportedError(f"{s.key} can be written out for a known number of steps only")
    return run(InGraph(s.b), s.key, s.x, s.inputs[1:], s.attrs)


# ---- kinks ---------------------------------------------------------------------------------------


def _kinks(op: str, n: Numbers, operands: Sequence[Array], attrs: Any) -> Any:
    """Of each hidden element, over the gates that it is made of."""
    o = Noting(n)
    x, *rest = operands
    run(o, op, x, rest, attrs)
    if attrs["layout"]:
        x = n.transpose(x, (1, 0, 2))
    steps, directions = x.shape[0], directions_of(attrs["direction"])
    gates = len(o.noted) // (steps * directions)
    margins, branches = [], []
    for d in range(directions):
        rows: list[Any] = [None] * steps
        for k in range(steps):
            at = (d * steps + k) * gates
            own = o.noted[at : at + gates]
            late = attrs["direction"] == "reverse" or d == 1
            rows[steps - 1 - k if late else k] = (
                np.minimum.reduce([margin for margin, _ in own]),
                sum((branch * 97**g for g, (_, branch) in enumerate(own))),
            )
        margins.append(np.concatenate([margin for margin, _ in rows]))
        branches.append(np.concatenate([branch for _, branch in rows]))
    perm = (2, 0, 1, 3) if attrs["layout"] else (0, 1, 2, 3)
    return (
        np.transpose(np.stack(margins, 1), perm),
        np.transpose(np.stack(branches, 1), perm),
    )


def _recurrent(op: str, *more_inputs: str, outputs: Sequence[str], **attrs: Any) -> Card:
    return custom(
        op,
        lambda n, x, *rest, **given: run(InNumbers(n), op, x, rest, given),
        _jvp,
        _vjp,
        inputs=("X", "W", "R", "B?", "sequence_lens?", "initial_h?", *more_inputs),
        outputs=tuple(outputs),
        infer=_types,
        expand=_expand,
        attrs={**ATTRS, "layout": 0, **attrs},
        flat={"sequence_lens": LENGTHS},
        kinks=lambda n, *operands, **given: _kinks(op, n, operands, given),
        convention="that of the activations; 0 where a gate is at the clip",
    )


CARDS: tuple[Card, ...] = (
    _recurrent("RNN", outputs=("Y", "Y_h"), activations=("Tanh", "Tanh")),
    _recurrent("GRU", outputs=("Y", "Y_h"), linear_before_reset=0),
    _recurrent("LSTM", "initial_c?", "P?", outputs=("Y", "Y_h", "Y_c"), input_forget=0),
)
