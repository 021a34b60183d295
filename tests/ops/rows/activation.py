"""How the operators of gradcli/ops/activation.py are tested."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.rows.elementwise import AWAY, Draw, at, of, unary
from tests.ops.table import Case, Row, narrower, normal, shape


def draw_hard_sigmoid(rng: np.random.Generator) -> Case:
    """Slopes of either sign, elements off both ends of the slope."""
    alpha, beta = float(rng.choice([0.2, -0.5])), 0.4
    x = rng.uniform(-6.0, 6.0, shape(rng))
    for end in (-beta / alpha, (1.0 - beta) / alpha):
        x = np.where(np.abs(x - end) < AWAY, x + 3 * AWAY, x)
    return Case((x,), {"alpha": alpha, "beta": beta})


def draw_prelu(rng: np.random.Generator) -> Case:
    """A slope that is repeated to the shape of x."""
    dims = shape(rng)
    return Case((normal(rng, dims, AWAY), normal(rng, narrower(rng, dims))))


def draw_between(*ends: float, **attrs: Any) -> Draw:
    """One operand that keeps off these ends."""

    def draw(rng: np.random.Generator) -> Case:
        x = rng.uniform(2.0 * min(ends), 2.0 * max(ends), shape(rng))
        for end in ends:
            x = np.where(np.abs(x - end) < AWAY, x + 3 * AWAY, x)
        return Case((x,), attrs)

    return draw


def draw_shrink(rng: np.random.Generator) -> Case:
    """Numbers, or integers; now and then with a negative threshold."""
    lambd = float(rng.choice([0.75, 0.75, -0.75]))
    attrs = {"lambd": lambd, "bias": float(rng.choice([0.0, 0.5, -2.0]))}
    if rng.random() < 0.2:
        return Case((rng.integers(-5, 6, shape(rng)),), {**attrs, "bias": 1.0})
    return draw_between(-0.75, 0.75, **attrs)(rng)


def draw_swiglu(rng: np.random.Generator) -> Case:
    """Two operands of one shape."""
    dims = shape(rng)
    return Case((normal(rng, dims), normal(rng, dims)), {"alpha": float(rng.choice([1.0, -0.5]))})


ALPHA = {"alpha": 0.25}
SHRINK = {"lambd": 0.5, "bias": 2.0}

ROWS = (
    Row("Relu", unary(away=AWAY), (at([0.0, -0.0, 1.0], [0.0, 0.0, 1.0]),), dynamic="free"),
    Row(
        "LeakyRelu",
        unary(away=AWAY, alpha=0.25),
        (at([0.0, -0.0, 1.0], [0.25, 0.25, 1.0], {"alpha": 0.25}),),
        dynamic="free",
    ),
    Row(
        "Elu",
        lambda rng: unary(away=AWAY, alpha=float(rng.choice([0.5, 1.0])))(rng),
        (at([0.0, -0.0, 800.0, -800.0], [0.25, 0.25, 1.0, 0.0], {"alpha": 0.25}),),
        dynamic="free",
    ),
    Row(
        "PRelu",
        draw_prelu,
        (
            of(0, [0.25, 0.25, 1.0], [0.0, -0.0, 1.0], [0.25]),
            of(1, [-1.0], [0.0, 2.0, -1.0], [0.25]),
        ),
        dynamic="free",
    ),
    Row(
        "Selu",
        lambda rng: unary(away=AWAY, **({} if rng.random() < 0.5 else {"gamma": 0.5}))(rng),
        (at([0.0, -0.0, 800.0, -800.0], [0.5, 0.5, 2.0, 0.0], {"alpha": 0.25, "gamma": 2.0}),),
        dynamic="free",
    ),
    Row(
        "Celu",
        lambda rng: unary(alpha=float(rng.choice([1.0, 0.5, -2.0])))(rng),
        (at([0.0, -0.0, 800.0, -800.0], [1.0, 1.0, 1.0, 0.0], ALPHA),),
        dynamic="free",
    ),
    Row("Softsign", unary(), (at([0.0, 3.0, -3.0], [1.0, 0.0625, 0.0625]),), dynamic="free"),
    Row(
        "HardSigmoid",
        draw_hard_sigmoid,
        (at([-2.0, 2.0, 1.0], [0.0, 0.0, 0.25], {"alpha": 0.25, "beta": 0.5}),),
        dynamic="free",
    ),
    Row("Softplus", unary(), (at([0.0], [0.5]),), dynamic="free"),
    Row(
        "HardSwish",
        draw_between(-3.0, 3.0),
        (at([-3.0, 3.0, 0.0], [0.0, 1.0, 0.5]),),
        dynamic="free",
    ),
    Row(
        "ThresholdedRelu",
        lambda rng: draw_between(-1.0, 1.0, alpha=float(rng.choice([-1.0, 1.0])))(rng),
        (at([0.25, 1.0, -1.0], [0.0, 1.0, 0.0], ALPHA),),
        dynamic="free",
    ),
    Row(
        "Shrink",
        draw_shrink,
        (at([-0.5, 0.5, 0.0, 1.0, -1.0], [0.0, 0.0, 0.0, 1.0, 1.0], SHRINK),),
        dynamic="free",
        tolerance=1e-6,  # of the runtime, which adds the bias in float32
    ),
    Row("Mish", unary(), (at([0.0], [0.6]),), dynamic="free"),
    Row("Swish", lambda rng: unary(alpha=float(rng.choice([1.0, -0.5])))(rng), dynamic="free"),
    Row(
        "SwiGLU",
        draw_swiglu,
        runtime="written out, it is made of a Swish newer than the runtime's",
        dynamic="free",
    ),
    Row(
        "Gelu",
        lambda rng: unary(-2.0, approximate=str(rng.choice(["none", "tanh"])))(rng),
        (at([0.0], [0.5]), at([0.0], [0.5], {"approximate": "tanh"})),
        dynamic="free",
        tolerance=1e-5,  # of the runtime, which has 1 + erf, and its constants in float32
    ),
)
