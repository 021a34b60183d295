"""Whether a file holds the derivative that it says it holds: before anybody sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradcli import runtime
from gradcli.engines import ENGINES, Program
from gradcli.engines.base import Arrays, Estimate, Part, shaken, spread
from gradcli.errors import CannotError, GradcliError, KernelError, ModelError
from gradcli.exporting.derivative import Tensor
from gradcli.exporting.opening import Way
from gradcli.graph import DType
from gradcli.onnxfile import Model
from gradcli.problem import Problem

WITNESSES = ("complex-step", "finite")
"""Methods that use no rule, best first."""

DIRECTIONS = 3
"""Random directions along which a derivative is held against a witness."""

RULES = 1e-6
"""How far rules, in float64, may be from the witness, relative to the largest element."""

TOLERANCE = {DType.FLOAT64: 1e-6, DType.FLOAT32: 3e-3, DType.FLOAT16: 3e-2}
"""How far the file, run in onnxruntime, may be from the rules in float64, by width: likewise."""

NOISE = 16.0
"""In three standard deviations of its rounding errors: how far it may be where they are larger."""

SHAKES = 4
"""Evaluations with random roundings, at most."""


HINTS = {
    DType.FLOAT64: "it has no float64 kernels for some operators, such as Conv: leave --dtype out",
    DType.FLOAT16: "--dtype float32 writes a file that it runs",
}
"""What to do where onnxruntime has no kernel in a width."""

LARGE = 1 << 16
"""Elements of all inputs up to which four times as many are tried along open dimensions."""


@dataclass(frozen=True)
class Proof:
    """What a file was held against, and how well it held.

    Attributes:
        witness: The method without rules that the derivative was held against.
        rules: The largest error of its rules, relative to the largest element.
        error: The largest error of what onnxruntime makes of the file, likewise.
        tolerance: What that was held to.
        reason: Why the file does not hold; empty where it does.
    """

    witness: str
    rules: float
    error: float
    tolerance: float
    reason: str = ""

    @property
    def holds(self) -> bool:
        """Whether the file may be written."""
        return not self.reason

    @property
    def is_rounding(self) -> bool:
        """Whether it holds only because the file's own width rounds as much as that."""
        return self.holds and self.error > self.tolerance


def prove(
    file: Model,
    problem: Problem,
    operator: str,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    *,
    per_row: bool = False,
    directions: int = DIRECTIONS,
    tell: Callable[[str], None] = lambda _: None,
) -> Proof:
    """Hold a derivative's file against its model at a point, by a method that uses no rule.

    The file runs in onnxruntime, from its bytes; its rules run in float64, from the problem; the
    witness differentiates the primal alone, along random directions.

    Args:
        file: The derivative, as it was written.
        problem: A jvp, vjp or Jacobian of the model, at a point with directions.
        operator: What the file is: those, or `gradient`.
        inputs: What the file's inputs are.
        outputs: What its outputs are.
        per_row: Whether its Jacobian has the batch once.
        directions: Along how many random directions it is held against the witness.
        tell: Called with a few words before each step.

    Raises:
        CannotError: When no witness can look at the problem.
    """
    double = replace(problem, dtype=DType.FLOAT64)
    rng = np.random.default_rng(problem.seed)
    dots = [
        {name: rng.standard_normal(problem.shape(name)) for name in problem.wrt}
        for _ in range(directions)
    ]
    if operator == "jvp":
        dots = [dict(problem.tangents)]
    witness, pushed = _witnessed(double, dots, tell)
    tell("the rules, in float64")
    exact = _ruled(double, operator, dots)()
    rules, beyond, unsure = _against(witness, double, exact, dots, pushed, operator, tell)
    tolerance = TOLERANCE.get(problem.dtype, TOLERANCE[DType.FLOAT16])
    if not unsure <= tolerance:
        reason = f"{witness} is sure of it to {unsure:.1e} only"
        return Proof(witness, rules, np.inf, tolerance, reason)
    if not beyond <= RULES:
        reason = f"its rules, in float64, are off from {witness} by {rules:.1e}"
        return Proof(witness, rules, np.inf, tolerance, reason)
    tell("the file, in onnxruntime")
    try:
        out = runtime.prepare(file, threads=problem.threads).run(_feeds(file, problem, inputs))
    except (ModelError, KernelError) as refusal:
        raise CannotError(
            f"onnxruntime does not run the derivative in {problem.dtype.value}, so that it could"
            f" not be proven: {refusal.message}",
            HINTS.get(problem.dtype, ""),
        ) from refusal
    if reason := _primal_off(problem, out, outputs, tolerance):
        return Proof(witness, rules, np.inf, tolerance, reason)
    found = _found(problem, operator, out, outputs, dots, per_row)
    error, excess = _apart(found, exact, None, tolerance)
    if 1.0 < excess < np.inf and problem.dtype is not DType.FLOAT64:
        tell("what rounding does")
        for rounding in _roundings(double, problem.dtype, operator, dots, exact):
            error, excess = _apart(found, exact, rounding, tolerance)
            if excess <= 1.0:
                break
    reason = "" if excess <= 1.0 else f"onnxruntime computes it with an error of {error:.1e}"
    return Proof(witness, rules, error, tolerance, reason)


