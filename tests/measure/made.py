"""What budgets and failures are tested with: a network, a clock, engines of known cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal
from unittest import mock

import numpy as np

from gradcli.engines import ENGINES
from gradcli.engines.base import Engine, Evidence, Images, Outcome
from gradcli.graph import Builder, DType, Var
from gradcli.onnxfile import Model, read, write
from gradcli.ops import OPS
from gradcli.problem import Problem, pose

QUICK = ("forward", "reverse", "complex-step")


def model(size: int = 3, body: Callable[[Builder, Var], Var] | None = None) -> Model:
    """y = tanh(x W), or a body of one's own, in float32."""
    weights = np.random.default_rng(0).standard_normal((size, 2)).astype(np.float32) / size**0.5

    def plain(b: Builder, x: Var) -> Var:
        return b.op("Tanh", b.op("MatMul", x, b.constant(weights)))

    b = Builder(OPS)
    y = (body or plain)(b, b.input("x", DType.FLOAT32, (1, size)))
    return read(write(b.graph([b.rename(y, "y")])), OPS)


def problem(size: int = 3, **how: Any) -> Problem:
    x = np.random.default_rng(1).standard_normal((1, size)).astype(np.float32)
    return pose(model(size), {"x": x}, **{"operator": "vjp", **how})


class Clock:
    """Seconds that pass only when somebody says so, and a trifle whenever one looks."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1e-7
        return self.now


class Slow:
    """A derivative that says 0 after so many seconds a direction."""

    width = 1
    pads = False

    def __init__(self, seconds: float, clock: Clock) -> None:
        self.seconds, self.clock = seconds, clock

    def apply(self, point: Any, directions: Any) -> Images:
        del point, directions
        self.clock.now += self.seconds
        return Images({})


@contextmanager
def engine(
    prepare: Callable[[Problem], Any], mode: Literal["push", "pull"] = "push"
) -> Iterator[str]:
    """An engine called `made` among the others, for as long as this lasts."""
    made = Engine("made", "for a test", mode, lambda asked, _: prepare(asked), uses="impl")
    with mock.patch.dict(ENGINES, {"made": made}):
        yield "made"


def one(evidence: Evidence, name: str = "made") -> Outcome:
    return next(o for o in evidence.outcomes if o.method == name)


def replace_vjp(op: str, vjp: Any) -> Any:
    return replace(OPS[op], vjp=vjp)
