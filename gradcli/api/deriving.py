"""A question answered by one method, once or again and again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcli import comparison, measure
from gradcli.api.asking import (
    Given,
    Source,
    ask,
    complete,
    engine,
    load,
    names_of,
    needed,
)
from gradcli.engines import Engine, Options
from gradcli.engines import Program as EngineProgram
from gradcli.engines.base import AT_THE_EDGE, Estimate, survey
from gradcli.errors import CannotError, UsageError
from gradcli.graph import DType
from gradcli.interpret import Evaluator
from gradcli.onnxfile import Model
from gradcli.problem import Key, Problem

METHOD = "reverse"
"""The method of a derivative for which none is asked."""


def gradient(
    model: Source,
    inputs: Given = None,
    *,
    method: str = METHOD,
    wrt: str | Sequence[str] | None = None,
    of: str | Sequence[str] | None = None,
    dtype: str | None = None,
    threads: int = 1,
    straight_through: bool = False,
) -> dict[str, np.ndarray]:
    """The gradient of one output element: an array for each of `wrt`, of its shape.

    See `compare` for the arguments, and `prepare` to compute it more than once.

    Raises:
        UsageError: When `of` is more than one number.
        CannotError: When the method is out of its depth, or the model's own output does not match.
    """
    return _once("gradient", model, inputs, method, wrt, of, dtype, threads, straight_through)


def jacobian(
    model: Source,
    inputs: Given = None,
    *,
    method: str = METHOD,
    wrt: str | Sequence[str] | None = None,
    of: str | Sequence[str] | None = None,
    dtype: str | None = None,
    threads: int = 1,
    straight_through: bool = False,
) -> dict[str, np.ndarray]:
    """The Jacobian: under each name `of/wrt` an array of the shape of `of`, then that of `wrt`.

    See `gradient`.
    """
    return _once("jacobian", model, inputs, method, wrt, of, dtype, threads, straight_through)


def jvp(
    model: Source,
    inputs: Given,
    tangent: Given,
    *,
    method: str = "forward",
    wrt: str | Sequence[str] | None = None,
    of: str | Sequence[str] | None = None,
    dtype: str | None = None,
    threads: int = 1,
    straight_through: bool = False,
) -> dict[str, np.ndarray]:
    """The derivative along a tangent of the inputs: an array for each of `of`, of its shape.

    See `gradient`.
    """
    return _once(
        "jvp", model, inputs, method, wrt, of, dtype, threads, straight_through, tangent=tangent
    )


def vjp(
    model: Source,
    inputs: Given,
    cotangent: Given,
    *,
    method: str = METHOD,
    wrt: str | Sequence[str] | None = None,
    of: str | Sequence[str] | None = None,
    dtype: str | None = None,
    threads: int = 1,
    straight_through: bool = False,
) -> dict[str, np.ndarray]:
    """The derivative summed with a cotangent of the outputs: an array for each of `wrt`.

    See `gradient`.
    """
    return _once(
        "vjp", model, inputs, method, wrt, of, dtype, threads, straight_through, cotangent=cotangent
    )


def _once(
    operator: str,
    model: Source,
    inputs: Given,
    method: str,
    wrt: str | Sequence[str] | None,
    of: str | Sequence[str] | None,
    dtype: str | None,
    threads: int,
    straight_through: bool,
    **directions: Given,
) -> dict[str, np.ndarray]:
    program = prepare(
        model,
        operator=operator,
        method=method,
        wrt=wrt,
        of=of,
        dtype=dtype,
        threads=threads,
        straight_through=straight_through,
    )
    return program.run(inputs, **directions)


def prepare(
    model: Source,
    *,
    operator: str,
    method: str,
    wrt: str | Sequence[str] | None = None,
    of: str | Sequence[str] | None = None,
    inputs: Given = None,
    dtype: str | None = None,
    threads: int = 1,
    straight_through: bool = False,
) -> Program:
    """Make a method ready for a model, to be run again and again.

    Args:
        model: See `compare`; so are `wrt`, `of`, `dtype` and `threads`.
        operator: `gradient`, `jacobian`, `jvp` or `vjp`.
        method: Its name.
        wrt: What to differentiate with respect to.
        of: What to differentiate.
        inputs: With them the work of preparing is done now, and they are the point of runs that are
            given no other; without them it is done on the first run.
        dtype: `float32` or `float64`.
        threads: For onnxruntime.
        straight_through: See `compare`.
    """
    asked = {"wrt": wrt, "of": of, "operator": operator, "dtype": dtype, "threads": threads}
    asked |= {"straight_through": straight_through}
    program = Program(load(model), engine(method), asked)
    if inputs is not None:
        program.settle(inputs)
    return program


class Program:
    """A method made ready. Made by `prepare`.

    Preparing depends on the shapes of the inputs, on the values of those that are not floats, on
    all of them where `wrt` names an intermediate tensor, and on which way the model's Ifs go. A run
    at a point that differs in one of those prepares anew. The first run after each preparing holds
    the program's own output against onnxruntime's on the model's original bytes.
    """

    def __init__(self, model: Model, engine: Engine, asked: Mapping[str, Any]) -> None:
        self._model = model
        self._engine = engine
        self._asked = dict(asked)
        self._feeds: dict[str, np.ndarray] | None = None
        self._key: tuple[Any, ...] | None = None
        self._program: EngineProgram | None = None
        self._held = False

    def settle(self, inputs: Given) -> EngineProgram:
        """Make ready for these inputs, and keep them as the point."""
        feeds = complete(self._model, inputs)
        key = _prepared_for(self._model, names_of(self._asked["wrt"]) or (), feeds)
        program = self._program
        if program is None or key != self._key or not program.problem.same_branches(feeds):
            program = EngineProgram(self._engine, ask(self._model, feeds, **self._asked))
            self._program, self._key, self._held = program, key, False
        self._feeds = feeds
        return program

    def run(
        self, inputs: Given = None, tangent: Given = None, cotangent: Given = None
    ) -> dict[str, np.ndarray]:
        """The derivative at a point, by name as `gradient`, `jacobian`, `jvp` and `vjp` say.

        Args:
            inputs: The point; default: that of the last run, or of `prepare`.
            tangent: For a jvp.
            cotangent: For a vjp.

        Raises:
            InputError: When an array is missing or does not fit.
            CannotError: When the method is out of its depth, or the model's own output does not
                match.
        """
        inputs = self._feeds if inputs is None else inputs
        program = self.settle(inputs)
        problem = program.problem
        feeds = self._feeds or {}
        estimate = program.run(
            point=_point(replace(problem, feeds=feeds)),
            tangents=needed(problem, tangent, "tangent", "jvp"),
            cotangents=needed(problem, cotangent, "cotangent", "vjp"),
        )
        if not self._held:
            hold_primal(problem, estimate, feeds)
            self._held = True
        return by_name(in_own_width(problem, self._engine, estimate))


def _prepared_for(
    model: Model, wrt: Sequence[str], feeds: Mapping[str, np.ndarray]
) -> tuple[Any, ...]:
    """What of a point preparing depends on; which way the model's Ifs go comes besides."""
    graph = model.graph
    inputs = {v.name for v in graph.inputs}
    inner = not set(wrt) <= inputs | {v.name for v in graph.constants}
    return tuple(
        (name, a.shape, b"" if moves and name in inputs and not inner else a.tobytes())
        for name, a in feeds.items()
        for moves in [DType.of(a).is_float]
    )


