"""Recurrent networks: RNN, GRU and LSTM, of one direction or two.

The recurrence is sequential, its derivative as well, but all that it is made of is not. The hidden
states are the operator's own output, so one product recomputes the gates of all steps; slopes and
factors of all steps follow elementwise. What is left for each step is linear: a product with R and
a few products and sums, forward for the tangents and backward for the cotangents.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, Dim, DType, Type, Value, Var
from gradcli.numbers import Array, Numbers
from gradcli.ops.card import Card, Site, Vars
from gradcli.ops.emit import Emit
from gradcli.ops.gates import Activation, Applied, choose
from gradcli.ops.kinds import composite, custom
from gradcli.ops.quantize import (
    DYNAMIC_CONVENTION,
    WHOLE,
    dynamic_jumps,
    dynamic_quantize,
    together,
)

LENGTHS = "a number of steps"
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
DEFAULTS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}

# ---- what attributes say -------------------------------------------------------------------------


def _count(direction: str) -> int:
    return 2 if direction == "bidirectional" else 1


def _activations(op: str, attrs: Any) -> list[list[Activation]]:
    """For each direction, its activations."""
    directions, each = _count(attrs["direction"]), len(DEFAULTS[op])
    names = attrs["activations"] or DEFAULTS[op] * directions
    if len(names) < directions * each:
        names = (*names, *DEFAULTS[op] * directions)[: directions * each]
    made = choose(names, attrs["activation_alpha"], attrs["activation_beta"], attrs["clip"])
    # What acts on the cell of an LSTM takes it as it is.
    made = [
        Activation(a.f, a.attrs, a.inner, a.outer, a.shift) if op == "LSTM" and k % 3 == 2 else a
        for k, a in enumerate(made)
    ]
    return [made[d * each : (d + 1) * each] for d in range(directions)]


def _types(s: Site) -> Sequence[Type]:
    directions = _count(s["direction"])
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


# ---- one step, in numbers or in a graph ----------------------------------------------------------


class _Numbers:
    """What a step asks for, in a number system."""

    def __init__(self, n: Numbers) -> None:
        self.n = n

    def pick(self, x: Array, d: int) -> Array:
        return self.n.reshape(self.n.slice(x, [slice(d, d + 1)]), x.shape[1:])

    def steps(self, x: Array) -> list[Array]:
        return [self.n.slice(x, [slice(t, t + 1)]) for t in range(x.shape[0])]

    def parts(self, x: Array, count: int) -> list[Array]:
        size = x.shape[-1] // count
        cuts = [slice(None)] * (x.ndim - 1)
        return [self.n.slice(x, [*cuts, slice(k * size, k * size + size)]) for k in range(count)]

    def product(self, a: Array, w: Array) -> Array:
        """a w', over the last axis of a, as the operator computes it."""
        return self.plain(a, w)

    def plain(self, a: Array, w: Array) -> Array:
        """a w' as it is."""
        y = self.n.matmul(self.n.reshape(a, (-1, a.shape[-1])), self.n.transpose(w, (1, 0)))
        return self.n.reshape(y, (*a.shape[:-1], w.shape[0]))

    def join(self, parts: Sequence[Array], axis: int) -> Array:
        return self.n.concat(parts, axis)

    def use(self, activation: Activation, z: Array) -> Array:
        return activation.impl(self.n, z)

    def where(self, mask: Array, x: Array, y: Array) -> Array:
        return self.n.where(mask, x, y)

    def zeros(self, like: Array) -> Array:
        return self.n.full(like.shape, 0.0)

    def transpose(self, x: Array, perm: Sequence[int]) -> Array:
        return self.n.transpose(x, perm)

    def spread(self, x: Array, axis: int) -> Array:
        return self.n.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))

    def valid(self, lengths: Array, steps: int, late: int = 0) -> Array:
        at = np.arange(late, steps + late).reshape(-1, 1, 1)
        return at < np.asarray(lengths).reshape(1, -1, 1)


class _Noting(_Numbers):
    """Likewise, noting how far every gate is from its activation's kinks."""

    def __init__(self, n: Numbers) -> None:
        super().__init__(n)
        self.noted: list[tuple[np.ndarray, np.ndarray]] = []

    def use(self, activation: Activation, z: Array) -> Array:
        self.noted.append(activation.kinks(self.n, z))
        return activation.impl(self.n, z)


