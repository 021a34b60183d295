"""What gradcli, PyTorch and JAX take for the slope where there is none: the table, measured."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from gradcli.engines import ENGINES, Program
from gradcli.graph import Builder, DType, Var
from gradcli.ops import OPS
from gradcli.ops.peers import CONVENTIONS, taken
from gradcli.problem import Problem, static

WHY = "needs the extra `peers`: pip install gradcli[peers]"


class Place(NamedTuple):
    """A point that lies on a kink, the function there by each, and which element is asked for.

    `point` is what an Add of 0 makes of x, so that the operator's operand is no input of the graph.
    """

    point: Any
    op: Callable[[Builder, Var], Var]
    torch: Callable[[Any, Any], Any] | None = None
    jax: Callable[[Any, Any], Any] | None = None
    attrs: dict[str, Any] = {}  # noqa: RUF012 # never changed


def plain(op: str, **attrs: Any) -> Callable[[Builder, Var], Var]:
    return lambda b, v: b.op(op, v, **attrs)


def step(op: str, at: float, name: str) -> list[Place]:
    return [
        Place(
            [at],
            plain(op),
            lambda t, x: getattr(t, name)(x),
            lambda j, x: getattr(j.numpy, name)(x),
        )
    ]


def reduced(op: str, torch: str, jax: str) -> list[Place]:
    return [
        Place(
            [1.0, 1.0],
            plain(op, keepdims=0),
            lambda t, x: getattr(t, torch)(x),
            lambda j, x: getattr(j.numpy, jax)(x),
        )
    ]


def between(op: str, name: str) -> list[Place]:
    return [
        Place(
            [1.0],
            lambda b, v: b.op(op, v, b.constant([1.0])),
            lambda t, x: getattr(t, name)(x, t.ones_like(x)),
            lambda j, x: getattr(j.numpy, name)(x, 1.0),
        )
    ]


def pooled(j: Any, x: Any) -> Any:
    return j.lax.reduce_window(x, -np.inf, j.lax.max, (1, 1, 2), (1, 1, 2), "VALID")


PLACES: dict[str, list[Place]] = {
    "Abs": step("Abs", 0.0, "abs"),
    "Ceil": step("Ceil", 1.0, "ceil"),
    "Clip": [
        Place(
            [at],
            lambda b, v: b.op("Clip", v, b.constant(-1.0), b.constant(1.0)),
            lambda t, x: t.clamp(x, -1.0, 1.0),
            lambda j, x: j.numpy.clip(x, -1.0, 1.0),
        )
        for at in (-1.0, 1.0)
    ],
    "Elu": [
        Place(
            [0.0],
            plain("Elu", alpha=2.0),
            lambda t, x: t.nn.functional.elu(x, 2.0),
            lambda j, x: j.nn.elu(x, 2.0),
            {"alpha": 2.0},
        )
    ],
    "Floor": step("Floor", 1.0, "floor"),
    "GlobalMaxPool": [
        Place(
            [[[1.0, 1.0]]],
            plain("GlobalMaxPool"),
            lambda t, x: t.nn.functional.adaptive_max_pool1d(x, 1),
        )
    ],
    "HardSigmoid": [
        Place(
            [at],
            plain("HardSigmoid", alpha=0.25),
            # Theirs has the ends of alpha 1/6 only, which is no binary fraction.
            lambda t, x: t.nn.functional.hardsigmoid(1.5 * x),
            lambda j, x: j.nn.hard_sigmoid(1.5 * x),
            {"alpha": 0.25},
        )
        for at in (-2.0, 2.0)
    ],
    "HardSwish": [
        Place(
            [at],
            plain("HardSwish"),
            lambda t, x: t.nn.functional.hardswish(x),
            lambda j, x: j.nn.hard_swish(x),
        )
        for at in (-3.0, 3.0)
    ],
    "LeakyRelu": [
        Place(
            [0.0],
            plain("LeakyRelu", alpha=0.25),
            lambda t, x: t.nn.functional.leaky_relu(x, 0.25),
            lambda j, x: j.nn.leaky_relu(x, 0.25),
            {"alpha": 0.25},
        )
    ],
    "Log": step("Log", 0.0, "log"),
    "Max": between("Max", "maximum"),
    "MaxPool": [
        Place(
            [[[1.0, 1.0]]],
            plain("MaxPool", kernel_shape=(2,), strides=(2,)),
            lambda t, x: t.nn.functional.max_pool1d(x, 2),
            pooled,
            {"kernel_shape": (2,)},
        )
    ],
    "Min": between("Min", "minimum"),
    "Mod": [
        Place(
            [2.0],
            lambda b, v: b.op("Mod", v, b.constant([1.0]), fmod=1),
            lambda t, x: t.fmod(x, t.ones_like(x)),
            lambda j, x: j.numpy.fmod(x, 1.0),
        )
    ],
    "Reciprocal": step("Reciprocal", 0.0, "reciprocal"),
    "ReduceL1": [
        Place(
            [0.0, 0.0],
            plain("ReduceL1", keepdims=0),
            lambda t, x: t.linalg.vector_norm(x, 1),
            lambda j, x: j.numpy.linalg.norm(x, 1),
        )
    ],
    "ReduceL2": [
        Place(
            [0.0, 0.0],
            plain("ReduceL2", keepdims=0),
            lambda t, x: t.linalg.vector_norm(x),
            lambda j, x: j.numpy.linalg.norm(x),
        )
    ],
    "ReduceMax": reduced("ReduceMax", "amax", "max"),
    "ReduceMin": reduced("ReduceMin", "amin", "min"),
    "Relu": [Place([0.0], plain("Relu"), lambda t, x: t.relu(x), lambda j, x: j.nn.relu(x))],
    "Round": step("Round", 0.5, "round"),
    "Selu": [Place([0.0], plain("Selu"), lambda t, x: t.selu(x), lambda j, x: j.nn.selu(x))],
    "Shrink": [
        Place(
            [at],
            plain("Shrink", lambd=0.5, bias=0.5),
            lambda t, x: t.nn.functional.softshrink(x, 0.5),
            attrs={"lambd": 0.5, "bias": 0.5},
        )
        for at in (-0.5, 0.5)
    ],
    "Sign": step("Sign", 0.0, "sign"),
    "Sqrt": step("Sqrt", 0.0, "sqrt"),
    "ThresholdedRelu": [
        Place(
            [1.0],
            plain("ThresholdedRelu", alpha=1.0),
            lambda t, x: t.nn.functional.threshold(x, 1.0, 0.0),
        )
    ],
    "TopK": [
        Place(
            [1.0, 1.0],
            lambda b, v: b.ops("TopK", v, b.ints([1]), outputs=2)[0],
            lambda t, x: t.topk(x, 1).values,
            lambda j, x: j.lax.top_k(x, 1)[0],
        )
    ],
}
"""By operator: points that between them have every place of the table, in its order."""


def told(op: str, k: int) -> Any:
    """What the table says of a point; the last place holds for all further points."""
    said = taken(op, OPS.attributes(op, PLACES[op][k].attrs))
    return said[min(k, len(said) - 1)]


CASES = [(op, k) for op, places in PLACES.items() for k in range(len(places))]
everywhere = pytest.mark.parametrize(("op", "k"), CASES)


def test_the_table_has_a_point_for_every_place():
    assert PLACES.keys() == CONVENTIONS.keys()
    assert all(len(PLACES[op]) >= len(places) for op, places in CONVENTIONS.items())


@everywhere
def test_gradcli_takes_what_the_table_says(op, k):
    place = PLACES[op][k]
    x = np.asarray(place.point, np.float64)
    b = Builder(OPS)
    y = b.rename(place.op(b, b.input("x", DType.FLOAT64, x.shape)), "y")
    bars = {"y": np.ones(static(y.value))}
    asked = Problem(None, b.graph([y]), ("x",), ("y",), "vjp", {"x": x}, {}, bars, DType.FLOAT64)
    found = Program(ENGINES["reverse"], asked).run().blocks["", "x"]
    assert found.reshape(-1)[0] == pytest.approx(told(op, k).gradcli, rel=1e-7)


@everywhere
def test_torch_takes_what_the_table_says(op, k):
    torch = pytest.importorskip("torch", reason=WHY)
    place, slope = PLACES[op][k], told(op, k).pytorch
    assert (place.torch is None) == (slope is None)
    if place.torch is None:
        return
    x = torch.tensor(place.point, dtype=torch.float64, requires_grad=True)
    place.torch(torch, x).sum().backward()
    assert x.grad.reshape(-1)[0].item() == pytest.approx(slope, rel=1e-7, nan_ok=True)


@everywhere
def test_jax_takes_what_the_table_says(op, k):
    jax = pytest.importorskip("jax", reason=WHY)
    importlib.import_module("jax.nn")
    place, slope = PLACES[op][k], told(op, k).jax
    assert (place.jax is None) == (slope is None)
    if place.jax is None:
        return
    found = jax.grad(lambda x: place.jax(jax, x).sum())(np.asarray(place.point, np.float32))
    assert np.ravel(found)[0] == pytest.approx(slope, rel=1e-6, nan_ok=True)
