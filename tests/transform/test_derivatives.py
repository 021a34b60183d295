"""jvp, vjp, vmap and expand as graphs: what goes in and out, names, and higher orders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from gradcli.errors import CannotError, InternalError, UnsupportedError
from gradcli.graph import Builder, DType, Graph, Node, Value, Var
from gradcli.interpret import interpret
from gradcli.numbers import complex_
from gradcli.ops import OPS
from gradcli.transform import Derivative, expand, jvp, simplify, vjp, vmap
from gradcli.transform.vmap import BATCH

F64 = DType.FLOAT64
Arrays = Mapping[str, np.ndarray]

RNG = np.random.default_rng(0)
W, V = RNG.standard_normal((3, 5)), RNG.standard_normal((5, 2))


def graph(*inputs: str, make: Callable[..., Any], shape: tuple[int | str, ...] = (2, 3)) -> Graph:
    """Of these inputs, all of one shape; what `make` returns are the outputs y0, y1, ..."""
    b = Builder(OPS)
    made = make(b, *(b.input(name, F64, shape) for name in inputs))
    outputs = made if isinstance(made, tuple) else (made,)
    return b.graph([y if _named(y) else b.rename(y, f"y{k}") for k, y in enumerate(outputs)])


def _named(y: Var) -> bool:
    return y.value.name.startswith(("x", "z", "y"))


def mlp() -> Graph:
    """Two outputs of two inputs, smooth, neither linear in anything."""

    def make(b: Builder, x: Var, z: Var) -> tuple[Var, Var]:
        h = b.op("Tanh", b.op("MatMul", x, b.constant(W)))
        y = b.op("MatMul", h, b.constant(V))
        return b.op("Softmax", y), b.op("Mul", b.op("Exp", x), z)

    return graph("x", "z", make=make)


def point(g: Graph, seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        v.name: rng.standard_normal([d if isinstance(d, int) else 2 for d in v.shape or ()])
        for v in g.inputs
    }


def directions(d: Derivative, given: Arrays) -> dict[str, np.ndarray]:
    return {d.directions[name]: array for name, array in given.items()}


def pushed(g: Graph, at: Arrays, along: Arrays) -> dict[str, np.ndarray]:
    """The tangents of all outputs, by the complex step."""
    moved = {name: x + 1e-30j * along[name] if name in along else x for name, x in at.items()}
    return {name: np.imag(y) / 1e-30 for name, y in interpret(g, moved, complex_).items()}


def both_ways(
    g: Graph, wrt: list[str] | None = None, of: list[str] | None = None
) -> tuple[Derivative, Derivative]:
    """jvp and vjp of a graph, held against the complex step and against each other."""
    at = point(g)
    ahead, back = jvp(g, wrt, of), vjp(g, wrt, of)
    dots = {
        name: np.random.default_rng(2).standard_normal(at[name].shape) for name in ahead.directions
    }
    values, want = interpret(g, at), pushed(g, at, dots)
    out = interpret(ahead.graph, at | directions(ahead, dots))
    for name in back.directions:
        np.testing.assert_allclose(out[name], values[name], rtol=1e-14)
        y_dot = out[ahead.results[name]] if name in ahead.results else np.zeros(values[name].shape)
        np.testing.assert_allclose(y_dot, want[name], rtol=1e-12, atol=1e-13)
    bars = {
        name: np.random.default_rng(3).standard_normal(values[name].shape)
        for name in back.directions
    }
    out = interpret(back.graph, at | directions(back, bars))
    sent = sum(np.sum(bars[name] * want[name]) for name in bars)
    got = sum(np.sum(out[result] * dots[name]) for name, result in back.results.items())
    np.testing.assert_allclose(got, sent, rtol=1e-11, atol=1e-13)
    return ahead, back


# ---- what goes in and out -----------------------------------------------------------------------


def test_several_inputs_and_outputs():
    ahead, back = both_ways(mlp())
    assert ahead.directions == {"x": "x_dot", "z": "z_dot"}
    assert ahead.results == {"y0": "y0_dot", "y1": "y1_dot"}
    assert back.directions == {"y0": "y0_bar", "y1": "y1_bar"}
    assert back.results == {"x": "x_bar", "z": "z_bar"}
    assert [v.name for v in ahead.graph.inputs] == ["x", "z", "x_dot", "z_dot"]
    assert [v.name for v in ahead.graph.outputs] == ["y0", "y1", "y0_dot", "y1_dot"]
    assert [v.name for v in back.graph.inputs] == ["x", "z", "y0_bar", "y1_bar"]
    assert [v.name for v in back.graph.outputs] == ["y0", "y1", "x_bar", "z_bar"]


@pytest.mark.parametrize("wrt", [["x"], ["z"], ["z", "x"]])
@pytest.mark.parametrize("of", [["y0"], ["y1"], ["y1", "y0"]])
def test_some_of_them(wrt: list[str], of: list[str]):
    ahead, back = both_ways(mlp(), wrt, of)
    assert list(ahead.directions) == wrt
    assert list(back.directions) == of
    ways = {("x", "y0"), ("x", "y1"), ("z", "y1")}
    assert ahead.results.keys() == {y for x, y in ways if x in wrt and y in of}
    assert back.results.keys() == {x for x, y in ways if x in wrt and y in of}


def test_no_way_is_no_result():
    ahead, back = both_ways(mlp(), ["z"], ["y0"])
    assert not ahead.results
    assert not back.results


def test_a_name_given_twice_counts_once():
    ahead, back = both_ways(mlp(), ["x", "x"], ["y0", "y0"])
    assert [v.name for v in ahead.graph.inputs] == ["x", "z", "x_dot"]
    assert [v.name for v in back.graph.inputs] == ["x", "z", "y0_bar"]
    assert [v.name for v in back.graph.outputs] == ["y0", "x_bar"]


@pytest.mark.parametrize(("wrt", "of"), [(["q"], None), (None, ["q"]), (["y0"], None)])
def test_a_name_that_is_not_there(wrt: list[str] | None, of: list[str] | None):
    for transform in (jvp, vjp):
        with pytest.raises(InternalError, match=": not"):
            transform(mlp(), wrt, of)


FORMS: dict[str, Callable[[Builder, Var, Var], Any]] = {
    "an output that is an input": lambda b, x, z: (x, b.op("Mul", x, z)),
    "an output that is an input, and nothing else": lambda _, _x, z: (z,),
    "one operand twice": lambda b, x, _: b.op("Mul", x, x),
    "three times": lambda b, x, _: b.op("Sum", x, x, x),
    "one value read by many": lambda b, x, z: b.op("Exp", x) * x + b.op("Sin", x) * z + x,
    "a square of a square": lambda b, x, z: b.op("Mul", *[b.op("Mul", x, z)] * 2),
}


@pytest.mark.parametrize("case", FORMS)
def test_graphs_of_every_form(case: str):
    both_ways(graph("x", "z", make=FORMS[case]))


def test_an_output_that_others_are_made_of():
    def make(b: Builder, x: Var) -> tuple[Var, Var, Var]:
        y0 = b.op("Exp", x, name="y0")
        return y0, b.op("Sin", y0), b.op("Mul", y0, x)

    both_ways(graph("x", make=make))


def test_one_value_as_several_outputs():
    g = graph("x", make=lambda b, x: b.op("Exp", x))
    both_ways(Graph(g.inputs, (*g.outputs, *g.outputs), g.nodes, g.constants))


def test_results_that_nothing_asks_for_are_not_sent_back():
    def make(b: Builder, x: Var) -> tuple[Var, ...]:
        parts = b.ops("Split", x, None, outputs=3, axis=1, num_outputs=3)
        return (b.op("Mul", parts[0], parts[2]),)

    both_ways(graph("x", make=make))


def test_steps_and_integers_carry_nothing():
    def make(b: Builder, x: Var) -> tuple[Var, ...]:
        row = b.op("Gather", x, b.op("ArgMax", x, axis=1, keepdims=0), axis=1)
        return b.op("Floor", x), b.op("Mul", b.op("Sign", x), x), row, b.op("Shape", x)

    ahead, back = both_ways(graph("x", make=make))
    assert "y0" in back.directions
    assert "y0" not in ahead.results
    assert "y3" not in {*back.directions, *ahead.results}


def test_names_that_the_model_has_taken():
    def make(b: Builder, x: Var, x_dot: Var) -> tuple[Var, Var]:
        y = b.op("Mul", x, x_dot, name="y0")
        return y, b.op("Exp", y, name="y0_bar")

    ahead, back = both_ways(graph("x", "x_dot", make=make))
    for d, given in ((ahead, ["x", "x_dot"]), (back, ["y0", "y0_bar"])):
        assert list(d.directions) == given
        assert not {"x", "x_dot", "y0", "y0_bar"} & {*d.directions.values(), *d.results.values()}
        assert len({*d.directions.values(), *d.results.values()}) == 4


def test_unknown_sizes():
    def make(b: Builder, x: Var, z: Var) -> Var:
        return b.op("ReduceMean", b.op("Exp", x) * b.op("ReduceSum", z, b.ints([0])), b.ints([1]))

    for shape in (("N", 3), ("N", "M")):
        both_ways(graph("x", "z", make=make, shape=shape))


def test_nodes_say_whom_they_serve():
    b = Builder(OPS)
    x = b.input("x", F64, (2, 3))
    y = b.op("Softmax", b.op("Tanh", x, name="bend"), name="share")
    g = b.graph([y])
    first = vjp(g)
    second = jvp(first.graph, ["x"])
    for d in (first, second):
        served = {n.origin for n in d.graph.nodes if n.origin}
        assert served == {"bend", "share"}


def test_an_operator_without_a_rule_is_named():
    x, y = Value("x", F64, (2,)), Value("y", F64, (2,))
    node = Node("Mystery", (x,), (y,), domain="theirs", name="mine")
    z = Value("z", F64, (2,))
    other = Node("Exp", (x,), (z,), OPS.attributes("Exp", {}))
    for transform in (jvp, vjp):
        with pytest.raises(UnsupportedError, match=r"'mine'.*theirs::Mystery"):
            transform(Graph((x,), (y,), (node,)))
    # Where no cotangent goes through it, nobody minds.
    assert vjp(Graph((x,), (y, z), (node, other)), of=["z"]).results == {"x": "x_bar"}


# ---- higher orders ------------------------------------------------------------------------------


def bent(of: str = "y0") -> Graph:
    g = mlp()
    return Graph(g.inputs, tuple(v for v in g.outputs if v.name == of), g.nodes, g.constants)


def central(f: Callable[[Arrays], Arrays], at: Arrays, along: Arrays) -> dict[str, np.ndarray]:
    """The derivative of f along a direction, by differences of fourth order."""
    h = 1e-3

    def moved(step: float) -> Arrays:
        return f({name: x + step * along.get(name, 0.0) for name, x in at.items()})

    far, near, back, rear = moved(2 * h), moved(h), moved(-h), moved(-2 * h)
    return {k: (8 * (near[k] - back[k]) - far[k] + rear[k]) / (12 * h) for k in near}


@pytest.mark.parametrize("of", ["y0", "y1"])
def test_jvp_of_vjp_is_the_product_with_the_hessian(of: str):
    g = bent(of)
    d = vjp(g)
    at, bars = point(g), {of: np.random.default_rng(4).standard_normal((2, 2 if of == "y0" else 3))}
    along = {name: np.random.default_rng(5).standard_normal(x.shape) for name, x in at.items()}
    wrt = list(d.results)
    fixed = directions(d, bars)

    def gradient(x: Arrays) -> dict[str, np.ndarray]:
        out = interpret(d.graph, {**x, **fixed})
        return {name: out[d.results[name]] for name in wrt}

    want = central(gradient, at, along)
    hvp = jvp(d.graph, wrt, list(d.results.values()))
    out = interpret(hvp.graph, at | fixed | directions(hvp, {n: along[n] for n in wrt}))
    for name in wrt:
        np.testing.assert_allclose(out[hvp.results[d.results[name]]], want[name], atol=1e-9)

    # The Hessian is symmetric, so pulling back along the direction gives the same.
    twice = vjp(d.graph, wrt, list(d.results.values()))
    bars2 = {d.results[name]: along[name] for name in wrt}
    out = interpret(twice.graph, at | fixed | directions(twice, bars2))
    for name in wrt:
        np.testing.assert_allclose(out[twice.results[name]], want[name], atol=1e-9)


def test_vjp_of_jvp_is_the_same_again():
    g = bent()
    at, bar = point(g), np.random.default_rng(4).standard_normal((2, 2))
    along = {"x": np.random.default_rng(5).standard_normal((2, 3))}
    d = vjp(g, ["x"])
    hvp = jvp(d.graph, ["x"], [d.results["x"]])
    out = interpret(hvp.graph, at | directions(d, {"y0": bar}) | directions(hvp, along))
    want = out[hvp.results[d.results["x"]]]
    a = jvp(g, ["x"])
    back = vjp(a.graph, ["x"], [a.results["y0"]])
    bars = directions(back, {a.results["y0"]: bar})
    out = interpret(back.graph, at | directions(a, along) | bars)
    np.testing.assert_allclose(out[back.results["x"]], want, rtol=1e-12)
    # With respect to the tangent a jvp is linear: what comes back is the vjp.
    linear = vjp(a.graph, [a.directions["x"]], [a.results["y0"]])
    bars = directions(linear, {a.results["y0"]: bar})
    out = interpret(linear.graph, at | directions(a, along) | bars)
    first = interpret(d.graph, at | directions(d, {"y0": bar}))
    got = out[linear.results[a.directions["x"]]]
    np.testing.assert_allclose(got, first[d.results["x"]], rtol=1e-12)


def test_third_order():
    g = graph("x", make=lambda b, x: b.op("Tanh", x))
    x = point(g)["x"]
    feeds, name, d = {"x": x}, "y0", None
    for _ in range(3):
        d = jvp(g if d is None else d.graph, ["x"], [name])
        feeds |= {d.directions["x"]: np.ones(x.shape)}
        name = d.results[name]
    assert d is not None
    t = np.tanh(x)
    want = (1 - t**2) * (6 * t**2 - 2)
    np.testing.assert_allclose(interpret(d.graph, feeds)[name], want, rtol=1e-12)


# ---- many directions at once --------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("size", ["known", BATCH, "B"])
@pytest.mark.parametrize("mode", ["jvp", "vjp", "jvp of vjp"])
def test_directions_along_a_leading_axis(mode: str, size: str, count: int):
    g = mlp()
    d = jvp(g) if mode == "jvp" else vjp(g)
    at = point(d.graph)
    if mode == "jvp of vjp":
        d = jvp(d.graph, ["x", "z"], list(d.results.values()))
    given = {v.name: v.shape for v in d.graph.inputs if v.name in d.directions.values()}
    rng = np.random.default_rng(7)
    many = {name: rng.standard_normal((count, *map(int, s or ()))) for name, s in given.items()}
    batched = vmap(d.graph, given, count if size == "known" else size)
    primal = {name: at[name] for name in at if name not in given}
    out = interpret(batched, primal | many)
    for k in range(count):
        one = interpret(d.graph, primal | {name: v[k] for name, v in many.items()})
        for name, y in one.items():
            carried = name in d.results.values()
            np.testing.assert_allclose(out[name][k] if carried else out[name], y, rtol=1e-12)
    lead = {v.name: v.shape for v in batched.outputs}
    for name in d.results.values():
        shape = lead[name]
        assert shape is not None
        assert shape[0] == (count if size == "known" else size)


def test_the_primal_is_computed_once():
    d = vjp(mlp())
    many = vmap(d.graph, d.directions.values(), 5)
    before = {n.name: [v.shape for v in n.makes()] for n in mlp().nodes}
    after = {n.name: [v.shape for v in n.makes()] for n in many.nodes}
    assert before.items() <= after.items()


def test_an_operator_that_cannot_carry_directions_is_named():
    x, y = Value("x", F64, (2,)), Value("y", F64, (2,))
    g = Graph((x,), (y,), (Node("Mystery", (x,), (y,), domain="theirs", name="mine"),))
    with pytest.raises(CannotError, match=r"'mine'.*theirs::Mystery"):
        vmap(g, ["x"], 2)
    assert vmap(g, [], 2).nodes == g.nodes


# ---- expansions ---------------------------------------------------------------------------------


def test_composites_are_written_out_and_nothing_else():
    assert OPS["ReduceL2"].kind == "composite"
    b = Builder(OPS)
    x = b.input("x", F64, (2, 3))
    g = b.graph([b.op("Exp", b.op("ReduceL2", x, name="mine"), name="y")])
    written = expand(g)
    assert "ReduceL2" not in {n.op for n in written.nodes}
    assert {n.origin for n in written.nodes} == {"mine", ""}
    at = point(g)
    np.testing.assert_allclose(interpret(written, at)["y"], interpret(g, at)["y"], rtol=1e-13)
    assert expand(written).nodes == written.nodes


def test_what_is_chosen_is_written_out():
    g = mlp()
    written = expand(g, lambda node, _: node.op == "Softmax")
    assert "Softmax" not in {n.op for n in written.nodes}
    assert {n.op for n in g.nodes} - {"Softmax"} <= {n.op for n in written.nodes}
    at = point(g)
    for name, y in interpret(g, at).items():
        np.testing.assert_allclose(interpret(written, at)[name], y, rtol=1e-12)


def test_what_is_expanded_within_a_derivative_serves_the_primal_node():
    b = Builder(OPS)
    x = b.input("x", F64, (2, 3))
    with b.serving("primal"):
        y = b.op("Softmax", x, name="y")
    written = expand(b.graph([y]), lambda node, _: node.op == "Softmax")
    assert {n.origin for n in written.nodes} <= {"primal", ""}


def test_a_long_chain_takes_no_stack_and_no_more_than_linear_work():
    """Nodes of the derivative are counted, not seconds."""

    def chain(length: int) -> Graph:
        def make(b: Builder, x: Var) -> Var:
            for _ in range(length):
                x = b.op("Tanh", x)
            return x

        return graph("x", make=make, shape=(2,))

    sizes = [len(simplify(vjp(chain(n)).graph).nodes) for n in (1000, 2000)]
    assert sizes[1] <= 2 * sizes[0]
    sizes = [len(vmap(jvp(chain(n)).graph, ["x_dot"], 2).nodes) for n in (1000, 2000)]
    assert sizes[1] <= 2 * sizes[0]


def sampled(op: str, **attrs: Any) -> Graph:
    """An operator over an image, at places of its own."""
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT64, (1, 2, 4, 5))
    places = b.input("places", DType.FLOAT64, {"GridSample": (1, 3, 3, 2)}.get(op, (3, 4)))
    rest = () if op == "GridSample" else (b.ints([0, 0, 0]),)
    return b.graph([b.op(op, x, places, *rest, name="y", **attrs)])


@pytest.mark.parametrize("mode", ["jvp", "vjp"])
@pytest.mark.parametrize("op", ["GridSample", "RoiAlign"])
def test_an_operator_with_a_kernel_of_its_own_stays_among_derivatives(op: str, mode: str):
    """Its expansion only serves the rules, and gives what it gives where it does not stay."""
    g = sampled(op)
    rule = jvp if mode == "jvp" else vjp
    kept, written = (simplify(rule(graph).graph) for graph in (g, expand(g)))
    assert [n.op for n in kept.nodes].count(op) == 1
    assert op not in [n.op for n in written.nodes]
    rng = np.random.default_rng(0)
    feeds = {v.name: rng.uniform(0.1, 0.9, [int(d) for d in v.shape or ()]) for v in kept.inputs}
    got, want = interpret(kept, feeds), interpret(written, feeds)
    assert got.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["nearest", "cubic"])
def test_an_operator_whose_kernel_is_slow_is_written_out(mode: str):
    assert "GridSample" not in [n.op for n in vjp(sampled("GridSample", mode=mode)).graph.nodes]
