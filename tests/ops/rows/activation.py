"""How the operators of gradcli/ops/activation.py are tested."""

from __future__ import annotations

import numpy as np

from tests.ops.rows.elementwise import AWAY, at, unary
from tests.ops.table import Case, Row, shape


def draw_hard_sigmoid(rng: np.random.Generator) -> Case:
    """Slopes of either sign, elements off both ends of the slope."""
    alpha, beta = float(rng.choice([0.2, -0.5])), 0.4
    x = rng.uniform(-6.0, 6.0, shape(rng))
    for end in (-beta / alpha, (1.0 - beta) / alpha):
        x = np.where(np.abs(x - end) < AWAY, x + 3 * AWAY, x)
    return Case((x,), {"alpha": alpha, "beta": beta})


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
    Row("Softsign", unary(), (at([0.0, 3.0, -3.0], [1.0, 0.0625, 0.0625]),), dynamic="free"),
    Row(
        "HardSigmoid",
        draw_hard_sigmoid,
        (at([-2.0, 2.0, 1.0], [0.0, 0.0, 0.25], {"alpha": 0.25, "beta": 0.5}),),
        dynamic="free",
    ),
    Row("Softplus", unary(), (at([0.0], [0.5]),), dynamic="free"),
    Row(
        "Gelu",
        lambda rng: unary(-2.0, approximate=str(rng.choice(["none", "tanh"])))(rng),
        (at([0.0], [0.5]), at([0.0], [0.5], {"approximate": "tanh"})),
        dynamic="free",
        tolerance=1e-5,  # of the runtime, which has 1 + erf, and its constants in float32
    ),
)
