"""The graph: what is checked when one is made, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from itertools import pairwise

import numpy as np
import pytest

from gradcli.errors import InternalError
from gradcli.graph import DType, Graph, Node, Value

F32, F64, INT64, STRING = DType.FLOAT32, DType.FLOAT64, DType.INT64, DType.STRING


def value(name: str, shape: tuple[int | str, ...] | None = (2,), dtype: DType = F32) -> Value:
    return Value(name, dtype, shape)


x, w, y, z = (value(name) for name in "xwyz")
ONES = np.ones(2, np.float32)


def node(made: Value, *read: Value | None, name: str = "n") -> Node:
    return Node("Add", read, (made,), name=name)


def body(captured: Value) -> Graph:
    inner = value("inner")
    return Graph((), (inner,), (node(inner, captured, captured),), captures=(captured,))


def test_what_holds_is_taken():
    graph = Graph((x,), (y, z), (node(y, x, w), node(z, y, x)), {w: ONES})
    assert [v.name for v in graph.values()] == ["x", "w", "y", "z"]
    assert graph.value("z") is z
    assert graph.value("q") is None
    assert graph.producers() == {y: graph.nodes[0], z: graph.nodes[1]}
    assert graph.consumers() == {x: 2, w: 1, y: 2, z: 1}


BROKEN: dict[str, tuple[Callable[[], Graph], str]] = {
    "an input twice": (lambda: Graph((x, x), (x,), ()), "'x' is made twice"),
    "two inputs of one name": (lambda: Graph((x, value("x")), (x,), ()), "two values.*'x'"),
    "a constant that is an input": (lambda: Graph((x,), (x,), (), {x: ONES}), "'x' is made twice"),
    "a constant named like an input": (
        lambda: Graph((x,), (x,), (), {value("x"): ONES}),
        "two values.*'x'.*constant",
    ),
    "a node that makes an input": (lambda: Graph((x,), (x,), (node(x, x),)), "made twice.*'n'"),
    "a node that makes a constant": (
        lambda: Graph((x,), (y,), (node(y, x),), {y: ONES}),
        "made twice.*'n'",
    ),
    "two nodes that make one value": (
        lambda: Graph((x,), (y,), (node(y, x), node(y, x, name="m"))),
        "made twice.*'m'",
    ),
    "a node that makes one value twice": (
        lambda: Graph((x,), (y,), (Node("Split", (x,), (y, y), name="n"),)),
        "made twice.*'n'",
    ),
    "two nodes that make one name": (
        lambda: Graph((x,), (y,), (node(y, x), node(value("y"), x))),
        "two values.*'y'",
    ),
    "a node that comes too early": (
        lambda: Graph((x,), (z,), (node(z, y), node(y, x, name="m"))),
        "'n' reads 'y' before",
    ),
    "a node that reads itself": (lambda: Graph((x,), (y,), (node(y, y),)), "'n' reads 'y' before"),
    "another value of the name that is read": (
        lambda: Graph((x,), (y,), (node(y, value("x")),)),
        "'n' reads 'x' before",
    ),
    "an output that nothing makes": (lambda: Graph((x,), (y,), ()), "'y' is never made"),
    "a body that captures what is not there": (
        lambda: Graph((x,), (y,), (Node("If", (x,), (y,), {"body": body(w)}, name="n"),)),
        "'n' reads 'w' before",
    ),
    "an array of another type": (
        lambda: Graph((), (w,), (), {w: np.ones(2)}),
        "'?w:float32.*float64",
    ),
    "an array of another shape": (
        lambda: Graph((), (w,), (), {w: np.ones(3, np.float32)}),
        r"\(3,\)",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_does_not_hold_is_refused(case: str):
    make, said = BROKEN[case]
    with pytest.raises(InternalError, match=said) as caught:
        make()
    assert caught.value.exit_code == 70


def test_nothing_can_be_changed():
    graph = Graph((x,), (y,), (node(y, x, w),), {w: ONES})
    for thing, name in ((graph, "nodes"), (graph.nodes[0], "op"), (x, "shape")):
        with pytest.raises(FrozenInstanceError):
            setattr(thing, name, None)
    with pytest.raises(TypeError):
        graph.constants[w] = ONES  # type: ignore[index] # that is the point


def test_constants_are_those_of_the_time_of_making():
    given = {w: ONES}
    graph = Graph((x,), (y,), (node(y, x, w),), given)
    given[z] = ONES
    assert list(graph.constants) == [w]


def test_what_a_node_reads_and_makes():
    optional = Node("Clip", (x, None, w), (None, y))
    assert optional.reads() == [x, w]
    assert optional.makes() == [y]
    assert optional.subgraphs() == []
    branch = body(w)
    choice = Node("If", (x,), (y,), {"else_branch": branch, "axis": 1})
    assert choice.subgraphs() == [branch]
    assert choice.reads() == [x, w]
    Graph((x,), (y,), (choice,), {w: ONES})


def test_a_node_on_other_values_is_the_same_otherwise():
    old = Node("Gelu", (x,), (y,), {"approximate": "none"}, "com.microsoft", "mine", "theirs")
    new = old.on([w], [z])
    assert (new.inputs, new.outputs) == ((w,), (z,))
    for name in ("op", "attrs", "domain", "name", "origin", "key"):
        assert getattr(new, name) == getattr(old, name)
    assert new.key == "com.microsoft::Gelu"


def test_values_are_told_apart_by_identity():
    assert value("x") != value("x")
    assert len({value("x"), value("x")}) == 2
    assert repr(value("x", ("N", 3))) == "x:float32[N,3]"
    assert repr(value("x", None)) == "x:float32[?]"


def test_a_constant_of_text_or_of_a_shape_with_symbols():
    names, open_ = value("names", (2,), STRING), value("open", ("N",))
    constants = {names: np.array(["a", "b"], object), open_: ONES}
    assert len(Graph((), (names, open_), (), constants).constants) == 2


def test_a_long_chain_takes_no_stack():
    values = [value(f"v{k}") for k in range(5000)]
    nodes = [node(b, a) for a, b in pairwise(values)]
    graph = Graph((values[0],), (values[-1],), tuple(nodes))
    assert len(graph.producers()) == 4999