@dataclass(frozen=True)
class Derivative:
    """A derivative, block by block.

    Attributes:
        blocks: Arrays by (of, wrt); either name is empty where the operator has no such axis.
        dtype: The width it was computed in.
        notes: What is odd about it.
    """

    blocks: Mapping[Key, np.ndarray]
    dtype: str
    notes: tuple[str, ...]


class Deriver:
    """One method, for the same question at many points: made ready again only where it has to be.

    Args:
        method: Its name.
        step: Of finite differences.
    """

    def __init__(self, method: str = METHOD, *, step: float | None = None) -> None:
        self._engine = engine(method)
        self._options = Options(step=step)
        self._program: EngineProgram | None = None

    def derive(self, problem: Problem) -> Derivative:
        """Answer a question; of all but its point the same as the last.

        Raises:
            CannotError: When the method is out of its depth, or the model's own output does not
                match.
        """
        program = self._program
        if program is None or not _serves(program.problem, problem):
            self._program = program = EngineProgram(self._engine, problem, self._options)
            estimate = program.run()
        else:
            estimate = program.run(
                point=problem.point, tangents=problem.tangents, cotangents=problem.cotangents
            )
        hold_primal(problem, estimate, problem.feeds)
        blocks = in_own_width(problem, self._engine, estimate)
        dtype = DType.FLOAT64 if self._engine.exact else problem.dtype
        notes = (*estimate.notes, *_lost(problem, estimate))
        return Derivative(blocks, dtype.value, notes)


