"""Evaluating graphs: what is computed, kept, freed and refused."""

from __future__ import annotations

import gc
import math
import time
import weakref
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from gradcli.deadline import until
from gradcli.errors import CannotError, OutOfTimeError, UnsupportedError
from gradcli.graph import Builder, DType, Graph, Node, Value, Var
from gradcli.interpret import Evaluator, evaluate, interpret
from gradcli.numbers import complex_, real
from gradcli.ops import OPS, Table

F32, F64, INT64 = DType.FLOAT32, DType.FLOAT64, DType.INT64
X = np.array([0.5, -1.0, 2.0])


def chain(length: int = 3) -> Graph:
    b = Builder(OPS)
    x = b.input("x", F64, (3,))
    for k in range(length):
        x = b.op("Tanh", x, name=f"t{k}")
    return b.graph([x])


def changed(op: str, impl: Any) -> Table:
    return OPS.replace(replace(OPS[op], impl=impl))


def test_outputs_by_name():
    b = Builder(OPS)
    x = b.input("x", F64, (3,))
    w = b.constant(np.ones(3), name="w")
    y = b.op("Add", x, w, name="y")
    out = interpret(b.graph([y, x, w, y]), {"x": X})
    assert list(out) == ["y", "x", "w"]
    np.testing.assert_array_equal(out["y"], X + 1)
    np.testing.assert_array_equal(out["x"], X)
    np.testing.assert_array_equal(out["w"], np.ones(3))


def test_floats_are_numbers_of_the_system_and_other_tensors_are_not():
    b = Builder(OPS)
    x, i = b.input("x", F32, (3,)), b.input("i", INT64, (2,))
    g = b.graph([b.op("Gather", x, i, name="y"), b.op("Add", i, i, name="j")])
    feeds = {"x": X.astype(np.float32), "i": np.array([2, 0], np.int64)}
    for n in (real, complex_):
        out = interpret(g, feeds, n)
        assert n.is_number(out["y"])
        assert out["j"].dtype == np.int64
        np.testing.assert_array_equal(out["y"], X[[2, 0]])
    assert interpret(g, feeds)["y"].dtype == np.float64


def test_numbers_of_the_system_are_taken_as_they_are():
    x = X + 1e-20j
    np.testing.assert_array_equal(interpret(chain(0), {"x": x}, complex_)["x"], x)


def test_an_evaluator_may_be_run_again():
    e = Evaluator(chain())
    for x in (X, 2 * X, X):
        np.testing.assert_array_equal(e.run({"x": x})["t2"], np.tanh(np.tanh(np.tanh(x))))


def test_further_values_are_kept_on_request():
    b = Builder(OPS)
    x = b.input("x", F64, (3,))
    w = b.constant(X, name="w")
    g = b.graph([b.op("Exp", b.op("Mul", x, w, name="h"), name="y")])
    out = interpret(g, {"x": X}, keep=["x", "w", "h", "nothing"])
    assert set(out) == {"x", "w", "h", "y"}
    np.testing.assert_array_equal(out["h"], X * X)


def test_every_node_is_shown_with_operands_and_results():
    seen: list[tuple[str, Any, Any]] = []
    g = chain()
    Evaluator(g).run({"x": X}, observe=lambda node, xs, ys: seen.append((node.name, xs, ys)))
    assert [name for name, *_ in seen] == ["t0", "t1", "t2"]
    for (_, _, made), (_, read, _) in pairwise(seen):
        np.testing.assert_array_equal(made[0], read[0])


class Traced(np.ndarray):
    """An array that can be watched."""


def test_values_are_freed_as_they_die():
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0

    def impl(_: Any, x: np.ndarray) -> np.ndarray:
        nonlocal most
        made = np.tanh(x).view(Traced)
        alive.append(weakref.ref(made))
        most = max(most, sum(ref() is not None for ref in alive))
        return made

    Evaluator(chain(20), table=changed("Tanh", impl)).run({"x": X})
    assert most == 2


def test_a_value_that_nothing_reads_does_not_stay():
    refs: list[weakref.ref[np.ndarray]] = []

    def impl(_: Any, x: np.ndarray) -> np.ndarray:
        made = np.tanh(x).view(Traced)
        refs.append(weakref.ref(made))
        return made

    def gone(_: Any, x: np.ndarray) -> np.ndarray:
        gc.collect()
        assert refs[0]() is None
        return np.exp(x)

    table = changed("Tanh", impl).replace(replace(OPS["Exp"], impl=gone))
    b = Builder(table)
    x = b.input("x", F64, (3,))
    b.op("Tanh", x)
    Evaluator(b.graph([b.op("Exp", b.op("Neg", x))]), table=table).run({"x": X})
    assert len(refs) == 1


def test_captured_values_come_from_outside():
    outer = Value("outer", F64, (3,))
    x, y = Value("x", F64, (3,)), Value("y", F64, (3,))
    body = Graph((x,), (y,), (Node("Add", (x, outer), (y,)),), captures=(outer,))
    out = Evaluator(body).run({"x": X}, captured={outer: np.ones(3)})
    np.testing.assert_array_equal(out["y"], X + 1)


