"""Run the methods on a problem, by two clocks (preparing, running), inside a budget of seconds."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from gradcli import runtime
from gradcli.engines import ENGINES, one_sided
from gradcli.engines.base import (
    Arrays,
    Engine,
    Estimate,
    Evidence,
    Options,
    Outcome,
    Probes,
    Program,
    Sides,
    Times,
    shaken,
    spread,
    survey,
)
from gradcli.errors import CannotError, GradcliError, UnsupportedError
from gradcli.graph import DType
from gradcli.interpret import Evaluator
from gradcli.problem import Problem

BUDGET = 60.0
RUNS = 10
WARMUP = 1

SAMPLE = 64
"""Coordinates of each tensor in a sample."""

SMALLEST = 2
"""Directions below which a sample says nothing: one coordinate and one random direction."""

ALONG = 8
"""Random directions in a sample."""

WITNESS_SHARE = 0.25
"""The part of the budget that the witness may take."""

WHOLE = 4096
"""Directions above which a witness samples, however cheap each is."""

METHODS = tuple(ENGINES)
"""Every method, in the order of reports."""

REPEATING = 1.0
"""Seconds after which a method is not run again just to be timed."""

SHAKES = 4
"""Runs of the reverse graph with random roundings."""

WITNESSES = ("complex-step", "finite")
"""Rule-free methods, best first."""

Progress = Callable[[str], None]


def measure(
    problem: Problem,
    methods: Sequence[str] | None = None,
    options: Options | None = None,
    *,
    budget: float = BUDGET,
    runs: int = RUNS,
    warmup: int = WARMUP,
    progress: Progress | None = None,
) -> Evidence:
    """Run every method and collect what a judge needs.

    Args:
        problem: The question.
        methods: Engine names; default: all that are on by default.
        options: What the user set about methods.
        budget: Seconds for everything together. What does not fit is sampled, or skipped.
        runs: Timed runs of each method, fewer where the budget ends first, never less than one.
        warmup: Runs before those, not timed.
        progress: Called with a few words before each step.
    """
    tell = progress or (lambda _: None)
    clock = _Clock(budget)
    options = options or Options()
    names = list(methods or METHODS)

    tell("primal")
    file_primal, forward, reason = _file_primal(problem, clock, runs, warmup)
    exact = Evaluator(problem.exact, table=problem.table)
    start = time.perf_counter()
    exact_primal = exact.run(problem.point)
    noise = _primal_noise(problem, exact_primal, time.perf_counter() - start, clock)
    found = survey(problem)

    tell("reference")
    in_double = replace(problem, dtype=DType.FLOAT64)
    base = _probes(problem)
    reference, rounding = _reference(in_double, base, clock)
    tell("witness")
    witness, probes = _witness(problem, options, base, clock, on_kink=bool(found.ties))
    sides = _sides(problem, probes or base, clock) if found.ties else None

    outcomes = []
    twins = {}
    for k, name in enumerate(names):
        tell(name)
        share = clock.left() / (len(names) - k)
        if (
            name == witness.method
            and witness.status == "computed"
            and options.step is None
            and (_seconds(witness) > REPEATING)
        ):
            # It has been run, on as much as the budget allows; once is enough at this price.
            outcome = witness
        else:
            outcome = _outcome(ENGINES[name], problem, options, base, share, runs, warmup)
        outcomes.append(outcome)
        if not ENGINES[name].exact and problem.dtype is not DType.FLOAT64:
            twin = _twin(ENGINES[name], in_double, options, base, outcome, reference, clock)
            if twin is not None:
                twins[name] = twin
    sampled = any(o.sampled for o in (*outcomes, witness))
    return Evidence(
        problem,
        tuple(outcomes),
        file_primal,
        exact_primal,
        forward,
        reason,
        reference,
        witness,
        rounding,
        twins,
        found,
        sides,
        base if sampled else None,
        primal_noise=noise,
    )


class _Clock:
    def __init__(self, budget: float) -> None:
        self.end = time.perf_counter() + budget
        self.budget = budget

    def left(self) -> float:
        """Seconds until the budget is spent; never negative."""
        return max(0.0, self.end - time.perf_counter())


def _file_primal(
    problem: Problem, clock: _Clock, runs: int, warmup: int
) -> tuple[Arrays, Times | None, str]:
    """The file's own outputs and the time they take."""
    if problem.model is None:
        return {}, None, "there is no file"
    try:
        session = runtime.prepare(problem.model, threads=problem.threads, provider=problem.provider)
        times = timed(lambda: session.run(problem.feeds), clock.left() * 0.05, runs, warmup)
        return file_primal(problem, session), times, ""
    except GradcliError as error:
        return {}, None, error.message


