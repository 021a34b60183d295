"""A question answered by several methods, each judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from gradcli import comparison, measure
from gradcli.api.asking import Given, Source, ask, names_of
from gradcli.api.settings import Settings
from gradcli.comparison import Comparison
from gradcli.engines import Options
from gradcli.engines.base import Evidence
from gradcli.problem import Problem


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
    elements: bool = False,
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
        elements: Whether every number of the answer is kept beside the verdicts, by method: for
            the pictures of an HTML report, and whoever wants to look at them.
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
    settings = Settings(
        tuple(dict.fromkeys(names_of(methods) or ())),
        rtol,
        atol,
        step,
        runs,
        warmup,
        budget,
        reference,
        at_kink,
        explain,
        sweep,
        narrow=dtype is not None,
        elements=elements,
    )
    return judged(problem, settings, progress=progress)


class Interrupted(KeyboardInterrupt):
    """Somebody interrupted a comparison.

    Attributes:
        comparison: Of the methods that were done.
    """

    def __init__(self, done: Comparison) -> None:
        super().__init__()
        self.comparison = done


def judged(
    problem: Problem,
    settings: Settings | None = None,
    *,
    progress: Callable[[str], None] | None = None,
    so_far: Callable[[Callable[[], Comparison]], None] | None = None,
) -> Comparison:
    """Answer a question by several methods.

    Args:
        problem: The question.
        settings: How; by default as `compare` does.
        progress: Called with a few words before each step.
        so_far: Called whenever a method is done, with what makes a comparison of all that is known.
            Its time is not taken from the methods'.

    Raises:
        Interrupted: When a KeyboardInterrupt comes after the reference is known.
    """
    how = settings or Settings()
    start = time.perf_counter()
    if how.at_kink == "nudge":
        problem = measure.nudged(problem)

    def judge(evidence: Evidence) -> Comparison:
        found = comparison.judge(evidence, rtol=how.rtol, atol=how.atol, at_kink=how.at_kink)
        if not how.elements:
            return found
        return replace(found, elements=comparison.elements_of(evidence))

    known: list[Evidence] = []

    def keep(evidence: Evidence) -> None:
        known[:] = [evidence]
        if so_far is not None:
            so_far(partial(judge, evidence))

    try:
        measure.measure(
            problem,
            how.methods,
            Options(step=how.step),
            budget=how.budget * (1.0 - measure.EXPLAINING) if how.explain else how.budget,
            runs=how.runs,
            warmup=how.warmup,
            reference=how.reference,
            sweep=how.sweep,
            narrow=how.narrow,
            progress=progress,
            so_far=keep,
        )
        (evidence,) = known
        return _named(evidence, judge(evidence), how, start + how.budget, progress)
    except KeyboardInterrupt as error:
        if not known:
            raise
        raise Interrupted(judge(known[0])) from error


def _named(
    evidence: Evidence,
    found: Comparison,
    how: Settings,
    end: float,
    progress: Callable[[str], None] | None,
) -> Comparison:
    """The comparison with the nodes that errors come from, as far as there is time until `end`."""
    left = end - time.perf_counter()
    if how.explain:
        focus = comparison.focus_of(evidence, found)
        methods = comparison.rules_of(evidence, found, how.methods or measure.METHODS)
        walk = measure.explain(evidence.problem, focus, methods, left, progress)
        return comparison.explained(evidence, found, walk)
    causes = {m.method: m.cause.value for m in found.methods if m.cause is not None}
    nodes = measure.culprits(evidence.problem, causes, left) if causes else {}
    return comparison.name_nodes(found, nodes)
