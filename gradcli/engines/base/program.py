"""What every engine answers, and how the four operators follow from a pushforward or a pullback.

An engine supplies one linear map at a point: it pushes tangents to the outputs, or pulls cotangents
to the inputs, several directions at a time. Gradient, Jacobian, jvp and vjp are derived from that
here, once, for whole answers and for samples of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from gradcli import runtime
from gradcli.errors import CannotError, GradcliError, KernelError, ModelError, OutOfTimeError
from gradcli.graph import DType, Graph, is_static, size
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
        width: Directions to take at once, at most.
    """

    step: float | None = None
    width: int = CHUNK


@dataclass(frozen=True)
class Probes:
    """A sample of an answer that is too large or too dear to compute whole.

    Attributes:
        wrt: For each of `wrt`: the flat indices of the elements sampled.
        of: For each of `of`: likewise, for what is taken row by row.
        along: For a gradient or vjp: random directions, one array [K, *shape] for each of `wrt`;
            the answer's inner product with each is sampled too.
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
        jumps: For finite differences, like `blocks`: the part of each that is the height of jumps
            of the function over the step, and grows as the step shrinks; a trifle where it jumps
            along this direction, but was not seen to in this element. Empty where there is none.
        along_jumps: Likewise, [K].
    """

    blocks: Mapping[Key, np.ndarray]
    known: Mapping[Key, np.ndarray] | None = None
    along: np.ndarray = field(default_factory=lambda: np.zeros(0))
    uncertainty: Mapping[Key, np.ndarray] = field(default_factory=dict)
    along_uncertainty: np.ndarray = field(default_factory=lambda: np.zeros(0))
    primal: Arrays = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    jumps: Mapping[Key, np.ndarray] = field(default_factory=dict)
    along_jumps: np.ndarray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class Images:
    """What directions were taken to.

    Attributes:
        values: [B, *shape] for each output tensor; absent where the derivative is zero for
            structural reasons.
        uncertainty: Likewise, for methods that estimate their own error.
        primal: The primal outputs, where they come along.
        notes: Oddities met on the way.
        jumps: Like `uncertainty`; see Estimate.
    """

    values: Arrays
    uncertainty: Arrays = field(default_factory=dict)
    primal: Arrays = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    jumps: Arrays = field(default_factory=dict)


