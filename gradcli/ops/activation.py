"""Activations: functions of each element alone that networks put between their layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gradcli.graph import Var
from gradcli.numbers import Array, Numbers
from gradcli.ops.card import Site
from gradcli.ops.elementwise import INPUT, kink_at_zero
from gradcli.ops.kinds import elementwise

TANH_GELU = math.sqrt(2.0 / math.pi), 0.044715
"""The constants of the approximate Gelu, which by its definition are these floats."""


def _gelu(n: Numbers, x: Array, approximate: str) -> Array:
    if approximate == "tanh":
        # (1 + tanh u) / 2 = sigma(2u), which does not cancel for negative u.
        scale, cubic = TANH_GELU
        return x * n.sigmoid((x + x * x * x * cubic) * (2.0 * scale))
    # (1 + erf) / 2 cancels for negative x; erfc keeps its digits there.
    return x * n.erfc(-x / n.sqrt(n.full((), 2.0))) / 2.0


def _dx_gelu(s: Site) -> Var:
    """Phi(x) + x phi(x); for the tanh approximation sigma(u) + x sigma(u) sigma(-u) u'."""
    x, op = s.x, s.b.op
    if s["approximate"] == "tanh":
        scale, cubic = 2.0 * TANH_GELU[0], TANH_GELU[1]
        square = x * x
        u = x * (square * (scale * cubic) + scale)
        inside = square * (3.0 * scale * cubic) + scale
        y = op("Sigmoid", u)
        return y + x * (y * op("Sigmoid", -u)) * inside
    density = op("Exp", x * x * -0.5) * (1.0 / math.sqrt(2.0 * math.pi))
    cumulative = (op("Erf", x * math.sqrt(0.5)) + 1.0) * 0.5
    # 1 + erf cancels in the left tail; there the primal, x Phi(x), knows Phi to the last digit.
    cumulative = s.b.where(x < -1.0, s.y / x, cumulative)
    return cumulative + x * density


def _gelu_written_out(s: Site) -> Sequence[Var]:
    x, op = s.x, s.b.op
    if s["approximate"] == "tanh":
        scale, cubic = TANH_GELU
        return [x * 0.5 * (op("Tanh", (x + x * x * x * cubic) * scale) + 1.0)]
    return [x * 0.5 * (op("Erf", x * math.sqrt(0.5)) + 1.0)]


def _hard_sigmoid(n: Numbers, x: Array, alpha: float, beta: float) -> Array:
    return n.maximum(n.minimum(alpha * x + beta, n.full((), 1.0)), n.zero)


def _hard_sigmoid_kink(
    n: Numbers, x: Array, alpha: float, beta: float
) -> tuple[np.ndarray, np.ndarray]:
    u = alpha * x + beta
    return np.minimum(np.abs(u), np.abs(u - 1.0)) / abs(alpha), (u > 0) * 1 + (u >= 1)


def _elu(n: Numbers, x: Array, alpha: float) -> Array:
    # The branch not taken must not overflow: it is computed too.
    return n.where(n.less(x, n.zero), alpha * n.expm1(n.minimum(x, n.zero_of(x))), x)


def _elu_kink(n: Numbers, x: Array, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """With alpha 1 the slopes on both sides of 0 are the same."""
    return (np.abs(x) if alpha != 1.0 else np.full(np.shape(x), np.inf)), x > 0


def _dx_elu(s: Site) -> Var:
    return s.b.where(s.x > 0.0, 1.0, s.b.op("Exp", s.x) * s["alpha"], like=s.x)


def _dx_softsign(s: Site) -> Var:
    root = 1.0 / (s.b.op("Abs", s.x) + 1.0)
    return root * root


CARDS = (
    elementwise(
        "Relu",
        lambda n, x: n.maximum(x, n.zero_of(x)),
        lambda s: s.x > 0.0,
        kinks=kink_at_zero,
        convention="0 at 0",
        rounds=False,
    ),
    elementwise(
        "LeakyRelu",
        lambda n, x, alpha: n.where(n.less(x, n.zero), alpha * x, x),
        lambda s: s.b.where(s.x > 0.0, 1.0, s["alpha"], like=s.x),
        attrs={"alpha": 0.01},
        kinks=kink_at_zero,
        convention="alpha at 0",
    ),
    elementwise(
        "Elu",
        _elu,
        _dx_elu,
        attrs={"alpha": 1.0},
        kinks=_elu_kink,
        convention="alpha at 0",
    ),
    elementwise("Softsign", lambda n, x: x / (n.abs(x) + 1.0), _dx_softsign, inputs=INPUT),
    elementwise(
        "HardSigmoid",
        _hard_sigmoid,
        lambda s: s.b.where(s.b.op("And", s.y > 0.0, s.y < 1.0), s["alpha"], 0.0, like=s.x),
        attrs={"alpha": 0.2, "beta": 0.5},
        kinks=_hard_sigmoid_kink,
        rounds=False,  # 1 less a rounding error would be on the slope
        convention="0 at both ends of the slope",
    ),
    elementwise(
        "Softplus",
        lambda n, x: n.softplus(x),
        lambda s: s.b.op("Sigmoid", s.x),
        expand=lambda s: [s.b.op("Log", s.b.op("Exp", s.x) + 1.0)],
    ),
    elementwise("Gelu", _gelu, _dx_gelu, attrs={"approximate": "none"}, expand=_gelu_written_out),
)
