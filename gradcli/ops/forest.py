"""Decision trees as flat arrays, walked by all samples and all trees at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.numbers import Array, Mask, Numbers, real

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
MEMBER, LEAF = 6, 7

Ints = np.ndarray


@dataclass(frozen=True, eq=False)
class Forest:
    """All nodes of all trees, branches and leaves alike, in one numbering.

    Attributes:
        mode: What a node asks of its feature: a place in MODES, or LEAF.
        feature: Which feature it asks about.
        value: What it is compared with.
        lost: Whether a missing feature (NaN) takes the true branch.
        true: Where to go if so; a leaf stays where it is.
        false: Where to go if not.
        roots: Where each tree begins.
        first: Of a node's weights, the place of the first.
        count: How many weights it has.
        target: For each weight, which result it is added to.
        weight: The weight.
    """

    mode: Ints
    feature: Ints
    value: np.ndarray
    lost: Ints
    true: Ints
    false: Ints
    roots: Ints
    first: Ints
    count: Ints
    target: Ints
    weight: np.ndarray


class Given:
    """Attributes as a key: the very same arrays are the same trees."""

    __slots__ = ("attrs", "key")

    def __init__(self, attrs: Mapping[str, Any]) -> None:
        self.attrs = attrs
        self.key = tuple((name, id(value)) for name, value in attrs.items())

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        # The key in the cache keeps its arrays alive, so no other array has one of their ids.
        return isinstance(other, Given) and self.key == other.key


def _ints(values: Any) -> Ints:
    return np.asarray(() if values is None else values, np.int64).reshape(-1)


def _floats(attrs: Mapping[str, Any], name: str) -> np.ndarray:
    """A list of numbers, or the tensor that newer files have instead."""
    tensor = attrs.get(f"{name}_as_tensor")
    values = attrs.get(name) if tensor is None or not np.size(tensor) else tensor
    return np.asarray(() if values is None else values, np.float64).reshape(-1)


# ---- from attributes ------------------------------------------------------------------------


@lru_cache(maxsize=16)
def listed(given: Given, weights: str) -> Forest:
    """The trees of TreeEnsembleRegressor and TreeEnsembleClassifier: nodes by tree and number.

    Args:
        given: Attributes.
        weights: What the names of the weights' attributes begin with: `target` or `class`.
    """
    attrs = given.attrs
    tree, number = _ints(attrs["nodes_treeids"]), _ints(attrs["nodes_nodeids"])
    size = len(tree)
    if not size:
        raise UnsupportedError("an ensemble without trees")
    span = int(number.max()) + 1
    keys = tree * span + number
    order = np.argsort(keys, kind="stable")

    def find(trees: Ints, numbers: Ints) -> Ints:
        wanted = trees * span + numbers
        places = np.minimum(np.searchsorted(keys, wanted, sorter=order), size - 1)
        found: Ints = order[places]
        if np.any(keys[found] != wanted):
            raise UnsupportedError("a tree refers to a node that it does not have")
        return found

    names = {name: k for k, name in enumerate(MODES)} | {"LEAF": LEAF}
    if unknown := set(attrs["nodes_modes"]) - names.keys():
        raise UnsupportedError(f"nodes of mode {', '.join(sorted(unknown))}")
    mode = np.fromiter((names[m] for m in attrs["nodes_modes"]), np.int8, size)
    here, branch = np.arange(size), mode != LEAF
    true, false = here.copy(), here.copy()
    true[branch] = find(tree[branch], _ints(attrs["nodes_truenodeids"])[branch])
    false[branch] = find(tree[branch], _ints(attrs["nodes_falsenodeids"])[branch])
    orphan = np.ones(size, np.bool_)
    orphan[true[branch]] = orphan[false[branch]] = False
    starts = here[orphan]
    _, first = np.unique(tree[starts], return_index=True)
    lost = _ints(attrs["nodes_missing_value_tracks_true"])
    owner = find(_ints(attrs[f"{weights}_treeids"]), _ints(attrs[f"{weights}_nodeids"]))
    by_owner = np.argsort(owner, kind="stable")
    count = np.bincount(owner, minlength=size)
    value = _floats(attrs, "nodes_values")
    return Forest(
        mode,
        _ints(attrs["nodes_featureids"]),
        value if len(value) else np.zeros(size),
        lost.astype(np.bool_) if len(lost) else np.zeros(size, np.bool_),
        true,
        false,
        starts[first],
        np.cumsum(count) - count,
        count,
        _ints(attrs[f"{weights}_ids"])[by_owner],
        _floats(attrs, f"{weights}_weights")[by_owner],
    )


@lru_cache(maxsize=16)
def packed(given: Given) -> Forest:
    """The trees of TreeEnsemble: branches and leaves numbered apart."""
    attrs = given.attrs
    mode = np.asarray(attrs["nodes_modes"]).reshape(-1).astype(np.int8)
    branches = len(mode)
    target = _ints(attrs["leaf_targetids"])
    leaves = len(target)
    ends = np.arange(branches, branches + leaves)

    def child(way: str) -> Ints:
        ids, is_leaf = _ints(attrs[f"nodes_{way}nodeids"]), _ints(attrs[f"nodes_{way}leafs"])
        return np.concatenate([np.where(is_leaf != 0, ids + branches, ids), ends])

    def behind(values: np.ndarray) -> np.ndarray:
        return np.concatenate([values, np.zeros(leaves, values.dtype)])

    lost = _ints(attrs["nodes_missing_value_tracks_true"]).astype(np.bool_)
    forest = Forest(
        np.concatenate([mode, np.full(leaves, LEAF, np.int8)]),
        behind(_ints(attrs["nodes_featureids"])),
        behind(np.asarray(attrs["nodes_splits"]).reshape(-1).astype(np.float64)),
        behind(lost if len(lost) else np.zeros(branches, np.bool_)),
        child("true"),
        child("false"),
        _ints(attrs["tree_roots"]),
        np.concatenate([np.zeros(branches, np.int64), np.arange(leaves)]),
        np.concatenate([np.zeros(branches, np.int64), np.ones(leaves, np.int64)]),
        target,
        np.asarray(attrs["leaf_weights"]).reshape(-1).astype(np.float64),
    )
    members = attrs["membership_values"]
    return forest if members is None else _without_sets(forest, np.asarray(members).reshape(-1))


def _without_sets(forest: Forest, members: np.ndarray) -> Forest:
    """Every question for membership as a chain of questions for equality.

    Args:
        forest: With nodes of mode MEMBER.
        members: Their sets, in the order of the nodes, each closed by NaN.
    """
    asking = np.flatnonzero(forest.mode == MEMBER)
    sets = np.split(members, np.flatnonzero(np.isnan(members)) + 1)
    mode, value, false = forest.mode.copy(), forest.value.copy(), forest.false.copy()
    origin: list[int] = []
    values: list[float] = []
    onward: list[int] = []
    for node, group in zip(asking, sets, strict=False):
        known = group[~np.isnan(group)].astype(np.float64)
        if not len(known):
            mode[node], value[node] = MODES.index("BRANCH_EQ"), np.nan
            continue
        mode[node], value[node] = MODES.index("BRANCH_EQ"), known[0]
        for k, extra in enumerate(known[1:]):
            place = len(mode) + len(origin)
            onward.append(int(forest.false[node]))
            if k:
                onward[-2] = place
            else:
                false[node] = place
            origin.append(int(node))
            values.append(float(extra))
    more = np.array(origin, np.int64)
    return replace(
        forest,
        mode=np.concatenate([mode, np.full(len(more), MODES.index("BRANCH_EQ"), np.int8)]),
        feature=np.concatenate([forest.feature, forest.feature[more]]),
        value=np.concatenate([value, values]),
        lost=np.concatenate([forest.lost, forest.lost[more]]),
        true=np.concatenate([forest.true, forest.true[more]]),
        false=np.concatenate([false, np.array(onward, np.int64)]),
        first=np.concatenate([forest.first, np.zeros(len(more), np.int64)]),
        count=np.concatenate([forest.count, np.zeros(len(more), np.int64)]),
    )


# ---- walking ----------------------------------------------------------------------------------


def leaves(n: Numbers, forest: Forest, x: Array, near: np.ndarray | None = None) -> Ints:
    """Where each sample ends in each tree, [N, trees].

    Args:
        n: The number system.
        forest: The trees.
        x: Samples [N, features].
        near: For plain floats: lowered, for each sample, to the least distance from a threshold
            that it was compared with.

    Raises:
        CannotError: When a number of the system does not decide a question.
    """
    asked = set(np.unique(forest.mode).tolist()) - {LEAF}
    at = np.broadcast_to(forest.roots, (x.shape[0], len(forest.roots)))
    while True:
        mode = forest.mode[at]
        # Trees whose samples have all arrived are left alone.
        busy = np.flatnonzero(np.any(mode != LEAF, axis=0))
        if not len(busy):
            return at
        here, mode = at[:, busy], mode[:, busy]
        feature = n.take_along(x, forest.feature[here], 1)
        holds = _answer(n, feature, n.lift(forest.value[here]), mode, asked)
        if near is not None:
            gap = np.where(mode == LEAF, np.inf, np.abs(feature - forest.value[here]))
            np.fmin(near, np.min(gap, axis=1), out=near)
        if np.any(forest.lost[here]):
            holds = n.logical_or(holds, n.logical_and(n.is_nan(feature), forest.lost[here]))
        there = n.where(holds, forest.true[here], forest.false[here])
        if len(busy) == at.shape[1]:
            at = there
        else:
            at = at.copy()
            at[:, busy] = there


def jumps(forest: Forest, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far each sample is from where its result jumps, and a number for where it stands."""
    near = np.full(len(x), np.inf)
    at = leaves(real, forest, x, near)
    mixed = np.random.default_rng(0).integers(1, 2**40, at.shape[1])
    return near, at @ mixed


