"""Ensembles of decision trees, of ai.onnx.ml: staircases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import DType, Type
from gradcli.numbers import Array, Numbers, real
from gradcli.ops.card import REQUIRED, Card, Site
from gradcli.ops.forest import Forest, Given, gathered, jumps, leaves, listed, packed
from gradcli.ops.kinds import flat
from gradcli.ops.score import (
    DOMAIN,
    X,
    as_samples,
    labels_of,
    one_of_two,
    sample_count,
    scores_type,
    transformed,
    two_scores,
)

TREES = "trees are a staircase: constant until a feature crosses a threshold"


def _tree_regressor(n: Numbers, x: Array, **attrs: Any) -> Array:
    return _tree_scores(
        n, x, listed(Given(attrs), "target"), attrs, attrs["aggregate_function"], "post_transform"
    )


def _base(attrs: Any) -> np.ndarray:
    tensor = attrs.get("base_values_as_tensor")
    values = attrs.get("base_values") if tensor is None or not np.size(tensor) else tensor
    return np.asarray(() if values is None else values, np.float64).reshape(-1)


def _tree_scores(
    n: Numbers, x: Array, forest: Forest, attrs: Any, aggregate: str, how: str
) -> Array:
    width = attrs["n_targets"] or 1
    samples = as_samples(n, x)
    scores, _ = gathered(n, forest, leaves(n, forest, samples), width, aggregate)
    base = _base(attrs)
    if len(base) == width or (width == 1 and len(base)):
        scores = scores + n.lift(base[:width])
    return transformed(n, scores, width, attrs[how])


_TRANSFORM_NAMES = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")


def _tree_ensemble(n: Numbers, x: Array, **attrs: Any) -> Array:
    how = {"n_targets": attrs["n_targets"], "how": _TRANSFORM_NAMES[attrs["post_transform"]]}
    aggregate = _AGGREGATES[attrs["aggregate_function"]]
    return _tree_scores(n, x, packed(Given(attrs)), how, aggregate, "how")


def _tree_classifier(n: Numbers, x: Array, **attrs: Any) -> tuple[Any, Array]:
    forest = listed(Given(attrs), "class")
    labels, how = labels_of(attrs, "classlabels_int64s"), attrs["post_transform"]
    classes, base = len(labels), _base(attrs)
    at = leaves(n, forest, as_samples(n, x))
    scores, touched = gathered(n, forest, at, classes, "SUM")
    if classes != 2:
        if len(base) == classes:
            scores, touched = scores + n.lift(base), np.ones_like(touched)
        blind = n.where(touched, scores, n.full((), -np.inf)) if not touched.all() else scores
        z = transformed(n, scores, classes, how)
        return lambda: n.take(labels, n.argmax(blind, 1), 0), z
    if len(base) == 2:
        raise UnsupportedError(
            "two base values for two classes, which onnxruntime does not add as the standard says"
        )
    given = set(np.unique(forest.target).tolist())
    bar = 0.5 if np.all(forest.weight >= 0) else 0.0
    if len(base) and 0 in given:
        scores = scores + n.lift(np.array([base[0], 0.0]))
    score = n.take(scores, np.array([0 if given == {0} else 1]), 1)
    signed = bar == 0.0
    z = two_scores(n, score, how, signed) if given == {0} else transformed(n, scores, 2, how)
    if given == {0, 1}:
        # Then onnxruntime asks for the second's sign alone, and knows no labels but 0 and 1.
        bar, labels = 0.0, labels if labels.dtype == object else np.arange(2)
    return lambda: one_of_two(n, labels, score, n.full((), bar)), z


def _tree_kinks(
    forest: Callable[[Given], Forest], result: Callable[[np.ndarray], np.ndarray]
) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Thresholds as kinks, for each sample in the shape of the first result's rows."""

    def kinks(n: Numbers, x: Array, **attrs: Any) -> tuple[np.ndarray, np.ndarray]:
        margin, branch = jumps(forest(Given(attrs)), as_samples(real, x))
        return result(margin), result(branch)

    return kinks


def _column(x: np.ndarray) -> np.ndarray:
    return x[:, None]


_NODES = dict.fromkeys(
    (
        "nodes_falsenodeids",
        "nodes_featureids",
        "nodes_hitrates",
        "nodes_hitrates_as_tensor",
        "nodes_missing_value_tracks_true",
        "nodes_modes",
        "nodes_nodeids",
        "nodes_treeids",
        "nodes_truenodeids",
        "nodes_values",
        "nodes_values_as_tensor",
        "base_values",
        "base_values_as_tensor",
    )
)


def _weights(owner: str, ids: str) -> dict[str, Any]:
    names = ("nodeids", "treeids", "weights", "weights_as_tensor")
    return {ids: None} | {f"{owner}_{name}": None for name in names}


def _tree_labels(s: Site) -> Sequence[Type]:
    strings = s["classlabels_strings"]
    rows = sample_count(s)
    kind = DType.STRING if strings else DType.INT64
    width = len(strings or s["classlabels_int64s"] or ())
    return [(kind, None if rows is None else (rows,)), scores_type(s, width)]


CARDS: tuple[Card, ...] = (
    flat(
        DOMAIN + "TreeEnsembleRegressor",
        _tree_regressor,
        TREES,
        inputs=X,
        infer=lambda s: [scores_type(s, s["n_targets"] or 1)],
        kinks=_tree_kinks(lambda given: listed(given, "target"), _column),
        attrs={
            **_NODES,
            **_weights("target", "target_ids"),
            "aggregate_function": "SUM",
            "n_targets": None,
            "post_transform": "NONE",
        },
    ),
    flat(
        DOMAIN + "TreeEnsembleClassifier",
        _tree_classifier,
        TREES,
        inputs=X,
        outputs=("Y", "Z"),
        infer=_tree_labels,
        kinks=_tree_kinks(lambda given: listed(given, "class"), np.asarray),
        attrs={
            **_NODES,
            **_weights("class", "class_ids"),
            "classlabels_int64s": None,
            "classlabels_strings": None,
            "post_transform": "NONE",
        },
    ),
    flat(
        DOMAIN + "TreeEnsemble",
        _tree_ensemble,
        TREES,
        inputs=X,
        infer=lambda s: [scores_type(s, s["n_targets"] or 1)],
        kinks=_tree_kinks(packed, _column),
        attrs={
            "aggregate_function": 1,
            "leaf_targetids": REQUIRED,
            "leaf_weights": REQUIRED,
            "membership_values": None,
            "n_targets": None,
            "nodes_falseleafs": REQUIRED,
            "nodes_falsenodeids": REQUIRED,
            "nodes_featureids": REQUIRED,
            "nodes_hitrates": None,
            "nodes_missing_value_tracks_true": None,
            "nodes_modes": REQUIRED,
            "nodes_splits": REQUIRED,
            "nodes_trueleafs": REQUIRED,
            "nodes_truenodeids": REQUIRED,
            "post_transform": 0,
            "tree_roots": REQUIRED,
        },
    ),
)