def file_primal(problem: Problem, session: runtime.Session | None = None) -> dict[str, np.ndarray]:
    """What onnxruntime gives for each of `of`, on the file's original bytes at `problem.feeds`.

    Args:
        problem: With a model.
        session: Of the model as it is, where one is at hand.

    Raises:
        GradcliError: When onnxruntime cannot run the file.
    """
    model = problem.model
    assert model is not None
    inner = {e.tensor for e in problem.elements} - {v.name for v in model.graph.outputs}
    if session is None or inner:
        session = runtime.prepare(
            model, threads=problem.threads, provider=problem.provider, extra_outputs=sorted(inner)
        )
    out = session.run(problem.feeds)
    return {e.name: np.asarray(out[e.tensor])[e.index] for e in problem.elements}


def _primal_noise(
    problem: Problem, exact: Arrays, took: float, clock: _Clock
) -> dict[str, np.ndarray] | None:
    """The rounding errors of the primal in the file's widths; None when there is no time for it."""
    if SHAKES * took > clock.left() * 0.05:
        return None
    eps = max(v.dtype.eps for v in problem.graph.values() if v.dtype.is_float)
    rng = np.random.default_rng(problem.seed)
    f = Evaluator(problem.exact, table=shaken(problem.table, rng, eps))
    runs = [f.run(problem.point) for _ in range(SHAKES)]
    return {name: spread((run[name] for run in runs), y) for name, y in exact.items()}


def _probes(problem: Problem) -> Probes:
    """The sample that every method which must sample takes (the first so many of each)."""
    rng = np.random.default_rng(problem.seed)
    wrt = {n: _some(rng, int(np.prod(problem.shape(n)))) for n in problem.wrt}
    of = {n: _some(rng, int(np.prod(problem.shape(n)))) for n in problem.of}
    along = {}
    if problem.operator in ("gradient", "vjp"):
        along = {n: rng.standard_normal((ALONG, *problem.shape(n))) for n in problem.wrt}
    return Probes(wrt, of, along)


def _some(rng: np.random.Generator, size: int) -> np.ndarray:
    return rng.permutation(size)[:SAMPLE] if size < 1 << 20 else rng.integers(0, size, SAMPLE)