class _Graph:
    """What a step asks for, in a graph."""

    def __init__(self, b: Builder) -> None:
        self.b = b
        self._turned: dict[Value, Var] = {}

    def pick(self, x: Var, d: int) -> Var:
        return self.b.op("Gather", x, self.b.constant(np.int64(d)), axis=0)

    def steps(self, x: Var) -> list[Var]:
        count = x.shape[0] if x.shape else None
        if not isinstance(count, int) or count < 1:
            raise UnsupportedError("the number of steps is not known, or 0")
        return [x] if count == 1 else self._split(x, count, 0)

    def parts(self, x: Var, count: int) -> list[Var]:
        return [x] if count == 1 else self._split(x, count, x.rank - 1)

    def _split(self, x: Var, count: int, axis: int) -> list[Var]:
        return list(self.b.ops("Split", x, outputs=count, axis=axis, num_outputs=count))

    def product(self, a: Var, w: Var) -> Var:
        return self.plain(a, w)

    def plain(self, a: Var, w: Var) -> Var:
        if w.value not in self._turned:
            self._turned[w.value] = self.b.transpose(w, (1, 0))
        return self.b.op("MatMul", a, self._turned[w.value])

    def join(self, parts: Sequence[Var], axis: int) -> Var:
        return self.b.op("Concat", *parts, axis=axis) if len(parts) > 1 else parts[0]

    def use(self, activation: Activation, z: Var) -> Var:
        return Applied(activation, self.b, z).y

    def where(self, mask: Var, x: Var, y: Var) -> Var:
        return self.b.where(mask, x, y)

    def zeros(self, like: Var) -> Var:
        return self.b.zeros_like(like)

    def transpose(self, x: Var, perm: Sequence[int]) -> Var:
        return self.b.transpose(x, perm)

    def spread(self, x: Var, axis: int) -> Var:
        return self.b.unsqueeze(x, [axis])

    def valid(self, lengths: Var, steps: int, late: int = 0) -> Var:
        at = self.b.constant(np.arange(late, steps + late).reshape(-1, 1, 1))
        ends = self.b.reshape(self.b.cast(lengths, DType.INT64), [1, -1, 1])
        return self.b.op("Less", at, ends)


@dataclass(frozen=True)
class _Way:
    """One direction of a recurrent operator: its own weights, and the order of its steps.

    Attributes:
        o: What makes values: numbers, or nodes of a graph.
        op: RNN, GRU or LSTM.
        attrs: Its attributes.
        acts: This direction's activations.
        backward: Whether steps are taken from the last to the first.
        count: How many steps there are.
        w: Input weights [gates * hidden, features].
        r: Recurrent weights [gates * hidden, hidden].
        wb: Bias beside W [gates * hidden], if any.
        rb: Bias beside R, if any.
        p: Peepholes of the input, output and forget gate, if any.
        valid: For each step and sample, whether the sequence is that long [steps, batch, 1].
        lengths: Where `valid` comes from.
        h0: Hidden state before the first step [1, batch, hidden].
        c0: Cell state before the first step; of an LSTM.
    """

    o: Any
    op: str
    attrs: Any
    acts: Sequence[Activation]
    backward: bool
    count: int
    w: Any
    r: Any
    wb: Any
    rb: Any
    p: Any
    valid: Any
    lengths: Any
    h0: Any
    c0: Any

    @property
    def order(self) -> list[int]:
        return list(range(self.count))[:: -1 if self.backward else 1]

    def masks(self) -> list[Any]:
        return [None] * self.count if self.valid is None else self.o.steps(self.valid)

    def join(self, steps: Sequence[Any]) -> Any:
        """Values of each step, in the order in which they were taken, along axis 0."""
        return self.o.join(steps[:: -1 if self.backward else 1], 0)


def _plus(x: Any, y: Any) -> Any:
    return x if y is None else y if x is None else x + y


