"""Run the methods on a problem, by two clocks (preparing, running), inside a budget of seconds."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

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
    coarse_node,
    shaken,
    spread,
    survey,
    wrong_rule,
)
from gradcli.errors import CannotError, GradcliError, UnsupportedError, UsageError
from gradcli.graph import DType
from gradcli.interpret import Evaluator
from gradcli.problem import Key, Problem

BUDGET = 60.0
RUNS = 10
WARMUP = 1

SAMPLE = 64
"""Coordinates of each tensor in a sample."""

SMALLEST = 2
"""Directions below which a sample says nothing: one coordinate and one random direction."""

ALONG = 8
"""Random directions in a sample."""

REFERENCE_SHARE = 0.15
"""The part of the budget that the reference may take; what its rounding takes, again."""

WITNESS_SHARE = 0.25
"""The part of the budget that a witness may take."""

SIDES_SHARE = 0.1
"""The part of the budget that one-sided derivatives may take."""

ENTRIES = 10_000_000
"""The largest Jacobian that is compared: every method's is held in memory."""

SURE = 1e-6
"""A witness more certain of an element than this, relative, sees no kink there."""

WHOLE = 4096
"""Directions above which a witness samples, however cheap each is."""

METHODS = tuple(ENGINES)
"""Every method, in the order of reports."""

REPEATING = 1.0
"""Seconds after which a method is not run again just to be timed."""

