"""How the operators of gradcli/ops/tree.py are tested."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.rows.score import ML, TRANSFORMS, floats, labels
from tests.ops.table import Case, Kink, Row, normal

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT")


def trees(rng: np.random.Generator, features: int, one_mode: bool = True) -> dict[str, Any]:
    """Nodes of a few random trees, as lists by attribute; and where the leaves are."""
    made: dict[str, list[Any]] = {name: [] for name in NODE_FIELDS}
    mode = str(rng.choice(MODES))

    def grow(tree: int, depth: int) -> int:
        place = sum(t == tree for t in made["nodes_treeids"])
        row = len(made["nodes_treeids"])
        for name in NODE_FIELDS:
            made[name].append(0)
        made["nodes_treeids"][row], made["nodes_nodeids"][row] = tree, place
        made["nodes_values"][row] = float(np.float32(rng.standard_normal()))
        made["nodes_featureids"][row] = int(rng.integers(0, features))
        made["nodes_missing_value_tracks_true"][row] = int(rng.integers(0, 2))
        made["nodes_modes"][row] = mode if one_mode else str(rng.choice(MODES))
        if depth == 0 or (depth < 3 and rng.random() < 0.3):
            made["nodes_modes"][row] = "LEAF"
        else:
            made["nodes_truenodeids"][row] = grow(tree, depth - 1)
            made["nodes_falsenodeids"][row] = grow(tree, depth - 1)
        return place

    for tree in range(int(rng.integers(1, 4))):
        grow(tree, 3)
    return {name: tuple(values) for name, values in made.items()}


NODE_FIELDS = (
    "nodes_treeids",
    "nodes_nodeids",
    "nodes_featureids",
    "nodes_modes",
    "nodes_values",
    "nodes_truenodeids",
    "nodes_falsenodeids",
    "nodes_missing_value_tracks_true",
)


def weights(
    rng: np.random.Generator, nodes: dict[str, Any], owner: str, targets: list[int], sign: int
) -> dict[str, Any]:
    """Weights of the leaves, for some of these targets."""
    rows = [k for k, mode in enumerate(nodes["nodes_modes"]) if mode == "LEAF"]
    entries = [(k, t) for k in rows for t in targets]
    values = normal(rng, (len(entries),))
    return {
        f"{owner}_treeids": tuple(nodes["nodes_treeids"][k] for k, _ in entries),
        f"{owner}_nodeids": tuple(nodes["nodes_nodeids"][k] for k, _ in entries),
        f"{owner}_ids": tuple(t for _, t in entries),
        f"{owner}_weights": floats(np.abs(values) * 0.3 if sign else values),
    }


def draw_tree_regressor(rng: np.random.Generator) -> Case:
    """Every way of putting trees together, one target or several."""
    features, targets = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    nodes = trees(rng, features)
    attrs = {
        **nodes,
        **weights(rng, nodes, "target", list(range(targets)), 0),
        "n_targets": targets,
        "aggregate_function": str(rng.choice(["SUM", "AVERAGE", "MIN", "MAX"])),
        "post_transform": str(rng.choice(TRANSFORMS[:3])),
    }
    if rng.random() < 0.5:
        attrs["base_values"] = floats(normal(rng, (targets,)))
    x = normal(rng, (int(rng.integers(1, 5)), features))
    return Case((x,), attrs)


def draw_tree_classifier(rng: np.random.Generator) -> Case:
    """Two classes by one weight or two, and more; probabilities or scores."""
    features, classes = int(rng.integers(1, 5)), int(rng.integers(2, 5))
    nodes = trees(rng, features)
    one = classes == 2 and rng.random() < 0.5
    attrs = {
        **nodes,
        **weights(rng, nodes, "class", [0] if one else list(range(classes)), int(rng.integers(2))),
        **labels(rng, classes, "classlabels_int64s"),
        "post_transform": str(rng.choice(TRANSFORMS[:3])),
    }
    if classes > 2 and rng.random() < 0.5:
        attrs["base_values"] = floats(normal(rng, (classes,)))
    if one and rng.random() < 0.5:
        attrs["base_values"] = floats(normal(rng, (1,)))
    x = normal(rng, (int(rng.integers(1, 5)), features))
    return Case((x,), attrs, outputs=2)


def draw_tree_ensemble(rng: np.random.Generator) -> Case:
    """The newer form: branches and leaves apart, one weight a leaf, sets of members too."""
    features, targets = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    count = int(rng.integers(1, 4))
    branches, ends = 3 * count, 4 * count
    roots = tuple(3 * k for k in range(count))
    low = [v for k in range(count) for v in (3 * k + 1, 4 * k, 4 * k + 2)]
    high = [v for k in range(count) for v in (3 * k + 2, 4 * k + 1, 4 * k + 3)]
    is_leaf = (0, 1, 1) * count
    modes = rng.integers(0, 4, branches).astype(np.uint8)
    x = normal(rng, (int(rng.integers(1, 5)), features))
    attrs: dict[str, Any] = {}
    if rng.random() < 0.3:
        modes[:] = 6
        sets = [np.array([*rng.integers(0, 4, rng.integers(1, 4)), np.nan]) for _ in modes]
        attrs["membership_values"] = np.concatenate(sets)
        x = rng.integers(0, 4, x.shape).astype(np.float64)  # which is on a kink
    attrs |= {
        "tree_roots": roots,
        "nodes_modes": modes,
        "nodes_splits": normal(rng, (branches,)),
        "nodes_featureids": tuple(int(k) for k in rng.integers(0, features, branches)),
        "nodes_truenodeids": tuple(low),
        "nodes_falsenodeids": tuple(high),
        "nodes_trueleafs": is_leaf,
        "nodes_falseleafs": is_leaf,
        "leaf_targetids": tuple(int(k) for k in rng.integers(0, targets, ends)),
        "leaf_weights": normal(rng, (ends,)),
        "n_targets": targets,
        "aggregate_function": int(rng.integers(0, 4)),
    }
    return Case((x,), attrs, fixed=(0,) if "membership_values" in attrs else ())


STUMP = {
    "nodes_treeids": (0, 0, 0),
    "nodes_nodeids": (0, 1, 2),
    "nodes_featureids": (0, 0, 0),
    "nodes_modes": ("BRANCH_LEQ", "LEAF", "LEAF"),
    "nodes_values": (0.5, 0.0, 0.0),
    "nodes_truenodeids": (1, 0, 0),
    "nodes_falsenodeids": (2, 0, 0),
}


PACKED = {
    "tree_roots": (0,),
    "nodes_modes": np.zeros(1, np.uint8),
    "nodes_splits": np.full(1, 0.5),
    "nodes_featureids": (0,),
    "nodes_truenodeids": (0,),
    "nodes_falsenodeids": (1,),
    "nodes_trueleafs": (1,),
    "nodes_falseleafs": (1,),
    "leaf_targetids": (0, 0),
    "leaf_weights": np.array([1.0, 2.0]),
}


def threshold(attrs: dict[str, Any]) -> tuple[Kink, ...]:
    """A sample that stands exactly where a tree's only question changes its answer."""
    return (Kink(Case((np.array([[0.5, 3.0]]),), attrs), 0, np.zeros((1, 2))),)


def two_leaves(owner: str, ids: str) -> dict[str, Any]:
    """Weights for the leaves of STUMP."""
    lists = {"treeids": (0, 0), "nodeids": (1, 2), "weights": (1.0, 2.0)}
    return {ids: (0, 0)} | {f"{owner}_{name}": values for name, values in lists.items()}


ROWS: tuple[Row, ...] = (
    Row(
        ML + "TreeEnsembleRegressor",
        draw_tree_regressor,
        kinks=threshold(STUMP | two_leaves("target", "target_ids")),
    ),
    Row(
        ML + "TreeEnsembleClassifier",
        draw_tree_classifier,
        kinks=threshold(STUMP | two_leaves("class", "class_ids") | {"classlabels_int64s": (0, 1)}),
    ),
    Row(ML + "TreeEnsemble", draw_tree_ensemble, kinks=threshold(PACKED)),
)
