"""Random questions: a small network or a sample model, a point, an operator, a width."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gradcli.errors import GradcliError
from gradcli.graph import Builder, DType, Graph, Var
from gradcli.interpret import interpret
from gradcli.measure import file_primal
from gradcli.onnxfile import Model, read, write
from gradcli.ops import OPS, Table
from gradcli.problem import Problem, check_feeds, pose
from gradcli.transform import cast
from tests.ops.test_random_graphs import COLUMNS, MAKERS, ROWS, SHAPES, fixed, known, square, whole

SAMPLES = Path(__file__).resolve().parents[2] / "sample_models"
SAMPLE_NAMES = ("physics", "diabetes", "kinked", "attention", "digits", "sequence")

Make = Callable[[Builder, Callable[[], Var]], Var]


def picture(op: str, **attrs: Any) -> Make:
    """An operator on pictures, on one of one channel."""

    def make(b: Builder, pick: Callable[[], Var]) -> Var:
        x = b.reshape(whole(b, pick()), [1, 1, ROWS, COLUMNS])
        weights = (fixed(b, 1, 1, 1, 3),) if op == "Conv" else ()
        return b.reshape(b.op(op, x, *weights, **attrs), [ROWS, COLUMNS])

    return make


def reduced(op: str, shift: float = 0.0) -> Make:
    return lambda b, pick: b.op(op, whole(b, pick()) + shift, b.ints([1]), keepdims=1)


WINDOW = {"kernel_shape": (1, 3), "pads": (0, 1, 0, 1)}

MORE: Mapping[str, Make] = {
    **{
        op: lambda b, pick, op=op: b.op(op, pick())  # type: ignore[misc] # a default is a name here
        for op in ("Elu", "Selu", "Celu", "Mish", "HardSwish", "Softsign", "ThresholdedRelu")
    },
    "PRelu": lambda b, pick: b.op("PRelu", whole(b, pick()), fixed(b, COLUMNS)),
    "Conv": picture("Conv", **WINDOW),
    "MaxPool": picture("MaxPool", **WINDOW),
    "AveragePool": picture("AveragePool", **WINDOW),
    "ReduceL2": reduced("ReduceL2"),
    "ReduceL1": reduced("ReduceL1"),
    "ReduceProd": reduced("ReduceProd"),
    "ReduceMin": reduced("ReduceMin"),
    "ReduceLogSumExp": reduced("ReduceLogSumExp"),
    "CumSum": lambda b, pick: b.op("CumSum", whole(b, pick()), b.constant(1)),
    "Einsum": lambda b, pick: b.op(
        "Einsum", whole(b, pick()), fixed(b, COLUMNS, COLUMNS), equation="ij,kj->ik"
    ),
    "Div, plain": lambda b, pick: b.op("Div", pick(), b.op("Exp", b.op("Sin", pick()))),
    "Norm": lambda b, pick: b.op("Sqrt", b.sum(square(b, whole(b, pick())), [1], keepdims=True)),
}

ALL: Mapping[str, Make] = {**MAKERS, **MORE}

LARGEST = 1e4
"""Outputs beyond are drawn anew: what overflows on the way to them is a story of its own."""


@dataclass(frozen=True)
class Pair:
    """A question in the making.

    Attributes:
        name: What it is, for a report.
        model: The network.
        feeds: The point.
        how: Of `pose`: wrt, of, operator, dtype.
    """

    name: str
    model: Model
    feeds: Mapping[str, np.ndarray]
    how: Mapping[str, Any]

    def posed(self, table: Table = OPS) -> Problem:
        return pose(self.model, self.feeds, table=table, **self.how)


def drawn(rng: np.random.Generator, samples: float = 0.0) -> Pair:
    """A random pair; with this probability, of a sample model."""
    if rng.random() < samples:
        return _sample(rng)
    while True:
        pair = _random(rng)
        if pair is not None:
            return pair


# ---- sample models -------------------------------------------------------------------------------


@cache
def _stored(name: str) -> tuple[Model, dict[str, np.ndarray]]:
    model = read(SAMPLES / f"{name}.onnx", OPS)
    with np.load(SAMPLES / f"{name}.npz") as stored:
        feeds, _ = check_feeds(model, dict(stored))
    return model, feeds


def _sample(rng: np.random.Generator) -> Pair:
    name = str(rng.choice(SAMPLE_NAMES))
    model, feeds = _stored(name)
    moved = {
        k: (x + 0.1 * rng.standard_normal(x.shape)).astype(x.dtype) if x.dtype.kind == "f" else x
        for k, x in feeds.items()
    }
    small = name in ("physics", "diabetes", "kinked")
    operator = str(rng.choice(["jvp", "vjp", "jacobian"] if small else ["jvp", "vjp"]))
    dtype = DType.FLOAT64 if rng.random() < 0.5 else DType.FLOAT32
    stay = rng.random() < 0.3
    how = {"operator": operator, "dtype": dtype, "seed": int(rng.integers(1000))}
    return Pair(f"{name} {operator} {dtype.value}", model, feeds if stay else moved, how)


# ---- random networks -----------------------------------------------------------------------------


def _random(rng: np.random.Generator) -> Pair | None:
    graph, names = _network(rng)
    operator = str(rng.choice(["gradient", "jvp", "vjp", "jacobian"]))
    narrow = rng.random() < 0.5
    if narrow:
        graph = cast(graph, DType.FLOAT32)
    where = str(rng.choice(["anywhere", "anywhere", "anywhere", "grid", "small", "wide"]))
    feeds = {v.name: np.asarray(_point(rng, where, known(v)), v.dtype.np) for v in graph.inputs}
    with np.errstate(all="ignore"):
        y = interpret(graph, feeds)
    if not all(np.all(np.isfinite(a)) and np.max(np.abs(a)) <= LARGEST for a in y.values()):
        return None
    of = ["loss"] if operator == "gradient" else ["y0", "y1"]
    how = {"operator": operator, "of": of, "seed": int(rng.integers(1000))}
    try:
        model = read(write(graph), OPS)
        pair = Pair(f"{names} at {where}, {operator}", model, feeds, how)
        if not _runs(pair):
            return None
    except GradcliError:
        return None
    return pair


def _runs(pair: Pair) -> bool:
    """Whether onnxruntime runs the file at all; it lacks some operators in float64."""
    file_primal(pair.posed())
    return True


def _network(rng: np.random.Generator) -> tuple[Graph, str]:
    b = Builder(OPS)
    shapes = [SHAPES[int(rng.integers(len(SHAPES)))] for _ in range(int(rng.integers(1, 3)))]
    values = [b.input(f"x{k}", DType.FLOAT64, dims) for k, dims in enumerate(shapes)]
    names = [str(name) for name in rng.choice(sorted(ALL), int(rng.integers(2, 8)))]
    for name in names:
        values.append(ALL[name](b, lambda: values[-1 - int(rng.integers(0, 4)) % len(values)]))
    ends = (values[-1], values[-1 - int(rng.integers(1, len(values)))])
    outputs = [b.op("Identity", y, name=f"y{k}") for k, y in enumerate(ends)]
    weighed = b.op("Mul", b.op("Tanh", ends[0]), whole(b, ends[1]))
    outputs.append(b.op("ReduceSum", weighed, keepdims=0, name="loss"))
    return b.graph(outputs), " ".join(names)


def _point(rng: np.random.Generator, where: str, shape: tuple[int, ...]) -> np.ndarray:
    if where == "grid":  # ties, kinks and edges
        return np.asarray(rng.integers(-3, 4, shape) / 2)
    scale = {"anywhere": 1.5, "small": 1e-3, "wide": 20.0}[where]
    return np.asarray(rng.uniform(-scale, scale, shape))