def _witnessed(
    problem: Problem, dots: Sequence[Arrays], tell: Callable[[str], None]
) -> tuple[str, list[tuple[Arrays, Arrays]]]:
    """The best rule-free method that can, and its J v for each direction v, with its doubts.

    A method whose doubts cost more than its numbers has none yet: see `_against`.
    """
    refusal: GradcliError | None = None
    for name in WITNESSES:
        try:
            program = Program(ENGINES[name], _pushing(problem, dots[0]))
            program.judging(False)
            pushed = []
            for k, v in enumerate(dots):
                tell(Part(f"witness: {name} along directions", k + 1, len(dots)))
                pushed.append(_of(program.run(tangents=v), problem))
            return name, pushed
        except GradcliError as error:
            refusal = refusal or error
    raise CannotError(
        "no method without rules can look at this derivative, so that a file of it could not be"
        f" proven: {refusal.message if refusal else ''}"
    )


def _pushing(problem: Problem, v: Arrays) -> Problem:
    return replace(problem, operator="jvp", tangents=v, cotangents={})


def _of(estimate: Estimate, problem: Problem) -> tuple[Arrays, Arrays]:
    values = {name: estimate.blocks[name, ""] for name in problem.of}
    unsure = {
        name: estimate.uncertainty.get((name, ""), np.zeros(np.shape(y)))
        for name, y in values.items()
    }
    return values, unsure


def _ruled(problem: Problem, operator: str, dots: Sequence[Arrays]) -> Callable[[], list[Arrays]]:
    """The derivative by the rules in float64; of a Jacobian its products with the directions."""
    pulls = operator in ("vjp", "gradient")
    asked = problem if pulls else _pushing(problem, dots[0])
    program = Program(ENGINES["reverse" if pulls else "forward"], asked)

    def run() -> list[Arrays]:
        runs = [program.run()] if pulls else [program.run(tangents=v) for v in dots]
        return [{"".join(key): block for key, block in run.blocks.items()} for run in runs]

    return run


def _roundings(
    problem: Problem,
    dtype: DType,
    operator: str,
    dots: Sequence[Arrays],
    exact: Sequence[Arrays],
) -> Iterator[list[Arrays]]:
    """Three deviations of the rounding errors that `dtype` makes of it, from more and more runs."""
    rng = np.random.default_rng(problem.seed)
    restless = replace(problem, table=shaken(problem.table, rng, dtype.eps, kernels=True))
    run, runs = _ruled(restless, operator, dots), list[list[Arrays]]()
    for _ in range(SHAKES):
        runs.append(run())
        yield [
            {name: spread((run[k][name] for run in runs), y) for name, y in part.items()}
            for k, part in enumerate(exact)
        ]


def _against(
    witness: str,
    problem: Problem,
    exact: Sequence[Arrays],
    dots: Sequence[Arrays],
    pushed: Sequence[tuple[Arrays, Arrays]],
    operator: str,
    tell: Callable[[str], None],
) -> tuple[float, float, float]:
    """The rules' largest error, that beyond the witness's own, and the latter: all relative.

    How far a witness is to be trusted is asked only where they differ: where two methods that share
    nothing give the same numbers along a random direction, neither needs to be forgiven anything.
    """
    found = [(0.0, 0.0, 0.0)]
    for k, (v, image) in enumerate(zip(dots, pushed, strict=True)):
        gaps = _gaps(problem, exact, k, v, image, operator)
        if not gaps[1] <= RULES:
            # Made ready anew, as of a large model none is kept beside another.
            program = Program(ENGINES[witness], _pushing(problem, v))
            if program.judges:
                tell(f"how sure {witness} is")
                gaps = _gaps(problem, exact, k, v, _of(program.run(), problem), operator)
        found.append(gaps)
        if not gaps[1] <= RULES:
            break
    a, b, c = (max(column) for column in zip(*found, strict=True))
    return a, b, c


