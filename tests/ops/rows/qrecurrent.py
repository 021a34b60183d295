"""How the operator of gradcli/ops/qrecurrent.py is tested."""

from __future__ import annotations

import numpy as np

from gradcli.numbers import real
from gradcli.ops import OPS
from tests.ops.rows.quantize import integers
from tests.ops.table import Case, Kink, Row, normal

DYNAMIC = "com.microsoft::DynamicQuantizeLSTM"


def draw_quantised(rng: np.random.Generator) -> Case:
    """Data in the middle of their quanta; one hidden state, which is its own quantum."""
    while True:
        case = drawn_quantised(rng)
        operands = [None if x is None else real.lift(x) for x in case.inputs]
        kinks = OPS[DYNAMIC].kinks
        assert kinks is not None
        margin, _ = kinks(real, *operands, **OPS.attributes(DYNAMIC, case.attrs))
        if np.all(margin > 0.03):
            return case


def drawn_quantised(rng: np.random.Generator) -> Case:
    steps, features = int(rng.integers(1, 4)), int(rng.integers(2, 4))
    direction = str(rng.choice(["forward", "reverse", "bidirectional"]))
    d = 2 if direction == "bidirectional" else 1
    x = rng.integers(-90, 140, (steps, 1, features)) + rng.uniform(-0.2, 0.2, (steps, 1, features))
    x[0, 0, 0], x[-1, 0, -1] = -100.2, 154.8
    each = (d, 4) if rng.random() < 0.5 else (d,)
    kind = "int8" if rng.random() < 0.5 else "uint8"

    # onnxruntime wants 0 of signed weights, and one number of the others.
    zero = np.full(each, 0 if kind == "int8" else rng.integers(0, 50), kind)

    def weights(rows: int) -> np.ndarray:
        return integers(rng, kind, (d, rows, 4))

    def maybe(x: np.ndarray) -> np.ndarray | None:
        return x if rng.random() < 0.6 else None

    inputs = (
        *(x * rng.uniform(0.5, 1.0), weights(features), weights(1)),
        *(maybe(0.3 * normal(rng, (d, 8))), None),
        *(maybe(normal(rng, (d, 1, 1))), maybe(normal(rng, (d, 1, 1)))),
        maybe(0.5 * normal(rng, (d, 3))),
        *(rng.uniform(1e-4, 2e-4, each), zero),
        *(rng.uniform(0.01, 0.02, each), zero),
    )
    attrs = {"direction": direction, "hidden_size": 1}
    return Case(inputs, attrs, outputs=int(rng.integers(1, 4)), fixed=(8,))


def quantised_slope() -> np.ndarray:
    """Of y = sigmoid(0) tanh(sigmoid(0) tanh(g)), g the sum of quanta of 1, one between two."""
    g = 1.0 / 51.0
    c = np.tanh(0.5 * np.tanh(g))
    dg = 0.5 * (1.0 - c * c) * 0.5 * (1.0 - np.tanh(g) ** 2)
    # The sum is 180 quanta, whose size hangs on the extremes.
    return np.asarray(dg * np.array([-1.0, 1.0, 0.0, 0.0]) * (180.0 / 255.0) / 9180.0)


TIED = np.array([-51.0, 204.0, 20.5, 7.0]).reshape(1, 1, 4)
CELLS = np.zeros((1, 4, 4), np.int8)
CELLS[:, :, 3] = 1
QUANTISED = Case(
    (
        *(TIED, CELLS, np.zeros((1, 1, 4), np.int8), None, None, None, None, None),
        *(np.array([1.0 / 9180.0]), np.zeros(1, np.int8), np.ones(1), np.zeros(1, np.int8)),
    ),
    {"hidden_size": 1},
)

# A derivative graph has nodes for every step: their number must be known.
ROWS = (
    Row(
        DYNAMIC,
        draw_quantised,
        (Kink(QUANTISED, 0, quantised_slope().reshape(1, 1, 4)),),
        dynamic="",
        tolerance=1e-5,
    ),
)
