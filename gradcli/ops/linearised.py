"""Recurrences made linear: what tangents and cotangents go through, at a point and in a graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from gradcli.graph import Var
from gradcli.ops.gates import Applied
from gradcli.ops.steps import InGraph, Way, plus, thirds


class Linear(ABC):
    """A direction at a point, in a graph: factors of all steps, [steps, batch, ...] each.

    Args:
        way: The direction.
        x: [steps, batch, features].
        h: Its hidden states [steps, batch, hidden], 0 beyond a sequence's end.
    """

    def __init__(self, way: Way, x: Var, h: Var) -> None:
        assert isinstance(way.o, InGraph)
        self.way, self.x, self.o, self.b = way, x, way.o, way.o.b
        self.z: Var  # pre-activations [steps, batch, gates * hidden], or what is shaped like them
        self.masks: list[Var | None]  # which sequences have each step, where that is asked
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
        # Both biases at once, and to a product: onnxruntime makes one operator of these two.
        z: Var = plus(self.o.product(self.x, way.w), plus(way.wb, way.rb))
        return z + self.o.product(h, way.r)  # type: ignore[no-any-return] # a Var

    def use(self, k: int, z: Var) -> Applied:
        """The k-th activation, where slopes can be asked of it."""
        return Applied(self.way.acts[k], self.b, z)

    def each(self, *values: Var) -> list[tuple[Var, ...]]:
        """What belongs to each step, of several values."""
        return list(zip(*(self.o.steps(v) for v in values), strict=True))

    def held(self, t: int, new: Var, old: Var) -> Var:
        """A state after step t: the old one where the sequence has ended."""
        mask = self.masks[t]
        return new if mask is None else self.b.where(mask, new, old)

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
        """The sum over steps and samples."""
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


class _RnnLinear(Linear):
    def prepare(self) -> None:
        self.z = self.affine(self.h_prev)
        gate = self.use(0, self.z)
        slope = gate.times_slope(self.b.full_like(self.z, 1.0))
        self.factors = self.o.steps(self.keep(slope))
        self.masks = self.way.masks()

    def push(self, z_dots: Sequence[Var | None], h: Var, c: Var) -> tuple[list[Var], Var, Var]:
        taken = []
        for t in self.way.order:
            y = self.factors[t] * plus(self.o.product(h, self.way.r), z_dots[t])
            taken.append(y)
            h = self.held(t, y, h)
        return taken, h, c

    def pull(self, y_bars: Sequence[Var | None], h: Var, c: Var) -> tuple[list[Var], Var, Var]:
        taken = []
        for t in reversed(self.way.order):
            h_bar = plus(h, y_bars[t])
            z_bar = self.factors[t] * h_bar
            taken.append(z_bar)
            h = self.held(t, self.b.op("MatMul", z_bar, self.way.r), h_bar)
        return taken[::-1], h, c


class _GruLinear(Linear):
    """y = (1 - k) n + k h, with k = f(zz), r = f(zr), and n = g(zn + r q) or g(zn + R (r h))."""

    def prepare(self) -> None:
        way, o, h = self.way, self.o, self.h_prev
        self.late = bool(way.attrs["linear_before_reset"])
        self.rz, self.rr, self.rn = thirds(way)
        self.r_early = o.join([self.rz, self.rr], 0)
        x_part = plus(o.product(self.x, way.w), way.wb)
        if self.late:
            q = plus(o.product(h, way.r), way.rb)
            (xz, xr, xn), (qz, qr, qn) = o.parts(x_part, 3), o.parts(q, 3)
            zz, zr, inner = xz + qz, xr + qr, qn
        else:
            xz, xr, xn = o.parts(plus(x_part, way.rb), 3)
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
            return self.o.join([early, self.reset * late], -1)
        if r_dot is None:
            return rb_dot
        early, late = self._two(r_dot, 0)
        parts = [self.o.product(self.h_prev, early), self.o.product(self.reset_h, late)]
        return plus(self.o.join(parts, -1), rb_dot)  # type: ignore[no-any-return] # a Var

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
            z_dot = z_dots[t]
            dz, dr, dn = (None,) * 3 if z_dot is None else o.parts(z_dot, 3)
            vz, vr = plus(o.product(h, self.rz), dz), plus(o.product(h, self.rr), dr)
            if self.late:
                n_dot = kr * vr + reset * o.product(h, self.rn)
            else:
                n_dot = o.product(kr * vr + reset * h, self.rn)
            h = kk * vz + kn * plus(n_dot, dn) + keep * h
            taken.append(h)
        return taken, h, c

    def pull(self, y_bars: Sequence[Var | None], h: Var, c: Var) -> tuple[list[Var], Var, Var]:
        o, b, taken = self.o, self.b, []
        for t in reversed(self.way.order):
            kk, kn, kr, keep, reset = self.factors[t]
            h_bar = plus(h, y_bars[t])
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


class _LstmLinear(Linear):
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
        return plus(self.o.join([*terms, self.b.zeros_like(self.c)], -1), grown)  # type: ignore[no-any-return] # a Var

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
            v = k * plus(self.o.product(h, self.way.r), z_dots[t])
            vi, vo, vf, vg = self.o.parts(v, 4)
            c = f * c + (vi + vf + vg)
            y = a * c + vo
            taken.append(y)
            h = self.held(t, y, h)
        return taken, h, c

    def pull(self, y_bars: Sequence[Var | None], h: Var, c: Var) -> tuple[list[Var], Var, Var]:
        taken = []
        for t in reversed(self.way.order):
            k, f, a = self.factors[t]
            h_bar = plus(h, y_bars[t])
            c_bar = c + a * h_bar
            z_bar = self.o.join([c_bar, h_bar, c_bar, c_bar], -1) * k
            taken.append(z_bar)
            c = f * c_bar
            h = self.held(t, self.b.op("MatMul", z_bar, self.way.r), h_bar)
        return taken[::-1], h, c


LINEAR: dict[str, type[Linear]] = {"RNN": _RnnLinear, "GRU": _GruLinear, "LSTM": _LstmLinear}
