"""gradcli from Python: the same questions as on the command line, arrays in and arrays out."""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike

from gradcli import comparison, measure, onnxfile, runtime
from gradcli.comparison import Comparison
from gradcli.engines import ENGINES, Engine, Options
from gradcli.engines import Program as EngineProgram
from gradcli.engines.base import Estimate
from gradcli.errors import CannotError, InputError, UsageError
from gradcli.graph import DType
from gradcli.interpret import Evaluator
from gradcli.onnxfile import Model
from gradcli.ops import OPS
from gradcli.problem import Key, Problem, check_directions, check_feeds, pose

Source = str | os.PathLike[str] | bytes | Model
"""A model: the path of a file, its bytes, or what `load` made of it."""

Given = Mapping[str, ArrayLike] | ArrayLike | None
"""Arrays by tensor name, or just the array where there is only one tensor that it can be for."""

WIDTHS = {"float32": DType.FLOAT32, "float64": DType.FLOAT64}

METHOD = "reverse"
"""The method of a derivative for which none is asked."""


def load(source: Source, *, name: str = "<bytes>") -> Model:
    """Read a model once, to be asked several questions.

    Args:
        source: A path or the file's bytes.
        name: What to call a model given as bytes.

    Raises:
        ModelError: When it is no ONNX model that gradcli can take.
    """
    return source if isinstance(source, Model) else onnxfile.read(source, OPS, name=name)


# ---- comparing -----------------------------------------------------------------------------------