class Map(Protocol):
    """A method made ready: the derivative as a linear map at whatever point it is given."""

    width: int
    """Directions it takes at once; it is never given more, and may be given fewer."""

    pads: bool
    """Whether fewer cost as much as `width`."""

    def apply(self, point: Arrays, directions: Arrays) -> Images:
        """From tangents of `wrt` to those of `of`, or from cotangents of `of` to those of `wrt`."""


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
        reach: Of a difference of outputs, which is wrong by design: the relative accuracy that it
            comes to at its best step, of a function whose derivatives are all alike. Else 0.
        price: Primals that one direction costs at the very least, in time.
        imports: Libraries that it loads when first used, for whoever times its preparation.
    """

    name: str
    about: str
    mode: Literal["push", "pull"]
    prepare: Callable[[Problem, Options], Map]
    uses: Literal["jvp", "vjp", "impl"]
    exact: bool = True
    reach: float = 0.0
    price: float = 1.0
    imports: tuple[str, ...] = ()


def unfit(engine: Engine, problem: Problem) -> str:
    """Why a method cannot answer a question that is not about the function itself; else empty."""
    if not problem.straight_through or engine.uses != "impl" or engine.name == "complex-step":
        return ""
    return (
        "it differentiates the function itself, and the straight-through estimator is another"
        " question: a convention"
    )


class Program:
    """A prepared method on a problem: run it as often as you like.

    Attributes:
        evaluations: How many directions the last run pushed or pulled.
        level: For methods that choose among several ways: which one, in words.
    """

    def __init__(self, engine: Engine, problem: Problem, options: Options | None = None) -> None:
        if why := unfit(engine, problem):
            raise CannotError(why)
        self.engine = engine
        self.problem = problem
        self.map = engine.prepare(problem, options or Options())
        self.level: str = getattr(self.map, "level", "")
        self.evaluations = 0

    @property
    def judges(self) -> bool:
        """Whether the method can estimate its own error, at extra cost."""
        return hasattr(self.map, "judge")

    def judging(self, on: bool) -> None:
        """Whether a method that estimates its own error does so, at extra cost; on at first."""
        if self.judges:
            self.map.judge = on  # type: ignore[attr-defined] # those that judge have it

    def count(self, probes: Probes | None = None) -> int:
        """How many directions a run takes."""
        p = self.problem
        if p.operator == "jvp" and self.engine.mode == "push":
            return 1
        if p.operator in ("gradient", "vjp") and self.engine.mode == "pull":
            return 1
        if self.engine.mode == "pull":
            return p.rows if probes is None else _sampled(probes.of)
        return p.columns if probes is None else _sampled(probes.wrt) + probes.directions

    def run(
        self,
        probes: Probes | None = None,
        point: Arrays | None = None,
        tangents: Arrays | None = None,
        cotangents: Arrays | None = None,
        deadline: float = math.inf,
    ) -> Estimate:
        """The derivative, or a sample of it.

        Args:
            probes: What to sample; None computes the whole. A method that gets the whole for the
                price of one direction gives it anyway.
            point: Other inputs than the problem's, of the same shapes. None is the problem's own
                point, about which a method may remember what it found out.
            tangents: For a jvp: other tangents.
            cotangents: For a vjp: other cotangents.
            deadline: The reading of `time.perf_counter` after which no further directions are
                taken, beyond the first; what was not reached stays unknown. Where a deadline of
                `deadline.until` stops a method, it is the same: what was done before is kept.

        Raises:
            OutOfTimeError: When a deadline of `deadline.until` passed before any direction.
        """
        p = self.problem
        self.evaluations = 0
        # The same object again lets a method keep what it found out about the point.
        at = p.point if point is None else {**p.point, **point}
        dots = p.tangents if tangents is None else tangents
        bars = p.cotangents if cotangents is None else cotangents
        if self.engine.mode == "push":
            if p.operator == "jvp":
                return self._one(at, dots, p.of, lambda name: (name, ""))
            return self._columns(at, bars, probes, deadline)
        if p.operator in ("gradient", "vjp"):
            return self._pulled(at, bars, probes)
        return self._rows(at, dots, probes, deadline)

    # ---- one direction --------------------------------------------------------------------------

    def _one(
        self, at: Arrays, directions: Arrays, names: Sequence[str], key: Callable[[str], Key]
    ) -> Estimate:
        images = self._apply(at, {name: np.asarray(d)[None] for name, d in directions.items()})
        shapes = {name: self.problem.shape(name) for name in names}
        return Estimate(
            {key(n): _first(images.values, n, shapes[n]) for n in names},
            uncertainty={
                key(n): _first(images.uncertainty, n, shapes[n])
                for n in names
                if images.uncertainty
            },
            primal=images.primal,
            notes=images.notes,
            jumps={key(n): _first(images.jumps, n, shapes[n]) for n in names if images.jumps},
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

    # ---- many directions ------------------------------------------------------------------------

    def _columns(
        self, at: Arrays, bars: Arrays, probes: Probes | None, deadline: float
    ) -> Estimate:
        """Gradient, vjp or Jacobian, from tangents along the coordinates of `wrt`."""
        p = self.problem
        contracted = p.operator != "jacobian"
        weights = {name: np.abs(w) for name, w in bars.items()}
        # The few random directions come first: they look at every element at once.
        half = 0.5 * (time.perf_counter() + deadline)
        along = self._along(at, bars, weights, probes, half) if contracted else (NONE, NONE, NONE)
        filler = _Filler(p, probes.wrt if probes else None, "wrt")
        for chunk, images in self._chunks(filler, p.wrt, at, deadline):
            for name, rows, indices in chunk.parts:
                if contracted:
                    image = _contract(images.values, bars, rows)
                    filler.put(("", name), indices, image)
                    if images.uncertainty:
                        filler.doubt(
                            ("", name), indices, _contract(images.uncertainty, weights, rows)
                        )
                    if images.jumps:
                        filler.jump(("", name), indices, _contract(images.jumps, weights, rows))
                    continue
                for of in p.of:
                    filler.put((of, name), indices, _rows_of(images.values, of, rows))
                    if images.uncertainty:
                        filler.doubt((of, name), indices, _rows_of(images.uncertainty, of, rows))
                    if images.jumps:
                        filler.jump((of, name), indices, _rows_of(images.jumps, of, rows))
        return filler.estimate(*along)

    def _along(
        self, at: Arrays, bars: Arrays, weights: Arrays, probes: Probes | None, deadline: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The answer's inner products with the sampled directions, their doubts and jumps."""
        if probes is None or not probes.directions:
            return NONE, NONE, NONE
        values, doubts, jumps = [], [], []
        for start in range(0, probes.directions, self.map.width):
            chunk = {k: v[start : start + self.map.width] for k, v in probes.along.items()}
            images = self._in_time(at, chunk, deadline)
            if images is None:
                break
            rows = slice(0, len(next(iter(chunk.values()))))
            values.append(_contract(images.values, bars, rows))
            doubts.append(_contract(images.uncertainty, weights, rows))
            jumps.append(_contract(images.jumps, weights, rows))
        return np.concatenate(values), np.concatenate(doubts), np.concatenate(jumps)

    def _rows(self, at: Arrays, dots: Arrays, probes: Probes | None, deadline: float) -> Estimate:
        """Jacobian or jvp, from cotangents along the coordinates of `of`."""
        p = self.problem
        contracted = p.operator == "jvp"
        filler = _Filler(p, probes.of if probes else None, "of")
        for chunk, images in self._chunks(filler, p.of, at, deadline):
            for name, rows, indices in chunk.parts:
                if contracted:
                    filler.put((name, ""), indices, _contract(images.values, dots, rows))
                    continue
                for wrt in p.wrt:
                    filler.put((name, wrt), indices, _rows_of(images.values, wrt, rows))
        return filler.estimate(NONE, NONE, NONE)

    def _chunks(
        self, filler: _Filler, names: Sequence[str], at: Arrays, deadline: float
    ) -> Iterator[tuple[_Chunk, Images]]:
        """Directions along coordinates of these tensors, and their images, as far as time goes."""
        for chunk in filler.chunks(names, self.map.width):
            images = self._in_time(at, chunk.directions, deadline)
            if images is None:
                return
            yield chunk, images
            filler.note(images)

    def _in_time(self, at: Arrays, directions: Arrays, deadline: float) -> Images | None:
        """None when they are not the first, and there is no time for them."""
        if self.evaluations and time.perf_counter() > deadline:
            return None
        try:
            return self._apply(at, directions)
        except OutOfTimeError:
            if not self.evaluations:
                raise
            return None

    def _apply(self, at: Arrays, directions: Arrays) -> Images:
        images = self.map.apply(at, directions)
        self.evaluations += len(next(iter(directions.values())))
        return images


