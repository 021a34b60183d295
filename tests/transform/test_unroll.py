"""Loops, scans and sequences written out at a point: like onnxruntime, and so their derivatives."""

from __future__ import annotations

import time

import numpy as np
import pytest

from gradcli import api, runtime
from gradcli.engines import ENGINES, Program
from gradcli.errors import ModelError, UnsupportedError
from gradcli.interpret import interpret
from gradcli.ops.control import CONTROL
from gradcli.transform import specialise
from gradcli.transform.choices import Choices
from gradcli.transform.unroll import RESOLVE
from tests.transform.written_out import (
    FORMS,
    LOOPS,
    NO_STEPS,
    SCANS,
    Form,
    X,
    posed,
    runs,
    some,
    varied,
)


@pytest.mark.parametrize("name", FORMS)
def test_what_is_written_out_is_what_onnxruntime_runs(name: str):
    form = FORMS[name]
    problem = posed(form, "vjp")
    assert not {node.key for node in problem.graph.nodes} & RESOLVE.keys()
    wanted = runs(form)
    found = interpret(problem.exact, problem.point)
    there = runtime.prepare(problem.graph).run(problem.point)
    for key in problem.of:
        assert found[key].shape == wanted[key].shape
        np.testing.assert_allclose(found[key], wanted[key], rtol=1e-12)
        np.testing.assert_allclose(there[key], wanted[key], rtol=1e-12)