def _serves(old: Problem, new: Problem) -> bool:
    """Whether what was prepared for the one answers the other."""
    if old is new:
        return True
    if old.model is None or old.model is not new.model:
        return False
    keys = [_prepared_for(old.model, p.wrt, p.feeds) for p in (old, new)]
    return keys[0] == keys[1] and old.same_branches(new.feeds)


def derive(problem: Problem, method: str = METHOD, *, step: float | None = None) -> Derivative:
    """Answer a question by one method.

    Raises:
        CannotError: When the method is out of its depth, or the model's own output does not match.
    """
    return Deriver(method, step=step).derive(problem)


def _lost(problem: Problem, estimate: Estimate) -> Iterator[str]:
    """Where numbers end: which nodes are at the edge of their domain, or overflow, if any does."""
    seen = (*estimate.blocks.values(), *estimate.primal.values())
    if all(np.all(np.isfinite(x)) for x in seen) and AT_THE_EDGE not in estimate.notes:
        return
    for near in survey(problem).nearest:
        if near.kind == "lost" or (near.kind == "edge" and near.margin == 0):
            helps = f"; {near.operand}: {near.todo}" if near.operand else ""
            yield f"{comparison.described(near)}{helps}"


def hold_primal(problem: Problem, estimate: Estimate, feeds: Mapping[str, np.ndarray]) -> None:
    """Check that what was differentiated is the function of the file.

    Raises:
        CannotError: When onnxruntime, on the file's original bytes, gives another output than the
            derivative's own program; or cannot give one.
    """
    at = replace(problem, feeds=feeds)
    ours = estimate.primal or Evaluator(problem.exact, table=problem.table).run(_point(at))
    theirs = measure.file_primal(at)
    primal = comparison.hold_primal(theirs, ours)
    if not primal.matches:
        # Where it jumps, rounding alone may come to more than half of the digits.
        primal = comparison.hold_primal(theirs, ours, measure.rounding(at, ours))
    if not primal.matches:
        where = f" of {primal.output}" if primal.output else ""
        raise CannotError(
            f"the model's own output{where} does not match onnxruntime's, so its derivative would"
            f" mean nothing: {primal.reason}, by {primal.max_abs_error:.2g}"
            f" ({primal.max_rel_error:.2g} relative)",
            "gradcli compare shows more; please report it with the model",
        )


def _point(problem: Problem) -> dict[str, np.ndarray]:
    """The point with the feeds of the whole model put in."""
    names = problem.point.keys() & problem.feeds.keys()
    return {**problem.point, **{name: problem.feeds[name] for name in names}}


def in_own_width(problem: Problem, engine: Engine, estimate: Estimate) -> dict[Key, np.ndarray]:
    """The blocks in the width that they were computed in."""
    dtype = DType.FLOAT64 if engine.exact else problem.dtype
    return {key: np.asarray(estimate.blocks[key], dtype.np) for key in problem.keys}


def by_name(blocks: Mapping[Key, np.ndarray]) -> dict[str, np.ndarray]:
    """Blocks under one name each: that of wrt, of of, or `of/wrt`.

    Raises:
        UsageError: When two blocks would share a name, since names may hold `/` themselves.
    """
    named = {"/".join(filter(None, key)): array for key, array in blocks.items()}
    if len(named) < len(blocks):
        raise UsageError(
            "two blocks of the Jacobian would have the same name 'of/wrt'",
            "ask for fewer tensors at once, or for --format json, which keeps names apart",
        )
    return named