def _ways(o: Any, op: str, x: Any, operands: Sequence[Any], attrs: Any) -> Iterator[_Way]:
    """The directions of an operator; x is [steps, batch, features]."""
    w, r, b, lengths, h0, c0, p = (*operands, *[None] * 6)[:7]
    acts = _activations(op, attrs)
    if attrs["layout"]:
        h0, c0 = (None if v is None else o.transpose(v, (1, 0, 2)) for v in (h0, c0))
    count = x.shape[0]
    for d, own in enumerate(acts):
        wb, rb = (None, None) if b is None else o.parts(o.pick(b, d), 2)
        if h0 is None or (op == "LSTM" and c0 is None):
            zeros = o.zeros(o.parts(o.plain(o.steps(x)[0], o.pick(w, d)), GATES[op])[0])
        yield _Way(
            o,
            op,
            attrs,
            own,
            attrs["direction"] == "reverse" or d == 1,
            count,
            o.pick(w, d),
            o.pick(r, d),
            wb,
            rb,
            None if p is None else o.parts(o.pick(p, d), 3),
            None if lengths is None else o.valid(lengths, count),
            lengths,
            zeros if h0 is None else _begun(o, lengths, o.spread(o.pick(h0, d), 0)),
            None
            if op != "LSTM"
            else zeros
            if c0 is None
            else _begun(o, lengths, o.spread(o.pick(c0, d), 0)),
        )


def _begun(o: Any, lengths: Any, state: Any) -> Any:
    """An initial state, 0 for a sequence without steps, as onnxruntime has its last state."""
    return state if lengths is None else o.where(o.valid(lengths, 1), state, o.zeros(state))


def _rnn_step(way: _Way, z: Any, h: Any, c: Any) -> tuple[Any, Any]:
    return way.o.use(way.acts[0], _plus(z + way.o.product(h, way.r), way.rb)), c


def _gru_step(way: _Way, z: Any, h: Any, c: Any) -> tuple[Any, Any]:
    o = way.o
    f, g = way.acts
    if way.attrs["linear_before_reset"]:
        zz, zr, zn = o.parts(z, 3)
        qz, qr, qn = o.parts(_plus(o.product(h, way.r), way.rb), 3)
        keep, reset = o.use(f, zz + qz), o.use(f, zr + qr)
        new = o.use(g, zn + reset * qn)
    else:
        zz, zr, zn = o.parts(_plus(z, way.rb), 3)
        rz, rr, rn = _thirds(way)
        keep, reset = o.use(f, zz + o.product(h, rz)), o.use(f, zr + o.product(h, rr))
        new = o.use(g, zn + o.product(reset * h, rn))
    return (1.0 - keep) * new + keep * h, c


def _thirds(way: _Way) -> list[Any]:
    """R of a GRU, gate by gate."""
    o = way.o
    return [o.transpose(part, (1, 0)) for part in o.parts(o.transpose(way.r, (1, 0)), 3)]


def _lstm_step(way: _Way, z: Any, h: Any, c: Any) -> tuple[Any, Any]:
    o = way.o
    f, g, last = way.acts
    zi, zo, zf, zg = o.parts(_plus(z + o.product(h, way.r), way.rb), 4)
    if way.p is not None:
        zi, zf = zi + way.p[0] * c, zf + way.p[2] * c
    i = o.use(f, zi)
    forget = 1.0 - i if way.attrs["input_forget"] else o.use(f, zf)
    c = forget * c + i * o.use(g, zg)
    if way.p is not None:
        zo = zo + way.p[1] * c
    return o.use(f, zo) * o.use(last, c), c


STEPS = {"RNN": _rnn_step, "GRU": _gru_step, "LSTM": _lstm_step}