@pytest.mark.parametrize("name", FORMS)
def test_derivatives_are_those_of_the_file_itself(name: str):
    form = FORMS[name]
    problem = posed(form, wrt=varied(form)) if varied(form) else posed(form)
    forward, reverse, witness = (
        Program(ENGINES[e], problem).run().blocks for e in ("forward", "reverse", "complex-step")
    )
    run = runtime.prepare(form.model()).run
    h = 1e-6
    for of, wrt in problem.keys:
        np.testing.assert_allclose(reverse[of, wrt], witness[of, wrt], rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(forward[of, wrt], witness[of, wrt], rtol=1e-11, atol=1e-13)
        x = form.feeds[wrt]
        for at in np.ndindex(x.shape):
            step = np.zeros_like(x)
            step[at] = h
            ahead, behind = (run({**form.feeds, wrt: x + s})[of] for s in (step, -step))
            moved = (ahead - behind) / (2 * h)
            got = reverse[of, wrt][(..., *at)]
            np.testing.assert_allclose(got, moved, rtol=1e-6, atol=1e-7)


def test_a_scan_of_nothing_hands_on_its_states():
    """onnxruntime refuses it; the standard does not."""
    problem = posed(NO_STEPS, wrt=["s0"], of=["last", "y"])
    found = interpret(problem.exact, problem.point)
    assert found["y"].shape == (0, 3)
    np.testing.assert_array_equal(found["last"], NO_STEPS.feeds["s0"])
    (reverse,) = (Program(ENGINES["reverse"], problem).run().blocks,)
    np.testing.assert_array_equal(reverse["last", "s0"], np.eye(3))


NAMED = """m (double[3] x, double[2,3] r) => (y) <int64 n = {2}> {
    [outer] y = Loop <body = b (int64 i, bool go, double[3] s) => (go, s3) {
        [bend] s2 = Sin (s)
        [inner] s3 = Scan <num_scan_inputs = 1, body = c (double[3] t, double[3] e) => (t2) {
            [weigh] t2 = Mul (t, e)
        }> (s2, r)
    }> (n, , x)
}"""


def test_nodes_keep_their_names_with_the_step():
    form = Form(NAMED, {"x": some(3), "r": some(2, 3)})
    names = [n.name for n in posed(form).graph.nodes if n.op in ("Sin", "Mul")]
    assert names == [
        *("bend [step 0]", "weigh [step 0.0]", "weigh [step 0.1]"),
        *("bend [step 1]", "weigh [step 1.0]", "weigh [step 1.1]"),
    ]


def test_a_scanned_input_is_taken_apart_by_one_node():
    (split,) = (n for n in posed(SCANS["axes counted from the end"]).graph.nodes if n.op == "Split")
    assert len(split.outputs) == 4


def test_so_is_what_a_loop_walks_along():
    nodes = posed(LOOPS["the trip's number, as an index and as a factor"]).graph.nodes
    assert [len(n.outputs) for n in nodes if n.op in ("Split", "Gather")] == [4]


def test_a_count_that_hangs_on_data_is_said_and_watched():
    form = LOOPS["a condition on data, without a count"]
    problem = posed(form)
    (note,) = (n for n in problem.notes if "(Loop)" in n)
    assert "makes 3 trips at this point" in note
    x = form.feeds["x"]
    assert problem.same_branches({"x": x + 1e-6})
    assert not problem.same_branches({"x": x - 1.0})
    notes = posed(LOOPS["counted, with a captured value and a scan output"]).notes
    assert not [n for n in notes if "trip" in n]


def test_a_program_makes_as_many_trips_as_each_point_asks_for():
    form = LOOPS["a condition on data, without a count"]
    model = form.model()
    program = api.prepare(model, of="y[0]", operator="gradient", method="reverse")
    run = runtime.prepare(model).run
    counts = set()
    for x in (some(3), some(3) - 0.9, some(3, seed=5) + 1.0):
        counts.add(len(run({"x": x})["rows"]))
        for k, h in enumerate(1e-6 * np.eye(3)):
            moved = (run({"x": x + h})["y"][0] - run({"x": x - h})["y"][0]) / 2e-6
            np.testing.assert_allclose(program.run({"x": x})["x"][k], moved, rtol=1e-6, atol=1e-8)
    assert len(counts) == 3


def test_a_choice_beside_the_point_that_cannot_be_evaluated_is_another_one():
    """Fewer parts than before: the position that was taken is gone."""
    text = """m (double[4] x) => (y) <double one = {1.}, int64 two = {2}> {
        big = Greater (x, one)
        some = Compress (x, big)
        q = SplitToSequence (some)
        y = SequenceAt (q, two)
    }"""
    problem = posed(Form(text, {"x": np.array([1.5, 2.5, 0.5, 3.5])}))
    assert problem.same_branches({"x": np.array([1.6, 2.5, 0.5, 3.5])})
    assert not problem.same_branches({"x": np.array([0.5, 2.5, 0.5, 0.5])})


# ---- what is refused ----------------------------------------------------------------------------

ENDLESS = {
    "a count": ("(n, , x)", "9000000000000", "18,000,000,000,000 nodes"),
    "no end": ("(, true, x)", "1", "more than 1,000 nodes"),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_is_too_long_is_refused_with_the_node_and_the_count(name: str):
    operands, most, said = ENDLESS[name]
    text = f"""m (double[3] x) => (y) <int64 n = {{{most}}}, bool true = {{1}}> {{
        [long] y = Loop <body = b (int64 i, bool go, double[3] s) => (go, s2) {{
            s2 = Sin (s)
        }}> {operands}
    }}"""
    with pytest.raises(UnsupportedError, match=rf"'long' \(Loop\) comes to .*{said}"):
        specialise(Form(text, X).model().graph, {"x": (3,)}, choices=Choices(most=1000))


@pytest.mark.parametrize("how", ["", ", one"])
def test_a_split_into_too_many_parts_is_refused_before_it_is_made(how: str):
    text = f"""m (double[3] x) => (y) <int64 one = {{1}}, int64[1] many = {{3000000000}}> {{
        one_element = ReduceSum <keepdims = 0> (x)
        z = Expand (one_element, many)
        [parts] q = SplitToSequence (z{how})
        y = SequenceAt (q, one)
    }}"""
    with pytest.raises(UnsupportedError, match=r"'parts' \(SplitToSequence\) comes to about 3,000"):
        posed(Form(text, X))


def test_steps_of_nothing_end_too():
    text = """m (double[3] x) => (y) <bool true = {1}> {
        y = Loop <body = b (int64 i, bool go, double[3] s) => (go, s) {}> (, true, x)
    }"""
    with pytest.raises(UnsupportedError, match="more than 1,000 nodes"):
        specialise(Form(text, X).model().graph, {"x": (3,)}, choices=Choices(most=1000))


def test_a_sequence_is_no_tensor_to_be_asked_for():
    text = """m (double[3] x) => (y, q) {
        q = SequenceConstruct (x, x)
        y = Sin (x)
    }"""
    form = Form(text, X)
    with pytest.raises(UnsupportedError, match="'q' is a sequence or an optional value"):
        posed(form)
    assert posed(form, of=["y"]).of == ("y",)


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        (
            "q = SequenceConstruct (x, x)\n y = SequenceAt (q, five)",
            "position 5 is outside -2 to 1",
        ),
        (
            "y = Scan <num_scan_inputs = 2, body = b (double e, double f) => (e) {}> (x, five3)",
            "3, 5",
        ),
        ("q = SplitToSequence (x, five)\n y = ConcatFromSequence <axis = 3> (q)", "axis 3"),
        ("q = SequenceEmpty ()\n y = ConcatFromSequence <axis = 0> (q)", "an empty sequence"),
    ],
)
def test_what_does_not_fit_names_the_node(nodes: str, said: str):
    text = f"""m (double[3] x) => (y)
        <int64 five = {{5}}, double[5] five3 = {{1., 2., 3., 4., 5.}}> {{ {nodes} }}"""
    with pytest.raises(ModelError, match=said):
        posed(Form(text, X))


def test_every_operator_that_is_written_out_is_described():
    assert RESOLVE.keys() == CONTROL.keys()


# ---- one network, spelled in several ways -------------------------------------------------------


