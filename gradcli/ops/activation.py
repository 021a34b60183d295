"""Activations: functions of each element alone that networks put between their layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gradcli.graph import Var
from gradcli.numbers import Array, Numbers
from gradcli.ops.card import Site
from gradcli.ops.elementwise import INPUT, kink_at_zero
from gradcli.ops.irrational import over_root_pi, root
from gradcli.ops.kinds import composite, elementwise, same

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
        scale, cubic = TANH_GELU
        square = x * x * cubic
        u = x * (square + 1.0) * (2.0 * scale)
        inside = (square * 3.0 + 1.0) * (2.0 * scale)
        y = op("Sigmoid", u)
        return y + x * (y * op("Sigmoid", -u)) * inside
    half = root(s.b, 0.5, x.dtype)
    density = op("Exp", x * x * -0.5) * over_root_pi(s.b, 1.0, 2.0, x.dtype)
    cumulative = (op("Erf", x * half) + 1.0) * 0.5
    # 1 + erf cancels in the left tail; there the primal, x Phi(x), knows Phi to the last digit.
    cumulative = s.b.where(x < -1.0, s.y / x, cumulative)
    return cumulative + x * density


def _gelu_written_out(s: Site) -> Sequence[Var]:
    x, op = s.x, s.b.op
    if s["approximate"] == "tanh":
        scale, cubic = TANH_GELU
        return [x * 0.5 * (op("Tanh", (x + x * x * x * cubic) * scale) + 1.0)]
    return [x * 0.5 * (op("Erf", x * root(s.b, 0.5, x.dtype)) + 1.0)]


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


def _dx_prelu(s: Site, k: int) -> Var:
    """Of x: 1 or the slope. Of the slope: x where it is negative."""
    positive = s.x > 0.0
    return s.b.where(positive, 1.0, s.x1) if k == 0 else s.b.where(positive, 0.0, s.x)


def _selu_kink(n: Numbers, x: Array, alpha: float, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    return _elu_kink(n, x, alpha)


def _celu(n: Numbers, x: Array, alpha: float) -> Array:
    # Where x is positive the exponential would overflow, though nobody reads it.
    return n.where(n.less(x, n.zero), alpha * n.expm1(n.minimum(x, n.zero) / alpha), x)


def _hard_swish(n: Numbers, x: Array) -> Array:
    return x * n.maximum(n.minimum(x / 6.0 + 0.5, n.full((), 1.0)), n.zero)


def _dx_hard_swish(s: Site) -> Var:
    end = s.b.where(s.x > 0.0, 1.0, 0.0, like=s.x)
    return s.b.where(s.b.op("Abs", s.x) < 3.0, s.x / 3.0 + 0.5, end)


def _shrink(n: Numbers, x: Array, bias: float, lambd: float) -> Array:
    if not n.is_number(x):
        raised, lowered = (x + bias, x - bias) if bias % 1 else (x + int(bias), x - int(bias))
        return np.where(x < -lambd, raised, np.where(x > lambd, lowered, 0)).astype(x.dtype)
    inner = n.where(n.less(n.full((), lambd), x), x - bias, n.zero)
    return n.where(n.less(x, n.full((), -lambd)), x + bias, inner)


def _shrink_kink(n: Numbers, x: Array, bias: float, lambd: float) -> tuple[np.ndarray, np.ndarray]:
    # With a negative threshold all that is left of its opposite is raised, and the rest lowered.
    above = np.abs(x - lambd) if lambd >= 0.0 else np.full(np.shape(x), np.inf)
    return np.minimum(np.abs(x + lambd), above), (x >= -lambd) * 1 + (x > max(lambd, -lambd)) * 2


def _swish(n: Numbers, x: Array, alpha: float) -> Array:
    return x * n.sigmoid(alpha * x)


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
    elementwise(
        "PRelu",
        lambda n, x, slope: n.where(n.less(x, n.zero_of(x)), slope * x, x),
        each=_dx_prelu,
        inputs=("X", "slope"),
        infer=same,  # the slope is repeated to x's shape, never x to the slope's
        kinks=lambda n, x, slope: kink_at_zero(n, x),
        convention="the slope at 0",
    ),
    composite(
        "Selu",
        lambda n, x, alpha, gamma: _elu(n, x, alpha) * gamma,
        lambda s: [s.b.op("Elu", s.x, alpha=s["alpha"]) * s["gamma"]],
        inputs=("X",),
        infer=same,
        attrs={"alpha": 1.6732631921768188, "gamma": 1.0507010221481323},
        kinks=_selu_kink,
        convention="gamma alpha at 0",
    ),
    # Its slope has no jump, whatever alpha is: exp(0) = 1 on both sides.
    elementwise(
        "Celu",
        _celu,
        lambda s: s.b.op("Exp", s.b.op("Min", s.x, s.b.like(0.0, s.x)) / s["alpha"]),
        attrs={"alpha": 1.0},
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
    elementwise(
        "HardSwish",
        _hard_swish,
        _dx_hard_swish,
        kinks=lambda n, x: (np.abs(np.abs(x) - 3.0), (x > -3.0) * 1 + (x >= 3.0)),
        convention="0 at -3 and 1 at 3, as beyond the slope",
    ),
    elementwise(
        "ThresholdedRelu",
        lambda n, x, alpha: n.where(n.less(n.full((), alpha), x), x, n.zero),
        lambda s: s.x > s["alpha"],
        attrs={"alpha": 1.0},
        kinks=lambda n, x, alpha: (np.abs(x - alpha), x > alpha),
        convention="0 at the threshold",
        rounds=False,
    ),
    elementwise(
        "Shrink",
        _shrink,
        lambda s: s.b.op("Or", s.x < -s["lambd"], s.x > s["lambd"]),
        inputs=INPUT,
        attrs={"bias": 0.0, "lambd": 0.5},
        kinks=_shrink_kink,
        convention="0 at both thresholds",
    ),
    composite(
        "Mish",
        lambda n, x: x * n.tanh(n.softplus(x)),
        lambda s: [s.x * s.b.op("Tanh", s.b.op("Softplus", s.x))],
        inputs=("X",),
        infer=same,
    ),
    composite(
        "Swish",
        _swish,
        lambda s: [s.x * s.b.op("Sigmoid", s.x * s["alpha"])],
        inputs=("X",),
        infer=same,
        attrs={"alpha": 1.0},
        since=24,
    ),
    composite(
        "SwiGLU",
        lambda n, a, b, alpha: _swish(n, a, alpha) * b,
        lambda s: [s.x * s.b.op("Sigmoid", s.x * s["alpha"]) * s.x1],
        inputs=("A", "B"),
        infer=same,
        attrs={"alpha": 1.0},
        since=28,
    ),
    elementwise("Gelu", _gelu, _dx_gelu, attrs={"approximate": "none"}, expand=_gelu_written_out),
)
