"""Linear models and support vector machines, of ai.onnx.ml."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Type
from gradcli.numbers import Array
from gradcli.ops.card import REQUIRED, Card, Site
from gradcli.ops.emit import emitted
from gradcli.ops.kinds import composite
from gradcli.ops.score import (
    DOMAIN,
    X,
    as_numbers,
    as_samples,
    labelled_types,
    labels_of,
    one_of_two,
    scores_type,
    transformed,
    two_scores,
)

# ---- linear models -------------------------------------------------------------------------------


def _linear_scores(n: Any, x: Array, coefficients: Any, intercepts: Any, width: int) -> Array:
    x = as_samples(n, x)
    scores = n.matmul(x, n.transpose(as_numbers(n, coefficients, width, -1), (1, 0)))
    return scores if not len(intercepts or ()) else scores + as_numbers(n, intercepts)


def _linear_regressor(
    n: Any, x: Array, *, coefficients: Any, intercepts: Any, post_transform: str, targets: int
) -> Array:
    scores = _linear_scores(n, x, coefficients, intercepts, targets)
    return transformed(n, scores, targets, post_transform)


def _classes(attrs: Any) -> int:
    return len(attrs["classlabels_strings"] or attrs["classlabels_ints"] or ())


def _linear_classifier_types(s: Site) -> Sequence[Type]:
    width = len(s["intercepts"] or ())
    if not width:
        raise UnsupportedError("LinearClassifier without intercepts")
    return labelled_types(s, 2 if width == 1 and _classes(s.attrs) == 2 else width)


def _linear_classifier(n: Any, x: Array, **attrs: Any) -> tuple[Any, Array]:
    width = len(attrs["intercepts"])
    how, labels = attrs["post_transform"], labels_of(attrs)
    scores = _linear_scores(n, x, attrs["coefficients"], attrs["intercepts"], width)
    if width > 1:
        z = transformed(n, scores, width, how)
        return lambda: n.take(labels, n.argmax(scores, 1), 0), z
    if len(labels) != 2:
        labels = np.array(["0", "1"], object) if labels.dtype == object else np.arange(2)
        z = transformed(n, scores, 1, how)
    else:
        z = two_scores(n, scores, how, signed=False)
    return lambda: one_of_two(n, labels, scores, n.zero), z


# ---- support vector machines ---------------------------------------------------------------------


def _kernel(n: Any, x: Array, vectors: np.ndarray, kind: str, parameters: Any) -> Array:
    """The kernel of every sample with every support vector, [N, vectors]."""
    gamma, shift, degree = (*(parameters or ()), 0.0, 0.0, 0.0)[:3]
    if kind == "RBF":
        # Not by |x|^2 - 2 x v + |v|^2, which cancels.
        apart = n.reshape(x, (-1, 1, vectors.shape[1])) - n.lift(vectors[None])
        return n.exp(n.sum(apart * apart, [2], False) * -gamma)
    dot = n.matmul(x, n.lift(np.ascontiguousarray(vectors.T)))
    if kind == "LINEAR":
        return dot
    moved = dot * gamma + shift
    if kind == "SIGMOID":
        return n.tanh(moved)
    if kind != "POLY":
        raise UnsupportedError(f"kernel_type {kind}")
    if degree in (1.0, 2.0, 3.0):
        return [moved, moved * moved, moved * moved * moved][int(degree) - 1]
    return n.power(moved, n.full((), degree))


def _vectors(values: Any, count: int) -> np.ndarray:
    return np.asarray(values or (), np.float64).reshape(count, -1)


def _svm_regressor(n: Any, x: Array, **attrs: Any) -> Array:
    x = as_samples(n, x)
    count, rho = attrs["n_supports"], float(attrs["rho"][0])
    weights = as_numbers(n, attrs["coefficients"], -1, 1)
    if count:
        vectors = _vectors(attrs["support_vectors"], count)
        x = _kernel(n, x, vectors, attrs["kernel_type"], attrs["kernel_params"])
    y = n.matmul(x, weights) + rho
    if not attrs["one_class"]:
        return y
    return n.where(n.less(n.zero, y), n.full((), 1.0), n.full((), -1.0))


def _svm_width(attrs: Any) -> int:
    classes = _classes(attrs)
    pairs = classes * (classes - 1) // 2
    by_pairs = sum(attrs["vectors_per_class"] or ()) and not attrs["prob_a"]
    return pairs if by_pairs and classes > 2 else classes


def _svm_classifier(n: Any, x: Array, **attrs: Any) -> tuple[Any, Array]:
    x = as_samples(n, x)
    how, labels = attrs["post_transform"], labels_of(attrs)
    classes = len(labels)
    if not sum(attrs["vectors_per_class"] or ()):
        weights = as_numbers(n, attrs["coefficients"], classes, -1)
        scores = n.matmul(x, n.transpose(weights, (1, 0))) + float(attrs["rho"][0])
        return _linear_label(n, scores, labels, attrs), transformed(n, scores, classes, how)
    if classes < 2:
        raise UnsupportedError("SVMClassifier of one class")
    scores = _against_each_other(n, x, classes, attrs)

    def label() -> Any:
        return n.take(labels, n.argmax(_votes(n, scores, classes), 1), 0)

    if attrs["prob_a"]:
        estimates = _coupled(n, scores, classes, attrs)
        return label, transformed(n, estimates, classes, how)
    if classes == 2:
        return label, two_scores(n, scores, how, signed=how == "NONE")
    return label, transformed(n, scores, _svm_width(attrs), how)


def _linear_label(n: Any, scores: Array, labels: np.ndarray, attrs: Any) -> Callable[[], Any]:
    """The best class; of two, the second from a certain score of either on."""

    def label() -> Any:
        best = n.argmax(scores, 1)
        if len(labels) == 2:
            most = n.max(scores, [1], False)
            positive = min(attrs["coefficients"]) >= 0
            bar = n.full((), float(np.nextafter(0.5, 0.0)) if positive else 0.0)
            best = n.where(n.less(bar, most), np.array(1), best)
        return n.take(labels, best, 0)

    return label


def _pairs(classes: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(classes) for j in range(i + 1, classes)]


def _against_each_other(n: Any, x: Array, classes: int, attrs: Any) -> Array:
    """The score of each pair of classes, [N, pairs]: above 0 the first of the two wins."""
    per_class = np.asarray(attrs["vectors_per_class"])
    ends = np.cumsum(per_class)
    total = int(ends[-1])
    given = np.asarray(attrs["coefficients"], np.float64).reshape(-1, total)
    weights = np.zeros((total, classes * (classes - 1) // 2))
    for k, (i, j) in enumerate(_pairs(classes)):
        of_i, of_j = (slice(ends[c] - per_class[c], ends[c]) for c in (i, j))
        weights[of_i, k], weights[of_j, k] = given[j - 1, of_i], given[i, of_j]
    vectors = _vectors(attrs["support_vectors"], total)
    kernels = _kernel(n, x, vectors, attrs["kernel_type"], attrs["kernel_params"])
    return n.matmul(kernels, n.lift(weights)) + as_numbers(n, attrs["rho"][: weights.shape[1]])


def _votes(n: Any, scores: Array, classes: int) -> Array:
    wins = n.mask_to_number(n.less(n.zero, scores))
    first, second = (np.zeros((classes * (classes - 1) // 2, classes)) for _ in range(2))
    for k, (i, j) in enumerate(_pairs(classes)):
        first[k, i] = second[k, j] = 1.0
    return n.matmul(wins, n.lift(first)) + n.matmul(1.0 - wins, n.lift(second))


_SWEEPS = 16
"""onnxruntime allows 100, and stops when the error is small: after four at most, as measured."""

_SURE = 1e-7
"""A pair's probability keeps this distance from 0 and 1."""