def _run(o: Any, op: str, x: Any, operands: Sequence[Any], attrs: Any) -> tuple[Any, ...]:
    """The operator, one step after the other."""
    if attrs["layout"]:
        x = o.transpose(x, (1, 0, 2))
    ys, hs, cs = [], [], []
    for way in _ways(o, op, x, operands, attrs):
        h, c = way.h0, way.c0
        z, masks = o.steps(_plus(o.product(x, way.w), way.wb)), way.masks()
        taken = []
        for t in way.order:
            h_new, c_new = STEPS[op](way, z[t], h, c)
            y = h_new
            if masks[t] is not None:
                y = o.where(masks[t], h_new, o.zeros(h))
                h_new = o.where(masks[t], h_new, h)
                c_new = None if c is None else o.where(masks[t], c_new, c)
            h, c = h_new, c_new
            taken.append(y)
        ys.append(o.spread(way.join(taken), 1))
        hs.append(h)
        cs.append(c)
    y, h = o.join(ys, 1), o.join(hs, 0)
    results = (y, h, o.join(cs, 0)) if op == "LSTM" else (y, h)
    if attrs["layout"]:
        perms = ((2, 0, 1, 3), (1, 0, 2), (1, 0, 2))
        results = tuple(o.transpose(v, p) for v, p in zip(results, perms, strict=False))
    return results


# ---- the recurrence made linear: what tangents and cotangents go through -------------------------


class _Linear(ABC):
    """A direction at a point, in a graph: factors of all steps, [steps, batch, ...] each.

    Args:
        way: The direction.
        x: [steps, batch, features].
        h: Its hidden states [steps, batch, hidden], 0 beyond a sequence's end.
    """

    def __init__(self, way: _Way, x: Var, h: Var) -> None:
        self.way, self.x, self.o = way, x, way.o
        self.z: Var  # pre-activations [steps, batch, gates * hidden], or what is shaped like them
        self.b: Builder = way.o.b
        self.h_prev = self._before(h, way.h0)
        self.prepare()

    def _before(self, y: Var, first: Var) -> Var:
        """The state before each step."""
        way, count = self.way, self.way.count
        states = self.o.steps(y)
        before = [*states[1:], first] if way.backward else [first, *states[:-1]]
        joined: Var = self.o.join(before, 0)
        if way.valid is not None and way.backward:
            return self.b.where(self.o.valid(way.lengths, count, late=1), joined, first)
        return joined

    def keep(self, x: Var, otherwise: float = 0.0) -> Var:
        """x where the sequences last, else a number."""
        return x if self.way.valid is None else self.b.where(self.way.valid, x, otherwise)

    def affine(self, h: Var) -> Var:
        """The gates' pre-activations of all steps, without peepholes."""
        way = self.way
        z: Var = self.o.product(self.x, way.w) + self.o.product(h, way.r)
        return _plus(_plus(z, way.wb), way.rb)  # type: ignore[no-any-return] # a Var

    def use(self, k: int, z: Var) -> Applied:
        return Applied(self.way.acts[k], self.b, z)

    def each(self, *values: Var) -> list[tuple[Var, ...]]:
        return list(zip(*(self.o.steps(v) for v in values), strict=True))

    def start(self) -> Var:
        """Zeros like a state."""
        return self.b.zeros_like(self.way.h0)

    def grown(self, r_dot: Var | None, rb_dot: Var | None) -> Var | None:
        """What tangents of R and of the bias beside it add, where they act on the last state."""
        product = None if r_dot is None else self.o.product(self.h_prev, r_dot)
        return self.b.total([product, rb_dot])

    def shrunk(self, z_bar: Var, h: Var) -> Var:
        """The cotangent of a matrix that took h to pre-activations."""
        flat = (self.b.op("Flatten", v, axis=2) for v in (z_bar, h))
        z_bar, h = flat
        return self.b.op("MatMul", self.b.transpose(z_bar, (1, 0)), h)

    def over_steps(self, z_bar: Var) -> Var:
        return self.b.sum(z_bar, axes=[0, 1], keepdims=False)

    @abstractmethod
    def prepare(self) -> None:
        """Compute the factors."""

    def bend(self, r_dot: Var | None, rb_dot: Var | None, _p_dot: Var | None) -> Var | None:
        """What tangents of R, its bias and peepholes add to the pre-activations of all steps."""
        return self.grown(r_dot, rb_dot)

    def unbend(self, z_bar: Var) -> tuple[Var, Var, Var | None]:
        """Cotangents of R, its bias and peepholes, from those of the pre-activations."""
        return self.shrunk(z_bar, self.h_prev), self.over_steps(z_bar), None

    @abstractmethod
    def push(self, z_dots: Sequence[Var | None], h: Var, c: Var) -> tuple[list[Var], Var, Var]:
        """Tangents of all steps' results, and of the last states, from those of the first ones."""

    @abstractmethod
    def pull(self, y_bars: Sequence[Var | None], h: Var, c: Var) -> tuple[list[Var], Var, Var]:
        """Cotangents of the pre-activations, and of the first states, from those of the last."""