def cell(x: str, h: str, y: str, k: int | str = "") -> str:
    """One step of the recurrence; k tells its names from those of other steps."""
    return f"""
        a{k} = MatMul ({x}, wt)
        c{k} = MatMul ({h}, rt)
        d{k} = Add (a{k}, c{k})
        e{k} = Add (d{k}, bias)
        {y} = Tanh (e{k})
    """


WEIGHTS = "double[1,4,3] w, double[1,4,4] r, double[1,8] bb, double[1,2,4] h0"
SHARED = """
    zero = Constant <value_ints = [0]> ()
    w0 = Squeeze (w, zero)
    wt = Transpose (w0)
    r0 = Squeeze (r, zero)
    rt = Transpose (r0)
    b0 = Squeeze (bb, zero)
    half = Constant <value_ints = [4, 4]> ()
    bw, br = Split <axis = 0> (b0, half)
    bias = Add (bw, br)
    first = Squeeze (h0, zero)
"""
SPELLINGS = {
    "RNN": "all, last = RNN <hidden_size = 4> (x, w, r, bb, , h0)\n"
    "axes = Constant <value_ints = [1]> ()\n y = Squeeze (all, axes)",
    "Scan": SHARED
    + "end, y = Scan <num_scan_inputs = 1, body = b (double[2,4] h, double[2,3] xt) => (h2, h2) {"
    + cell("xt", "h", "h2")
    + "}> (first, x)",
    "Loop": SHARED
    + "n = Constant <value_int = 5> ()\n"
    + "end, y = Loop <body = b (int64 i, bool go, double[2,4] h) => (go, h2, h2) {"
    + "xt = Gather <axis = 0> (x, i)"
    + cell("xt", "h", "h2")
    + "}> (n, , first)",
    "a list": SHARED
    + "empty = SequenceEmpty <dtype = 11> ()\n n = Constant <value_int = 5> ()\n"
    + "rows = SplitToSequence <keepdims = 0> (x)\n"
    + "end, q = Loop <body = b (int64 i, bool go, double[2,4] h, seq(double[2,4]) s)"
    + " => (go, h2, s2) { xt = SequenceAt (rows, i)"
    + cell("xt", "h", "h2")
    + "s2 = SequenceInsert (s, h2) }> (n, , first, empty)\n"
    + "y = ConcatFromSequence <axis = 0, new_axis = 1> (q)",
    "by hand": SHARED
    + "ones = Constant <value_ints = [1, 1, 1, 1, 1]> ()\n"
    + "x0, x1, x2, x3, x4 = Split <axis = 0> (x, ones)\n"
    + "".join(
        f"s{k} = Squeeze (x{k}, zero)\n"
        + cell(f"s{k}", f"state{k}" if k else "first", f"state{k + 1}", k)
        + f"u{k} = Unsqueeze (state{k + 1}, zero)\n"
        for k in range(5)
    )
    + "y = Concat <axis = 0> (u0, u1, u2, u3, u4)",
}


@pytest.mark.parametrize("engine", ["forward", "reverse"])
def test_a_recurrence_has_one_derivative_however_it_is_spelled(engine: str):
    feeds = {
        "x": some(5, 2, 3),
        "w": some(1, 4, 3, seed=1) - 1.0,
        "r": some(1, 4, 4, seed=2) - 1.0,
        "bb": some(1, 8, seed=3) - 1.0,
        "h0": some(1, 2, 4, seed=4) - 1.0,
    }
    found = {}
    for name, nodes in SPELLINGS.items():
        form = Form(f"m (double[5,2,3] x, {WEIGHTS}) => (y) {{ {nodes} }}", feeds)
        problem = posed(form, "vjp", cotangent={"y": some(5, 2, 4, seed=5)})
        found[name] = Program(ENGINES[engine], problem).run().blocks
    for name, blocks in found.items():
        for key, block in blocks.items():
            np.testing.assert_allclose(block, found["RNN"][key], rtol=1e-11, err_msg=str(name))


def test_long_loops_are_written_out_in_a_moment():
    """The work grows as the steps do."""
    text = """m (double[3] x, double[3] w, int64 n) => (y) {
        y = Loop <body = b (int64 i, bool go, double[3] s) => (go, s9) {
            s1 = Sin (s)
            s2 = Mul (s1, w)
            s3 = Exp (s2)
            s4 = Neg (s3)
            s5 = Add (s4, x)
            s6 = Tanh (s5)
            s7 = Mul (s6, s6)
            s8 = Sub (s7, w)
            s9 = Cos (s8)
        }> (n, , x)
    }"""
    graph = Form(text, {}).model().graph
    spent = {}
    for n in (200, 2000):
        shapes = {"x": (3,), "w": (3,), "n": ()}
        started = time.process_time()
        made = specialise(graph, shapes, {"n": np.array(n)})
        spent[n] = time.process_time() - started
        assert len(made.nodes) == 9 * n + 1
    assert spent[2000] < 4.0
    assert spent[2000] < 30 * max(spent[200], 0.02)
