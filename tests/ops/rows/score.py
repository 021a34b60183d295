"""What rows of several families of ai.onnx.ml share."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.table import normal

ML = "ai.onnx.ml::"
TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")


def floats(x: np.ndarray) -> tuple[float, ...]:
    """An array as a file's attribute holds it."""
    return tuple(x.astype(np.float32).astype(np.float64).reshape(-1).tolist())


def samples(rng: np.random.Generator, features: int) -> np.ndarray:
    """A few samples, or a single one without an axis for it."""
    return normal(rng, (features,) if rng.random() < 0.15 else (int(rng.integers(1, 5)), features))


def labels(rng: np.random.Generator, count: int, ints: str = "classlabels_ints") -> dict[str, Any]:
    """Names of classes: numbers or words."""
    if rng.random() < 0.5:
        return {ints: tuple(int(k) for k in rng.permutation(10)[:count])}
    return {"classlabels_strings": tuple(f"class {k}" for k in rng.permutation(10)[:count])}