def compare(
    model: Source,
    inputs: Given = None,
    *,
    wrt: str | Sequence[str] | None = None,
    of: str | Sequence[str] | None = None,
    operator: str | None = None,
    methods: str | Sequence[str] | None = None,
    dtype: str | None = None,
    tangent: Given = None,
    cotangent: Given = None,
    rtol: float | None = None,
    atol: float = 0.0,
    step: float | None = None,
    runs: int = measure.RUNS,
    warmup: int = measure.WARMUP,
    budget: float = measure.BUDGET,
    threads: int = 1,
    provider: str = "CPUExecutionProvider",
    seed: int = 0,
    shapes: Mapping[str, Sequence[int]] | None = None,
    straight_through: bool = False,
    reference: measure.References = "auto",
    at_kink: comparison.AtKink = "report",
    explain: bool = False,
    sweep: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Comparison:
    """Differentiate by several methods, and judge each.

    Args:
        model: A path, the file's bytes, or a loaded model.
        inputs: Arrays by input name, or one array for a model of one input. Float inputs that are
            missing are drawn at random, and the comparison's notes say so.
        wrt: Tensors to differentiate with respect to; default: the float inputs.
        of: Tensors, or elements such as `y[0,3]`, to differentiate; default: the float outputs.
        operator: `gradient`, `jacobian`, `jvp` or `vjp`; default: by the sizes.
        methods: Names of methods; default: all.
        dtype: `float32` or `float64`, for forward and reverse; default: the file's own.
        tangent: For a jvp, arrays by name of `wrt`; default: random.
        cotangent: For a vjp, arrays by name of `of`; default: random.
        rtol: Relative tolerance; default: 1e-6 for float64, 3e-3 for float32, and 3.7e-4 for
            finite-forward, whose formula comes to half of the digits.
        atol: Absolute tolerance.
        step: Step of finite differences, relative to max(1, |x|).
        runs: Timed runs of each method, fewer where the budget ends first.
        warmup: Untimed runs before those.
        budget: Seconds for everything together.
        threads: For onnxruntime.
        provider: onnxruntime's execution provider.
        seed: Of every random choice.
        shapes: Shapes of drawn inputs by name.
        straight_through: Ask for the straight-through estimator, a convention that takes rounding
            for the identity, instead of the derivative. Finite differences are then left out.
        reference: `certified`: enclosures of the derivative of the saved function in exact
            arithmetic, by python-flint; `float64`: a float64 graph that a method without rules has
            confirmed; `auto`: certified where python-flint is installed and the budget allows it.
        at_kink: What becomes of elements whose one-sided derivatives differ: `report` gives them a
            verdict of their own, `skip` leaves them out, `fail` makes the exit code 1; `nudge`
            moves the point off its kinks first, by a few units in the last place.
        explain: Whether to look at every node by itself, and say how much of the worst error comes
            from it, what it is, and what to do about it.
        sweep: Whether the error of finite differences is found for many steps as well: in float64
            and, where `dtype` asks for float32, in that too.
        progress: Called with a few words before each step.

    Raises:
        GradcliError: For a model, an input or a question that makes no sense; see `gradcli.errors`.
    """
    problem = ask(
        model,
        inputs,
        wrt=wrt,
        of=of,
        operator=operator,
        dtype=dtype,
        tangent=tangent,
        cotangent=cotangent,
        threads=threads,
        provider=provider,
        seed=seed,
        shapes=shapes,
        straight_through=straight_through,
    )
    return judged(
        problem,
        methods=methods,
        rtol=rtol,
        atol=atol,
        step=step,
        runs=runs,
        warmup=warmup,
        budget=budget,
        reference=reference,
        at_kink=at_kink,
        explain=explain,
        sweep=sweep,
        narrow=dtype is not None,
        progress=progress,
    )


def ask(
    model: Source,
    inputs: Given = None,
    *,
    wrt: str | Sequence[str] | None = None,
    of: str | Sequence[str] | None = None,
    operator: str | None = None,
    dtype: str | None = None,
    tangent: Given = None,
    cotangent: Given = None,
    threads: int = 1,
    provider: str = "CPUExecutionProvider",
    seed: int = 0,
    shapes: Mapping[str, Sequence[int]] | None = None,
    straight_through: bool = False,
) -> Problem:
    """Complete and check a question. See `compare` for the arguments."""
    model = load(model)
    runtime.check_provider(provider)
    feeds, notes = check_feeds(model, _inputs(model, inputs), shapes=shapes, seed=seed)
    return pose(
        model,
        feeds,
        wrt=_names(wrt),
        of=_names(of),
        operator=operator,
        dtype=_width(dtype),
        tangents=_directions(tangent),
        cotangents=_directions(cotangent),
        threads=threads,
        provider=provider,
        seed=seed,
        notes=notes,
        straight_through=straight_through,
    )


def judged(
    problem: Problem,
    *,
    methods: str | Sequence[str] | None = None,
    rtol: float | None = None,
    atol: float = 0.0,
    step: float | None = None,
    runs: int = measure.RUNS,
    warmup: int = measure.WARMUP,
    budget: float = measure.BUDGET,
    reference: measure.References = "auto",
    at_kink: comparison.AtKink = "report",
    explain: bool = False,
    sweep: bool = False,
    narrow: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Comparison:
    """Answer a question by several methods. See `compare` for the arguments.

    `narrow` asks for a sweep in the problem's own width too.
    """
    names = _names(methods)
    for name in names or ():
        engine(name)
    if at_kink not in get_args(comparison.AtKink):
        raise UsageError(f"at_kink is {at_kink!r}", "report, skip, fail or nudge")
    start = time.perf_counter()
    if at_kink == "nudge":
        problem = measure.nudged(problem)
    evidence = measure.measure(
        problem,
        names,
        Options(step=step),
        budget=budget * (1.0 - measure.EXPLAINING) if explain else budget,
        runs=runs,
        warmup=warmup,
        reference=reference,
        sweep=sweep,
        narrow=narrow,
        progress=progress,
    )
    found = comparison.judge(evidence, rtol=rtol, atol=atol, at_kink=at_kink)
    if explain:
        focus, left = comparison.focus_of(evidence, found), start + budget - time.perf_counter()
        walk = measure.explain(problem, focus, names or measure.METHODS, left, progress)
        return comparison.explained(evidence, found, walk)
    causes = {m.method: m.cause.value for m in found.methods if m.cause is not None}
    left = start + budget - time.perf_counter()
    return comparison.name_nodes(found, measure.culprits(problem, causes, left) if causes else {})


# ---- derivatives ---------------------------------------------------------------------------------


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
        feeds = _complete(self._model, inputs)
        key = self._prepared_for(feeds)
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
            tangents=_needed(problem, tangent, "tangent", "jvp"),
            cotangents=_needed(problem, cotangent, "cotangent", "vjp"),
        )
        if not self._held:
            hold_primal(problem, estimate, feeds)
            self._held = True
        return by_name(in_own_width(problem, self._engine, estimate))

    def _prepared_for(self, feeds: Mapping[str, np.ndarray]) -> tuple[Any, ...]:
        graph = self._model.graph
        inputs = {v.name for v in graph.inputs}
        inner = not set(_names(self._asked["wrt"]) or ()) <= inputs | {
            v.name for v in graph.constants
        }
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


def derive(problem: Problem, method: str = METHOD, *, step: float | None = None) -> Derivative:
    """Answer a question by one method.

    Raises:
        CannotError: When the method is out of its depth, or the model's own output does not match.
    """
    chosen = engine(method)
    estimate = EngineProgram(chosen, problem, Options(step=step)).run()
    hold_primal(problem, estimate, problem.feeds)
    blocks = in_own_width(problem, chosen, estimate)
    dtype = DType.FLOAT64 if chosen.exact else problem.dtype
    return Derivative(blocks, dtype.value, estimate.notes)


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


def engine(name: str) -> Engine:
    """The method of this name.

    Raises:
        UsageError: When there is none, with near names.
    """
    if name not in ENGINES:
        near = difflib.get_close_matches(name, ENGINES, 3)
        raise UsageError(
            f"there is no method called {name!r}",
            f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(ENGINES)}",
        )
    return ENGINES[name]