def _answer(n: Numbers, x: Array, value: Array, mode: Ints, asked: set[int]) -> Mask:
    """Whether each question holds; NaN answers every one but `is it different` with no."""

    def at_most(a: Array, b: Array) -> Mask:
        return n.logical_or(n.less(a, b), n.equal(a, b))

    questions = (
        lambda: at_most(x, value),
        lambda: n.less(x, value),
        lambda: at_most(value, x),
        lambda: n.less(value, x),
        lambda: n.equal(x, value),
        lambda: n.logical_not(n.equal(x, value)),
    )
    holds: Mask = None
    for k in sorted(asked):
        answer = questions[k]()
        if len(asked) > 1:
            answer = n.logical_and(mode == k, answer)
        holds = answer if holds is None else n.logical_or(holds, answer)
    return holds


def gathered(
    n: Numbers, forest: Forest, at: Ints, width: int, aggregate: str
) -> tuple[Array, np.ndarray]:
    """The weights of the leaves reached, put together for each sample and target.

    Args:
        n: The number system.
        forest: The trees.
        at: Leaves [N, trees].
        width: How many targets there are.
        aggregate: SUM, AVERAGE, MIN or MAX.

    Returns:
        Scores [N, width], 0 where no leaf has a weight, and whether any has.
    """
    rows, trees = at.shape
    count = forest.count[at].reshape(-1)
    ends = np.cumsum(count)
    within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - count, count)
    entries = np.repeat(forest.first[at].reshape(-1), count) + within
    row = np.repeat(np.repeat(np.arange(rows), trees), count)
    target, weight = forest.target[entries], forest.weight[entries]
    touched = np.zeros((rows, width), np.bool_)
    touched[row, target] = True
    if aggregate in ("MIN", "MAX"):
        end = np.inf if aggregate == "MIN" else -np.inf
        extreme = np.full((rows, width), end)
        (np.minimum if aggregate == "MIN" else np.maximum).at(extreme, (row, target), weight)
        return n.lift(np.where(touched, extreme, 0.0)), touched
    scores = n.scatter(n.full((rows, width), 0.0), (row, target), n.lift(weight), "add")
    return (scores / float(trees) if aggregate == "AVERAGE" else scores), touched
