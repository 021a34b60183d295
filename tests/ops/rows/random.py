"""How the operators of gradcli/ops/random.py are tested: that they are refused."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.rows.elementwise import Draw
from tests.ops.table import Case, Row


def draw_of(*operands: np.ndarray, **attrs: Any) -> Draw:
    """Always the same: nobody evaluates it."""
    return lambda _: Case(operands, attrs, fixed=(0,))


PROBABILITIES = np.array([[0.25, 0.75, 0.5], [0.5, 0.125, 1.0]])

ROWS = (
    *(Row(op, draw_of(shape=(2, 3))) for op in ("RandomNormal", "RandomUniform")),
    *(Row(f"{op}Like", draw_of(PROBABILITIES)) for op in ("RandomNormal", "RandomUniform")),
    Row("Bernoulli", draw_of(PROBABILITIES, dtype="int64")),
    Row("Multinomial", draw_of(PROBABILITIES, sample_size=4)),
)
