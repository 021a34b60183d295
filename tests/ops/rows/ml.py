"""How the operators of gradcli/ops/ml.py are tested."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.rows.reduce import apart
from tests.ops.table import Case, Kink, Row, normal, shape

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


# ---- features ------------------------------------------------------------------------------------


def draw_scaler(rng: np.random.Generator) -> Case:
    """One offset and scale for all features, or for each."""
    features = int(rng.integers(1, 5))
    count = features if rng.random() < 0.7 else 1
    attrs = {"offset": floats(normal(rng, (count,))), "scale": floats(normal(rng, (count,)))}
    return Case((normal(rng, (int(rng.integers(1, 4)), features)),), attrs)


def draw_normalizer(rng: np.random.Generator) -> Case:
    """Each norm, off its kinks."""
    norm = str(rng.choice(["MAX", "L1", "L2"]))
    dims = (int(rng.integers(1, 4)), int(rng.integers(2, 5)))  # of one feature, it is a sign
    x = normal(rng, dims, away=0.1)
    if norm == "MAX":
        x = apart(rng, dims)
        x[:, 0] = 9.0 + rng.random(dims[0])  # the greatest is not near 0
    return Case((x,), {"norm": norm})


def draw_imputer(rng: np.random.Generator) -> Case:
    """NaN or a number is missing; one substitute for all features, or for each."""
    dims = (int(rng.integers(1, 4)), int(rng.integers(1, 5)))
    x = normal(rng, dims, away=0.2)
    missing = 0.0
    x[rng.random(dims) < 0.3] = missing
    count = dims[1] if rng.random() < 0.5 else 1
    attrs = {
        "imputed_value_floats": floats(normal(rng, (count,))),
        "replaced_value_float": float(rng.choice([7.5, np.nan])),
    }
    return Case((x,), attrs)


def draw_vectorizer(rng: np.random.Generator) -> Case:
    """As wide as its operands say, or cut, or filled up."""
    rows = int(rng.integers(1, 4))
    widths = [int(rng.integers(1, 4)) for _ in range(int(rng.integers(1, 4)))]
    xs = tuple(normal(rng, (rows, w)) for w in widths)
    return Case(xs, {"inputdimensions": tuple(widths)})


def draw_extractor(rng: np.random.Generator) -> Case:
    """Features repeated, in any order, of tensors of any rank."""
    dims = shape(rng, rank=int(rng.integers(1, 4)))
    count = int(rng.integers(1, 5))
    return Case((normal(rng, dims), rng.integers(0, dims[-1], (1, count), dtype=np.int64)))


# ---- linear models and support vector machines ---------------------------------------------------


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


# ---- trees ---------------------------------------------------------------------------------------

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


# ---- categories ----------------------------------------------------------------------------------


def draw_binarizer(rng: np.random.Generator) -> Case:
    """A threshold that is not near any feature."""
    return Case((normal(rng, (3, 2), away=0.2) + 0.5,), {"threshold": 0.5})


def words(rng: np.random.Generator, dims: tuple[int, ...]) -> np.ndarray:
    """Strings, of which some repeat."""
    return rng.choice(np.array(["a", "b", "c", "d"], object), dims)


def draw_one_hot_encoder(rng: np.random.Generator) -> Case:
    """Strings, integers, and floats that stand for integers; some of them unknown."""
    dims = (int(rng.integers(1, 4)), 1)
    kind = rng.integers(0, 3)
    if kind == 0:
        return Case((words(rng, dims),), {"cats_strings": ("c", "a", "b")})
    numbers = rng.integers(0, 4, dims, dtype=np.int64)
    cats = {"cats_int64s": (2, 0, 3)}
    return Case((numbers if kind == 1 else numbers + 0.25,), cats)


def draw_category_mapper(rng: np.random.Generator) -> Case:
    """Both ways, with unknown ones."""
    attrs = {"cats_strings": ("a", "b", "c"), "cats_int64s": (5, 7, 9)}
    if rng.random() < 0.5:
        return Case((words(rng, (3,)),), attrs)
    return Case((rng.choice(np.array([5, 7, 9, 11]), (3,)),), attrs)


def draw_label_encoder(rng: np.random.Generator) -> Case:
    """Between strings, integers and floats."""
    keys = str(rng.choice(["strings", "int64s", "floats"]))
    values = str(rng.choice(["strings", "int64s", "floats"]))
    of = {"strings": ("a", "b", "c"), "int64s": (3, 1, 2), "floats": (0.5, 1.5, 2.5)}
    x: np.ndarray = words(rng, (4,))
    if keys == "int64s":
        x = rng.integers(0, 5, (4,), dtype=np.int64)
    elif keys == "floats":
        x = rng.integers(0, 5, (4,)) + 0.25  # off every key, where the table jumps
    return Case((x,), {f"keys_{keys}": of[keys], f"values_{values}": of[values][::-1]})


EVEN = Case(
    (np.zeros((1, 1)),),
    {"coefficients": (1.0,), "intercepts": (0.5,), "post_transform": "PROBIT"},
)
EVEN_SLOPE = np.full((1, 1), np.sqrt(3.14159) * 1.41421356)
"""The normal quantile of 1/2: its derivative is the root of 2 pi, and no 0 / 0."""

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


ROWS = (
    Row(ML + "Scaler", draw_scaler, dynamic="batch"),
    Row(
        ML + "Normalizer",
        draw_normalizer,
        kinks=(
            Kink(Case((np.array([[2.0, 2.0]]),)), 0, np.array([[0.0, 0.0]])),
            Kink(Case((np.array([[0.0, 2.0]]),), {"norm": "L1"}), 0, np.array([[0.5, 0.0]])),
        ),
        edges=(Case((np.zeros((1, 2)),), {"norm": "L2"}),),
    ),
    Row(ML + "Imputer", draw_imputer),
    Row(ML + "FeatureVectorizer", draw_vectorizer),
    Row(ML + "ArrayFeatureExtractor", draw_extractor),
    Row(
        ML + "LinearRegressor",
        draw_linear_regressor,
        kinks=(Kink(EVEN, 0, EVEN_SLOPE),),
        tolerance=1e-5,
    ),
    Row(ML + "LinearClassifier", draw_linear_classifier, tolerance=1e-5),
    Row(ML + "SVMRegressor", draw_svm_regressor),
    Row(ML + "SVMClassifier", draw_svm_classifier),
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
    Row(ML + "Binarizer", draw_binarizer, kinks=(Kink(Case((np.zeros(1),)), 0, np.zeros(1)),)),
    Row(ML + "OneHotEncoder", draw_one_hot_encoder),
    Row(ML + "CategoryMapper", draw_category_mapper),
    Row(ML + "LabelEncoder", draw_label_encoder),
)
