"""How the operators of gradcli/ops/recurrent.py are tested."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from gradcli.numbers import real
from gradcli.ops import OPS
from tests.ops.table import Case, Kink, Row, normal

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
EACH = {"RNN": 1, "GRU": 2, "LSTM": 3}
SMOOTH = ("Tanh", "Sigmoid", "Softplus", "Affine", "ScaledTanh")
KINKED = ("Relu", "LeakyRelu", "HardSigmoid", "Elu", "Softsign")
WITH_ALPHA = ("Affine", "ScaledTanh", "LeakyRelu", "HardSigmoid", "Elu")
WITH_BETA = ("Affine", "ScaledTanh", "HardSigmoid")


def draw(op: str, rng: np.random.Generator) -> Case:
    """Any direction, every optional operand there or not, any activations; off kinks."""
    while True:
        case = drawn(op, rng)
        operands = [None if x is None else real.lift(x) for x in case.inputs]
        kinks = OPS[op].kinks
        assert kinks is not None
        margin, _ = kinks(real, *operands, **OPS.attributes(op, case.attrs))
        if np.all(margin > 0.03):
            return case


def drawn(op: str, rng: np.random.Generator) -> Case:
    steps, batch, features, hidden = (int(rng.integers(1, 3)) for _ in range(4))
    # Expressions grow beyond measure with the steps and states that they hang on; test_recurrent
    # takes many of both.
    steps = 1 if op == "LSTM" and rng.random() < 0.7 else steps
    hidden = hidden if steps == 1 else 1
    direction = str(rng.choice(["forward", "reverse", "bidirectional"]))
    d, g = (2 if direction == "bidirectional" else 1), GATES[op]
    attrs: dict[str, Any] = {"direction": direction, "hidden_size": hidden}
    if rng.random() < 0.6:
        known = (*SMOOTH, *KINKED) if rng.random() < 0.6 else SMOOTH
        names = [str(rng.choice(known)) for _ in range(d * EACH[op])]
        attrs["activations"] = tuple(names)
        # Without an alpha, Affine and ScaledTanh are 0 in onnxruntime.
        if given := [float(rng.uniform(0.3, 1.2)) for name in names if name in WITH_ALPHA]:
            attrs["activation_alpha"] = tuple(given)
        if given := [float(rng.uniform(0.3, 1.2)) for name in names if name in WITH_BETA]:
            attrs["activation_beta"] = tuple(given)
    if rng.random() < 0.3:
        attrs["clip"] = float(rng.choice([0.5, 1.0, 30.0]))
    if op == "GRU":
        attrs["linear_before_reset"] = int(rng.integers(0, 2))
    if op == "LSTM" and rng.random() < 0.3:
        attrs["input_forget"] = 1

    def maybe(x: np.ndarray, chance: float = 0.6) -> np.ndarray | None:
        return x if rng.random() < chance else None

    inputs: list[np.ndarray | None] = [
        normal(rng, (steps, batch, features)),
        0.5 * normal(rng, (d, g * hidden, features)),
        0.5 * normal(rng, (d, g * hidden, hidden)),
        maybe(0.3 * normal(rng, (d, 2 * g * hidden))),
        maybe(rng.integers(1, steps + 1, batch).astype(np.int32), 0.4),
        maybe(normal(rng, (d, batch, hidden))),
    ]
    if op == "LSTM":
        inputs.append(maybe(normal(rng, (d, batch, hidden))))
        inputs.append(maybe(0.5 * normal(rng, (d, 3 * hidden))))
    outputs = 3 if op == "LSTM" else 2
    return Case(tuple(inputs), attrs, outputs=int(rng.integers(1, outputs + 1)))


def column(*numbers: float) -> np.ndarray:
    return np.array(numbers)[None, :, None]


def sigmoid(z: float) -> float:
    return float(1.0 / (1.0 + np.exp(-z)))


def gru_slope() -> float:
    """Of y = (1 - k) n: k's pre-activation x is at the clip, n's is half of x."""
    return float((1.0 - sigmoid(1.0)) * (1.0 - np.tanh(0.5) ** 2) * 0.5)


def lstm_slope() -> float:
    """Of y = o tanh(i g): pre-activations x at the clip (i), x / 4 (o) and 3 x / 4 (g)."""
    i, o, g = sigmoid(1.0), sigmoid(0.25), np.tanh(0.75)
    c = np.tanh(i * g)
    return float(o * (1.0 - o) * 0.25 * c + o * (1.0 - c * c) * i * (1.0 - g * g) * 0.75)


ONE = np.ones((1, 1, 1))
RELU = Case((0.0 * ONE, column(1.0), column(0.5)), {"activations": ("Relu",)})
CLIPPED_GRU = Case((ONE, column(1.0, 0.25, 0.5), column(0.0, 0.0, 0.0)), {"clip": 1.0})
CLIPPED_LSTM = Case((ONE, column(1.0, 0.25, 0.5, 0.75), column(0.0, 0.0, 0.0, 0.0)), {"clip": 1.0})

KINKS = {
    "RNN": Kink(RELU, 0, 0.0 * ONE),
    "GRU": Kink(CLIPPED_GRU, 0, gru_slope() * ONE),
    "LSTM": Kink(CLIPPED_LSTM, 0, lstm_slope() * ONE),
}

# A derivative graph has nodes for every step: their number must be known.
ROWS = tuple(
    Row(op, functools.partial(draw, op), (kink,), dynamic="", tolerance=1e-5)
    for op, kink in KINKS.items()
)
