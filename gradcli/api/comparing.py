"""What compares the methods, from Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from gradcli import comparison, measure
from gradcli.api.asking import Given, Source, ask, load, merged, names_of
from gradcli.api.judging import judged
from gradcli.api.pointwise import judged_at
from gradcli.api.settings import Settings
from gradcli.comparison import Comparison
from gradcli.errors import InputError, UsageError
from gradcli.problem import Problem, check_feeds


def compare(
    model: Source,
    inputs: Given = None,
    *,
    points: Sequence[Given] | None = None,
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
        points: Inputs of several points, each as `inputs` and beside those: the question is asked
            at every one, with its share of the budget. What is given back is the comparison at the
            worst of them, whose `points` has all.
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
    asked = partial(
        ask,
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
    if points is None:
        return judged(asked(model, inputs), settings, progress=progress)
    if isinstance(points, Mapping) or not len(points):
        raise UsageError("points is no list of points", "give the inputs of each of them")
    loaded = load(model)
    every = [merged(loaded, inputs, point) for point in points]
    for k, feeds in enumerate(every):
        try:
            check_feeds(loaded, feeds, shapes=shapes)
        except InputError as error:
            raise InputError(f"point {k}: {error.message}", error.hint) from error

    def problems() -> Iterator[tuple[str, Problem]]:
        for k, feeds in enumerate(every):
            yield f"point {k}", asked(loaded, feeds)

    return judged_at(len(every), problems(), settings, progress=progress)
