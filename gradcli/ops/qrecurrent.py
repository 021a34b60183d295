"""An LSTM that quantises what it multiplies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Dim, Type, Var
from gradcli.numbers import Array, Numbers
from gradcli.ops.card import Card, Site
from gradcli.ops.emit import Emit
from gradcli.ops.kinds import composite
from gradcli.ops.quantize import (
    DYNAMIC_CONVENTION,
    WHOLE,
    dynamic_jumps,
    dynamic_quantize,
    together,
)
from gradcli.ops.recurrent import LENGTHS
from gradcli.ops.steps import ATTRS, InGraph, InNumbers, Noting, directions_of, run


class _Quantising(InNumbers):
    """What a step asks for, in a number system: products of what is quantised by its own range."""

    def product(self, a: Array, w: Array) -> Array:
        q, step, zero = dynamic_quantize(self.n, a)
        steps = self.n.lift(q.astype(np.float64) - zero.astype(np.float64))
        return self.plain(steps * step, w)


class _QuantisingGraph(InGraph):
    """What a step asks for, in a graph."""

    def product(self, a: Var, w: Var) -> Var:
        return self.plain(self.b.op("DequantizeLinear", *self._quantised(a)), w)

    def _quantised(self, a: Var) -> Sequence[Var]:
        return self.b.ops("DynamicQuantizeLinear", a, outputs=3)


class _NotingJumps(Noting, _Quantising):
    """Likewise in numbers, noting how far every operand of a product is from its next jump."""

    def __init__(self, n: Numbers, at_rest: bool) -> None:
        super().__init__(n)
        self.at_rest = at_rest

    def product(self, a: Array, w: Array) -> Array:
        # A state that begins at 0, and stays there whatever moves, is not near its jumps.
        if not self.at_rest or np.any(a):
            self.noted.append(dynamic_jumps(self.n, a))
        return super().product(a, w)


def _weights(n: Any, w: Any, scale: Any, zero: Any) -> Any:
    """Quantised weights [directions, from, to] as numbers, [directions, to, from]."""

    def number(x: Any) -> Any:
        return n.lift(x if isinstance(x, Var) else x.astype(np.float64))

    def each(p: Any) -> Any:
        return n.reshape(p, (p.shape[0], 1, -1))

    return n.transpose((number(w) - each(number(zero))) * each(scale), (0, 2, 1))


def _quantised_run(o: Any, n: Any, operands: Sequence[Any], attrs: Any) -> tuple[Any, ...]:
    x, w, r, bias, lengths, h0, c0, p, *how = operands
    if lengths is not None:
        raise UnsupportedError("DynamicQuantizeLSTM of sequences of different lengths")
    w, r = _weights(n, w, *how[:2]), _weights(n, r, *how[2:])
    return run(o, "LSTM", x, (w, r, bias, None, h0, c0, p), {**attrs, "layout": 0})


def _quantised_types(s: Site) -> Sequence[Type]:
    steps, batch = s.b.fresh(2) if s.x.shape is None else s.x.shape[:2]
    recurrent = s.input(2).shape
    hidden: Dim = s["hidden_size"] or (s.b.fresh(1)[0] if recurrent is None else recurrent[1])
    d = directions_of(s["direction"])
    state = (s.x.dtype, (d, batch, hidden))
    return [(s.x.dtype, (steps, d, batch, hidden)), state, state]


def _quantised_expansion(s: Site) -> Sequence[Var]:
    return _quantised_run(_QuantisingGraph(s.b), Emit(s.b, s.x.dtype), s.inputs, s.attrs)


def _quantised_kinks(n: Numbers, *operands: Array, **attrs: Any) -> Any:
    o = _NotingJumps(n, at_rest=operands[5] is None)
    _quantised_run(o, n, operands, attrs)
    return together(o.noted)


CARDS: tuple[Card, ...] = (
    composite(
        "com.microsoft::DynamicQuantizeLSTM",
        lambda n, *operands, **attrs: _quantised_run(_Quantising(n), n, operands, attrs),
        _quantised_expansion,
        inputs=(
            *("X", "W", "R", "B?", "sequence_lens?", "initial_h?", "initial_c?", "P?"),
            *("W_scale", "W_zero_point", "R_scale", "R_zero_point"),
        ),
        outputs=("Y", "Y_h", "Y_c"),
        infer=_quantised_types,
        attrs={**ATTRS, "input_forget": 0},
        flat={
            **dict.fromkeys(("W", "R", "W_zero_point", "R_zero_point"), WHOLE),
            "sequence_lens": LENGTHS,
        },
        kinks=_quantised_kinks,
        jumps=True,
        convention=f"{DYNAMIC_CONVENTION}; of gates, that of the activations",
    ),
)