def test_results_that_are_not_wanted_are_not_computed():
    def impl(_: Any, x: np.ndarray, **__: Any) -> Any:
        def dear() -> np.ndarray:
            raise AssertionError("nobody wants this")

        return x, dear

    x, y, z = (Value(name, F64, (3,)) for name in "xyz")
    table = changed("MaxPool", impl)
    for outputs in ((y,), (y, None)):
        node = Node("MaxPool", (x,), outputs, {})
        np.testing.assert_array_equal(evaluate(node, [X], table=table)[0], X)
    with pytest.raises(AssertionError):
        evaluate(Node("MaxPool", (x,), (y, z), {}), [X], table=table)


@pytest.mark.parametrize("op", ["Mystery", "SequenceEmpty"])
def test_an_operator_that_cannot_be_evaluated_is_named(op: str):
    x, y = Value("x", F64, (3,)), Value("y", F64, (3,))
    node = Node(op, (x,), (y,), name="mine")
    with pytest.raises(UnsupportedError, match=rf"'mine'.*{op}"):
        Evaluator(Graph((x,), (y,), (node,)))


def test_operands_that_do_not_fit_name_the_node_and_their_shapes():
    b = Builder(OPS)
    x, z = b.input("x", F64, None), b.input("z", F64, None)
    g = b.graph([b.op("MatMul", x, z, name="product")])
    with pytest.raises(UnsupportedError, match=r"'product' \(MatMul\).*\(3,\), \(4, 2\)"):
        interpret(g, {"x": X, "z": np.ones((4, 2))})


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (CannotError("undecided", "more bits"), CannotError, r"'t0' \(Tanh\): undecided"),
        (UnsupportedError("not that"), UnsupportedError, "^not that$"),
        (ZeroDivisionError("by 0"), UnsupportedError, "'t0'.*by 0"),
        (IndexError("far out"), UnsupportedError, "'t0'.*far out"),
        (MemoryError("too large"), UnsupportedError, r"'t0' \(Tanh\).* fit into memory"),
        (NotImplementedError("later"), NotImplementedError, "later"),
        (AssertionError("a bug"), AssertionError, "a bug"),
    ],
)
def test_errors_name_the_node_where_they_are_the_model_s(
    error: Exception, kind: type[Exception], said: str
):
    def impl(_: Any, x: np.ndarray) -> np.ndarray:
        raise error

    with pytest.raises(kind, match=said) as caught:
        Evaluator(chain(1), table=changed("Tanh", impl)).run({"x": X})
    if isinstance(error, CannotError):
        assert isinstance(caught.value, CannotError)
        assert caught.value.hint == "more bits"


def test_infinities_and_nan_pass_in_silence():
    b = Builder(OPS)
    x = b.input("x", F64, (3,))
    y = b.op("Log", x) / x
    out = interpret(b.graph([b.rename(y, "y")]), {"x": np.array([0.0, -1.0, np.inf])})
    np.testing.assert_array_equal(out["y"], [-np.inf, np.nan, np.nan])


def test_a_long_chain_takes_no_stack():
    y = interpret(chain(3000), {"x": X})["t2999"]
    assert np.all(np.abs(y) < 0.1)


def test_constants_are_lifted_once():
    class Counting(type(real)):  # type: ignore[misc] # the system's own class
        count = 0

        def lift(self, array: np.ndarray) -> Any:
            Counting.count += 1
            return super().lift(array)

    b = Builder(OPS)
    x = b.input("x", F64, (3,))
    y: Var = x + b.constant(np.ones(3), name="w")
    e = Evaluator(b.graph([y]), Counting())
    assert Counting.count == 1
    e.run({"x": X})
    e.run({"x": X.astype(np.float32)})
    assert Counting.count <= 3


def test_a_deadline_stops_between_nodes():
    seen: list[str] = []
    with until(time.perf_counter() + 3600):
        with pytest.raises(OutOfTimeError), until(-math.inf):
            Evaluator(chain()).run({"x": X}, observe=lambda node, *_: seen.append(node.name))
        interpret(chain(), {"x": X})
    assert seen == []


def test_of_nested_deadlines_the_earliest_holds():
    with until(-math.inf), until(math.inf), pytest.raises(OutOfTimeError):
        interpret(chain(), {"x": X})
    interpret(chain(), {"x": X})


def test_a_deadline_that_passes_on_the_way():
    seen: list[str] = []

    def slowly(node: Node, *_: Any) -> None:
        seen.append(node.name)
        time.sleep(0.02)

    with pytest.raises(OutOfTimeError), until(time.perf_counter() + 0.03):
        Evaluator(chain(50)).run({"x": X}, observe=slowly)
    assert 1 <= len(seen) < 10


def test_of_a_large_network_constants_are_lifted_when_they_are_read(monkeypatch):
    """Not all at once; and the result is the same, also of those that are outputs or kept."""
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT32, (2, 2))
    weights = [np.full((2, 2), k, np.float32) for k in range(1, 4)]
    w = [b.constant(a, name=f"w{k}") for k, a in enumerate(weights)]
    y = b.op("MatMul", b.op("Add", b.op("MatMul", x, w[0]), w[1]), w[0])
    graph = b.graph([y, w[2]])
    feeds = {"x": np.eye(2, dtype=np.float32)}
    want = Evaluator(graph, complex_).run(feeds, keep=["w1"])
    monkeypatch.setattr("gradcli.interpret.HEAVY", 0)
    late = Evaluator(graph, complex_)
    assert len(late._constants) == 1
    for _ in range(2):
        found = late.run(feeds, keep=["w1"])
        assert found.keys() == want.keys()
        for name, array in want.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == np.complex128
