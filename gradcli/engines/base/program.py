"""What every engine answers, and how the four operators follow from a pushforward or a pullback.

An engine supplies one linear map at a point: it pushes tangents to the outputs, or pulls cotangents
to the inputs, several directions at a time. Gradient, Jacobian, jvp and vjp are derived from that
here, once, for whole answers and for samples of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from gradcli import runtime
from gradcli.graph import DType, Graph
from gradcli.interpret import Evaluator
from gradcli.problem import Key, Problem
from gradcli.transform import simplify, tune

Arrays = Mapping[str, np.ndarray]
"""Arrays by tensor name. Directions and what comes of them carry a leading axis, one for each."""

CHUNK = 64
"""Directions pushed or pulled at once, where memory allows."""

CHUNK_BYTES = 1 << 28
"""What the widest tensor may weigh when it carries a chunk of directions."""


@dataclass(frozen=True)
class Options:
    """What a user may set about methods.

    Attributes:
        step: The finite-difference step relative to max(1, |x|); None chooses.
    """

    step: float | None = None


@dataclass(frozen=True)
class Probes:
    """A sample of an answer that is too large or too dear to compute whole.

    Attributes:
        wrt: For each of `wrt`: the flat indices of the elements sampled.
        of: For each of `of`: likewise, for a jvp taken row by row.
        along: For a gradient or vjp: random directions, one array [K, *shape] for each of `wrt`; the
            answer's inner product with each is sampled too.
    """

    wrt: Mapping[str, np.ndarray] = field(default_factory=dict)
    of: Mapping[str, np.ndarray] = field(default_factory=dict)
    along: Arrays = field(default_factory=dict)

    @property
    def directions(self) -> int:
        """How many random directions there are."""
        return next((len(a) for a in self.along.values()), 0)


@dataclass(frozen=True)
class Estimate:
    """What a method says a derivative is.

    Attributes:
        blocks: Float64 arrays by (of, wrt); NaN where an element was not sampled.
        known: Which elements were computed; None for all.
        along: The answer's inner products with `Probes.along`, [K].
        uncertainty: The method's own estimate of its error, like `blocks`; empty when it has none.
        along_uncertainty: Likewise, [K].
        primal: The primal outputs that the method's own program computed, where it does.
        notes: Oddities: dropped rungs, kinks crossed.
    """

    blocks: Mapping[Key, np.ndarray]
    known: Mapping[Key, np.ndarray] | None = None
    along: np.ndarray = field(default_factory=lambda: np.zeros(0))
    uncertainty: Mapping[Key, np.ndarray] = field(default_factory=dict)
    along_uncertainty: np.ndarray = field(default_factory=lambda: np.zeros(0))
    primal: Arrays = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Images:
    """What directions were taken to.

    Attributes:
        values: [B, *shape] for each output tensor; absent where the derivative is zero for
            structural reasons.
        uncertainty: Likewise, for methods that estimate their own error.
        primal: The primal outputs, where they come along.
        notes: Oddities met on the way.
    """

    values: Arrays
    uncertainty: Arrays = field(default_factory=dict)
    primal: Arrays = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Map(Protocol):
    """A method made ready: the derivative as a linear map at whatever point it is given."""

    width: int
    """Directions it takes at once; it is never given more, and may be given fewer."""

    def apply(self, point: Arrays, directions: Arrays) -> Images:
        """Tangents of `wrt` to tangents of `of` (push), or cotangents of `of` to those of `wrt` (pull)."""


@dataclass(frozen=True)
class Engine:
    """A method of differentiation.

    Attributes:
        name: What users call it.
        about: One line.
        mode: Whether it pushes tangents or pulls cotangents.
        prepare: Makes its Map ready for a problem; raises CannotError when out of its depth.
        uses: What of a card it stands on: `jvp`, `vjp` or `impl`.
        exact: Whether it computes in float64 whatever the model's width.
    """

    name: str
    about: str
    mode: Literal["push", "pull"]
    prepare: Callable[[Problem, Options], Map]
    uses: str
    exact: bool = True


class Program:
    """A prepared method on a problem: run it as often as you like.

    Attributes:
        evaluations: How many directions the last run pushed or pulled.
        level: For methods that choose among several ways: which one, in words.
    """

    def __init__(self, engine: Engine, problem: Problem, options: Options | None = None) -> None:
        self.engine = engine
        self.problem = problem
        self.map = engine.prepare(problem, options or Options())
        self.level: str = getattr(self.map, "level", "")
        self.evaluations = 0

    def judging(self, on: bool) -> None:
        """Whether a method that estimates its own error does so, at extra evaluations; on at first."""
        if hasattr(self.map, "judge"):
            self.map.judge = on

    def count(self, probes: Probes | None = None) -> int:
        """How many directions a run takes."""
        p = self.problem
        if p.operator == "jvp" and self.engine.mode == "push":
            return 1
        if p.operator in ("gradient", "vjp") and self.engine.mode == "pull":
            return 1
        if self.engine.mode == "pull":
            return p.rows if probes is None or p.operator == "jacobian" else _sampled(probes.of)
        return p.columns if probes is None else _sampled(probes.wrt) + probes.directions

    def run(
        self,
        probes: Probes | None = None,
        point: Arrays | None = None,
        tangents: Arrays | None = None,
        cotangents: Arrays | None = None,
    ) -> Estimate:
        """The derivative, or a sample of it.

        Args:
            probes: What to sample; None computes the whole. A method that gets the whole for the
                price of one direction gives it anyway.
            point: Other inputs than the problem's, of the same shapes.
            tangents: For a jvp: other tangents.
            cotangents: For a vjp: other cotangents.
        """
        p = self.problem
        self.evaluations = 0
        at = dict(p.point) if point is None else {**p.point, **point}
        dots = p.tangents if tangents is None else tangents
        bars = p.cotangents if cotangents is None else cotangents
        if self.engine.mode == "push":
            if p.operator == "jvp":
                return self._one(at, dots, p.of, lambda name: (name, ""))
            return self._columns(at, bars, probes)
        if p.operator in ("gradient", "vjp"):
            return self._pulled(at, bars, probes)
        return self._rows(at, dots, probes)

    # ---- one direction ----------------------------------------------------------------------------

    def _one(
        self, at: Arrays, directions: Arrays, names: Sequence[str], key: Callable[[str], Key]
    ) -> Estimate:
        images = self._apply(at, {name: np.asarray(d)[None] for name, d in directions.items()})
        shapes = {name: self.problem.shape(name) for name in names}
        return Estimate(
            {key(n): _first(images.values, n, shapes[n]) for n in names},
            uncertainty={
                key(n): _first(images.uncertainty, n, shapes[n]) for n in names if images.uncertainty
            },
            primal=images.primal,
            notes=images.notes,
        )

    def _pulled(self, at: Arrays, bars: Arrays, probes: Probes | None) -> Estimate:
        whole = self._one(at, bars, self.problem.wrt, lambda name: ("", name))
        if probes is None or not probes.directions:
            return whole
        along = np.sum(
            [
                np.reshape(probes.along[wrt], (probes.directions, -1)) @ block.reshape(-1)
                for (_, wrt), block in whole.blocks.items()
            ],
            axis=0,
        )
        return Estimate(whole.blocks, None, along, primal=whole.primal, notes=whole.notes)

    # ---- many directions --------------------------------------------------------------------------

    def _columns(self, at: Arrays, bars: Arrays, probes: Probes | None) -> Estimate:
        """Gradient, vjp or Jacobian, from tangents along the coordinates of `wrt`."""
        p = self.problem
        contracted = p.operator != "jacobian"
        filler = _Filler(p, probes.wrt if probes else None, axis="wrt")
        for name, indices, directions in filler.chunks(p.wrt, self.map.width):
            images = self._apply(at, directions)
            if contracted:
                filler.put(("", name), indices, _contract(images.values, bars, len(indices)))
                if images.uncertainty:
                    weights = {k: np.abs(w) for k, w in bars.items()}
                    filler.doubt(("", name), indices, _contract(images.uncertainty, weights, len(indices)))
            else:
                for of in p.of:
                    if of in images.values:
                        filler.put((of, name), indices, images.values[of])
                    if of in images.uncertainty:
                        filler.doubt((of, name), indices, images.uncertainty[of])
            filler.note(images)
        along, doubt = self._along(at, bars, probes) if contracted else (np.zeros(0), np.zeros(0))
        return filler.estimate(along, doubt)

    def _along(
        self, at: Arrays, bars: Arrays, probes: Probes | None
    ) -> tuple[np.ndarray, np.ndarray]:
        if probes is None or not probes.directions:
            return np.zeros(0), np.zeros(0)
        values, doubts = [], []
        for start in range(0, probes.directions, self.map.width):
            stop = min(start + self.map.width, probes.directions)
            images = self._apply(at, {k: v[start:stop] for k, v in probes.along.items()})
            values.append(_contract(images.values, bars, stop - start))
            weights = {k: np.abs(w) for k, w in bars.items()}
            doubts.append(_contract(images.uncertainty, weights, stop - start))
        return np.concatenate(values), np.concatenate(doubts)

    def _rows(self, at: Arrays, dots: Arrays, probes: Probes | None) -> Estimate:
        """Jacobian or jvp, from cotangents along the coordinates of `of`."""
        p = self.problem
        contracted = p.operator == "jvp"
        filler = _Filler(p, probes.of if probes and contracted else None, axis="of")
        for name, indices, directions in filler.chunks(p.of, self.map.width):
            images = self._apply(at, directions)
            if contracted:
                filler.put((name, ""), indices, _contract(images.values, dots, len(indices)))
            else:
                for wrt in p.wrt:
                    if wrt in images.values:
                        filler.put((name, wrt), indices, images.values[wrt])
            filler.note(images)
        return filler.estimate(np.zeros(0), np.zeros(0))

    def _apply(self, at: Arrays, directions: Arrays) -> Images:
        self.evaluations += len(next(iter(directions.values())))
        return self.map.apply(at, directions)


class _Filler:
    """Collects images of coordinate directions into the blocks of an answer."""

    def __init__(self, problem: Problem, sample: Mapping[str, np.ndarray] | None, axis: str) -> None:
        self.problem = problem
        self.sample = sample
        self.axis = axis
        fill = 0.0 if sample is None else np.nan
        self.blocks = {key: np.full(problem.block_shape(key), fill) for key in problem.keys}
        self.doubts: dict[Key, np.ndarray] = {}
        self.known = {key: np.zeros(problem.block_shape(key), bool) for key in problem.keys}
        self.primal: Arrays = {}
        self.notes: dict[str, None] = {}

    def chunks(
        self, names: Sequence[str], width: int
    ) -> Iterator[tuple[str, np.ndarray, dict[str, np.ndarray]]]:
        """One-hot directions over the coordinates to visit, `width` at a time, others zero."""
        shapes = {name: self.problem.shape(name) for name in names}
        for name in names:
            size = int(np.prod(shapes[name]))
            visit = np.arange(size) if self.sample is None else self.sample.get(name, np.zeros(0, int))
            for start in range(0, len(visit), width):
                indices = visit[start : start + width]
                directions = {k: np.zeros((len(indices), *shape)) for k, shape in shapes.items()}
                hot = directions[name].reshape(len(indices), size)
                hot[np.arange(len(indices)), indices] = 1.0
                self._visited(name, indices)
                yield name, indices, directions

    def _visited(self, name: str, indices: np.ndarray) -> None:
        """Every block of this tensor is known there, zero if nothing is put."""
        for key in self.problem.keys:
            if name == (key[1] if self.axis == "wrt" else key[0]):
                self._view(self.known, key)[indices] = True
                if self.sample is not None:
                    self._view(self.blocks, key)[indices] = 0.0

    def _view(self, blocks: dict[Key, np.ndarray], key: Key) -> np.ndarray:
        """A block with the flat coordinate that is visited first."""
        of, wrt = key
        rows = int(np.prod(self.problem.shape(of))) if of else 1
        columns = int(np.prod(self.problem.shape(wrt))) if wrt else 1
        flat = blocks[key].reshape(rows, columns)
        return flat.T if self.axis == "wrt" else flat

    def put(self, key: Key, indices: np.ndarray, values: np.ndarray) -> None:
        """Images of the coordinate directions at these indices, one a row."""
        self._view(self.blocks, key)[indices] = np.reshape(values, (len(indices), -1))

    def doubt(self, key: Key, indices: np.ndarray, values: np.ndarray) -> None:
        """Their uncertainties."""
        if key not in self.doubts:
            self.doubts[key] = np.zeros(self.problem.block_shape(key))
        self._view(self.doubts, key)[indices] = np.reshape(values, (len(indices), -1))

    def note(self, images: Images) -> None:
        """Keep what came along."""
        self.primal = images.primal or self.primal
        self.notes.update(dict.fromkeys(images.notes))

    def estimate(self, along: np.ndarray, doubt: np.ndarray) -> Estimate:
        """What was collected."""
        known = None if self.sample is None else self.known
        return Estimate(
            self.blocks, known, along, self.doubts, doubt, self.primal, tuple(self.notes)
        )


def _first(values: Arrays, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The image of the only direction, zeros where it is absent."""
    if name not in values:
        return np.zeros(shape)
    return np.asarray(values[name][0], np.float64).reshape(shape)


