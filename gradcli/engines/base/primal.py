"""The primal as a function of one long vector, its neighbourhood, and the directions through it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradcli.engines.base.program import Arrays
from gradcli.engines.base.rounding import shake, shaken, spread
from gradcli.engines.base.rowwise import rowwise
from gradcli.engines.base.watch import Watch
from gradcli.errors import CannotError, UnsupportedError
from gradcli.interpret import Evaluator, Observe
from gradcli.numbers import Numbers, real
from gradcli.problem import Problem

EPS = 2.0**-52
"""The spacing of float64 at 1."""

HALF = 0.5
"""Of the spread of shaken runs: they err by a whole unit, and true roundings by half of one."""

AWAY = 2.0**-4
"""How far from x, relative to max(1, |x|), rounding is measured as well."""


class Primal:
    """`problem.exact` in one number system, as a function of vectors: `wrt` joined to `of` joined.

    Args:
        problem: What is differentiated.
        n: The number system.
        shaking: When given, every rounding is made at random by this generator: see `shaken`.

    Attributes:
        is_wide: Whether `many` evaluates several points at once.
    """

    def __init__(
        self, problem: Problem, n: Numbers = real, shaking: np.random.Generator | None = None
    ) -> None:
        self.problem = problem
        self._n = n
        table = problem.table if shaking is None else shaken(problem.table, shaking, EPS)
        wide = rowwise(problem.exact, problem.wrt, problem.table)
        self._evaluator = Evaluator(wide or problem.exact, n, table)
        self.is_wide = wide is not None
        self._point: Point | None = None
        self._wrt = {name: problem.shape(name) for name in problem.wrt}
        self._of = {name: problem.shape(name) for name in problem.of}

    def __call__(self, x: np.ndarray, point: Arrays, observe: Observe | None = None) -> np.ndarray:
        """f(x), a vector; what x does not cover is taken from the point."""
        out = self._run({**point, **_cut(x, self._wrt)}, observe)
        for name, shape in self._of.items():
            if np.shape(out[name]) != shape:
                raise CannotError(
                    f"near the point the shape of {name} changes, from {shape} to"
                    f" {np.shape(out[name])}: there is no difference to take"
                )
        return np.concatenate([np.reshape(out[name], -1) for name in self._of])

    def _run(self, feeds: Arrays, observe: Observe | None = None) -> Arrays:
        try:
            return self._evaluator.run(feeds, observe)
        except UnsupportedError as error:
            # At the point itself it has been evaluated before.
            raise CannotError(f"near the point the model fails: {error.message}") from error

    def many(self, xs: np.ndarray, point: Arrays) -> np.ndarray:
        """f of each row of xs, [B, M]: at once where the network proves to treat rows apart."""
        count = len(xs)
        if not self.is_wide:
            return np.stack([self(x, point) for x in xs])
        parts = _cut(xs, self._wrt).items()
        feeds = {k: x.reshape(count * x.shape[1], *x.shape[2:]) for k, x in parts}
        out = self._run({**point, **feeds})
        return np.concatenate([np.reshape(out[name], (count, -1)) for name in self._of], axis=1)

    def at(self, point: Arrays) -> Point:
        """A point of this primal; the same one as long as the same mapping is given."""
        if self._point is None or self._point.arrays is not point:
            self._point = Point(self, point)
        return self._point

    def join(self, arrays: Arrays) -> np.ndarray:
        """One float64 vector of an array for each of `wrt`."""
        return np.concatenate(
            [np.reshape(np.asarray(arrays[name], np.float64), -1) for name in self._wrt]
        )

    def inputs(self, x: np.ndarray) -> Arrays:
        """A vector, or one a row, as tensors of `wrt`."""
        return _cut(x, self._wrt)

    def outputs(self, y: np.ndarray) -> Arrays:
        """Vectors of outputs, one a row, as tensors."""
        return _cut(y, self._of)


def _cut(x: np.ndarray, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The last axis cut into tensors of these shapes."""
    out, start = {}, 0
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        out[name] = x[..., start : start + size].reshape((*x.shape[:-1], *shape))
        start += size
    return out


