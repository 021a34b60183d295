"""Operators together: random networks, forward against reverse against the complex step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gradcli.graph import Builder, DType, Graph, Value, Var
from gradcli.interpret import interpret
from gradcli.numbers import complex_
from gradcli.ops import OPS
from gradcli.transform import cast, jvp, simplify, tune, vjp, vmap

Pick = Callable[[], Var]
Make = Callable[[Builder, Pick], Var]

ROWS, COLUMNS = 2, 3
SHAPES: tuple[tuple[int, ...], ...] = ((ROWS, COLUMNS), (COLUMNS,), (1, COLUMNS), (ROWS, 1), ())
"""Every value of a network has one of these, so that any two broadcast and none grows."""


def square(b: Builder, x: Var) -> Var:
    return b.op("Mul", x, x)


def whole(b: Builder, x: Var) -> Var:
    """x repeated to the full shape, for operators that need its axes."""
    return b.op("Expand", x, b.ints([ROWS, COLUMNS]))


def fixed(b: Builder, *dims: int) -> Var:
    """A weight: small, fixed, no two elements alike."""
    return b.constant(np.sin(1.0 + 1.7 * np.arange(float(np.prod(dims)))).reshape(dims))


UNARY = (
    *("Tanh", "Sigmoid", "Erf", "Sin", "Cos", "Softplus", "Gelu", "Relu", "LeakyRelu", "Abs"),
    *("Neg", "HardSigmoid", "Identity", "Floor", "Sign", "Round"),
)
BINARY = ("Add", "Sub", "Mul", "Max", "Min", "Sum", "Mean")


def of_one(op: str) -> Make:
    return lambda b, pick: b.op(op, pick())


def of_two(op: str) -> Make:
    return lambda b, pick: b.op(op, pick(), pick())


MAKERS: Mapping[str, Make] = {
    **{op: of_one(op) for op in UNARY},
    **{op: of_two(op) for op in BINARY},
    "Exp": lambda b, pick: b.op("Exp", b.op("Tanh", pick())),
    "Log": lambda b, pick: b.op("Log", square(b, pick()) + 1.0),
    "Sqrt": lambda b, pick: b.op("Sqrt", square(b, pick()) + 1.0),
    "Div": lambda b, pick: b.op("Div", pick(), square(b, pick()) + 1.0),
    "Reciprocal": lambda b, pick: b.op("Reciprocal", square(b, pick()) + 1.0),
    "Pow": lambda b, pick: b.op("Pow", square(b, pick()) + 1.0, b.op("Tanh", pick())),
    "Pow, fixed": lambda b, pick: b.op("Pow", pick(), b.constant(2.0)),
    "Clip": lambda b, pick: b.op("Clip", pick(), b.constant(-0.5), b.constant(0.6)),
    "Where": lambda b, pick: b.op("Where", pick() > pick(), pick(), pick()),
    "Cast": lambda b, pick: b.op("Cast", pick(), to="float64"),
    "Cast, of a mask": lambda b, pick: b.op("Cast", pick() > pick(), to="float64"),
    "MatMul": lambda b, pick: b.op("MatMul", whole(b, pick()), fixed(b, COLUMNS, COLUMNS)),
    "MatMul, both": lambda b, pick: b.op(
        "MatMul",
        b.op("MatMul", whole(b, pick()), b.transpose(whole(b, pick()), [1, 0])),
        whole(b, pick()),
    ),
    "Gemm": lambda b, pick: b.op(
        "Gemm", whole(b, pick()), fixed(b, COLUMNS, COLUMNS), b.op("Tanh", pick()), alpha=0.5
    ),
    "Softmax": lambda b, pick: b.op("Softmax", whole(b, pick())),
    "LogSoftmax": lambda b, pick: b.op("LogSoftmax", whole(b, pick()), axis=0),
    "LayerNormalization": lambda b, pick: b.op(
        # Of values that differ, or every digit is lost in the variance.
        "LayerNormalization",
        b.op("Tanh", whole(b, pick())) + fixed(b, COLUMNS),
        fixed(b, COLUMNS),
    ),
    "ReduceSum": lambda b, pick: b.sum(whole(b, pick()), [0], keepdims=True),
    "ReduceMean": lambda b, pick: b.op("ReduceMean", whole(b, pick()), b.ints([1]), keepdims=1),
    "ReduceMax": lambda b, pick: b.op(
        "ReduceMax", whole(b, pick()) + fixed(b, ROWS, COLUMNS), b.ints([1]), keepdims=1
    ),
    "Transpose": lambda b, pick: b.reshape(b.transpose(whole(b, pick()), [1, 0]), [ROWS, COLUMNS]),
    "Concat": lambda b, pick: b.op(
        "Slice",
        b.op("Concat", whole(b, pick()), whole(b, pick()), axis=1),
        b.ints([1]),
        b.ints([1 + COLUMNS]),
        b.ints([1]),
    ),
    "Gather": lambda b, pick: b.op("Gather", whole(b, pick()), b.ints([1, 1, 0]), axis=1),
    "Pad": lambda b, pick: b.op(
        "Slice",
        b.op("Pad", whole(b, pick()), b.ints([0, 1, 0, 1])),
        b.ints([0]),
        b.ints([COLUMNS]),
        b.ints([1]),
    ),
}


def known(x: Value) -> tuple[int, ...]:
    """The shape, which holds no symbols here."""
    assert x.shape is not None
    return tuple(map(int, x.shape))


@dataclass(frozen=True)
class Network:
    """A random graph with a point and directions for everything that has one.

    Attributes:
        graph: The network.
        feeds: A value for each input.
        tangents: A direction for each input.
        cotangents: A direction for each output.
    """

    graph: Graph
    feeds: dict[str, np.ndarray]
    tangents: dict[str, np.ndarray]
    cotangents: dict[str, np.ndarray]


@st.composite
def networks(draw: st.DrawFn, featured: str) -> Network:
    """One to three inputs, three to twelve operators that read anything before them.

    The featured operator is among them, and its result is one of the outputs.
    """
    b = Builder(OPS)
    shapes = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3))
    values = [b.input(f"x{k}", DType.FLOAT64, dims) for k, dims in enumerate(shapes)]
    some = st.lists(st.sampled_from(sorted(MAKERS)), min_size=1, max_size=6)
    before, after = draw(some), draw(some)[:5]
    for maker in (*before, featured, *after):
        # Late values are likelier, so that networks are deep as well as wide.
        values.append(MAKERS[maker](b, lambda: values[-1 - draw(st.integers(0, 3)) % len(values)]))
    ends = (values[-1], values[-1 - len(after)])
    graph = b.graph([b.op("Identity", x, name=f"y{k}") for k, x in enumerate(ends)])
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    feeds = {v.name: np.asarray(rng.uniform(-1.5, 1.5, known(v))) for v in graph.inputs}
    tangents = {v.name: np.asarray(rng.standard_normal(known(v))) for v in graph.inputs}
    cotangents = {v.name: np.asarray(rng.standard_normal(known(v))) for v in graph.outputs}
    return Network(graph, feeds, tangents, cotangents)


def complex_step(net: Network) -> dict[str, np.ndarray]:
    """The tangents of all outputs, by no rule at all."""
    h = 1e-40
    feeds = {name: x + 1j * h * net.tangents[name] for name, x in net.feeds.items()}
    return {name: np.imag(y) / h for name, y in interpret(net.graph, feeds, complex_).items()}


def renamed(names: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {names[name]: array for name, array in arrays.items() if name in names}


def test_every_operator_in_use_has_a_card():
    assert {name.partition(",")[0] for name in MAKERS} <= OPS.keys()


@pytest.mark.parametrize("featured", MAKERS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_forward_reverse_and_the_complex_step_agree(featured: str, data: st.DataObject):
    net = data.draw(networks(featured))
    values = interpret(net.graph, net.feeds)
    witness = complex_step(net)
    largest = max(np.max(np.abs(y)) for y in (*values.values(), *witness.values()))
    assume(largest < 1e4)  # beyond, sums of such numbers lose the digits that are compared
    tolerance = 1e-9 * (1.0 + largest)

    d = jvp(net.graph)
    out = interpret(d.graph, net.feeds | renamed(d.directions, net.tangents))
    pushed = {
        name: out[d.results[name]] if name in d.results else np.zeros_like(values[name])
        for name in values
    }
    for name in values:
        np.testing.assert_allclose(pushed[name], witness[name], rtol=0, atol=tolerance)

    d = vjp(net.graph)
    directions = renamed(d.directions, net.cotangents)
    out = interpret(d.graph, net.feeds | directions)
    terms = [net.cotangents[name] * witness[name] for name in values]
    pulled = [out[d.results[x]] * net.tangents[x] for x in net.feeds if x in d.results]
    size = sum(np.sum(np.abs(t)) for t in (*terms, *pulled))
    difference = sum(np.sum(t) for t in terms) - sum(np.sum(t) for t in pulled)
    assert abs(difference) <= 1e-9 * (1.0 + size)

    # What runs in the end is simplified, and in float32 tuned; in exact numbers nothing changes but
    # the tails of slopes, which tune gives up below 3e-7 a factor.
    short = interpret(simplify(d.graph), net.feeds | directions)
    fast = vjp(cast(net.graph, DType.FLOAT32)).graph
    fast_out = interpret(tune(simplify(fast)), net.feeds | directions)
    for name in d.results.values():
        np.testing.assert_allclose(short[name], out[name], rtol=0, atol=tolerance)
        np.testing.assert_allclose(fast_out[name], out[name], rtol=0, atol=1e-4 * (1 + largest))

    several = {name: np.stack([v, -2.0 * v]) for name, v in directions.items()}
    batched = interpret(vmap(d.graph, directions, 2), net.feeds | several)
    for name in d.results.values():
        x_bar = out[name]
        np.testing.assert_allclose(batched[name], [x_bar, -2.0 * x_bar], rtol=1e-9, atol=1e-12)
