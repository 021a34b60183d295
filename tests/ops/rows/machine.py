"""How the operators of gradcli/ops/machine.py are tested."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.rows.score import ML, TRANSFORMS, floats, labels, samples
from tests.ops.table import Case, Kink, Row, normal


def probable(rng: np.random.Generator, how: str, x: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights and an intercept: for PROBIT such that every score lies between 0 and 1."""
    w = normal(rng, (x.shape[-1],))
    if how != "PROBIT":
        return w, float(rng.standard_normal())
    # Near 1/2, onnxruntime's float32 loses half of its digits.
    reach = 0.2 * rng.uniform(0.5, 1.0) / np.max(np.abs(x) @ np.abs(w))
    return w * reach, float(rng.choice([0.25, 0.75]))


def draw_linear_regressor(rng: np.random.Generator) -> Case:
    """One target or several, with every post_transform, intercepts or none."""
    x = samples(rng, int(rng.integers(1, 5)))
    how, targets = str(rng.choice(TRANSFORMS)), int(rng.integers(1, 4))
    drawn = [probable(rng, how, x) for _ in range(targets)]
    attrs: dict[str, Any] = {
        "coefficients": floats(np.stack([w for w, _ in drawn])),
        "targets": targets,
        "post_transform": how,
    }
    if how == "PROBIT" or rng.random() < 0.7:
        attrs["intercepts"] = floats(np.array([b for _, b in drawn]))
    return Case((x,), attrs)


def draw_linear_classifier(rng: np.random.Generator) -> Case:
    """Two classes by one score or by two, and more; labels of numbers and of words."""
    x = samples(rng, int(rng.integers(1, 5)))
    classes = int(rng.integers(2, 5))
    scores = 1 if classes == 2 and rng.random() < 0.5 else classes
    how = str(rng.choice(TRANSFORMS[:4] if scores == 1 else TRANSFORMS))
    drawn = [probable(rng, how, x) for _ in range(scores)]
    attrs = {
        "coefficients": floats(np.stack([w for w, _ in drawn])),
        "intercepts": floats(np.array([b for _, b in drawn])),
        "post_transform": how,
        **labels(rng, classes),
    }
    return Case((x,), attrs, outputs=2)


def kernel(rng: np.random.Generator) -> dict[str, Any]:
    """One of the four kernels, with its parameters."""
    kind = str(rng.choice(["LINEAR", "POLY", "RBF", "SIGMOID"]))
    degree = float(rng.choice([1.0, 2.0, 3.0, 4.0]))
    parameters = (0.25, 0.5, degree)
    return {"kernel_type": kind, "kernel_params": parameters}


def draw_svm_regressor(rng: np.random.Generator) -> Case:
    """Every kernel, and none at all."""
    x = samples(rng, features := int(rng.integers(1, 5)))
    attrs: dict[str, Any] = {**kernel(rng), "rho": floats(normal(rng, (1,)))}
    if rng.random() < 0.2:
        attrs |= {"coefficients": floats(normal(rng, (features,)))}
        return Case((x,), attrs | {"kernel_type": "LINEAR"})
    count = int(rng.integers(1, 5))
    attrs |= {
        "n_supports": count,
        "coefficients": floats(normal(rng, (count,))),
        "support_vectors": floats(normal(rng, (count, features))),
    }
    return Case((x,), attrs)


def draw_svm_classifier(rng: np.random.Generator) -> Case:
    """Every kernel, two to four classes, scores or probabilities, and linear machines."""
    x = samples(rng, features := int(rng.integers(1, 5)))
    classes = int(rng.integers(2, 5))
    attrs: dict[str, Any] = {**kernel(rng), **labels(rng, classes)}
    if rng.random() < 0.2:
        attrs |= {"kernel_type": "LINEAR", "rho": floats(normal(rng, (1,)))}
        attrs |= {"coefficients": floats(normal(rng, (classes, features)))}
        attrs["post_transform"] = str(rng.choice(TRANSFORMS[:4]))
        return Case((x,), attrs, outputs=2)
    per_class = rng.integers(1, 4, classes)
    total, pairs = int(per_class.sum()), classes * (classes - 1) // 2
    attrs |= {
        "vectors_per_class": tuple(int(k) for k in per_class),
        "support_vectors": floats(normal(rng, (total, features))),
        "coefficients": floats(normal(rng, (classes - 1, total))),
        "rho": floats(normal(rng, (pairs,))),
        "post_transform": str(rng.choice(TRANSFORMS[:4])),
    }
    if rng.random() < 0.5:
        attrs |= {"prob_a": floats(-1 - rng.random(pairs)), "post_transform": "NONE"}
        attrs |= {"prob_b": floats(0.1 * normal(rng, (pairs,)))}
    return Case((x,), attrs, outputs=2)


EVEN = Case(
    (np.zeros((1, 1)),),
    {"coefficients": (1.0,), "intercepts": (0.5,), "post_transform": "PROBIT"},
)


EVEN_SLOPE = np.full((1, 1), np.sqrt(3.14159) * 1.41421356)
"""The normal quantile of 1/2: its derivative is the root of 2 pi, and no 0 / 0."""

ROWS: tuple[Row, ...] = (
    Row(
        ML + "LinearRegressor",
        draw_linear_regressor,
        kinks=(Kink(EVEN, 0, EVEN_SLOPE),),
        tolerance=1e-5,
    ),
    Row(ML + "LinearClassifier", draw_linear_classifier, tolerance=1e-5),
    Row(ML + "SVMRegressor", draw_svm_regressor),
    Row(ML + "SVMClassifier", draw_svm_classifier),
)
