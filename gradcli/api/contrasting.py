"""Two models of one function, held against each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from gradcli.api.asking import Given, Source, ask, load
from gradcli.api.deriving import hold_primal
from gradcli.contrast import Contrast, Match, contrasted, matched
from gradcli.engines import Estimate
from gradcli.graph import DType
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
        second: Another one; its inputs and outputs are matched by name, else by position.
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
        InputError: When the models do not have the same inputs and outputs.
        CannotError: When onnxruntime computes another function than gradcli of one of them.
    """
    one, other = load(first), load(second)
    match = matched(one, other)
    problem = ask(
        one,
        inputs,
        wrt=wrt,
        of=of,
        operator=operator,
        tangent=tangent,
        cotangent=cotangent,
        shapes=shapes,
        seed=seed,
        straight_through=straight_through,
    )
    problem = _narrowed(problem, other, match)
    names = {**match.inputs, **match.outputs}
    twin = ask(
        other,
        {match.inputs[name]: x for name, x in problem.feeds.items() if name in match.inputs},
        wrt=[names.get(name, name) for name in problem.wrt],
        of=[_label(problem, name, names) for name in problem.of],
        operator=problem.operator,
        tangent={names.get(name, name): v for name, v in problem.tangents.items()} or None,
        cotangent=_bars(problem, names),
        seed=seed,
        straight_through=straight_through,
    )
    tell = progress or (lambda _: None)
    tell("the models' own outputs")
    for asked in (problem, twin):
        hold_primal(asked, Estimate({}), asked.feeds)
    pairs = dict(zip((*problem.wrt, *problem.of), (*twin.wrt, *twin.of), strict=True))
    return contrasted(problem, twin, pairs, rtol=rtol, atol=atol, notes=match.notes, tell=tell)


def _label(problem: Problem, name: str, names: Mapping[str, str]) -> str:
    """What is differentiated, by its name in the other model."""
    element = next(e for e in problem.elements if e.name == name)
    return names.get(element.tensor, element.tensor) + name.removeprefix(element.tensor)


def _bars(problem: Problem, names: Mapping[str, str]) -> dict[str, np.ndarray] | None:
    if problem.operator != "vjp":
        return None
    return {_label(problem, name, names): bar for name, bar in problem.cotangents.items()}


def _narrowed(problem: Problem, other: Model, match: Match) -> Problem:
    """The problem at a point that the other model's inputs can hold."""
    kinds = {v.name: v.dtype for v in other.graph.inputs}

    def narrow(name: str, x: np.ndarray) -> np.ndarray:
        kind = kinds.get(match.inputs.get(name, ""))
        if kind is None or not kind.is_float or not DType.of(x).is_float:
            return x
        return np.asarray(x.astype(kind.np).astype(x.dtype))

    return replace(
        problem,
        feeds={name: narrow(name, x) for name, x in problem.feeds.items()},
        point={name: narrow(name, x) for name, x in problem.point.items()},
    )