class _RnnLinear(_Linear):
    def prepare(self) -> None:
        self.z = self.affine(self.h_prev)
        gate = self.use(0, self.z)
        slope = gate.times_slope(self.b.full_like(self.z, 1.0))
        self.factors = self.o.steps(self.keep(slope))
        self.masks = self.way.masks()

    def push(self, z_dots: Sequence[Var | None], h: Var, c: Var) -> tuple[list[Var], Var, Var]:
        taken = []
        for t in self.way.order:
            y = self.factors[t] * _plus(self.o.product(h, self.way.r), z_dots[t])
            taken.append(y)
            h = y if self.masks[t] is None else self.b.where(self.masks[t], y, h)
        return taken, h, c

    def pull(self, y_bars: Sequence[Var | None], h: Var, c: Var) -> tuple[list[Var], Var, Var]:
        taken = []
        for t in reversed(self.way.order):
            h_bar = _plus(h, y_bars[t])
            z_bar = self.factors[t] * h_bar
            taken.append(z_bar)
            h = self.b.op("MatMul", z_bar, self.way.r)
            if self.masks[t] is not None:
                h = self.b.where(self.masks[t], h, h_bar)
        return taken[::-1], h, c


class _GruLinear(_Linear):
    """y = (1 - k) n + k h, with k = f(zz), r = f(zr), and n = g(zn + r q) or g(zn + R (r h))."""

    def prepare(self) -> None:
        way, o, h = self.way, self.o, self.h_prev
        self.late = bool(way.attrs["linear_before_reset"])
        self.rz, self.rr, self.rn = _thirds(way)
        self.r_early = o.join([self.rz, self.rr], 0)
        x_part = _plus(o.product(self.x, way.w), way.wb)
        if self.late:
            q = _plus(o.product(h, way.r), way.rb)
            (xz, xr, xn), (qz, qr, qn) = o.parts(x_part, 3), o.parts(q, 3)
            zz, zr, inner = xz + qz, xr + qr, qn
        else:
            xz, xr, xn = o.parts(_plus(x_part, way.rb), 3)
            zz, zr = xz + o.product(h, self.rz), xr + o.product(h, self.rr)
            inner = h
        keep, reset = self.use(0, zz), self.use(0, zr)
        self.reset = reset.y
        self.reset_h = reset.y * h
        new = self.use(1, xn + (reset.y * qn if self.late else o.product(self.reset_h, self.rn)))
        self.z = x_part
        self.factors = self.each(
            self.keep(keep.times_slope(h - new.y)),
            self.keep(new.times_slope(1.0 - keep.y)),
            self.keep(reset.times_slope(inner)),
            self.keep(keep.y, 1.0),
            self.reset,
        )

    def bend(self, r_dot: Var | None, rb_dot: Var | None, _p_dot: Var | None) -> Var | None:
        if self.late:
            grown = self.grown(r_dot, rb_dot)
            if grown is None:
                return None
            early, late = self._two(self.b.expand_like(grown, self.z))
            return self.o.join([early, self.reset * late], -1)  # type: ignore[no-any-return] # a Var
        if r_dot is None:
            return rb_dot
        early, late = self._two(r_dot, 0)
        parts = [self.o.product(self.h_prev, early), self.o.product(self.reset_h, late)]
        return _plus(self.o.join(parts, -1), rb_dot)  # type: ignore[no-any-return] # a Var

    def unbend(self, z_bar: Var) -> tuple[Var, Var, Var | None]:
        early, late = self._two(z_bar)
        if self.late:
            q_bar = self.o.join([early, self.reset * late], -1)
            return self.shrunk(q_bar, self.h_prev), self.over_steps(q_bar), None
        parts = [self.shrunk(early, self.h_prev), self.shrunk(late, self.reset_h)]
        return self.o.join(parts, 0), self.over_steps(z_bar), None

    def _two(self, x: Var, axis: int = -1) -> tuple[Var, Var]:
        """The part of the first two gates and that of the third, along one axis."""
        parts = self.b.ops("Split", x, outputs=3, axis=axis, num_outputs=3)
        return self.o.join(parts[:2], axis), parts[2]

    def push(self, z_dots: Sequence[Var | None], h: Var, c: Var) -> tuple[list[Var], Var, Var]:
        o, taken = self.o, []
        for t in self.way.order:
            kk, kn, kr, keep, reset = self.factors[t]
            dz, dr, dn = (None,) * 3 if z_dots[t] is None else o.parts(z_dots[t], 3)
            vz, vr = _plus(o.product(h, self.rz), dz), _plus(o.product(h, self.rr), dr)
            if self.late:
                n_dot = kr * vr + reset * o.product(h, self.rn)
            else:
                n_dot = o.product(kr * vr + reset * h, self.rn)
            h = kk * vz + kn * _plus(n_dot, dn) + keep * h
            taken.append(h)
        return taken, h, c

    def pull(self, y_bars: Sequence[Var | None], h: Var, c: Var) -> tuple[list[Var], Var, Var]:
        o, b, taken = self.o, self.b, []
        for t in reversed(self.way.order):
            kk, kn, kr, keep, reset = self.factors[t]
            h_bar = _plus(h, y_bars[t])
            z_bar, n_bar = kk * h_bar, kn * h_bar
            if self.late:
                r_bar = kr * n_bar
                early = o.join([z_bar, r_bar, reset * n_bar], -1)
                h = b.op("MatMul", early, self.way.r) + keep * h_bar
            else:
                m_bar = b.op("MatMul", n_bar, self.rn)
                r_bar = kr * m_bar
                early = o.join([z_bar, r_bar], -1)
                h = b.op("MatMul", early, self.r_early) + reset * m_bar + keep * h_bar
            taken.append(o.join([z_bar, r_bar, n_bar], -1))
        return taken[::-1], h, c