SLOW = 0.5
"""Seconds of a primal from which on its cost is arithmetic, and grows with its directions."""

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

    Raises:
        UsageError: When the Jacobian is too large to be held once for each method.
        UnsupportedError: When the primal itself cannot be evaluated.
    """
    _refuse_huge(problem)
    tell = progress or (lambda _: None)
    clock = _Clock(budget)
    options = options or Options()
    names = list(methods or METHODS)

    tell("primal")
    file_primal, forward, reason = _file_primal(problem, clock, runs, warmup)
    exact = Evaluator(problem.exact, table=problem.table)
    start = time.perf_counter()
    exact_primal = exact.run(problem.point)
    first = time.perf_counter()
    found = survey(problem)
    # The first evaluation may have loaded libraries; the second one is the price.
    clock.primal = min(first - start, time.perf_counter() - first)
    noise = _primal_noise(problem, exact_primal, clock)

    tell("reference")
    in_double = replace(problem, dtype=DType.FLOAT64)
    base = _probes(problem)
    reference, rounding = _reference(in_double, problem.dtype is not DType.FLOAT64, base, clock)
    tell("witness")
    tried = _witnesses(problem, base, clock)
    witness = tried[-1]
    sides = _sides(problem, (witness, reference), base, clock) if found.ties else None

    outcomes = []
    twins = {}
    for k, name in enumerate(names):
        tell(name)
        share = clock.left() / (len(names) - k)
        again = next((o for o in tried if o.method == name), None)
        if again is not None and options.step is None and _is_dear(again):
            # It has been tried on a larger share; once is enough at this price.
            outcome = again
        else:
            outcome = _outcome(ENGINES[name], problem, options, base, share, clock, runs, warmup)
        outcomes.append(outcome)
        if not ENGINES[name].exact and problem.dtype is not DType.FLOAT64:
            twin = _twin(ENGINES[name], in_double, base, outcome, reference, clock)
            if twin is not None:
                twins[name] = twin
    sampled = any(o.sampled for o in (*outcomes, witness, reference))
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


def _refuse_huge(problem: Problem) -> None:
    if problem.operator == "jacobian" and problem.rows * problem.columns > ENTRIES:
        raise UsageError(
            f"a Jacobian of {problem.rows} x {problem.columns} numbers is too large to compare",
            "choose fewer with --of and --wrt, or --operator vjp or jvp",
        )


def culprits(problem: Problem, causes: Mapping[str, str], seconds: float) -> dict[str, str]:
    """The user's nodes behind disagreements, where they can be found in time.

    Args:
        problem: The question.
        causes: By method: `rule` or `rounding`; other causes have no node.
        seconds: For the search after the node that rounds most.

    Returns:
        By method: the node whose rule is wrong, or whose rounding matters most.
    """
    nodes: dict[str, str] = {}
    coarse: str | None = None
    for method, cause in causes.items():
        uses = ENGINES[method].uses
        if cause == "rule" and uses != "impl":
            found = wrong_rule(problem, uses)
            node = found.node if found else None
        elif cause == "rounding":
            coarse = coarse or coarse_node(problem, problem.dtype.eps, seconds)
            node = coarse
        else:
            node = None
        if node is not None:
            nodes[method] = node
    return nodes


class _Clock:
    """The budget, and what is known of prices.

    Attributes:
        budget: Seconds for everything.
        primal: Seconds of one evaluation of the primal in float64.
    """

    def __init__(self, budget: float) -> None:
        self.end = time.perf_counter() + budget
        self.budget = budget
        self.primal = 0.0

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


def _primal_noise(problem: Problem, exact: Arrays, clock: _Clock) -> dict[str, np.ndarray] | None:
    """The rounding errors of the primal in the file's widths; None when there is no time for it."""
    if SHAKES * clock.primal > clock.left() * 0.05:
        return None
    floats = (v.dtype for v in problem.graph.values() if v.dtype.is_float)
    # What rounds to 8 bits or fewer does so in the exact primal too.
    eps = max(dtype.eps for dtype in floats if dtype.np.itemsize > 1)
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
    tensors = max(1, len(probes.wrt), len(probes.of))
    along = min(probes.directions, max(1, count // 4)) if probes.directions else 0
    each = max(1, (count - along) // tensors)
    return Probes(
        {k: v[:each] for k, v in probes.wrt.items()},
        {k: v[:each] for k, v in probes.of.items()},
        {k: v[:along] for k, v in probes.along.items()},
    )


# ---- running one method --------------------------------------------------------------------------


def _caught(name: str, make: Callable[[], Outcome]) -> Outcome:
    """What comes of a method. When it breaks, that is a row that says how; the others go on."""
    try:
        return make()
    except (CannotError, UnsupportedError) as error:
        return Outcome(name, "skipped", error.message)
    except MemoryError:
        return Outcome(name, "skipped", "it does not fit into memory")
    except GradcliError as error:
        return Outcome(name, "failed", error.message)
    except Exception as error:  # noqa: BLE001 # whatever is wrong with a method, the report says it
        return Outcome(name, "failed", f"{type(error).__name__}: {error}")


def _computed(
    engine: Engine,
    problem: Problem,
    options: Options,
    base: Probes,
    share: float,
    clock: _Clock,
    most: int | None = None,
) -> tuple[Outcome, Program, Probes | None]:
    """One method prepared and run, on the whole or on the sample that fits into `share` seconds."""
    start = time.perf_counter()
    program = Program(engine, problem, options)
    prepared = time.perf_counter()
    end = start + share
    if engine.exact or problem.dtype is DType.FLOAT64:
        _refuse_hopeless(program, clock.primal, share)
    probes = _affordable(program, base, max(0.8 * (end - prepared), 0.0), most)
    running = time.perf_counter()
    estimate = program.run(probes, deadline=end)
    took = time.perf_counter() - running
    outcome = Outcome(
        engine.name,
        "computed",
        estimate=estimate,
        level=program.level,
        dtype=DType.FLOAT64 if engine.exact else problem.dtype,
        prepare=prepared - start,
        run=Times((took,)),
        evaluations=program.evaluations,
        sampled=estimate.known is not None,
    )
    return outcome, program, probes


def _refuse_hopeless(program: Program, primal: float, share: float) -> None:
    """Refuse what cannot fit before trying, by the primals that a direction costs.

    Only where a primal is slow: a quick one is mostly overhead, which a chunk of directions shares,
    and trying it costs little.
    """
    if primal < SLOW:
        return
    chunk = program.map.width if program.map.pads else 1
    if min(chunk, program.count()) * program.engine.price * primal > share:
        directions = "direction" if program.count() == 1 else "directions"
        raise CannotError(
            f"out of time: one primal takes {primal:.2g} s, the answer has {program.count():,} "
            f"{directions}, and its share of the budget is {max(share, 0.0):.2g} s",
            "raise --budget",
        )


def _affordable(
    program: Program, base: Probes, share: float, most: int | None = None
) -> Probes | None:
    """None when the whole answer fits into `share` seconds, else the sample that does.

    Raises:
        CannotError: When not even a small sample fits.
    """
    count = program.count()
    chunk = program.map.width if program.map.pads else 1
    if count <= max(chunk, 1):
        # Finding out what a part costs would cost as much.
        return None
    if share <= 0:
        raise CannotError("out of time: nothing of the budget is left for it", "raise --budget")
    unit = _unit_seconds(program, base, share)
    if math.ceil(count / chunk) * unit <= share and (most is None or count <= most):
        return None
    sample = program.count(base)
    fitting = chunk * int(share / unit) if unit > 0 else sample
    if fitting < SMALLEST:
        one = "one" if chunk == 1 else f"{chunk} at once"
        raise CannotError(
            f"out of time: of the {count:,} directions of the answer {one} took {unit:.2g} s, and "
            f"its share of the budget is {share:.2g} s",
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


# ---- the reference -------------------------------------------------------------------------------


def _reference(
    in_double: Problem, narrow: bool, base: Probes, clock: _Clock
) -> tuple[Outcome, Estimate | None]:
    """The float64 reverse graph with its rounding errors, and those that float32 would make."""
    engine = ENGINES["reverse"]
    share = clock.budget * REFERENCE_SHARE
    coarse: list[Estimate] = []

    def make() -> Outcome:
        outcome, program, probes = _computed(
            engine, in_double, Options(), base, share, clock, WHOLE
        )
        plain = outcome.estimate
        assert plain is not None
        each = SHAKES * (_seconds(outcome) + outcome.prepare)
        if each * (1 + narrow) > share:
            return outcome
        if narrow:
            coarse.append(_rounding(program, plain, probes, DType.FLOAT32.eps))
        doubt = _rounding(program, plain, probes, DType.FLOAT64.eps)
        estimate = replace(plain, uncertainty=doubt.blocks, along_uncertainty=doubt.along)
        return replace(outcome, estimate=estimate)

    return _caught(engine.name, make), next(iter(coarse), None)


def _rounding(program: Program, plain: Estimate, probes: Probes | None, eps: float) -> Estimate:
    """The spread of a method's results when every rounding is made at random."""
    rng = np.random.default_rng(program.problem.seed)
    table = shaken(program.problem.table, rng, eps, kernels=eps > DType.FLOAT64.eps)
    restless = Program(program.engine, replace(program.problem, table=table))
    runs = [restless.run(probes) for _ in range(SHAKES)]
    blocks = {
        key: spread((run.blocks[key] for run in runs), block) for key, block in plain.blocks.items()
    }
    along = spread((run.along for run in runs), plain.along) if len(plain.along) else plain.along
    return Estimate(blocks, plain.known, along)


# ---- the witness ---------------------------------------------------------------------------------


def _witnesses(problem: Problem, base: Probes, clock: _Clock) -> list[Outcome]:
    """Rule-free methods, best first, up to the first that works here: on the whole or a sample."""
    tried = []
    for name in WITNESSES:
        share = min(clock.budget * WITNESS_SHARE, 0.5 * clock.left())
        witnessed = partial(_once, ENGINES[name], problem, base, share, clock)
        tried.append(_caught(name, witnessed))
        if tried[-1].estimate is not None:
            break
    return tried


def _once(engine: Engine, problem: Problem, base: Probes, share: float, clock: _Clock) -> Outcome:
    return _computed(engine, problem, Options(), base, share, clock, WHOLE)[0]


def _is_dear(outcome: Outcome) -> bool:
    return outcome.status != "computed" or _seconds(outcome) > REPEATING


def _sides(problem: Problem, seen: Sequence[Outcome], base: Probes, clock: _Clock) -> Sides | None:
    """One-sided derivatives along the coordinates at which somebody is not sure of one slope."""
    left = {key: np.full(problem.block_shape(key), np.nan) for key in problem.keys}
    right = {key: np.full(problem.block_shape(key), np.nan) for key in problem.keys}
    doubt = {key: np.full(problem.block_shape(key), np.nan) for key in problem.keys}
    along = one_sided(problem, problem.point)
    if problem.operator == "jvp":
        found = along(problem.tangents)
        for of in problem.of:
            left[of, ""], right[of, ""], doubt[of, ""] = (side[of] for side in found)
        return Sides(left, right, doubt)
    end = time.perf_counter() + clock.budget * SIDES_SHARE
    for name, index in _unsure(problem, [o.estimate for o in seen if o.estimate], base):
        if time.perf_counter() > end:
            break
        direction = {n: np.zeros(problem.shape(n)) for n in problem.wrt}
        direction[name].reshape(-1)[index] = 1.0
        for blocks, side in zip((left, right, doubt), along(direction), strict=True):
            _put(problem, blocks, name, index, side, absolute=blocks is doubt)
    return Sides(left, right, doubt)


def _unsure(problem: Problem, seen: Sequence[Estimate], base: Probes) -> Iterator[tuple[str, int]]:
    """Coordinates, the sampled ones first, whose derivatives are not well known to some method."""
    for name in problem.wrt:
        columns = int(np.prod(problem.shape(name)))
        unsure = np.full(columns, not seen)
        for estimate in seen:
            for key in problem.keys:
                if key[1] == name:
                    unsure |= np.any(_vague(estimate, key).reshape(-1, columns), axis=0)
        for index in (*base.wrt[name], *np.flatnonzero(unsure)):
            if unsure[index]:
                unsure[index] = False
                yield name, int(index)


def _vague(seen: Estimate, key: Key) -> np.ndarray:
    """Elements of a block that were computed, and are uncertain by more than a trifle."""
    value, doubt = seen.blocks[key], seen.uncertainty.get(key)
    known = np.ones(value.shape, bool) if seen.known is None else seen.known[key]
    if doubt is None:
        return np.zeros(value.shape, bool)
    finite = known & np.isfinite(value)
    largest = np.max(np.abs(value), where=finite, initial=0.0)
    size = np.where(finite, np.abs(value), 0.0)
    return np.asarray(known & ~(doubt <= SURE * np.maximum(size, 1e-3 * largest)))


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
    clock: _Clock,
    runs: int,
    warmup: int,
) -> Outcome:
    """One method, prepared, run and timed within its share of the budget."""

    def make() -> Outcome:
        for library in engine.imports:
            importlib.import_module(library)
        end = time.perf_counter() + share
        outcome, program, probes = _computed(engine, problem, options, base, share, clock)
        program.judging(False)
        left = min(REPEATING, end - time.perf_counter())
        if not program.judges and _seconds(outcome) > left:
            # It has been timed already, once; there is no time for more.
            return outcome
        times = timed(lambda: program.run(probes, point={}), left, runs, warmup)
        return replace(outcome, run=times)

    return _caught(engine.name, make)


def _twin(
    engine: Engine,
    in_double: Problem,
    base: Probes,
    outcome: Outcome,
    reference: Outcome,
    clock: _Clock,
) -> Estimate | None:
    """The same method's graph in float64, to tell a wrong rule from rounding.

    Where there is none the cause of a disagreement stays open; the verdict does not depend on it.
    """
    if outcome.estimate is None:
        return None
    if engine.name == "reverse" and not reference.sampled:
        return reference.estimate
    share = min(clock.budget * REFERENCE_SHARE, 0.5 * clock.left())
    return _caught(engine.name, partial(_once, engine, in_double, base, share, clock)).estimate


def _seconds(outcome: Outcome) -> float:
    return outcome.run.median if outcome.run else 0.0


__all__ = ["BUDGET", "METHODS", "RUNS", "WARMUP", "culprits", "file_primal", "measure", "timed"]
