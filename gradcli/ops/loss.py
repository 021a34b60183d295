"""Losses of a classifier, from the classes that are right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Shape, Type, Var
from gradcli.numbers import Array, Numbers
from gradcli.ops.card import Card, Site
from gradcli.ops.kinds import composite
from gradcli.ops.softmax import log_softmax

ATTRS = {"reduction": "mean", "ignore_index": None}
LABELS = "which class is the right one is a whole number"
REDUCTIONS = ("none", "sum", "mean")

# ---- the negative log likelihood: -weight[label] * log_prob[label], of all places but ignored ones


def _loss_shape(s: Site) -> Shape | None:
    if s["reduction"] not in REDUCTIONS:
        raise UnsupportedError(f"{s.key} with reduction {s['reduction']!r}")
    return s.x1.shape if s["reduction"] == "none" else ()


def _nll_types(s: Site) -> Sequence[Type]:
    return [(s.x.dtype, _loss_shape(s))]


def _nll(
    n: Numbers,
    log_prob: Array,
    labels: np.ndarray,
    weights: Array = None,
    *,
    reduction: str,
    ignore_index: int | None,
) -> Array:
    ignored = _ignored(labels, ignore_index)
    safe = np.where(ignored, 0, labels)
    picked = n.reshape(n.take_along(log_prob, np.expand_dims(safe, 1), 1), labels.shape)
    # What is ignored may be infinite; so no product with a weight of 0.
    loss = n.where(ignored, n.zero, -picked)
    if weights is not None:
        loss = loss * n.take(weights, safe, 0)
    if reduction == "none":
        return loss
    axes = range(labels.ndim)
    total = n.sum(loss, axes, keepdims=False)
    return total if reduction == "sum" else total / _divisor(n, labels, weights, ignore_index)


def _ignored(labels: np.ndarray, ignore_index: int | None) -> np.ndarray:
    if ignore_index is None:
        return np.zeros(labels.shape, np.bool_)
    return np.asarray(labels == ignore_index)


def _divisor(n: Numbers, labels: np.ndarray, weights: Array, ignore_index: int | None) -> Array:
    """What a mean divides by: the weights of all places that are not ignored."""
    kept = labels[~_ignored(labels, ignore_index)]
    if weights is None:
        return n.full((), float(kept.size))
    return n.sum(n.take(weights, kept, 0), (0,), keepdims=False)


def _divisor_edge(
    n: Numbers,
    x: Array,
    labels: np.ndarray,
    weights: Array = None,
    *,
    reduction: str,
    ignore_index: int | None,
) -> np.ndarray:
    if reduction != "mean":
        return np.full((), np.inf)
    return np.asarray(np.abs(_divisor(n, labels, weights, ignore_index)))


def _nll_expansion(s: Site) -> Sequence[Var]:
    b, labels = s.b, s.x1
    ignored = None
    if s["ignore_index"] is not None:
        ignored = b.op("Equal", labels, b.constant(s["ignore_index"], labels.dtype))
        labels = b.where(ignored, 0, labels)
    picked = b.op("GatherElements", s.x, b.unsqueeze(labels, [1]), axis=1)
    picked = _kept(s, ignored, b.op("Squeeze", picked, b.ints([1])))
    weights = b.op("Gather", s.input(2), labels) if s.has(2) else None
    loss = -picked if weights is None else -picked * weights
    if s["reduction"] == "none":
        return [loss]
    if s["reduction"] == "sum":
        return [b.sum(loss, None, keepdims=False)]
    if weights is None:
        if ignored is None:
            return [b.op("ReduceMean", loss, keepdims=0)]
        weights = b.full_like(loss, 1.0)
    total = b.sum(_kept(s, ignored, weights), None, keepdims=False)
    return [b.sum(loss, None, keepdims=False) / total]


def _kept(s: Site, ignored: Var | None, x: Var) -> Var:
    return x if ignored is None else s.b.where(ignored, 0.0, x)


# ---- cross entropy: the same of a softmax --------------------------------------------------------


def _cross_entropy_types(s: Site) -> Sequence[Type]:
    return [(s.x.dtype, _loss_shape(s)), (s.x.dtype, s.x.shape)]


def _cross_entropy(
    n: Numbers,
    scores: Array,
    labels: np.ndarray,
    weights: Array = None,
    *,
    reduction: str,
    ignore_index: int | None,
) -> tuple[Array, Array]:
    log_prob = log_softmax(n, scores, axis=1)
    loss = _nll(n, log_prob, labels, weights, reduction=reduction, ignore_index=ignore_index)
    return loss, log_prob


def _cross_entropy_expansion(s: Site) -> Sequence[Var]:
    log_prob = s.b.op("LogSoftmax", s.x, axis=1)
    loss = s.b.op("NegativeLogLikelihoodLoss", log_prob, *s.inputs[1:], **s.attrs)
    return [loss, log_prob]


CARDS: tuple[Card, ...] = (
    composite(
        "NegativeLogLikelihoodLoss",
        _nll,
        _nll_expansion,
        inputs=("input", "target", "weight?"),
        outputs=("loss",),
        infer=_nll_types,
        attrs=ATTRS,
        flat={"target": LABELS},
        edges=_divisor_edge,
        edge="a mean over weights that add up to 0",
        edge_of=2,
    ),
    composite(
        "SoftmaxCrossEntropyLoss",
        _cross_entropy,
        _cross_entropy_expansion,
        inputs=("scores", "labels", "weights?"),
        outputs=("output", "log_prob"),
        infer=_cross_entropy_types,
        attrs=ATTRS,
        flat={"labels": LABELS},
        edges=_divisor_edge,
        edge="a mean over weights that add up to 0",
        edge_of=2,
    ),
)
