from dataclasses import replace

import numpy as np
import pytest

from gradcli.engines import ENGINES, Program
from gradcli.errors import CannotError
from tests.engines.problems import answer, estimate, problem, random_net


def test_closed_forms_to_the_last_digits():
    x = np.array([0.3, -1.2, 2.0, 20.0])
    found, doubt = answer("complex-step", problem(lambda b, v: b.op("Tanh", v), x))
    truth = np.diag(4 * np.exp(-2 * np.abs(x)) / (1 + np.exp(-2 * np.abs(x))) ** 2)
    np.testing.assert_allclose(found, truth, rtol=1e-15, atol=0)
    assert np.all(np.abs(found - truth) <= doubt + 1e-16 * truth)
    assert np.all(np.diag(doubt) <= 1e-14 * np.diag(truth))


def test_it_agrees_with_the_ladder_on_random_nets():
    rng = np.random.default_rng(3)
    for _ in range(15):
        f, features = random_net(rng, ("Tanh", "Relu", "Softplus", "Gelu", "LeakyRelu"))
        asked = problem(f, rng.standard_normal((2, features)))
        found, doubt = answer("complex-step", asked)
        other, ladder_doubt = answer("finite", asked)
        assert np.all(np.abs(found - other) <= doubt + ladder_doubt)
        assert np.max(doubt) <= 1e-13 * np.max(np.abs(found))


def test_truncation_is_nothing_where_the_derivative_is_zero():
    found, doubt = answer("complex-step", problem(lambda _, v: v * v * v, [0.0]))
    assert found.item() == 0
    assert doubt.item() < 1e-150


def test_what_underflows_on_the_way_is_within_the_uncertainty():
    found, doubt = answer("complex-step", problem(lambda b, v: b.op("Exp", v), [-700.0]))
    assert abs(found.item() - np.exp(-700.0)) <= doubt.item() < 1e-150


def test_rounding_inside_shows_in_the_uncertainty():
    """The derivative is a difference of large numbers; its last digits are gone."""
    asked = problem(lambda b, v: b.op("Sin", v * 1e8) - b.op("Sin", v * (1e8 + 1.0)), [0.7])
    found, doubt = answer("complex-step", asked)
    assert doubt.item() > 1e-2
    assert np.isfinite(found.item())


def test_on_a_kink_both_sides_count():
    asked = problem(lambda b, v: b.op("Abs", v), [0.0])
    found, doubt = answer("complex-step", asked)
    assert abs(found.item()) == 1
    assert doubt.item() >= 2
    (note,) = estimate("complex-step", asked).notes
    assert "kink" in note


def test_a_cancelled_tie_is_not_taken_for_certain():
    """max(x, 0) - max(-x, 0) = x; each term alone takes a side of its own at 0."""
    asked = problem(lambda b, v: b.op("Relu", v) - b.op("Relu", -v), [0.0])
    found, doubt = answer("complex-step", asked)
    assert abs(found.item() - 1.0) <= doubt.item()


def test_an_operator_that_is_not_analytic_is_refused_by_name():
    asked = problem(lambda b, v: b.op("Tanh", v), [1.0])
    table = asked.table.replace(replace(asked.table["Tanh"], holomorphic=False))
    with pytest.raises(CannotError, match=r"'tanh': Tanh is not analytic"):
        Program(ENGINES["complex-step"], replace(asked, table=table))


def test_off_the_domain_there_is_no_derivative():
    found, _ = answer("complex-step", problem(lambda b, v: b.op("Log", v), [-1.0, 1.0]))
    assert np.isnan(found[0, 0])
    assert found[1, 1] == 1


def test_a_timed_run_gives_the_same_without_uncertainty():
    asked = problem(lambda b, v: b.op("Gelu", v), np.linspace(-3, 3, 7))
    program = Program(ENGINES["complex-step"], asked)
    judged = program.run()
    program.judging(False)
    bare = program.run()
    assert not bare.uncertainty
    np.testing.assert_array_equal(bare.blocks["y", "x"], judged.blocks["y", "x"])


@pytest.mark.parametrize("seed", range(12))
def test_a_saturated_softmax_is_not_taken_for_certain(seed: int) -> None:
    """The derivative of 1 - e^-50 is lost in the rounding of a quotient: nothing is known of it."""
    logits = np.array([50.0, 0.0, 1.0, -3.0])
    a = np.random.default_rng(5).standard_normal((4, 4))
    asked = problem(
        lambda b, v: b.op("Softmax", b.op("MatMul", v, b.constant(a)) + b.constant(logits)),
        np.zeros((1, 4)),
    )
    found, doubt = (x.reshape(4, 4)[0] for x in answer("complex-step", replace(asked, seed=seed)))
    truth = (a[:, :1] - a[:, 1:]) @ np.exp(logits[1:] - 50.0)
    assert np.all(np.abs(found - truth) <= doubt)
