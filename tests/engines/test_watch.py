import numpy as np
import pytest

from gradcli.engines.base import Watch, survey
from gradcli.interpret import Evaluator
from tests.engines.problems import problem


def watched(asked, x):
    watch = Watch(asked.exact, asked.wrt, asked.table, edges=True)
    Evaluator(asked.exact).run({"x": np.asarray(x, np.float64)}, watch)
    return watch


def test_the_nearest_kinks_are_named_with_element_and_distance():
    asked = problem(lambda b, v: b.op("Relu", v) + b.op("Abs", v - 5.0), [[3.0, -0.25], [1.0, 4.5]])
    near = survey(asked).nearest
    assert [(n.op, n.index, n.margin, n.kind) for n in near] == [
        ("Relu", (0, 1), 0.25, "kink"),
        ("Abs", (1, 1), 0.5, "kink"),
    ]
    assert near[0].convention == "0 at 0"
    assert survey(asked).ties == ()


def test_exact_ties_and_domain_edges():
    asked = problem(
        lambda b, v: b.op("Log", v) + b.op("Max", v, b.constant([1.0, 2.0])), [1.0, 0.5]
    )
    found = survey(asked)
    assert [(tie.op, tie.index) for tie in found.ties] == [("Max", (0,))]
    (edge,) = [n for n in found.nearest if n.kind == "edge"]
    assert (edge.op, edge.index, edge.margin, edge.what) == ("Log", (1,), 0.5, "the logarithm of 0")


def test_what_does_not_move_is_not_watched():
    asked = problem(lambda b, v: v * b.op("Relu", b.constant([0.0])), [1.0])
    assert not Watch(asked.exact, asked.wrt)
    assert survey(asked).ties == ()


def test_a_crossing_is_located():
    asked = problem(lambda b, v: b.op("Relu", v), [1.0, -3.0])
    here = watched(asked, [1.0, -3.0])
    assert here.crossing(watched(asked, [1.5, -2.5])) == np.inf
    assert here.crossing(watched(asked, [-3.0, -3.0])) == pytest.approx(0.25)
    assert here.crossing(watched(asked, [-3.0, 3.0])) == pytest.approx(0.25)


def test_an_edge_belongs_to_the_operand_that_can_reach_it():
    by_constant = problem(lambda b, v: v / b.constant([0.5]), [1.0])
    assert survey(by_constant).nearest == ()
    assert not Watch(by_constant.exact, by_constant.wrt, edges=True)
    by_x = problem(lambda b, v: b.constant([1.0]) / v, [0.5])
    (edge,) = survey(by_x).nearest
    assert (edge.op, edge.index, edge.margin, edge.what) == ("Div", (0,), 0.5, "division by 0")


def test_an_edge_of_an_operand_that_is_left_out_is_none():
    def loss(b, scores):
        labels = b.constant(np.array([1, 0]))
        return b.op("SoftmaxCrossEntropyLoss", scores, labels)

    assert survey(problem(loss, [[1.0, 2.0], [0.0, -1.0]])).nearest == ()


def test_from_a_kink_every_crossing_is_at_once():
    asked = problem(lambda b, v: b.op("Relu", v), [0.0, 1.0])
    here = watched(asked, [0.0, 1.0])
    assert here.crossing(watched(asked, [1e-3, 1.0])) == 0