def _gaps(
    problem: Problem,
    exact: Sequence[Arrays],
    k: int,
    v: Arrays,
    image: tuple[Arrays, Arrays],
    operator: str,
) -> tuple[float, float, float]:
    y_dot, unsure = image
    if operator in ("vjp", "gradient"):
        return _inner_products(problem.cotangents, exact[0], v, y_dot, unsure)
    parts = [_elements(exact[k][name], y, unsure[name]) for name, y in y_dot.items()]
    a, b, c = (max(column) for column in zip(*parts, strict=True))
    return a, b, c


def _inner_products(
    bars: Arrays, x_bar: Arrays, v: Arrays, y_dot: Arrays, unsure: Arrays
) -> tuple[float, float, float]:
    """How far v.(J' w) is from w.(J v)."""
    ours = np.concatenate([np.reshape(v[name] * x, -1) for name, x in x_bar.items()])
    theirs = np.concatenate([np.reshape(bars[name] * y, -1) for name, y in y_dot.items()])
    gap = abs(float(np.sum(ours)) - float(np.sum(theirs)))
    doubt = sum(float(np.sum(np.abs(bars[name]) * u)) for name, u in unsure.items())
    doubt = doubt if gap else 0.0  # of a derivative of 0 there is no relative one
    size = max(float(np.sum(np.abs(ours))), float(np.sum(np.abs(theirs))))
    return _relative(gap, size), _relative(gap - doubt, size), _relative(doubt, size)


def _elements(
    ours: np.ndarray, theirs: np.ndarray, unsure: np.ndarray
) -> tuple[float, float, float]:
    with np.errstate(invalid="ignore"):
        gaps = np.where(theirs == ours, 0.0, np.abs(ours - theirs))
    size = float(np.max(np.abs(theirs), initial=0.0))
    doubts = np.where(gaps == 0.0, 0.0, unsure)
    worst = (float(np.max(part, initial=0.0)) for part in (gaps, gaps - doubts, doubts))
    a, b, c = (_relative(part, size) for part in worst)
    return a, b, c


def _relative(gap: float, size: float) -> float:
    if gap <= 0.0:
        return 0.0
    # A NaN is far off: of several errors the largest is taken, and nothing is larger than a NaN.
    return gap / size if size > 0.0 and np.isfinite(gap) and np.isfinite(size) else np.inf


def _feeds(file: Model, problem: Problem, inputs: Sequence[Tensor]) -> dict[str, np.ndarray]:
    """The problem's point and directions, as the file takes them."""
    given: dict[str, np.ndarray] = {}
    for tensor in inputs:
        if tensor.role == "tangent":
            given[tensor.name] = problem.tangents[tensor.wrt]
        elif tensor.role == "cotangent":
            given[tensor.name] = problem.cotangents[tensor.of]
        else:
            point = problem.point if tensor.name in problem.point else problem.feeds
            given[tensor.name] = point[tensor.name]
    kinds = {v.name: v.dtype for v in file.graph.inputs}
    return {
        name: np.asarray(array).astype(kinds[name].np) if kinds[name].is_float else array
        for name, array in given.items()
    }


def _found(
    problem: Problem,
    operator: str,
    out: Mapping[str, np.ndarray],
    outputs: Sequence[Tensor],
    dots: Sequence[Arrays],
    per_row: bool,
) -> list[Arrays]:
    """The file's answers in the form of the exact ones."""
    answers = [(t, np.asarray(out[t.name], np.float64)) for t in outputs if t.role == "derivative"]
    if operator != "jacobian":
        return [{t.of + t.wrt: y for t, y in answers}]
    found: list[Arrays] = []
    for v in dots:
        total: dict[str, np.ndarray] = {}
        for t, block in answers:
            shape, other = problem.shape(t.of), problem.shape(t.wrt)
            total[t.of] = total.get(t.of, np.zeros(shape)) + _product(
                block, v[t.wrt], shape, other, per_row
            )
        found.append(total)
    return found


