"""Recurrent networks step by step, in numbers or in a graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, DType, Value, Var
from gradcli.numbers import Array, Numbers
from gradcli.ops.gates import Activation, Applied, choose

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
ATTRS = {
    "activation_alpha": None,
    "activation_beta": None,
    "activations": None,
    "clip": None,
    "direction": "forward",
    "hidden_size": None,
}
DEFAULTS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}

# ---- what attributes say -------------------------------------------------------------------------


def directions_of(direction: str) -> int:
    """How many directions there are."""
    return 2 if direction == "bidirectional" else 1


def activations_of(op: str, attrs: Any) -> list[list[Activation]]:
    """For each direction, its activations."""
    directions, each = directions_of(attrs["direction"]), len(DEFAULTS[op])
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


# ---- one step, in numbers or in a graph ----------------------------------------------------------


class Making(ABC):
    """What a step asks for, of values that are numbers or nodes of a graph."""

    @abstractmethod
    def pick(self, x: Any, d: int) -> Any:
        """What belongs to this direction, along axis 0, which is gone then."""

    @abstractmethod
    def steps(self, x: Any) -> list[Any]:
        """What belongs to each step, along axis 0, which is 1 then."""

    @abstractmethod
    def parts(self, x: Any, count: int) -> list[Any]:
        """So many equal parts of the last axis."""

    def product(self, a: Any, w: Any) -> Any:
        """a w', over the last axis of a, as the operator computes it."""
        return self.plain(a, w)

    @abstractmethod
    def plain(self, a: Any, w: Any) -> Any:
        """a w' as it is."""

    @abstractmethod
    def join(self, parts: Sequence[Any], axis: int) -> Any:
        """Values along an axis, one after the other."""

    @abstractmethod
    def use(self, activation: Activation, z: Any) -> Any:
        """An activation's result."""

    @abstractmethod
    def where(self, mask: Any, x: Any, y: Any) -> Any:
        """x where the mask is true, else y."""

    @abstractmethod
    def zeros(self, like: Any) -> Any:
        """Zeros, shaped as another value."""

    @abstractmethod
    def transpose(self, x: Any, perm: Sequence[int]) -> Any:
        """The axes in another order."""

    @abstractmethod
    def spread(self, x: Any, axis: int) -> Any:
        """With one more axis, of size 1."""

    @abstractmethod
    def valid(self, lengths: Any, steps: int, late: int = 0) -> Any:
        """Whether each sequence has each step, `late` further on: [steps, batch, 1]."""


class InNumbers(Making):
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

    def plain(self, a: Array, w: Array) -> Array:
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


class Noting(InNumbers):
    """Likewise, noting how far every gate is from its activation's kinks."""

    def __init__(self, n: Numbers) -> None:
        super().__init__(n)
        self.noted: list[tuple[np.ndarray, np.ndarray]] = []

    def use(self, activation: Activation, z: Array) -> Array:
        self.noted.append(activation.kinks(self.n, z))
        return activation.impl(self.n, z)


class InGraph(Making):
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
class Way:
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

    o: Making
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
        """The steps, as they are taken."""
        return list(range(self.count))[:: -1 if self.backward else 1]

    def masks(self) -> list[Any]:
        """For each step, which sequences have it; None where all have all."""
        return [None] * self.count if self.valid is None else self.o.steps(self.valid)

    def join(self, steps: Sequence[Any]) -> Any:
        """Values of each step, in the order in which they were taken, along axis 0."""
        return self.o.join(steps[:: -1 if self.backward else 1], 0)


def plus(x: Any, y: Any) -> Any:
    """The sum of what is there of two values, each of which may be None."""
    return x if y is None else y if x is None else x + y


def ways_of(o: Making, op: str, x: Any, operands: Sequence[Any], attrs: Any) -> Iterator[Way]:
    """The directions of an operator; x is [steps, batch, features]."""
    w, r, b, lengths, h0, c0, p = (*operands, *[None] * 6)[:7]
    acts = activations_of(op, attrs)
    if attrs["layout"]:
        h0, c0 = (None if v is None else o.transpose(v, (1, 0, 2)) for v in (h0, c0))
    count = x.shape[0]
    for d, own in enumerate(acts):
        wb, rb = (None, None) if b is None else o.parts(o.pick(b, d), 2)
        if h0 is None or (op == "LSTM" and c0 is None):
            zeros = o.zeros(o.parts(o.plain(o.steps(x)[0], o.pick(w, d)), GATES[op])[0])
        yield Way(
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
            zeros if h0 is None else begun(o, lengths, o.spread(o.pick(h0, d), 0)),
            None
            if op != "LSTM"
            else zeros
            if c0 is None
            else begun(o, lengths, o.spread(o.pick(c0, d), 0)),
        )


def begun(o: Making, lengths: Any, state: Any) -> Any:
    """An initial state, 0 for a sequence without steps, as onnxruntime has its last state."""
    return state if lengths is None else o.where(o.valid(lengths, 1), state, o.zeros(state))


def _rnn_step(way: Way, z: Any, h: Any, c: Any) -> tuple[Any, Any]:
    return way.o.use(way.acts[0], plus(z + way.o.product(h, way.r), way.rb)), c


def _gru_step(way: Way, z: Any, h: Any, c: Any) -> tuple[Any, Any]:
    o = way.o
    f, g = way.acts
    if way.attrs["linear_before_reset"]:
        zz, zr, zn = o.parts(z, 3)
        qz, qr, qn = o.parts(plus(o.product(h, way.r), way.rb), 3)
        keep, reset = o.use(f, zz + qz), o.use(f, zr + qr)
        new = o.use(g, zn + reset * qn)
    else:
        zz, zr, zn = o.parts(plus(z, way.rb), 3)
        rz, rr, rn = thirds(way)
        keep, reset = o.use(f, zz + o.product(h, rz)), o.use(f, zr + o.product(h, rr))
        new = o.use(g, zn + o.product(reset * h, rn))
    return (1.0 - keep) * new + keep * h, c


def thirds(way: Way) -> list[Any]:
    """R of a GRU, gate by gate."""
    o = way.o
    return [o.transpose(part, (1, 0)) for part in o.parts(o.transpose(way.r, (1, 0)), 3)]


def _lstm_step(way: Way, z: Any, h: Any, c: Any) -> tuple[Any, Any]:
    o = way.o
    f, g, last = way.acts
    zi, zo, zf, zg = o.parts(plus(z + o.product(h, way.r), way.rb), 4)
    if way.p is not None:
        zi, zf = zi + way.p[0] * c, zf + way.p[2] * c
    i = o.use(f, zi)
    forget = 1.0 - i if way.attrs["input_forget"] else o.use(f, zf)
    c = forget * c + i * o.use(g, zg)
    if way.p is not None:
        zo = zo + way.p[1] * c
    return o.use(f, zo) * o.use(last, c), c


STEPS = {"RNN": _rnn_step, "GRU": _gru_step, "LSTM": _lstm_step}


def run(o: Making, op: str, x: Any, operands: Sequence[Any], attrs: Any) -> tuple[Any, ...]:
    """The operator, one step after the other."""
    if attrs["layout"]:
        x = o.transpose(x, (1, 0, 2))
    ys, hs, cs = [], [], []
    for way in ways_of(o, op, x, operands, attrs):
        h, c = way.h0, way.c0
        z, masks = o.steps(plus(o.product(x, way.w), way.wb)), way.masks()
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