def _coupled(n: Any, scores: Array, classes: int, attrs: Any) -> Array:
    """Class probabilities from those of pairs, by the sweeps that LIBSVM does.

    They minimise the sum over pairs of (r_ji p_i - r_ij p_j)^2 (Wu, Lin and Weng 2004, method 2).
    The sweeps end where the error is below 0.005 / classes, so what they give is not quite the
    minimum: it is what the file computes, and what is differentiated.
    """
    pairs = _pairs(classes)
    count = len(pairs)
    slope, shift = (as_numbers(n, attrs[name][:count]) for name in ("prob_a", "prob_b"))
    r = n.sigmoid(-(scores * slope + shift))
    r = n.minimum(n.maximum(r, n.full((), _SURE)), n.full((), 1.0 - _SURE))
    # r_ij for every i and j, 0 on the diagonal: a sum of columns, by a constant matrix.
    forth, back = (np.zeros((count, classes * classes)) for _ in range(2))
    for k, (i, j) in enumerate(pairs):
        forth[k, i * classes + j] = back[k, j * classes + i] = 1.0
    square = (-1, classes, classes)
    whole = n.reshape(n.matmul(r, n.lift(forth)) + n.matmul(1.0 - r, n.lift(back)), square)
    turned = n.transpose(whole, (0, 2, 1))
    eye = n.lift(np.eye(classes))
    diagonal = n.sum(whole * whole, [1], False)
    q = n.reshape(diagonal, (-1, 1, classes)) * eye - whole * turned
    rows = [n.take(q, np.array(t), 1) for t in range(classes)]
    middle = [n.take(diagonal, np.array([t]), 1) for t in range(classes)]
    # The first multiple is 1 / classes for all: of a row's size, in every system.
    p = diagonal * 0.0 + 1.0 / classes
    bar = n.full((), 0.005 / classes)
    done: Any = None
    for _ in range(_SWEEPS):
        slopes = n.sum(q * n.reshape(p, (-1, 1, classes)), [2], False)
        mean = n.sum(p * slopes, [1], True)
        small = n.less(n.max(n.abs(slopes - mean), [1], True), bar)
        done = small if done is None else n.logical_or(done, small)
        p = n.where(done, p, _swept(n, p, mean, rows, middle))
    return p


