"""Operators that act on each element alone: arithmetic, elementary functions, activations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


from gradcli.numbers import Array, Numbers

from gradcli.ops.kinds import elementwise

# Elements with kinks: the margin is the distance to the kink, the branch says which side.


def _kink_at_zero(n: Numbers, x: Array, **_: Any) -> tuple[np.ndarray, np.ndarray]:
    return np.abs(x), x > 0


def _distance_to_zero(n: Numbers, x: Array, **_: Any) -> np.ndarray:
    return np.abs(x)


BINARY = ("A", "B")

ARITHMETIC = (
    elementwise("Add", lambda n, a, b: a + b, 1.0, 1.0, inputs=BINARY),
    elementwise("Sub", lambda n, a, b: a - b, 1.0, -1.0, inputs=BINARY),
    elementwise("Mul", lambda n, a, b: a * b, lambda s: s.x1, lambda s: s.x, inputs=BINARY),
    elementwise(
        "Div",
        lambda n, a, b: n.divide(a, b),
        lambda s: 1.0 / s.x1,
        lambda s: -s.y / s.x1,
        inputs=BINARY,
        edges=lambda n, a, b: np.abs(b) + 0 * np.abs(a),
        edge="division by 0",
    ),
    elementwise("Neg", lambda n, x: -x, -1.0),
)

ELEMENTARY = (
    elementwise("Exp", lambda n, x: n.exp(x), lambda s: s.y),
    elementwise(
        "Log",
        lambda n, x: n.log(x),
        lambda s: 1.0 / s.x,
        edges=_distance_to_zero,
        edge="the logarithm of 0",
    ),
    elementwise(
        "Sqrt",
        lambda n, x: n.sqrt(x),
        lambda s: 0.5 / s.y,
        edges=_distance_to_zero,
        edge="the square root of 0",
    ),
    elementwise("Tanh", lambda n, x: n.tanh(x), lambda s: 1.0 - s.y * s.y),
    elementwise("Sigmoid", lambda n, x: n.sigmoid(x), lambda s: s.y * (1.0 - s.y)),
    elementwise(
        "Erf",
        lambda n, x: n.erf(x),
        lambda s: s.b.op("Exp", -(s.x * s.x)) * (2.0 / math.sqrt(math.pi)),
    ),
)

ACTIVATIONS = (
    elementwise(
        "Relu",
        lambda n, x: n.maximum(x, n.zero),
        lambda s: s.x > 0.0,
        kinks=_kink_at_zero,
        convention="0 at 0",
    ),
    elementwise(
        "LeakyRelu",
        lambda n, x, alpha: n.where(n.less(x, n.zero), alpha * x, x),
        lambda s: s.b.where(s.x > 0.0, 1.0, s["alpha"], like=s.x),
        attrs={"alpha": 0.01},
        kinks=_kink_at_zero,
        convention="alpha at 0",
    ),
)

CARDS = (*ARITHMETIC, *ELEMENTARY, *ACTIVATIONS)