class _LstmLinear(_Linear):
    """c = f c + i g, y = o l(c), with i, o, f of the first activation, g of the second, l the last.

    In tangents, with v = z_dot + R h_dot and K, F, A the factors prepared here: c_dot = F c_dot +
    K_i v_i + K_f v_f + K_g v_g, and h_dot = A c_dot + K_o v_o.
    """

    def prepare(self) -> None:
        way, o = self.way, self.o
        self.z = self.affine(self.h_prev)
        zi, zo, zf, zg = o.parts(self.z, 4)
        g = self.use(1, zg)
        self.c, self.c_prev = self._cells(zi, zf, g.y)
        if way.p is not None:
            zi, zf = zi + way.p[0] * self.c_prev, zf + way.p[2] * self.c_prev
            zo = zo + way.p[1] * self.c
        i, out, last = self.use(0, zi), self.use(0, zo), self.use(2, self.c)
        if way.attrs["input_forget"]:
            forget = 1.0 - i.y
            ki, kf = i.times_slope(g.y - self.c_prev), self.b.zeros_like(g.y)
        else:
            gate = self.use(0, zf)
            forget = gate.y
            ki, kf = i.times_slope(g.y), gate.times_slope(self.c_prev)
        ko, kg = out.times_slope(last.y), g.times_slope(i.y)
        a = last.times_slope(out.y)
        if way.p is not None:
            forget, a = forget + ki * way.p[0] + kf * way.p[2], a + ko * way.p[1]
        k = self.keep(o.join([ki, ko, kf, kg], -1))
        self.factors = self.each(k, self.keep(forget, 1.0), self.keep(a))
        self.masks = way.masks()

    def _cells(self, zi: Var, zf: Var, g: Var) -> tuple[Var, Var]:
        """The cell states after and before each step."""
        way = self.way
        after: list[Var] = []
        before: list[Var] = []
        c, masks = way.c0, way.masks()
        peeping, closing = way.p is not None, way.attrs["input_forget"]
        i, f = (zi, zf) if peeping else (self.use(0, zi).y, None if closing else self.use(0, zf).y)
        added = g if peeping else i * g
        steps = self.each(added, i, i if f is None else f)
        for t in way.order:
            before.append(c)
            more, it, ft = steps[t]
            if peeping:
                it = self.use(0, it + way.p[0] * c).y
                more = it * more
                if not closing:
                    ft = self.use(0, ft + way.p[2] * c).y
            c_new = (1.0 - it if closing else ft) * c + more
            c = c_new if masks[t] is None else self.b.where(masks[t], c_new, c)
            after.append(c)
        return way.join(after), way.join(before)

    def bend(self, r_dot: Var | None, rb_dot: Var | None, p_dot: Var | None) -> Var | None:
        grown = self.grown(r_dot, rb_dot)
        if p_dot is None:
            return grown
        pi, po, pf = self.o.parts(p_dot, 3)
        terms = [pi * self.c_prev, po * self.c, pf * self.c_prev]
        return _plus(self.o.join([*terms, self.b.zeros_like(self.c)], -1), grown)  # type: ignore[no-any-return] # a Var

    def unbend(self, z_bar: Var) -> tuple[Var, Var, Var | None]:
        r_bar, rb_bar, _ = super().unbend(z_bar)
        if self.way.p is None:
            return r_bar, rb_bar, None
        zi, zo, zf, _ = self.o.parts(z_bar, 4)
        sums = [zi * self.c_prev, zo * self.c, zf * self.c_prev]
        return r_bar, rb_bar, self.o.join([self.over_steps(v) for v in sums], -1)

    def push(self, z_dots: Sequence[Var | None], h: Var, c: Var) -> tuple[list[Var], Var, Var]:
        taken = []
        for t in self.way.order:
            k, f, a = self.factors[t]
            v = k * _plus(self.o.product(h, self.way.r), z_dots[t])
            vi, vo, vf, vg = self.o.parts(v, 4)
            c = f * c + (vi + vf + vg)
            y = a * c + vo
            taken.append(y)
            h = y if self.masks[t] is None else self.b.where(self.masks[t], y, h)
        return taken, h, c

    def pull(self, y_bars: Sequence[Var | None], h: Var, c: Var) -> tuple[list[Var], Var, Var]:
        taken = []
        for t in reversed(self.way.order):
            k, f, a = self.factors[t]
            h_bar = _plus(h, y_bars[t])
            c_bar = c + a * h_bar
            z_bar = self.o.join([c_bar, h_bar, c_bar, c_bar], -1) * k
            taken.append(z_bar)
            c = f * c_bar
            h = self.b.op("MatMul", z_bar, self.way.r)
            if self.masks[t] is not None:
                h = self.b.where(self.masks[t], h, h_bar)
        return taken[::-1], h, c


