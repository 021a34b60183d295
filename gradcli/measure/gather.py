"""Run the methods on a problem, by two clocks (preparing, running), inside a budget of seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from gradcli.deadline import until
from gradcli.engines import ENGINES
from gradcli.engines.base import Evidence, Options, Swept, around
from gradcli.errors import UsageError
from gradcli.graph import DType
from gradcli.interpret import Evaluator
from gradcli.measure.certify import References, certificate
from gradcli.measure.clock import BUDGET, RUNS, WARMUP, Clock, Progress
from gradcli.measure.environment import environment
from gradcli.measure.fans import fans
from gradcli.measure.method import is_dear, outcome
from gradcli.measure.near import look_around
from gradcli.measure.nearby import nearby
from gradcli.measure.primal import coarse_kernels, exact_noise, primal_noise, timed_file_primal
from gradcli.measure.reference import refer, twin, witnesses
from gradcli.measure.sample import draw
from gradcli.measure.shaken import own_rounding
from gradcli.measure.sides import sides
from gradcli.measure.sweep import over_steps
from gradcli.problem import Problem

ENTRIES = 10_000_000
"""The largest Jacobian that is compared: every method's is held in memory."""

METHODS = tuple(ENGINES)
"""Every method, in the order of reports."""


def measure(
    problem: Problem,
    methods: Sequence[str] | None = None,
    options: Options | None = None,
    *,
    budget: float = BUDGET,
    runs: int = RUNS,
    warmup: int = WARMUP,
    reference: References = "auto",
    sweep: bool = False,
    narrow: bool = False,
    progress: Progress | None = None,
    so_far: Callable[[Evidence], None] | None = None,
) -> Evidence:
    """Run every method and collect what a judge needs.

    Args:
        problem: The question.
        methods: Engine names; default: all that are on by default.
        options: What the user set about methods.
        budget: Seconds for everything together. What does not fit is sampled, or skipped.
        runs: Timed runs of each method, fewer where the budget ends first, never less than one.
        warmup: Runs before those, not timed.
        reference: `certified`, by balls that contain the truth; `float64`; or `auto`, which is
            certified where python-flint is installed and the budget allows it.
        sweep: Whether finite differences are taken over many steps as well.
        narrow: Whether those are taken in the problem's own width too, where that is not float64.
        progress: Called with a few words before each step.
        so_far: Called with what is known when a method is done, and once before the first. Its time
            is not taken from the methods'.

    Raises:
        MissingExtraError: When a certified reference is asked for, without python-flint.
        UsageError: When the Jacobian is too large to be held once for each method.
        UnsupportedError: When the primal itself cannot be evaluated.
        OutOfTimeError: When not even the primal fits into the budget.
    """
    _refuse_huge(problem)
    tell = progress or (lambda _: None)
    clock = Clock(budget)

    def keep(evidence: Evidence) -> None:
        if so_far is not None:
            with clock.stopped():
                so_far(evidence)

    options = options or Options()
    names = list(methods or METHODS)

    tell("primal")
    given = timed_file_primal(problem, clock, runs, warmup)
    forward = given.times
    clock.forward = forward.median if forward else 0.0
    exact = Evaluator(problem.exact, table=problem.table)
    with until(clock.end):
        start = time.perf_counter()
        exact_primal = exact.run(problem.point)
        first = time.perf_counter()
        seen = around(problem)
    # The first evaluation may have loaded libraries; the second one is the price.
    clock.primal = min(first - start, time.perf_counter() - first)
    found = look_around(problem, seen, reference, clock, tell)
    noise = primal_noise(problem, exact_primal, clock)
    differs = any(ENGINES[name].reach for name in names)
    in_double_noise = exact_noise(problem, exact_primal, clock) if differs else None
    aside = nearby(problem, exact, clock) if given.outputs else ()

    sample = draw(problem)
    in_double = replace(problem, dtype=DType.FLOAT64)
    certain = partial(certificate, problem, sample, reference, clock, tell, exact_primal)
    # Whoever asks for it wants it before anything else takes the time.
    asked = certain() if reference == "certified" else None
    tell("reference")
    referred, rounding = refer(in_double, problem.dtype is not DType.FLOAT64, sample, clock)
    tell("witness")
    tried = witnesses(problem, sample, clock)
    witness = tried[-1]
    rough = not found.is_smooth and not problem.straight_through
    beside = sides(problem, (witness, referred), sample, clock) if rough else None
    fanned = fans(problem, sample, clock) if rough else None
    sure, unsure = asked or certain()

    swept: tuple[Swept, ...] = ()
    unswept = ""
    if sweep:
        tell("sweep")
        swept, unswept = over_steps(problem, sample, narrow, clock)

    evidence = Evidence(
        problem,
        (),
        given.outputs,
        exact_primal,
        forward,
        given.reason,
        referred,
        witness,
        rounding,
        {},
        found,
        beside,
        sample if witness.sampled or referred.sampled else None,
        primal_noise=noise,
        certificate=sure,
        uncertified=unsure,
        notes=coarse_kernels(problem),
        unsteady=given.unsteady,
        swept=swept,
        unswept=unswept,
        unfinished=tuple(names),
        environment=environment(),
        fans=fanned,
        nearby=aside,
        exact_noise=in_double_noise,
    )
    keep(evidence)
    order = sorted(names, key=lambda name: not _at_once(problem, name))
    for k, name in enumerate(order):
        tell(name)
        engine = ENGINES[name]
        share = clock.left() / (len(order) - k)
        again = next((o for o in tried if o.method == name), None)
        if again is not None and options.step is None and is_dear(again):
            # It has been tried on a larger share; once is enough at this price.
            made = again
        else:
            made = outcome(engine, problem, options, sample, share, clock, runs, warmup)
        twins = {}
        if not engine.exact and problem.dtype is not DType.FLOAT64:
            in_own_graph = twin(engine, in_double, sample, made, referred, clock)
            if in_own_graph is not None:
                twins[name] = in_own_graph
        evidence = replace(
            evidence,
            outcomes=tuple(sorted((*evidence.outcomes, made), key=lambda o: names.index(o.method))),
            twins={**evidence.twins, **twins},
            probes=sample if made.sampled else evidence.probes,
            unfinished=tuple(order[k + 1 :]),
        )
        if not engine.exact and name != referred.method:
            own = own_rounding(engine, in_double, sample, made, evidence, clock)
            roundings = {name: own} if own is not None else {}
            evidence = replace(evidence, roundings={**evidence.roundings, **roundings})
        keep(evidence)
    return evidence


def _at_once(problem: Problem, name: str) -> bool:
    """Whether a method has the answer in one direction: then others' prices are none of it."""
    mode = "push" if problem.operator == "jvp" else "pull"
    return problem.operator != "jacobian" and ENGINES[name].mode == mode


def _refuse_huge(problem: Problem) -> None:
    if problem.operator == "jacobian" and problem.rows * problem.columns > ENTRIES:
        raise UsageError(
            f"a Jacobian of {problem.rows} x {problem.columns} numbers is too large to compare",
            "choose fewer with --of and --wrt, or --operator vjp or jvp",
        )