def _swept(n: Any, p: Array, value: Array, rows: list[Array], middle: list[Array]) -> Array:
    """One sweep over the classes; p is divided by its sum only at the end."""
    total = 1.0
    for t, (row, own) in enumerate(zip(rows, middle, strict=True)):
        slope = n.sum(row * p, [1], True)
        step = (value / total - slope) / own
        value = value + step * (step * own + slope * 2.0)
        unit = np.zeros((1, len(rows)))
        unit[0, t] = 1.0
        p, total = p + step * n.lift(unit), step + total
    return p / total


CARDS: tuple[Card, ...] = (
    composite(
        DOMAIN + "LinearRegressor",
        _linear_regressor,
        emitted(_linear_regressor),
        inputs=X,
        infer=lambda s: [scores_type(s, s["targets"])],
        attrs={"coefficients": None, "intercepts": None, "post_transform": "NONE", "targets": 1},
    ),
    composite(
        DOMAIN + "LinearClassifier",
        _linear_classifier,
        emitted(_linear_classifier),
        inputs=X,
        outputs=("Y", "Z"),
        infer=_linear_classifier_types,
        attrs={
            "classlabels_ints": None,
            "classlabels_strings": None,
            "coefficients": REQUIRED,
            "intercepts": None,
            "multi_class": 0,
            "post_transform": "NONE",
        },
    ),
    composite(
        DOMAIN + "SVMRegressor",
        _svm_regressor,
        emitted(_svm_regressor),
        inputs=X,
        infer=lambda s: [scores_type(s, 1)],
        attrs={
            "coefficients": None,
            "kernel_params": None,
            "kernel_type": "LINEAR",
            "n_supports": 0,
            "one_class": 0,
            "post_transform": "NONE",
            "rho": None,
            "support_vectors": None,
        },
    ),
    composite(
        DOMAIN + "SVMClassifier",
        _svm_classifier,
        emitted(_svm_classifier),
        inputs=X,
        outputs=("Y", "Z"),
        infer=lambda s: labelled_types(s, _svm_width(s.attrs)),
        attrs={
            "classlabels_ints": None,
            "classlabels_strings": None,
            "coefficients": None,
            "kernel_params": None,
            "kernel_type": "LINEAR",
            "post_transform": "NONE",
            "prob_a": None,
            "prob_b": None,
            "rho": None,
            "support_vectors": None,
            "vectors_per_class": None,
        },
    ),
)