LINEAR: dict[str, type[_Linear]] = {"RNN": _RnnLinear, "GRU": _GruLinear, "LSTM": _LstmLinear}

# ---- the rules -----------------------------------------------------------------------------------


def _linearised(s: Site) -> list[_Linear]:
    """Every direction at this point."""
    o, b = _Graph(s.b), s.b
    x = b.transpose(s.x, (1, 0, 2)) if s["layout"] else s.x
    if x.shape is None or not isinstance(x.shape[0], int) or not x.shape[0]:
        raise UnsupportedError(
            f"the derivative of {s.key} needs a known number of steps, at least 1",
            "fix the sequence's length in the model",
        )
    y = s.outputs[0] or s.again(*s.inputs)
    y = b.transpose(y, (1, 2, 0, 3)) if s["layout"] else y
    ways = list(_ways(o, s.key, x, s.inputs[1:], s.attrs))
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


def _state(layout: int, o: _Graph, v: Var | None, d: int) -> Var | None:
    """This direction's part of a state or of its derivative, [1, batch, hidden]."""
    if v is None:
        return None
    return o.spread(o.pick(o.transpose(v, (1, 0, 2)) if layout else v, d), 0)


def _jvp(s: Site, dots: Vars) -> Vars:
    x_dot, w_dot, r_dot, b_dot, _, h_dot, c_dot, p_dot = (*dots, *[None] * 8)[:8]
    layout = s["layout"]
    ys, hs, cs = [], [], []
    o = _Graph(s.b)
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
        first = [lin.start() if v is None else _begun(o, way.lengths, v) for v in states]
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
    o, b, layout = _Graph(s.b), s.b, s["layout"]
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
        h, c = (_begun(o, way.lengths, v) for v in (h, c))
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
    return _run(_Graph(s.b), s.key, s.x, s.inputs[1:], s.attrs)