# ---- what callers may leave out ------------------------------------------------------------------


def _names(given: str | Sequence[str] | None) -> list[str] | None:
    if given is None:
        return None
    return [given] if isinstance(given, str) else list(given) or None


def _width(dtype: str | None) -> DType | None:
    if dtype is None:
        return None
    if dtype not in WIDTHS:
        raise UsageError(f"gradcli does not compute in {dtype!r}", f"choose {' or '.join(WIDTHS)}")
    return WIDTHS[dtype]


def _inputs(model: Model, given: Given) -> dict[str, np.ndarray]:
    """Arrays by input name; a single array is for the only input."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return {model.shown(name): np.asarray(array) for name, array in given.items()}
    names = [v.name for v in model.graph.inputs]
    if len(names) != 1:
        raise InputError(
            f"one array was given, and the model has {len(names)} inputs",
            f"give arrays by name: {', '.join(names)}",
        )
    return {names[0]: np.asarray(given)}


def _complete(model: Model, given: Given) -> dict[str, np.ndarray]:
    """An array for every input of the model, none drawn at random.

    Raises:
        InputError: When one is missing.
    """
    arrays = _inputs(model, given)
    if missing := [v.name for v in model.graph.inputs if v.name not in arrays]:
        raise InputError(
            f"no array is given for input {', '.join(missing)}",
            "give arrays by name, or an array where the model has one input",
        )
    return check_feeds(model, arrays)[0]


def _directions(given: Given) -> dict[str, np.ndarray] | None:
    """Arrays by name; a single array under the empty name, which stands for the only tensor."""
    if given is None:
        return None
    if isinstance(given, Mapping):
        return {name: np.asarray(array) for name, array in given.items()}
    return {"": np.asarray(given)}


def _needed(
    problem: Problem, given: Given, what: str, operator: str
) -> dict[str, np.ndarray] | None:
    """Checked directions where the operator takes them, None where it takes none."""
    arrays = _directions(given)
    if problem.operator != operator:
        if arrays is not None:
            raise UsageError(f"a {problem.operator} takes no {what}", f"prepare a {operator}")
        return None
    if arrays is None:
        raise InputError(f"a {operator} needs a {what}", f"call run({what}=...)")
    return check_directions(problem, arrays, what)