def _fewer(probes: Probes, count: int) -> Probes:
    """A part of a sample that takes at most about `count` directions."""
    tensors = max(1, len(probes.wrt))
    along = min(probes.directions, max(1, count // 4)) if probes.directions else 0
    each = max(1, (count - along) // tensors)
    return Probes(
        {k: v[:each] for k, v in probes.wrt.items()},
        {k: v[:each] for k, v in probes.of.items()},
        {k: v[:along] for k, v in probes.along.items()},
    )


# ---- the reference -------------------------------------------------------------------------------


def _reference(in_double: Problem, base: Probes, clock: _Clock) -> tuple[Outcome, Estimate | None]:
    """The float64 reverse graph, and the same with float32 roundings."""
    engine = ENGINES["reverse"]
    start = time.perf_counter()
    try:
        program = Program(engine, in_double)
        prepared = time.perf_counter() - start
        probes = base if program.count() > WHOLE else None
        start = time.perf_counter()
        estimate = program.run(probes)
        took = time.perf_counter() - start
    except GradcliError as error:
        return _not_computed("reverse", error), None
    outcome = Outcome(
        "reverse",
        "computed",
        estimate=estimate,
        prepare=prepared,
        run=Times((took,)),
        evaluations=program.evaluations,
        sampled=estimate.known is not None,
    )
    return outcome, _rounding(
        engine, in_double, estimate, probes
    ) if took < clock.left() * 0.05 else None


def _rounding(
    engine: Engine, in_double: Problem, plain: Estimate, probes: Probes | None
) -> Estimate:
    """The spread of a method's results when every rounding of float32 is made at random."""
    rng = np.random.default_rng(in_double.seed)
    table = shaken(in_double.table, rng, DType.FLOAT32.eps)
    program = Program(engine, replace(in_double, table=table))
    runs = [program.run(probes) for _ in range(SHAKES)]
    blocks = {
        key: spread((run.blocks[key] for run in runs), block) for key, block in plain.blocks.items()
    }
    along = spread((run.along for run in runs), plain.along) if len(plain.along) else plain.along
    return Estimate(blocks, plain.known, along)


# ---- the witness ---------------------------------------------------------------------------------


def _witness(
    problem: Problem, options: Options, base: Probes, clock: _Clock, *, on_kink: bool
) -> tuple[Outcome, Probes | None]:
    """The best rule-free method that works here, on the whole or on a sample."""
    share = clock.budget * WITNESS_SHARE
    last = Outcome("none", "skipped", "no rule-free method was tried")
    for name in WITNESSES[1:] if on_kink else WITNESSES:
        try:
            start = time.perf_counter()
            program = Program(ENGINES[name], problem, Options())
            prepared = time.perf_counter() - start
            probes = _affordable(program, base, share, most=WHOLE)
            start = time.perf_counter()
            estimate = program.run(probes, deadline=start + 2 * share)
        except GradcliError as error:
            last = _not_computed(name, error)
            continue
        took = Times((time.perf_counter() - start,))
        return (
            Outcome(
                name,
                "computed",
                estimate=estimate,
                level=program.level,
                prepare=prepared,
                run=took,
                evaluations=program.evaluations,
                sampled=estimate.known is not None,
            ),
            probes,
        )
    return last, None


def _affordable(
    program: Program, base: Probes, share: float, most: int | None = None
) -> Probes | None:
    """None when the whole answer fits into `share` seconds, else the sample that does.

    Raises:
        CannotError: When not even a small sample fits.
    """
    count = program.count()
    sample = program.count(base)
    if count <= sample:
        return None
    chunk = program.map.width if program.map.pads else 1
    unit = _unit_seconds(program, base, share)
    if math.ceil(count / chunk) * unit <= share and (most is None or count <= most):
        return None
    fitting = chunk * int(share / unit) if unit > 0 else sample
    if fitting < SMALLEST:
        raise CannotError(
            f"one direction takes {unit:.2g} s, so not even {SMALLEST} of the {count} directions of "
            f"the answer fit into its share of the budget, {share:.2g} s",
            "raise --budget",
        )
    return base if sample <= fitting else _fewer(base, fitting)


def _unit_seconds(program: Program, base: Probes, share: float) -> float:
    """The time of one direction, or of one chunk of them.

    The second run counts: what a method does once for a point is done then.
    """
    name = program.problem.wrt[0]
    of = program.problem.of[0]
    small = Probes({name: base.wrt[name][:1]}, {of: base.of[of][:1]})
    taken = []
    for _ in range(2):
        start = time.perf_counter()
        program.run(small)
        taken.append(time.perf_counter() - start)
        if taken[0] > share:
            break
    return min(taken)


def _sides(problem: Problem, probes: Probes, clock: _Clock) -> Sides | None:
    """One-sided derivatives along the sampled coordinates."""
    left = {key: np.full(problem.block_shape(key), np.nan) for key in problem.keys}
    right = {key: np.full(problem.block_shape(key), np.nan) for key in problem.keys}
    doubt = {key: np.full(problem.block_shape(key), np.nan) for key in problem.keys}
    if problem.operator == "jvp":
        found = one_sided(problem, problem.point, problem.tangents)
        for of in problem.of:
            left[of, ""], right[of, ""], doubt[of, ""] = (side[of] for side in found)
        return Sides(left, right, doubt)
    end = time.perf_counter() + clock.left() * 0.25
    for name in problem.wrt:
        for index in probes.wrt[name]:
            if time.perf_counter() > end:
                break
            direction = {n: np.zeros(problem.shape(n)) for n in problem.wrt}
            direction[name].reshape(-1)[index] = 1.0
            found = one_sided(problem, problem.point, direction)
            for blocks, side in zip((left, right, doubt), found, strict=True):
                _put(problem, blocks, name, int(index), side, absolute=blocks is doubt)
    return Sides(left, right, doubt)


def _put(
    problem: Problem,
    blocks: dict[tuple[str, str], np.ndarray],
    name: str,
    index: int,
    side: Arrays,
    *,
    absolute: bool,
) -> None:
    columns = int(np.prod(problem.shape(name)))
    if problem.operator == "jacobian":
        for of in problem.of:
            blocks[of, name].reshape(-1, columns)[:, index] = np.reshape(side[of], -1)
        return
    total = 0.0
    for of, weights in problem.cotangents.items():
        w = np.abs(weights) if absolute else weights
        total += float(np.sum(w * side[of]))
    blocks["", name].reshape(-1)[index] = total


# ---- the methods ---------------------------------------------------------------------------------


def _outcome(
    engine: Engine,
    problem: Problem,
    options: Options,
    base: Probes,
    share: float,
    runs: int,
    warmup: int,
) -> Outcome:
    """One method, prepared, run and timed within its share of the budget."""
    for library in engine.imports:
        importlib.import_module(library)
    start = time.perf_counter()
    try:
        program = Program(engine, problem, options)
        prepared = time.perf_counter() - start
        left = share - prepared
        probes = _affordable(program, base, max(left, 0.0) * 0.8)
        estimate = program.run(probes, deadline=start + share)
        evaluations = program.evaluations
        program.judging(False)
        left = min(REPEATING, share - (time.perf_counter() - start))
        times = timed(lambda: program.run(probes, point={}), left, runs, warmup)
    except GradcliError as error:
        return _not_computed(engine.name, error)
    except MemoryError:
        return Outcome(engine.name, "skipped", "it does not fit into memory")
    return Outcome(
        engine.name,
        "computed",
        estimate=estimate,
        level=program.level,
        dtype=DType.FLOAT64 if engine.exact else problem.dtype,
        prepare=prepared,
        run=times,
        evaluations=evaluations,
        sampled=estimate.known is not None,
    )


def _twin(
    engine: Engine,
    in_double: Problem,
    options: Options,
    base: Probes,
    outcome: Outcome,
    reference: Outcome,
    clock: _Clock,
) -> Estimate | None:
    """The same method's graph in float64, to tell a wrong rule from rounding."""
    if outcome.status != "computed":
        return None
    if engine.name == "reverse" and not reference.sampled:
        return reference.estimate
    try:
        program = Program(engine, in_double, options)
        return program.run(_affordable(program, base, clock.left() * 0.2))
    except GradcliError:
        # The cause of a disagreement then stays open; the verdict does not depend on it.
        return None


def timed(call: Callable[[], object], seconds: float, runs: int, warmup: int) -> Times:
    """Time a call: at most `runs` times within `seconds`, after warming up; at least once."""
    end = time.perf_counter() + max(seconds, 0.0)
    for _ in range(warmup):
        if time.perf_counter() < end:
            call()
    times: list[float] = []
    while len(times) < max(1, runs):
        start = time.perf_counter()
        call()
        stop = time.perf_counter()
        times.append(stop - start)
        if stop + times[-1] > end:
            break
    return Times(tuple(times))


def _seconds(outcome: Outcome) -> float:
    return outcome.run.median if outcome.run else 0.0


def _not_computed(name: str, error: GradcliError) -> Outcome:
    out_of_depth = isinstance(error, CannotError | UnsupportedError)
    return Outcome(name, "skipped" if out_of_depth else "failed", error.message)


__all__ = ["BUDGET", "METHODS", "RUNS", "WARMUP", "file_primal", "measure", "timed"]