class Point:
    """A point, and what is worth knowing there once, whatever the direction.

    Args:
        f: The primal.
        arrays: The point; it is taken to stay as it is.
    """

    def __init__(self, f: Primal, arrays: Arrays) -> None:
        self._f = f
        self._watch = Watch(f.problem.exact, f.problem.wrt, f.problem.table)
        self.arrays = arrays
        self.x = f.join(arrays)

    @cached_property
    def y(self) -> np.ndarray:
        """f(x)."""
        return self._f(self.x, self.arrays)

    @cached_property
    def kinks(self) -> Watch:
        """The kinks around x, and the edges of domains."""
        problem = self._f.problem
        watch = Watch(problem.exact, problem.wrt, problem.table, edges=True)
        if watch:
            # The same evaluation gives f(x).
            self.__dict__.setdefault("y", self._f(self.x, self.arrays, watch))
        return watch

    @cached_property
    def singular(self) -> bool:
        """Whether x lies exactly on a kink, or on the edge of an operator's domain."""
        return bool(self.kinks.ties() or self.kinks.rim())

    def lines(self, directions: Arrays) -> list[Line]:
        """The lines through x along directions, given as [B, *shape] for each of `wrt`."""
        count = len(next(iter(directions.values())))
        return [
            Line.through(self.x, self._f.join({name: v[b] for name, v in directions.items()}))
            for b in range(count)
        ]

    def many(self, xs: np.ndarray) -> np.ndarray:
        """f at each of several x, one a row."""
        return self._f.many(xs, self.arrays)

    def seen(self, x: np.ndarray) -> tuple[np.ndarray, Watch]:
        """f at another x, and the kinks around it."""
        watch = self._watch.again()
        return self._f(x, self.arrays, watch or None), watch

    @cached_property
    def noise(self) -> np.ndarray:
        """The rounding error of f(x), elementwise: three deviations, at least half a spacing."""
        return self._noise(self.x, self.y)

    @cached_property
    def drift(self) -> np.ndarray:
        """By how much that error may grow for each unit of t along a line.

        At 0 there is no rounding; everywhere around it there is.
        """
        rng = np.random.default_rng(self._f.problem.seed)
        reach = AWAY * np.maximum(1.0, np.abs(self.x))
        x = self.x + rng.choice((-1.0, 1.0), self.x.shape) * reach
        noise = self._noise(x, self._f(x, self.arrays)) / AWAY
        return np.where(np.isfinite(noise), noise, 0.0)

    def _noise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng(self._f.problem.seed)
        f = Primal(self._f.problem, real, rng)
        # x moves too: the coordinates of x + h v are rounded. Of four runs, the luckiest of 100,000
        # elements would show a quarter of its rounding.
        runs = (f(shake(x, rng, EPS), self.arrays) for _ in range(8))
        return np.asarray(np.maximum(HALF * spread(runs, y), 0.5 * EPS * np.abs(y)))


@dataclass(frozen=True)
class Line:
    """x + t v, with v scaled so that at t = 1 no coordinate has moved by more than max(1, |x|).

    Attributes:
        x: The point.
        v: The scaled direction.
        scale: What the given direction was multiplied by; 0 when it was zero.
    """

    x: np.ndarray
    v: np.ndarray
    scale: float

    @classmethod
    def through(cls, x: np.ndarray, direction: np.ndarray) -> Line:
        """The line through x along a direction of any length."""
        moves = direction != 0
        if not np.any(moves):
            return cls(x, direction, 0.0)
        scale = float(np.min(np.maximum(1.0, np.abs(x[moves])) / np.abs(direction[moves])))
        return cls(x, direction * scale, scale)

    @cached_property
    def _axis(self) -> int | None:
        """The only coordinate that moves, if it is the only one."""
        (moves,) = np.nonzero(self.v)
        return int(moves[0]) if len(moves) == 1 else None

    def step(self, t: float) -> tuple[np.ndarray, float]:
        """x moved by t, and the t by which the only coordinate to move has really moved.

        Several coordinates are rounded each in its own way; that is part of the noise.
        """
        moved = self.x + t * self.v
        k = self._axis
        return moved, t if k is None else float((moved[k] - self.x[k]) / self.v[k])