NONE = np.zeros(0)


@dataclass(frozen=True)
class _Chunk:
    """Directions to take at once.

    Attributes:
        directions: One-hot along a coordinate each, over all tensors together.
        parts: For each tensor with a coordinate here: its name, the rows of the directions that are
            its, and its flat indices.
    """

    directions: Arrays
    parts: Sequence[tuple[str, slice, np.ndarray]]


class _Filler:
    """Collects images of coordinate directions into the blocks of an answer."""

    def __init__(
        self, problem: Problem, sample: Mapping[str, np.ndarray] | None, axis: Literal["wrt", "of"]
    ) -> None:
        self.problem = problem
        self.sample = sample
        self.axis = axis
        self.blocks = {key: np.full(problem.block_shape(key), np.nan) for key in problem.keys}
        self.doubts: dict[Key, np.ndarray] = {}
        self.jumps: dict[Key, np.ndarray] = {}
        self.known = {key: np.zeros(problem.block_shape(key), bool) for key in problem.keys}
        self.primal: Arrays = {}
        self.notes: dict[str, None] = {}

    def chunks(self, names: Sequence[str], width: int) -> Iterator[_Chunk]:
        """The coordinates to visit, `width` at a time, those of several tensors together."""
        shapes = {name: self.problem.shape(name) for name in names}
        visit = [(name, self._visited(name, shapes[name])) for name in names]
        owner = np.repeat(np.arange(len(names)), [len(indices) for _, indices in visit])
        flat = np.concatenate([indices for _, indices in visit])
        for start in range(0, len(flat), width):
            here, who = flat[start : start + width], owner[start : start + width]
            directions = {k: np.zeros((len(here), *shape)) for k, shape in shapes.items()}
            parts = []
            for k in np.unique(who):
                (rows,) = np.nonzero(who == k)
                name = names[k]
                directions[name].reshape(len(here), -1)[rows, here[rows]] = 1.0
                parts.append((name, slice(int(rows[0]), int(rows[-1]) + 1), here[rows]))
            yield _Chunk(directions, parts)

    def _visited(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        if self.sample is None:
            return np.arange(int(np.prod(shape)))
        return self.sample.get(name, np.zeros(0, int))

    def _view(self, blocks: dict[Key, np.ndarray], key: Key) -> np.ndarray:
        """A block with the flat coordinate that is visited first."""
        of, wrt = key
        rows = int(np.prod(self.problem.shape(of))) if of else 1
        columns = int(np.prod(self.problem.shape(wrt))) if wrt else 1
        flat = blocks[key].reshape(rows, columns)
        return flat.T if self.axis == "wrt" else flat

    def put(self, key: Key, indices: np.ndarray, values: np.ndarray | None) -> None:
        """Images of the coordinate directions at these indices, one a row; absent is zero."""
        into = self._view(self.blocks, key)
        # onnxruntime expands one to none as one: what has no elements takes none.
        image = 0.0 if values is None or not into.size else np.reshape(values, (len(indices), -1))
        into[indices] = image
        self._view(self.known, key)[indices] = True

    def doubt(self, key: Key, indices: np.ndarray, values: np.ndarray | None) -> None:
        """Their uncertainties."""
        self._beside(self.doubts, key, indices, values)

    def jump(self, key: Key, indices: np.ndarray, values: np.ndarray | None) -> None:
        """Their jumps."""
        self._beside(self.jumps, key, indices, values)

    def _beside(
        self,
        blocks: dict[Key, np.ndarray],
        key: Key,
        indices: np.ndarray,
        values: np.ndarray | None,
    ) -> None:
        if key not in blocks:
            blocks[key] = np.zeros(self.problem.block_shape(key))
        image = 0.0 if values is None else np.reshape(values, (len(indices), -1))
        self._view(blocks, key)[indices] = image

    def note(self, images: Images) -> None:
        """Keep what came along."""
        self.primal = images.primal or self.primal
        self.notes.update(dict.fromkeys(images.notes))

    def estimate(self, along: np.ndarray, doubt: np.ndarray, jumps: np.ndarray) -> Estimate:
        """What was collected."""
        whole = all(np.all(known) for known in self.known.values())
        known = None if whole else self.known
        return Estimate(
            self.blocks,
            known,
            along,
            self.doubts,
            doubt,
            self.primal,
            tuple(self.notes),
            self.jumps,
            jumps,
        )


def _first(values: Arrays, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The image of the only direction, zeros where it is absent or has no elements."""
    if name not in values or 0 in shape:
        return np.zeros(shape)
    return np.asarray(values[name][0], np.float64).reshape(shape)


def _rows_of(values: Arrays, name: str, rows: slice) -> np.ndarray | None:
    """Some directions' images in one tensor; None where the derivative is structurally zero."""
    return values[name][rows] if name in values else None


def _contract(values: Arrays, weights: Arrays, rows: slice) -> np.ndarray:
    """For each of some directions: the inner product of its image with the weights.

    What has no weight has no say, however infinite it is.
    """
    count = rows.stop - rows.start
    total = np.zeros(count)
    for name, image in values.items():
        flat = np.asarray(image[rows], np.float64).reshape(count, -1)
        w = np.asarray(weights[name], np.float64).reshape(-1)
        total += flat @ w if np.all(np.isfinite(flat)) else np.where(w == 0, 0.0, flat) @ w
    return total


def _sampled(indices: Mapping[str, np.ndarray]) -> int:
    return sum(len(i) for i in indices.values())


# ---- running a graph ----------------------------------------------------------------------------

Run = Callable[[Mapping[str, Any]], Mapping[str, np.ndarray]]


def compile_graph(problem: Problem, graph: Graph) -> Run:
    """A derivative graph made ready: onnxruntime in the model's width, the interpreter in float64.

    Raises:
        CannotError: When onnxruntime has no kernel for it; some kernels say so only as they run.
    """
    graph = as_run(problem, graph)
    if problem.dtype is DType.FLOAT64:
        return Evaluator(graph, table=problem.table).run
    try:
        session = runtime.prepare(
            graph,
            threads=problem.threads,
            provider=problem.provider,
        )
    except ModelError as error:
        raise _no_kernel(problem, error) from error

    def run(feeds: Mapping[str, Any]) -> Mapping[str, np.ndarray]:
        try:
            return session.run(feeds)
        except KernelError as error:
            raise _no_kernel(problem, error) from error

    return run


def _no_kernel(problem: Problem, error: GradcliError) -> CannotError:
    return CannotError(
        f"onnxruntime has no {problem.dtype.value} kernel for the derivative: {error.message}",
        "--dtype float64 computes without it",
    )


def as_run(problem: Problem, graph: Graph) -> Graph:
    """A derivative graph in the form in which it is run."""
    graph = simplify(graph, problem.table)
    if problem.dtype is DType.FLOAT64:
        return graph
    threads = problem.threads if problem.tuned is None else problem.tuned
    cpu_threads = threads if problem.provider == runtime.CPU else None
    return tune(graph, problem.table, cpu_threads=cpu_threads)


def chunk_width(graph: Graph, directions: int) -> int:
    """How many directions to carry at once through a graph before its tensors grow too heavy."""
    shapes = (v.shape for v in graph.values())
    heaviest = max((size(s) * 8 for s in shapes if s is not None and is_static(s)), default=8)
    return max(1, min(directions, CHUNK, CHUNK_BYTES // max(heaviest, 1)))
