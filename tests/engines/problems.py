"""Problems made by hand, for engines: a function written with the Builder, at a point."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from gradcli.engines import ENGINES, Estimate, Options, Program
from gradcli.graph import Builder, DType, Var
from gradcli.ops import OPS
from gradcli.problem import Problem, static

Function = Callable[[Builder, Var], Var]


def problem(f: Function, x: ArrayLike, operator: str = "jacobian", **directions) -> Problem:
    """The derivative of y = f(x), in float64."""
    x = np.asarray(x, np.float64)
    b = Builder(OPS)
    y = b.rename(f(b, b.input("x", DType.FLOAT64, x.shape)), "y")
    cotangents = {"y": np.ones(static(y.value))} if operator == "gradient" else {}
    return Problem(
        None,
        b.graph([y]),
        ("x",),
        ("y",),
        operator,
        {"x": x},
        directions.get("tangents", {}),
        directions.get("cotangents", cotangents),
        DType.FLOAT64,
    )


def estimate(name: str, asked: Problem, step: float | None = None) -> Estimate:
    """What an engine says, with its uncertainty."""
    return Program(ENGINES[name], asked, Options(step=step)).run()


def answer(name: str, asked: Problem, step: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The only block of what an engine says, and its uncertainty."""
    found = estimate(name, asked, step)
    (key,) = asked.keys
    return found.blocks[key], found.uncertainty[key]


def random_net(rng: np.random.Generator, activations: tuple[str, ...]) -> tuple[Function, int]:
    """A random fully connected network on rows of 2 to 7 features, and that number."""
    widths = rng.integers(2, 8, size=int(rng.integers(2, 6)))
    layers = [
        (rng.standard_normal((m, n)) / np.sqrt(m), rng.standard_normal(n), rng.choice(activations))
        for m, n in pairwise(widths)
    ]

    def f(b: Builder, x: Var) -> Var:
        for weights, bias, activation in layers:
            x = b.op(str(activation), b.op("MatMul", x, b.constant(weights)) + b.constant(bias))
        return x

    return f, int(widths[0])