def _contract(values: Arrays, weights: Arrays, count: int) -> np.ndarray:
    """For each of `count` directions: the inner product of its image with the weights."""
    total = np.zeros(count)
    for name, image in values.items():
        flat = np.asarray(image, np.float64).reshape(count, -1)
        total += flat @ np.asarray(weights[name], np.float64).reshape(-1)
    return total


def _sampled(indices: Mapping[str, np.ndarray]) -> int:
    return sum(len(i) for i in indices.values())


# ---- running a graph ------------------------------------------------------------------------------

Run = Callable[[Mapping[str, Any]], Mapping[str, np.ndarray]]


def compile_graph(problem: Problem, graph: Graph) -> Run:
    """A derivative graph made ready: onnxruntime in the model's width, the interpreter in float64.

    Raises:
        CannotError: When onnxruntime has no kernel for it.
    """
    graph = simplify(graph, problem.table)
    if problem.dtype is DType.FLOAT64:
        return Evaluator(graph, table=problem.table).run
    session = runtime.prepare(
        tune(graph, problem.table), threads=problem.threads, provider=problem.provider
    )
    return session.run


def chunk_width(graph: Graph, directions: int) -> int:
    """How many directions to carry at once through a graph without its tensors growing too heavy."""
    heaviest = max(
        (int(np.prod(v.shape)) * 8 for v in graph.values() if v.shape and all(isinstance(d, int) for d in v.shape)),
        default=8,
    )
    return max(1, min(directions, CHUNK, CHUNK_BYTES // max(heaviest, 1)))

