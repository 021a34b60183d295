"""Two models at one point: outputs, derivatives, and the first node where they part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from gradcli.contrast.facts import Block, Contrast, Departure
from gradcli.engines import ENGINES, Program
from gradcli.engines.base import Arrays, Part, around, shaken, spread
from gradcli.graph import DType, Graph
from gradcli.interpret import Evaluator
from gradcli.ops import Table
from gradcli.problem import Key, Problem
from gradcli.transform import expand, vjp

SHAKES = 4
"""Evaluations with random roundings."""

NOISE = 4.0
"""In three standard deviations of rounding errors: by how much two models may differ."""

UNITS = 16.0
"""In units in the last place of the largest element: by how much they may at least."""

TOP = 10
"""Of how many of the largest elements it is asked whether they still are."""


def contrasted(
    first: Problem,
    second: Problem,
    names: Mapping[str, str],
    *,
    rtol: float | None = None,
    atol: float = 0.0,
    notes: Sequence[str] = (),
    tell: Callable[[str], None] = lambda _: None,
) -> Contrast:
    """Hold two models against each other, as the functions that they mean: in float64.

    What rounding in the coarser of their widths does to the first is measured, and allowed.

    Args:
        first: The question, of the one model.
        second: The same question, of the other.
        names: By names of the first's `wrt` and `of`: those of the second.
        rtol: What is allowed besides, relative to the largest element of each tensor.
        atol: What is allowed besides.
        notes: What is already to be said.
        tell: Called with a few words before each step.
    """
    eps = max(width(first).eps, width(second).eps)
    judge = _Judge(eps, rtol or 0.0, atol)
    tell("the derivatives of both")
    one, other = _Model(first), _Model(second)
    rng = np.random.default_rng(first.seed)
    table = shaken(first.table, rng, eps, kernels=True)
    runs = []
    for k in range(SHAKES):
        tell(Part("what rounding does", k + 1, SHAKES))
        runs.append(_Model(replace(first, table=table)))
    primal = tuple(
        judge.block(name, "", y, other.primal[names[name]], [run.primal[name] for run in runs])
        for name, y in one.primal.items()
    )
    derivative = tuple(
        judge.block(*key, block, other.blocks[_renamed(key, names)], [r.blocks[key] for r in runs])
        for key, block in one.blocks.items()
    )
    common = _common(first.exact, second.exact)
    alike = all(block.same for block in (*primal, *derivative))
    if not alike:
        tell("where they part")
    inner = None if alike else _Inner(first, second, names, common, table)
    tied = "" if alike or not _on_kink(first) else ON_KINK
    assert first.model is not None
    assert second.model is not None
    return Contrast(
        first.model.path,
        second.model.path,
        first.operator,
        primal,
        derivative,
        None if inner is None else inner.departure(judge, back=False),
        None if inner is None else inner.departure(judge, back=True),
        len(common),
        rtol,
        tied if all(block.same for block in primal) else "",
        tuple(dict.fromkeys((*notes, *first.notes, *(() if alike else _rounds(second))))),
    )


ON_KINK = "the point lies on a kink, where each model may take another slope: choose another point"


def _rounds(problem: Problem) -> tuple[str, ...]:
    """A note on a model that rounds, which has another derivative by its nature."""
    if problem.straight_through:
        return ()
    found = next((n for n in problem.graph.nodes if "Quant" in n.op or n.op == "Round"), None)
    if found is None:
        return ()
    said = (
        f"the second model rounds, first at node {found.name!r} ({found.key}), and its derivative"
    )
    return (f"{said} is that of a staircase: --straight-through takes rounding for the identity",)


def width(problem: Problem) -> DType:
    """The narrowest float in which a model computes, narrower than 16 bits left out."""
    floats = [v.dtype for v in problem.graph.values() if v.dtype.is_float]
    wide = [dtype for dtype in floats if dtype.np.itemsize > 1]
    return max(wide, key=lambda dtype: dtype.eps, default=DType.FLOAT32)


def _renamed(key: Key, names: Mapping[str, str]) -> Key:
    of, wrt = key
    return (names[of] if of else "", names[wrt] if wrt else "")


def _on_kink(problem: Problem) -> bool:
    return any(bool(np.any(margin == 0)) for margin in around(problem).margins.values())


class _Model:
    """A problem's primal and derivative in float64."""

    def __init__(self, problem: Problem) -> None:
        double = replace(problem, dtype=DType.FLOAT64)
        pushes = problem.operator == "jvp"
        self.blocks = Program(ENGINES["forward" if pushes else "reverse"], double).run().blocks
        self.primal: Arrays = Evaluator(problem.exact, table=problem.table).run(problem.point)