def _product(
    block: np.ndarray,
    v: np.ndarray,
    shape: tuple[int, ...],
    other: tuple[int, ...],
    per_row: bool,
) -> np.ndarray:
    """A block of a Jacobian times a direction.

    Raises:
        CannotError: When it has another shape than the block should have.
    """
    if block.shape != (*shape, *(other[1:] if per_row else other)):
        raise CannotError(f"a block of the Jacobian has shape {block.shape}")
    if per_row:
        rows = shape[0]
        flat = block.reshape(rows, -1, int(np.prod(other[1:])))
        return np.asarray(np.einsum("nij,nj->ni", flat, v.reshape(rows, -1)).reshape(shape))
    return np.asarray((block.reshape(-1, v.size) @ v.reshape(-1)).reshape(shape))


def _primal_off(
    problem: Problem,
    out: Mapping[str, np.ndarray],
    outputs: Sequence[Tensor],
    tolerance: float,
) -> str:
    """What is wrong with the primal outputs that the file has; empty where nothing is."""
    named = [t for t in outputs if t.role == "primal"]
    if not named:
        return ""
    assert problem.model is not None
    inner = {e.tensor for e in problem.elements} - {v.name for v in problem.model.graph.outputs}
    if set(problem.wrt) - problem.feeds.keys():
        return ""  # the model does not take what the derivative takes
    session = runtime.prepare(problem.model, extra_outputs=sorted(inner))
    whole = session.run(problem.feeds)
    parts = {e.name: np.asarray(whole[e.tensor])[e.index] for e in problem.elements}
    for t in named:
        y, ours = parts[t.of].astype(np.float64), np.asarray(out[t.name], np.float64)
        size = float(np.max(np.abs(y), initial=0.0))
        if y.shape != ours.shape or float(np.max(np.abs(y - ours), initial=0)) > tolerance * size:
            return f"its own {t.of} is not that of the model"
    return ""


def _apart(
    found: Sequence[Arrays],
    exact: Sequence[Arrays],
    rounding: Sequence[Arrays] | None,
    tolerance: float,
) -> tuple[float, float]:
    """The largest relative error, and the largest in what is allowed for each."""
    error = excess = 0.0
    for k, (ours, theirs) in enumerate(zip(found, exact, strict=True)):
        for name, y in theirs.items():
            if ours[name].shape != np.shape(y):
                return np.inf, np.inf
            size = float(np.max(np.abs(y), initial=0.0))
            with np.errstate(invalid="ignore"):
                gap = np.where(ours[name] == y, 0.0, np.abs(ours[name] - y))
            gap = np.where(np.isnan(gap), np.inf, gap)
            noise = 0.0 if rounding is None else NOISE * rounding[k][name]
            allowed = np.maximum(tolerance * size, noise) + 1e-30
            error = max(error, _relative(float(np.max(gap, initial=0.0)), size))
            excess = max(excess, float(np.max(gap / allowed, initial=0.0)))
    return error, excess


def elsewhere_sized(problem: Problem, way: Way) -> list[dict[str, np.ndarray]]:
    """Inputs like a problem's at other sizes along each dimension that stays open.

    One more; one; and, unless that is much, four times as many, so that what goes another way from
    some size on is found out, and a model that takes only even sizes is looked at too.
    """
    assert problem.model is not None
    if not way.symbols:
        return []
    found = [_sized(problem, way, lambda n: n + 1)]
    for change in (lambda _: 1, lambda n: 4 * n):
        feeds = _sized(problem, way, change)
        same = all(np.shape(x) == np.shape(problem.feeds[name]) for name, x in feeds.items())
        if not same and sum(np.size(x) for x in feeds.values()) <= LARGE:
            found.append(feeds)
    return found


def _sized(problem: Problem, way: Way, change: Callable[[int], int]) -> dict[str, np.ndarray]:
    assert problem.model is not None
    rng = np.random.default_rng(problem.seed + 1)
    feeds = dict(problem.feeds)
    for value in problem.model.graph.inputs:
        old = feeds.get(value.name)
        if old is None or value.shape is None:
            continue
        shape = tuple(
            change(n) if d in way.symbols else n
            for d, n in zip(value.shape, old.shape, strict=True)
        )
        if shape == old.shape:
            continue
        new = np.resize(old, shape)
        if value.dtype.is_float:
            # Rows that are repeated would tie wherever rows are compared.
            width = 0.1 * float(np.std(old.astype(np.float64))) or 0.1
            new = (new + width * rng.standard_normal(shape)).astype(old.dtype)
        feeds[value.name] = new
    return feeds
