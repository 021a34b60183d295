"""The guilty node is named: faults in rules, in kernels, and roundings that matter."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import FrozenInstanceError, replace
from functools import partial
from typing import Any

import numpy as np
import onnx
import pytest

from gradcli import api, runtime
from gradcli.comparison import Explanation, What, explained, explanation_of, focus_of, judge
from gradcli.comparison.facts import Cause, Verdict
from gradcli.engines import ENGINES
from gradcli.engines.base import WRONG, Focus, walk
from gradcli.engines.base.walker import Walker
from gradcli.errors import MissingExtraError
from gradcli.graph import Builder, DType, Graph, Node, Value, Var
from gradcli.interpret import Evaluator
from gradcli.measure import culprits, explain, measure
from gradcli.onnxfile import Model
from gradcli.ops import OPS, Table
from gradcli.problem import Problem, pose
from gradcli.transform import expand, vjp
from tests.test_faults import built, computed_wrongly, sample, slipped

Vars = Sequence[Var | None]

BOTH = ("forward", "reverse")


def looked(problem: Problem, methods: Sequence[str] = BOTH, *, balls: bool = True) -> Explanation:
    """Every node of a problem, without measuring a method."""
    rng = np.random.default_rng(1)
    focus = Focus(
        "at random",
        {k: rng.standard_normal(problem.shape(k)) for k in problem.wrt},
        {k: rng.standard_normal(problem.shape(k)) for k in problem.of},
    )
    found = walk(problem, focus, [ENGINES[m] for m in methods], lambda _: balls)
    assert (found.left, found.looked > 0) == (0, True)
    return explanation_of(problem, found, dict.fromkeys(methods))


def asked(name: str, table: Table = OPS, **how: Any) -> Problem:
    model, feeds = sample(name)
    return pose(model, feeds, table=table, **how)


# ---- wrong rules ---------------------------------------------------------------------------------

PLANTED = [
    *(("physics", op, k) for op, k in [("Tanh", 0), ("Gemm", 0), ("Concat", 0), ("Concat", 1)]),
    *(("diabetes", op, 0) for op in ["Tanh", "Gemm", "Sub", "Div", "Softplus", "Mul", "Add"]),
    *(("kinked", op, 0) for op in ["Gemm", "Relu"]),
    *(("digits", op, 0) for op in ["Conv", "Relu", "MaxPool", "Flatten", "Gemm", "Div"]),
    *(("sequence", op, 0) for op in ["LSTM", "Transpose", "Flatten", "Gemm"]),
]
ATTENTION = [
    *("MatMul", "Softmax", "LayerNormalization", "Erf", "Add", "Mul", "Reshape", "Transpose"),
    *("Gemm", "Div", "ReduceMean"),
]


def names_the_rule(name: str, op: str, operand: int, factor: float, rule: str, **how: Any) -> None:
    problem = asked(name, slipped(OPS[op], operand, factor, rule), **how)
    found = looked(problem, balls=name in ("physics", "diabetes", "kinked"))
    worst = found.nodes[0]
    guilty, other = BOTH if rule == "jvp" else BOTH[::-1]
    assert (worst.what, worst.op) == (What.RULE, op)
    assert (worst.exact[guilty] or 0.0) > WRONG
    assert worst.exact[other] == 0.0
    assert guilty in worst.todo
    assert other not in worst.todo
    assert all(b.op == op for b in found.nodes if b.what is What.RULE)


@pytest.mark.parametrize("rule", ["jvp", "vjp"])
@pytest.mark.parametrize(("name", "op", "operand"), PLANTED)
def test_a_wrong_rule_is_named(name: str, op: str, operand: int, rule: str):
    names_the_rule(name, op, operand, 1.01, rule)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["jvp", "vjp"])
@pytest.mark.parametrize("factor", [1.001, -1.0])
@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.FLOAT64])
@pytest.mark.parametrize(
    ("name", "op", "operand"), [*PLANTED, *(("attention", op, 0) for op in ATTENTION)]
)
def test_smaller_and_larger_faults_are_named_too(
    name: str, op: str, operand: int, dtype: DType, factor: float, rule: str
):
    names_the_rule(name, op, operand, factor, rule, dtype=dtype)


def test_balls_tell_a_rule_that_is_wrong_in_the_tenth_digit():
    pytest.importorskip("flint", reason="needs python-flint, which an extra brings")
    found = looked(asked("physics", slipped(OPS["Tanh"], 0, 1 + 1e-10, "vjp")))
    assert (found.nodes[0].node, found.nodes[0].what) == ("hidden", What.RULE)
    assert 1e-12 < (found.nodes[0].exact["reverse"] or 0.0) < 1e-10


@pytest.mark.parametrize(
    "name",
    [
        *("physics", "diabetes", "digits", "sequence", "kinked"),
        pytest.param("attention", marks=pytest.mark.slow),
    ],
)
def test_no_right_node_is_accused(name: str):
    for b in looked(asked(name), balls=False).nodes:
        assert b.what not in (What.RULE, What.KERNEL), b


def test_the_api_gives_frozen_facts():
    model, feeds = sample("physics")
    found = api.compare(model, feeds, methods="reverse", explain=True).explanation
    assert found is not None
    with pytest.raises(FrozenInstanceError):
        found.left = 1  # type: ignore[misc] # what is tested
    assert api.compare(model, feeds, methods="reverse").explanation is None


def test_without_enclosures_it_says_so(monkeypatch: pytest.MonkeyPatch):
    def missing(bits: int) -> None:
        raise MissingExtraError("no flint", "pip install it")

    # The package has a function of the same name as the module.
    monkeypatch.setattr(sys.modules["gradcli.engines.base.walker"], "Ball", missing)
    found = looked(asked("physics", slipped(OPS["Tanh"], 0, 1.01, "vjp")))
    assert (found.nodes[0].node, found.nodes[0].what) == ("hidden", What.RULE)
    assert {b.held for b in found.nodes} == {"float64"}
    assert "python-flint" in found.notes[0]


# ---- wrong kernels -------------------------------------------------------------------------------


def scaled(model: Model, result: str, factor: float) -> Model:
    """The model, its file computing one tensor wrongly."""
    proto = onnx.load_from_string(model.data)
    (k,) = (k for k, n in enumerate(proto.graph.node) if result in n.output)
    wrong = proto.graph.node[k]
    place = list(wrong.output).index(result)
    wrong.output[place] = f"{result}, rightly"
    proto.graph.initializer.append(
        onnx.numpy_helper.from_array(np.array(factor, np.float32), "factor")
    )
    off = onnx.helper.make_node("Mul", [wrong.output[place], "factor"], [result])
    proto.graph.node.insert(k + 1, off)
    return replace(model, data=proto.SerializeToString())


KERNELS = [
    *(("physics", node) for node in ["linear", "hidden", "u"]),
    *(("diabetes", node) for node in ["standardised", "linear1", "hidden1", "hidden2", "score"]),
    *(("digits", node) for node in ["conv1", "hidden1", "pool1", "conv2", "features"]),
    *(("sequence", node) for node in ["steps", "by_sample", "logits"]),
]


@pytest.mark.parametrize(("name", "node"), KERNELS)
def test_a_wrong_kernel_of_the_file_is_named(name: str, node: str):
    model, feeds = sample(name)
    result = next(n.outputs[0] for n in model.graph.nodes if n.name == node)
    assert result is not None
    found = looked(pose(scaled(model, result.name, 1.001), feeds), (), balls=False)
    assert (found.nodes[0].node, found.nodes[0].what) == (node, What.KERNEL)
    assert [b.node for b in found.nodes if b.what is What.KERNEL] == [node]


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.001, 1.1, -1.0])
@pytest.mark.parametrize("name", ["physics", "diabetes", "digits", "sequence", "attention"])
def test_a_wrong_kernel_of_any_node_is_named(name: str, factor: float):
    model, feeds = sample(name)
    nodes = [n for n in model.graph.nodes if n.makes()[0].dtype is DType.FLOAT32]
    for node in nodes[:: max(1, len(nodes) // 12)]:
        problem = pose(scaled(model, node.makes()[0].name, factor), feeds)
        found = looked(problem, (), balls=False)
        assert [b.node for b in found.nodes if b.what is What.KERNEL] == [node.name]


def test_a_sum_that_cancels_in_some_elements_is_no_wrong_kernel():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((1, 8, 64, 64))
    scale, shift = rng.standard_normal((2, 8))
    mean, variance = rng.standard_normal(8), rng.uniform(0.3, 2.0, 8)

    def body(b: Builder, x: Var) -> Var:
        given = [b.constant(a, DType.FLOAT32) for a in (scale, shift, mean, variance)]
        return b.op("BatchNormalization", x, *given)

    model, feeds = built(body, x)
    found = looked(pose(model, feeds, operator="vjp"), balls=False)
    assert found.nodes[0].ulps > 1000
    assert {b.what for b in found.nodes} <= {What.ROUNDING, What.EXACT}


def test_of_outputs_that_do_not_match_the_error_is_explained():
    model, feeds = sample("diabetes")
    problem = pose(scaled(model, "hidden1", 1.01), feeds)
    evidence = measure(problem, ["reverse"], runs=1, warmup=0)
    judged = judge(evidence)
    assert not judged.primal.matches
    walked = explain(problem, focus_of(evidence, judged), ["reverse"], 60)
    found = explained(evidence, judged, walked).explanation
    assert found is not None
    assert found.method == "outputs"
    assert found.nodes[0].node == "hidden1"
    assert found.nodes[0].shares["outputs"] == pytest.approx(1.0, abs=0.1)


def test_an_operator_that_gradcli_computes_wrongly_is_named_too():
    found = looked(asked("diabetes", computed_wrongly(OPS["Softplus"], 1.001)), ())
    assert (found.nodes[0].node, found.nodes[0].what) == ("hidden2", What.KERNEL)


@pytest.fixture
def miscomputing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, float], None]:
    """Makes onnxruntime compute an operator wrongly in derivative graphs."""

    def plant(op: str, factor: float) -> None:
        def prepare(right: Any, source: Graph | Model, **how: Any) -> Any:
            return right(_wrong(source, op, factor) if isinstance(source, Graph) else source, **how)

        monkeypatch.setattr(runtime, "prepare", partial(prepare, runtime.prepare))

    return plant


def _wrong(graph: Graph, op: str, factor: float) -> Graph:
    """The graph with the results of an operator off by a factor, under the names that they had."""
    nodes: list[Node] = []
    constants = dict(graph.constants)
    for node in graph.nodes:
        if node.op != op:
            nodes.append(node)
            continue
        (y,) = node.makes()
        right = Value(f"{y.name}, rightly", y.dtype, y.shape)
        by = Value(f"{y.name}, factor", y.dtype, ())
        constants[by] = np.array(factor, y.dtype.np)
        nodes += [node.on(node.inputs, [right]), Node("Mul", (right, by), (y,))]
    return replace(graph, nodes=tuple(nodes), constants=constants)


W = np.linspace(-0.7, 0.9, 12).reshape(3, 4) ** 3


@pytest.mark.parametrize("asking", [True, False])
def test_a_wrong_kernel_of_a_derivative_is_named_with_and_without_asking(
    miscomputing: Callable[[str, float], None], asking: bool
):
    # Tanh's derivative is the only one that subtracts.
    miscomputing("Sub", 1.01)
    model, feeds = built(lambda b, x: b.op("Tanh", b.op("Relu", x) * 0.5), [[0.3, -0.2, 0.9]])
    problem = pose(model, feeds)
    evidence = measure(problem, ["reverse", "complex-step"], runs=1, warmup=0)
    judged = judge(evidence)
    reverse = judged.methods[0]
    assert (reverse.verdict, reverse.cause) == (Verdict.DISAGREE, Cause.RUNTIME)
    (tanh,) = (n.name for n in model.graph.nodes if n.op == "Tanh")
    if asking:
        walked = explain(problem, focus_of(evidence, judged), ["reverse"], 60)
        worst = explained(evidence, judged, walked).methods[0].worst
        assert worst is not None
        assert worst.node == tanh
    else:
        assert culprits(problem, {"reverse": "runtime"}, 60) == {"reverse": tanh}


# ---- rounding ------------------------------------------------------------------------------------

# Where the digits are lost, by the operator there, and the function.
LOSSES: dict[str, tuple[str, Callable[[Builder, Var], Var]]] = {
    "a large constant": ("Add", lambda b, x: b.op("Tanh", (x + 3e4) - 3e4)),
    "a small difference": (
        "Exp",
        lambda b, x: b.op("Log", b.op("Exp", x * 1e-3) - 0.999),
    ),
    "a variance": (
        "Mul",
        lambda b, x: b.op("Log", b.op("ReduceMean", (y := x + 300.0) * y) - 90100.0),
    ),
    "a saturated sigmoid": (
        "Sigmoid",
        lambda b, x: b.op("Log", b.like(1.0, x) - b.op("Sigmoid", x + 9.0)),
    ),
}


def moved_alone(problem: Problem) -> dict[str, float]:
    """How far a node's arithmetic in float32, and no other's, moves the gradient, by node."""
    graph = expand(problem.exact)
    derivative = vjp(graph, problem.wrt, problem.of)
    run = Evaluator(derivative.graph).run
    bars = {d: np.ones(problem.shape(k)) for k, d in derivative.directions.items()}

    def narrow(name: str, node: Node, results: tuple[Any, ...]) -> tuple[Any, ...]:
        if (node.origin or node.name) != name:
            return results
        return tuple(x.astype(np.float32).astype(float) for x in results)

    def gradient(**how: Any) -> np.ndarray:
        out: Mapping[str, np.ndarray] = run({**problem.point, **bars}, **how)
        return np.asarray(out[derivative.results["x"]])

    right = gradient()
    return {
        n.name: float(np.max(np.abs(gradient(adjust=partial(narrow, n.name)) - right)))
        for n in graph.nodes
    }


@pytest.mark.parametrize("why", LOSSES)
def test_the_node_where_digits_are_lost_has_the_share(why: str):
    op, body = LOSSES[why]
    model, feeds = built(
        lambda b, x: b.op("ReduceSum", body(b, x), b.ints([0, 1]), keepdims=0),
        [[0.31234, -0.2712, 0.9123]],
    )
    problem = pose(model, feeds)
    evidence = measure(problem, ["reverse", "complex-step"], runs=1, warmup=0)
    judged = judge(evidence)
    walked = explain(problem, focus_of(evidence, judged), ["reverse"], 60)
    found = explained(evidence, judged, walked).explanation
    assert found is not None
    worst = found.nodes[0]
    assert worst.op == op
    alone = moved_alone(problem)
    assert alone[worst.node] >= 0.3 * max(alone.values())
    assert found.explained["reverse"] == pytest.approx(1.0, abs=0.35)


def test_what_cancels_the_rounding_of_another_node_is_named_there():
    model, feeds = built(
        lambda b, x: b.op("ReduceSum", (x + 1e6 - 1e6) * x, b.ints([0, 1]), keepdims=0),
        [[0.31234, -0.2712, 0.9123]],
    )
    problem = pose(model, feeds)
    evidence = measure(problem, ["reverse"], runs=1, warmup=0)
    judged = judge(evidence)
    walked = explain(problem, focus_of(evidence, judged), ["reverse"], 60)
    found = explained(evidence, judged, walked).explanation
    assert found is not None
    worst = found.nodes[0]
    assert worst.op == "Add"
    assert "(Sub) cancels what it rounds" in worst.todo


def test_a_sum_of_float32_constants_moves_as_far_as_its_products_do():
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((1, 4, 32)), rng.standard_normal((8, 4, 3)).astype(np.float32)
    bias = np.full(8, -3.0, np.float32)
    b = Builder(OPS)
    y = b.op("Conv", b.input("x", DType.FLOAT64, x.shape), b.constant(w), b.constant(bias))
    graph = b.graph([b.rename(y, "y")])
    problem = Problem(None, graph, ("x",), ("y",), "jacobian", {"x": x}, {}, {}, DType.FLOAT64)
    walker = Walker(problem, Focus("", {}, {}), (), lambda _: False)
    node = next(n for n in graph.nodes if n.op == "Conv")
    (spread,) = walker._spreads(node, [x, w, bias])
    products = np.lib.stride_tricks.sliding_window_view(x[0], 3, axis=1).transpose(1, 0, 2)
    squares = np.einsum("tck,ock->ot", products**2, w.astype(float) ** 2) + 9.0
    np.testing.assert_allclose(spread[0], np.sqrt(2 * squares))


def test_where_float64_has_no_digits_no_rule_of_symbolic_is_accused():
    """A Softmax whose largest element is 1 to the last digit: p (1 - p) of that is rounding."""
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT32, (1, 3))
    y = b.rename(b.op("Softmax", x * 40.0), "y")
    point = {"x": np.array([[1.0, 2.0, -1.0]], np.float32)}
    problem = Problem(None, b.graph([y]), ("x",), ("y",), "jacobian", point, {}, {}, DType.FLOAT32)
    assert not any(node.what is What.RULE for node in looked(problem, (*BOTH, "symbolic")).nodes)


def test_a_rule_that_says_nothing_is_named():
    card = OPS["Tanh"]
    silent = OPS.replace(replace(card, vjp=lambda *_: [None]))
    found = looked(asked("physics", silent))
    assert (found.nodes[0].node, found.nodes[0].what) == ("hidden", What.RULE)