class _Judge:
    """What may differ by how much."""

    def __init__(self, eps: float, rtol: float, atol: float) -> None:
        self._eps, self._rtol, self._atol = eps, rtol, atol

    def allowed(self, y: np.ndarray, runs: Sequence[np.ndarray]) -> np.ndarray:
        """By how much each element may differ."""
        size = _size(y)
        noise = np.where(np.isfinite(rounding := spread(runs, y)), rounding, 0.0)
        least = max(UNITS * self._eps, self._rtol) * size + self._atol
        return np.asarray(np.maximum(NOISE * noise, least))

    def block(
        self, of: str, wrt: str, one: np.ndarray, other: np.ndarray, runs: Sequence[np.ndarray]
    ) -> Block:
        """Two tensors, held against each other."""
        a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
        shape = a.shape
        if b.shape != shape:
            nan = np.nan
            return Block(
                of, wrt, shape, _size(a), np.inf, 0.0, 0.0, False, (), nan, nan, nan, 0, 0, 0
            )
        allowed = self.allowed(a, runs)
        gap = difference(a, b)
        excess = np.where(gap > 0.0, gap / np.maximum(allowed, np.finfo(np.float64).tiny), 0.0)
        worst = int(np.argmax(excess)) if a.size else 0
        at = tuple(int(i) for i in np.unravel_index(worst, shape)) if a.size else ()
        top = min(TOP, a.size)
        largest = [set(np.argsort(-np.abs(x.reshape(-1)), kind="stable")[:top]) for x in (a, b)]
        flipped = (np.sign(a) * np.sign(b) < 0) & (np.abs(a) > allowed) & (np.abs(b) > allowed)
        return Block(
            of,
            wrt,
            shape,
            _size(a),
            float(np.max(gap, initial=0.0)),
            float(spread(runs, a)[at]) if a.size else 0.0,
            float(allowed[at]) if a.size else 0.0,
            bool(np.all(gap <= allowed)),
            at,
            float(a[at]) if a.size else 0.0,
            float(b[at]) if a.size else 0.0,
            _cosine(a, b),
            int(np.sum(flipped)),
            top,
            len(largest[0] & largest[1]),
        )


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a - b|, 0 where both are the same infinity or no number, infinite where only one is."""
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        gap = np.where(same, 0.0, np.abs(a - b))
    return np.asarray(np.where(np.isnan(gap), np.inf, gap))


def _size(y: np.ndarray) -> float:
    return float(np.max(np.abs(y), where=np.isfinite(y), initial=0.0))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    # Scaled first: squares of tiny or huge elements are no numbers.
    one, other = (x.reshape(-1) / (_size(x) or 1.0) for x in (a, b))
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths > 0.0 and np.isfinite(lengths) else np.nan


# ---- inside --------------------------------------------------------------------------------------


def _common(one: Graph, other: Graph) -> list[str]:
    """Inner float tensors of both, in the first's order."""
    theirs = {v.name: v for node in other.nodes for v in node.makes() if v.dtype.is_float}
    ours = (v for node in one.nodes for v in node.makes() if v.dtype.is_float)
    return [v.name for v in ours if v.name in theirs and theirs[v.name].shape == v.shape]


class _Inner:
    """Values and cotangents of the tensors that two models have in common."""

    def __init__(
        self,
        first: Problem,
        second: Problem,
        names: Mapping[str, str],
        common: Sequence[str],
        table: Table,
    ) -> None:
        rng = np.random.default_rng(first.seed)
        bars = {name: rng.standard_normal(first.shape(name)) for name in first.of}
        if first.cotangents:
            bars = dict(first.cotangents)
        self._first, self._second, self._common = first, second, common
        self._ours = _values(first, common, bars)
        theirs = {names[name]: bar for name, bar in bars.items()}
        self._theirs = _values(second, common, theirs)
        self._runs = [_values(replace(first, table=table), common, bars) for _ in range(SHAKES)]

    def departure(self, judge: _Judge, *, back: bool) -> Departure | None:
        """The first tensor that differs by more than it may; `back` for cotangents."""
        k = int(back)
        ours, theirs, runs = self._ours[k], self._theirs[k], [run[k] for run in self._runs]
        for name in reversed(self._common) if back else self._common:
            if name not in ours or name not in theirs or ours[name].shape != theirs[name].shape:
                continue
            gap = difference(ours[name], theirs[name])
            if np.any(gap > judge.allowed(ours[name], [run[name] for run in runs])):
                node, other = _maker(self._first.exact, name), _maker(self._second.exact, name)
                return Departure(
                    name, node[0], node[1], other[1], float(np.max(gap)), _size(ours[name])
                )
        return None


def _values(
    problem: Problem, names: Sequence[str], bars: Mapping[str, np.ndarray]
) -> tuple[Arrays, Arrays]:
    """Of these tensors what they are, and what comes back to them."""
    plain = expand(problem.exact, table=problem.table)
    kept = Evaluator(problem.exact, table=problem.table).run(problem.point, keep=names)
    d = vjp(plain, problem.wrt, problem.of, problem.table, inner=True)
    feeds = {**problem.point, **{given: bars[name] for name, given in d.directions.items()}}
    out = Evaluator(d.graph, table=problem.table).run(feeds)
    back = {name: out[made] for name, made in d.results.items() if name in set(names)}
    return {name: np.asarray(kept[name], np.float64) for name in names}, back


def _maker(graph: Graph, name: str) -> tuple[str, str]:
    found: Iterator[tuple[str, str]] = (
        (node.origin or node.name, node.key)
        for node in graph.nodes
        if any(v.name == name for v in node.makes())
    )
    return next(found, ("", ""))
