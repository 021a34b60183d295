"""How the operators of gradcli/ops/loss.py are tested."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.ops.table import Case, Row, normal, shape


def draw(results: int) -> Callable[[np.random.Generator], Case]:
    """Up to two spatial axes; with and without weights, and with labels that are ignored."""

    def draw(rng: np.random.Generator) -> Case:
        batch, classes, *places = shape(rng, int(rng.integers(2, 5)), low=2)
        labels = rng.integers(0, classes, (batch, *places))
        attrs: dict[str, Any] = {"reduction": str(rng.choice(["none", "sum", "mean", "mean"]))}
        if rng.random() < 0.5:
            ignored = attrs["ignore_index"] = int(rng.choice([-1, 0, 1, 100]))
            labels = np.where(rng.random(labels.shape) < 0.3, ignored, labels)
            labels.flat[0] = 1 if ignored == 0 else 0  # a mean needs at least one
        x, weights = normal(rng, (batch, classes, *places)), rng.uniform(0.2, 2.0, classes)
        given = (x, labels.astype(str(rng.choice(["int32", "int64"]))))
        outputs = int(rng.integers(1, results + 1))
        return Case((*given, weights) if rng.random() < 0.6 else given, attrs, outputs)

    return draw


NO_WEIGHT = (Case((np.zeros((1, 2)), np.zeros(1, np.int64), np.array([0.0, 1.0]))),)

ROWS: tuple[Row, ...] = (
    Row("NegativeLogLikelihoodLoss", draw(1), dynamic="free", edges=NO_WEIGHT),
    Row("SoftmaxCrossEntropyLoss", draw(2), dynamic="free", edges=NO_WEIGHT),
)
