"""A question answered by several methods, each judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import get_args

from gradcli import comparison, measure
from gradcli.api.asking import Given, Source, ask, engine, names_of
from gradcli.comparison import Comparison
from gradcli.engines import Options
from gradcli.errors import UsageError
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
    names = names_of(methods)
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