# ---- kinks ---------------------------------------------------------------------------------------


def _kinks(op: str, n: Numbers, operands: Sequence[Array], attrs: Any) -> Any:
    """Of each hidden element, over the gates that it is made of."""
    o = _Noting(n)
    x, *rest = operands
    _run(o, op, x, rest, attrs)
    if attrs["layout"]:
        x = n.transpose(x, (1, 0, 2))
    steps, directions = x.shape[0], _count(attrs["direction"])
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
        lambda n, x, *rest, **given: _run(_Numbers(n), op, x, rest, given),
        _jvp,
        _vjp,
        inputs=("X", "W", "R", "B?", "sequence_lens?", "initial_h?", *more_inputs),
        outputs=tuple(outputs),
        infer=_types,
        expand=_expand,
        attrs={
            "activation_alpha": None,
            "activation_beta": None,
            "activations": None,
            "clip": None,
            "direction": "forward",
            "hidden_size": None,
            "layout": 0,
            **attrs,
        },
        flat={"sequence_lens": LENGTHS},
        kinks=lambda n, *operands, **given: _kinks(op, n, operands, given),
        convention="that of the activations; 0 where a gate is at the clip",
    )


# ---- an LSTM that quantises what it multiplies ---------------------------------------------------


class _Quantising(_Numbers):
    """What a step asks for, in a number system: products of what is quantised by its own range."""

    def product(self, a: Array, w: Array) -> Array:
        q, step, zero = dynamic_quantize(self.n, a)
        steps = self.n.lift(q.astype(np.float64) - zero.astype(np.float64))
        return self.plain(steps * step, w)


class _QuantisingGraph(_Graph):
    """What a step asks for, in a graph."""

    def product(self, a: Var, w: Var) -> Var:
        return self.plain(self.b.op("DequantizeLinear", *self._quantised(a)), w)

    def _quantised(self, a: Var) -> Sequence[Var]:
        return self.b.ops("DynamicQuantizeLinear", a, outputs=3)


class _NotingJumps(_Noting, _Quantising):
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
    return _run(o, "LSTM", x, (w, r, bias, None, h0, c0, p), {**attrs, "layout": 0})


def _quantised_types(s: Site) -> Sequence[Type]:
    steps, batch = s.b.fresh(2) if s.x.shape is None else s.x.shape[:2]
    recurrent = s.input(2).shape
    hidden: Dim = s["hidden_size"] or (s.b.fresh(1)[0] if recurrent is None else recurrent[1])
    d = _count(s["direction"])
    state = (s.x.dtype, (d, batch, hidden))
    return [(s.x.dtype, (steps, d, batch, hidden)), state, state]


def _quantised_expansion(s: Site) -> Sequence[Var]:
    return _quantised_run(_QuantisingGraph(s.b), Emit(s.b, s.x.dtype), s.inputs, s.attrs)


def _quantised_kinks(n: Numbers, *operands: Array, **attrs: Any) -> Any:
    o = _NotingJumps(n, at_rest=operands[5] is None)
    _quantised_run(o, n, operands, attrs)
    return together(o.noted)


CARDS: tuple[Card, ...] = (
    _recurrent("RNN", outputs=("Y", "Y_h"), activations=("Tanh", "Tanh")),
    _recurrent("GRU", outputs=("Y", "Y_h"), linear_before_reset=0),
    _recurrent("LSTM", "initial_c?", "P?", outputs=("Y", "Y_h", "Y_c"), input_forget=0),
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
        attrs={
            "activation_alpha": None,
            "activation_beta": None,
            "activations": None,
            "clip": None,
            "direction": "forward",
            "hidden_size": None,
            "input_forget": 0,
        },
        flat={
            **dict.fromkeys(("W", "R", "W_zero_point", "R_zero_point"), WHOLE),
            "sequence_lens": LENGTHS,
        },
        kinks=_quantised_kinks,
        jumps=True,
        convention=f"{DYNAMIC_CONVENTION}; of gates, that of the activations",
    ),
)
