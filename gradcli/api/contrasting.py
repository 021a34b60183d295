"""Two models of one function, held against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from gradcli.api.asking import Given, Source, ask, load
from gradcli.api.deriving import hold_primal
from gradcli.contrast import Contrast, Match, contrasted, matched
from gradcli.engines import Estimate
from gradcli.engines.base import Part
from gradcli.errors import GradcliError, InputError
from gradcli.graph import DType, size
from gradcli.onnxfile import Model
from gradcli.problem import Problem


def diff(
    first: Source,
    second: Source,
    inputs: Given = None,
    *,
    wrt: str | Sequence[str] | None = None,
    of: str | Sequence[str] | None = None,
    operator: str | None = None,
    tangent: Given = None,
    cotangent: Given = None,
    rtol: float | None = None,
    atol: float = 0.0,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
    straight_through: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Contrast:
    """Whether two models have the same derivatives, and the first node where they part.

    Both are taken as the functions that they mean, in float64; what rounding in the coarser of
    their widths does is measured, and allowed.

    Args:
        first: A path, the file's bytes, or a loaded model.
        second: Another one; its inputs and outputs are matched by name, else by shape or position.
        inputs: The point, by names of the first; float inputs that are missing are drawn at random.
        wrt: What to differentiate with respect to, in the first; default: the float inputs.
        of: What to differentiate; default: the float outputs.
        operator: `gradient`, `jacobian`, `jvp` or `vjp`; default: by the sizes.
        tangent: For a jvp; default: random.
        cotangent: For a vjp; likewise.
        rtol: Allowed besides, relative to the largest element of each tensor.
        atol: Allowed besides.
        shapes: Shapes of drawn inputs by name.
        seed: Of every random choice.
        straight_through: Whether rounding is taken for the identity, in both.
        progress: Called with a few words before each step.

    Raises:
        InputError: When the models do not have the same inputs, or an output has another size.
        CannotError: When onnxruntime computes another function than gradcli of one of them.
    """
    one, other = load(first), load(second)
    match = matched(one, other)
    both = [v.name for v in one.graph.outputs if v.name in match.outputs and v.dtype.is_float]
    some = len(match.outputs) < len(one.graph.outputs)
    problem = ask(
        one,
        inputs,
        wrt=wrt,
        of=both if of is None and some else of,
        operator=operator,
        tangent=tangent,
        cotangent=cotangent,
        shapes={**_fixed(one, other, match), **(shapes or {})},
        seed=seed,
        straight_through=straight_through,
    )
    problem = _narrowed(problem, other, match)
    names = {**match.inputs, **match.outputs}
    with _of_the_second():
        twin = ask(
            other,
            {match.inputs[name]: x for name, x in problem.feeds.items() if name in match.inputs},
            wrt=[names.get(name, name) for name in problem.wrt],
            of=[_label(problem, name, names) for name in problem.of],
            operator=problem.operator,
            tangent={names.get(name, name): v for name, v in problem.tangents.items()} or None,
            seed=seed,
            straight_through=straight_through,
        )
    pairs = dict(zip((*problem.wrt, *problem.of), (*twin.wrt, *twin.of), strict=True))
    twin = _along(twin, problem, pairs)
    tell = progress or (lambda _: None)
    for k, asked in enumerate((problem, twin)):
        tell(Part("the models' own outputs", k + 1, 2))
        hold_primal(asked, Estimate({}), asked.feeds)
    return contrasted(problem, twin, pairs, rtol=rtol, atol=atol, notes=match.notes, tell=tell)


def _label(problem: Problem, name: str, names: Mapping[str, str]) -> str:
    """What is differentiated, by its name in the other model."""
    element = next(e for e in problem.elements if e.name == name)
    return names.get(element.tensor, element.tensor) + name.removeprefix(element.tensor)


def _fixed(one: Model, other: Model, match: Match) -> dict[str, tuple[int, ...]]:
    """Shapes of inputs that the first leaves open and the second does not."""
    theirs = {v.name: v.shape for v in other.graph.inputs}
    found = {}
    for v in one.graph.inputs:
        shape = theirs[match.inputs[v.name]]
        if v.shape is None or shape is None:
            continue
        dims = [b if isinstance(a, str) else a for a, b in zip(v.shape, shape, strict=True)]
        known = tuple(n for n in dims if isinstance(n, int))
        if len(known) == len(dims) and known != v.shape:
            found[v.name] = known
    return found


@contextmanager
def _of_the_second() -> Iterator[None]:
    """Errors say which model they are of."""
    try:
        yield
    except GradcliError as error:
        error.message = f"in the second model: {error.message}"
        error.args = (error.message,)
        raise


def _along(twin: Problem, problem: Problem, pairs: Mapping[str, str]) -> Problem:
    """The second's question, of the first's cotangents: elements are taken in their order.

    Raises:
        InputError: When an output has another size.
    """
    for name in problem.of:
        ours, theirs = problem.shape(name), twin.shape(pairs[name])
        if size(ours) != size(theirs):
            raise InputError(
                f"{name} has shape {list(ours)} in the first model and {list(theirs)} in the"
                " second",
                f"compare what both have: --of '{name}[{','.join('0' * len(ours))}]'",
            )
    bars = {pairs[k]: x.reshape(twin.shape(pairs[k])) for k, x in problem.cotangents.items()}
    return replace(twin, cotangents=bars)


def _narrowed(problem: Problem, other: Model, match: Match) -> Problem:
    """The problem at a point that the other model's inputs can hold."""
    kinds = {v.name: v.dtype for v in other.graph.inputs}

    def narrow(name: str, x: np.ndarray) -> np.ndarray:
        kind = kinds.get(match.inputs.get(name, ""))
        if kind is None or not kind.is_float or not DType.of(x).is_float:
            return x
        with np.errstate(over="ignore"):
            narrowed = np.asarray(x.astype(kind.np).astype(x.dtype))
        if lost := x[np.isfinite(x) & ~np.isfinite(narrowed)].tolist():
            raise InputError(
                f"input {name!r} holds {lost[0]:g}, which is no number in the second model's"
                f" {kind.value}",
                "choose a point that both can take",
            )
        return narrowed

    return replace(
        problem,
        feeds={name: narrow(name, x) for name, x in problem.feeds.items()},
        point={name: narrow(name, x) for name, x in problem.point.items()},
    )
