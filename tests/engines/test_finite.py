import numpy as np
import pytest

from gradcli import api, onnxfile
from gradcli.engines import ENGINES, Options, Program, one_sided
from gradcli.engines.finite import _Tableau
from gradcli.errors import CannotError
from gradcli.graph import Builder, DType
from gradcli.interpret import Evaluator
from gradcli.ops import OPS
from tests.engines.problems import answer, estimate, problem, random_net

FINITE = ("finite-forward", "finite-central", "finite")


@pytest.mark.parametrize(
    ("method", "error"),
    [("finite-forward", 2e-7), ("finite-central", 1e-9), ("finite", 1e-12)],
)
def test_the_derivative_of_tanh(method, error):
    x = np.array([0.3, -1.2, 2.0, 10.0])
    found, doubt = answer(method, problem(lambda b, v: b.op("Tanh", v), x))
    truth = np.diag(1 / np.cosh(x) ** 2)
    assert np.all(np.abs(found - truth) <= doubt)
    np.testing.assert_allclose(found, truth, rtol=0, atol=error)
    assert np.max(doubt) < 20 * error


@pytest.mark.parametrize("method", FINITE)
def test_the_uncertainty_covers_the_error_on_random_smooth_nets(method):
    rng = np.random.default_rng(7)
    for _ in range(25):
        f, features = random_net(rng, ("Tanh", "Sigmoid", "Softplus", "Gelu", "Sin"))
        asked = problem(f, rng.standard_normal((1, features)))
        truth, rounding = answer("complex-step", asked)
        found, doubt = answer(method, asked)
        assert np.all(np.abs(found - truth) <= doubt + rounding)
        if method == "finite":
            assert np.max(doubt) <= 1e-8 * np.max(np.abs(truth))


@pytest.mark.parametrize("method", FINITE)
def test_digits_lost_in_an_offset_are_noticed(method):
    """The offset is gone from the output, and with it the digits; only the inside shows that."""
    asked = problem(lambda b, v: (b.op("Sin", v) + 1e8) - 1e8, [0.7])
    found, doubt = answer(method, asked)
    assert abs(found.item() - np.cos(0.7)) <= doubt.item()
    assert doubt.item() > 1e-9


def test_the_ladder_takes_longer_steps_where_there_is_more_noise():
    asked = problem(lambda b, v: b.op("Sin", v) + 1e6, [0.7])
    forward, _, ladder = (abs(answer(m, asked)[0].item() - np.cos(0.7)) for m in FINITE)
    assert ladder < 1e-7
    assert forward > 1e-4


def test_what_long_steps_agree_on_is_dropped_where_shorter_ones_leave_it():
    """Beside a place narrower than the longest steps, these agree on the slope around it."""
    ladder = _Tableau(np.full(1, 1e-15), np.zeros(1), (2, 4, 6, 8))
    outside = [1.0 + 1e-5 * 4.0**-k for k in range(3)]
    inside = [700.0 * (1.0 - 0.3 * 4.0**-k) for k in range(8)]
    for k, slope in enumerate([*outside, *inside]):
        ladder.add(np.array([slope]), 2.0 ** -(4 + k))
        if k == 2:
            assert ladder.value == pytest.approx(1.0)
    assert abs(ladder.value.item() - 700.0) <= ladder.doubt.item() < 1e-6


@pytest.mark.parametrize("width", [1e-3, 1e-4, 1e-5])
def test_the_ladder_s_end_is_tried_by_a_far_shorter_step(width):
    """All steps longer than a bump is wide see the line around it, and little noise."""

    def f(b, v):
        inside = v * (1.0 / width)
        return v * -0.9 + v * b.op("Exp", -(inside * inside)) * -657.0 + 8.0

    value, doubt = answer("finite", problem(f, [0.0]))
    assert abs(value.item() + 657.9) <= doubt.item() < 1e-6


@pytest.mark.parametrize(("method", "error"), [("finite-forward", 3e-5), ("finite-central", 1e-7)])
def test_a_textbook_step_that_is_too_long_for_a_function_is_shortened(method, error):
    """sin(3000 x) varies over a 3000th; 6e-6 is 2 percent of that."""
    asked = problem(lambda b, v: b.op("Sin", v * 3e3), [0.7e-3])
    found = estimate(method, asked)
    value, truth = found.blocks["y", "x"].item(), 3e3 * np.cos(2.1)
    doubt = found.uncertainty["y", "x"].item()
    assert abs(value - truth) <= doubt < error * abs(truth)
    assert found.notes == (f"where a step of {STEP[method]} is too long, a shorter one was taken",)
    given = ENGINES[method].prepare(asked, Options(step=STEP[method]))
    images = given.apply(asked.point, {"x": np.ones((1, 1))})
    assert abs(images.values["y"].item() - truth) > 1.9 * abs(value - truth)
    assert not images.notes


STEP = {"finite-forward": 1e-8, "finite-central": 6e-6}


def test_the_ladder_finds_its_way_into_a_steep_function():
    found, doubt = answer("finite", problem(lambda b, v: b.op("Tanh", (v - 0.7) * 1e5), [0.7]))
    assert found.item() == pytest.approx(1e5, rel=1e-8)
    assert abs(found.item() - 1e5) <= doubt.item()


def test_a_chosen_step_is_taken():
    asked = problem(lambda _, v: v * v, [3.0])
    # In units of max(1, |x|): ((3 + 3h)^2 - 9) / 3h = 6 + 3h, and a central difference is exact.
    assert answer("finite-forward", asked, 2.0**-10)[0].item() == 6 + 3 * 2.0**-10
    assert answer("finite-central", asked, 2.0**-10)[0].item() == 6
    truncation = answer("finite-forward", asked, 0.1)[1].item()
    assert 0.3 <= truncation <= 0.31  # 3h, and a little for noise


def test_a_coarse_central_step_knows_its_truncation():
    found, doubt = answer("finite-central", problem(lambda b, v: b.op("Sin", v), [0.0]), 0.5)
    assert 1e-2 < 1 - found.item() <= doubt.item() < 0.08


@pytest.mark.parametrize("method", FINITE)
def test_a_direction_of_any_length_gives_the_same_slope(method):
    for length in (1e-30, 1.0, 1e30):
        asked = problem(
            lambda b, v: b.op("Tanh", v), [0.5, 2.0], "jvp", tangents={"x": np.array([length, 0.0])}
        )
        found, doubt = answer(method, asked)
        assert found[0] == pytest.approx(length / np.cosh(0.5) ** 2, rel=1e-6)
        assert 0 < doubt[0] < 1e-5 * length
        assert found[1] == 0


@pytest.mark.parametrize("method", [*FINITE, "complex-step"])
def test_the_zero_direction_gives_exactly_zero(method):
    asked = problem(lambda b, v: b.op("Exp", v), [0.5, 2.0], "jvp", tangents={"x": np.zeros(2)})
    found, doubt = answer(method, asked)
    assert not np.any(found)
    assert np.all(doubt <= 1e-150)


@pytest.mark.parametrize("method", [*FINITE, "complex-step"])
def test_no_outputs_and_no_inputs_are_no_trouble(method):
    nothing = problem(lambda b, v: b.op("Tanh", v), np.zeros((0, 3)))
    assert estimate(method, nothing).blocks["y", "x"].shape == (0, 3, 0, 3)
    jvp = problem(
        lambda b, v: b.op("Tanh", v), np.zeros((0, 3)), "jvp", tangents={"x": np.zeros((0, 3))}
    )
    assert answer(method, jvp)[0].shape == (0, 3)


# ---- kinks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", FINITE)
@pytest.mark.parametrize("distance", [1e-3, 1e-7, 1e-9, 1e-13, 0.0])
def test_near_a_kink_the_uncertainty_still_covers(method, distance):
    found, doubt = answer(method, problem(lambda b, v: b.op("Abs", v), [distance]))
    assert abs(found.item() - 1.0) <= doubt.item()


def test_the_ladder_drops_the_steps_that_cross_a_kink():
    asked = problem(lambda b, v: b.op("Relu", v) + b.op("Sin", v), [1e-5])
    found, doubt = answer("finite", asked)
    assert abs(found.item() - 1 - np.cos(1e-5)) <= doubt.item() < 1e-8
    (note,) = estimate("finite", asked).notes
    assert "Relu" in note
    assert "dropped" in note


def test_on_a_kink_the_ladder_is_one_sided_and_says_so():
    asked = problem(lambda b, v: b.op("Abs", v), [0.0])
    found, doubt = answer("finite", asked)
    assert found.item() == pytest.approx(1.0)
    assert doubt.item() >= 2.0
    (note,) = estimate("finite", asked).notes
    assert "one-sided" in note


def test_an_inactive_tie_is_smooth_for_the_ladder():
    """max(x, 0) - max(-x, 0) = x, tie or not."""
    asked = problem(lambda b, v: b.op("Relu", v) - b.op("Relu", -v), [0.0])
    found, doubt = answer("finite", asked)
    assert found.item() == pytest.approx(1.0)
    assert doubt.item() < 1e-8


def test_a_tie_that_rounding_alone_decides_is_no_kink():
    """Two ways to compute one number: which one is larger is chance, at every step."""
    third = 1.0 / 3.0

    def f(b, v):
        return b.op("Max", (v + third) + 1e-1, v + (third + 1e-1))

    found, doubt = answer("finite", problem(f, [0.7]))
    assert abs(found.item() - 1.0) <= doubt.item() < 1e-8


def test_one_sided_derivatives():
    def f(b, v):
        return b.op("Abs", v) * 2.0 + b.op("Exp", v)

    asked = problem(f, [0.0, 1.0])
    direction = {"x": np.array([3.0, 0.0])}
    left, right, doubt = one_sided(asked, asked.point)(direction)
    assert np.abs(left["y"] - [-3.0, 0.0])[0] <= doubt["y"][0] < 1e-8
    assert np.abs(right["y"] - [9.0, 0.0])[0] <= doubt["y"][0]
    assert left["y"][1] == right["y"][1] == 0


def test_one_sided_derivatives_at_a_jump_are_uncertain():
    asked = problem(lambda b, v: b.op("Floor", v), [1.0])
    _, right, doubt = one_sided(asked, asked.point)({"x": np.ones(1)})
    assert right["y"].item() == 0
    assert doubt["y"].item() > 1


# ---- cost ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "evaluations"), [("finite-forward", 6), ("finite-central", 10)])
def test_a_run_that_is_timed_evaluates_only_what_the_formula_asks(method, evaluations, monkeypatch):
    asked = problem(lambda b, v: b.op("Tanh", v), np.arange(5.0))
    program = Program(ENGINES[method], asked)
    program.judging(False)
    points = []
    run = Evaluator.run

    def counted(self, feeds, *rest):
        points.append(feeds["x"].size // 5)
        return run(self, feeds, *rest)

    monkeypatch.setattr(Evaluator, "run", counted)
    found = program.run()
    assert sum(points) == evaluations
    assert not found.uncertainty
    np.testing.assert_allclose(found.blocks["y", "x"], answer(method, asked)[0], rtol=1e-12)


def test_a_float32_model_is_differenced_in_float64():
    from dataclasses import replace

    from gradcli.graph import Builder
    from gradcli.ops import OPS

    b = Builder(OPS)
    y = b.rename(b.op("Tanh", b.input("x", DType.FLOAT32, (2,))), "y")
    narrow = replace(
        problem(lambda b, v: b.op("Tanh", v), [0.3, 0.4]),
        graph=b.graph([y]),
        point={"x": np.array([0.3, 0.4], np.float32)},
        dtype=DType.FLOAT32,
    )
    found, doubt = answer("finite", narrow)
    truth = np.diag(1 / np.cosh(np.float64(narrow.point["x"])) ** 2)
    assert np.all(np.abs(found - truth) <= doubt)
    assert np.max(doubt) < 1e-11


def test_a_kink_that_no_margin_shows_is_within_the_uncertainty():
    # When the first of three equal ones falls, the others still tie: the margin stays 0.
    asked = problem(lambda b, v: b.op("ReduceMax", v * v + v, keepdims=0), [0.0, 0.0, 0.0])
    value, doubt = answer("finite", asked)
    assert np.all(value + doubt >= 1)
    assert np.all(value - doubt <= 0)


def test_what_ties_and_moves_together_costs_nothing():
    def f(b, v):
        return b.op("ReduceMax", b.op("Exp", b.op("Concat", v, v, v, axis=0)) * 0.1, keepdims=0)

    value, doubt = answer("finite", problem(f, [1.0]))
    assert abs(value.item() - 0.1 * np.e) <= doubt.item() < 1e-10


def test_a_tie_that_stands_still_at_first_costs_only_long_steps():
    # Both are 0 until x passes 0.02; only then do they part.
    def f(b, v):
        return b.op("Max", b.op("Relu", v - 0.02), b.op("Relu", v - 0.05)) + b.op("Tanh", v)

    value, doubt = answer("finite", problem(f, [0.0]))
    assert abs(value.item() - 1.0) <= doubt.item() < 1e-8


@pytest.mark.parametrize("method", FINITE)
def test_there_is_rounding_around_zero_though_not_at_it(method):
    """At 0 every product is 0; beside it, 1e8 x - (1e8 - 1) x loses eight digits."""
    asked = problem(lambda _, v: v * 1e8 / 3.0 - v * (1e8 - 1.0) / 3.0, [0.0, 0.7])
    found, doubt = answer(method, asked)
    assert np.all(np.abs(np.diag(found) - 1 / 3) <= np.diag(doubt))
    assert np.all(np.diag(doubt) > 1e-9)


# ---- jumps --------------------------------------------------------------------------------------

STAIRS = {
    "rounding": lambda b, v: b.op("Round", v * 1e2),
    "a Cast to integers": lambda b, v: b.cast(b.cast(v * 1e2, DType.INT32), DType.FLOAT64),
    "a Cast to 8-bit floats": lambda b, v: b.cast(b.cast(v, DType.FLOAT8E4M3FN), DType.FLOAT64),
    "quantisation": lambda b, v: b.op(
        "DequantizeLinear",
        b.op("QuantizeLinear", v, b.constant(np.array(0.1)), b.constant(np.array(0, np.int8))),
        b.constant(np.array(0.1)),
        b.constant(np.array(0, np.int8)),
    ),
    "an index": lambda b, v: b.cast(b.op("ArgMax", v, axis=0), DType.FLOAT64) + v,
}


@pytest.mark.parametrize("name", STAIRS)
@pytest.mark.parametrize("method", ["finite-forward", "finite-central"])
def test_a_step_across_a_jump_says_so(name, method):
    asked = problem(STAIRS[name], [0.3003, 0.3007])
    found = Program(ENGINES[method], asked, Options(step=0.1)).run()
    (jumps,) = found.jumps.values()
    assert np.any(np.abs(jumps) > 0.02 * np.max(np.abs(next(iter(found.blocks.values())))))
    assert any("jumps within a step" in note for note in found.notes)


@pytest.mark.parametrize("method", FINITE)
def test_a_steep_slope_and_a_kink_are_no_jumps(method):
    def f(b, v):
        mask = b.op("Greater", v, b.constant(np.array(0.7)))
        return b.op("Where", mask, (v - 0.7) * 1e5, b.op("Tanh", (v - 0.7) * 1e3))

    asked = problem(f, [0.7 - 1e-9])
    assert not Program(ENGINES[method], asked).run().jumps


def test_the_ladder_stays_between_two_jumps():
    asked = problem(STAIRS["rounding"], [0.303, 0.7001])
    found, doubt = answer("finite", asked)
    np.testing.assert_array_equal(found, np.zeros((2, 2)))
    assert np.max(doubt) < 1e-6


@pytest.mark.parametrize("method", FINITE)
def test_a_step_that_changes_the_shape_of_the_output_is_a_reason(method):
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT64, (2,))
    kept = b.op("NonZero", b.op("Greater", x, b.constant(np.array(0.5))))
    y = b.op("Gather", x, b.op("Squeeze", kept, b.ints([0])), axis=0, name="y")
    asked = api.ask(onnxfile.write(b.graph([y])), {"x": np.array([0.5 + 1e-12, 2.0])})
    with pytest.raises(CannotError, match="near the point the shape of y changes"):
        Program(ENGINES[method], asked, Options(step=0.1)).run()


@pytest.mark.parametrize("method", FINITE)
def test_a_step_that_makes_the_model_fail_is_a_reason(method):
    def f(b, v):
        at = b.cast(b.op("Floor", v), DType.INT64)
        return b.op("Gather", v * 2.0, at, axis=0)

    asked = problem(f, [2.0 - 1e-12, 1.5])
    with pytest.raises(CannotError, match=r"near the point the model fails: node .*Gather"):
        Program(ENGINES[method], asked, Options(step=1.0)).run()


def near_a_kink(seed):
    """A ReLU network at a point between 1e-8 and 1e-5 from a kink, and its exact Jacobian."""
    rng = np.random.default_rng(seed)
    w, v = rng.standard_normal((6, 16)) / np.sqrt(6), rng.standard_normal((16, 2)) / 4
    x = rng.standard_normal((1, 6))
    normal = w[:, seed % 16]
    x -= (x @ normal) / (normal @ normal) * normal
    x += rng.choice([-1, 1]) * 10 ** rng.uniform(-8, -5) * normal / np.linalg.norm(normal)

    def f(b, at):
        return b.op("MatMul", b.op("Relu", b.op("MatMul", at, b.constant(w))), b.constant(v))

    return problem(f, x), ((w * (x @ w > 0)) @ v).T.reshape(1, 2, 1, 6)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    ("name", "tolerance"), [("finite-forward", 1e-3), ("finite-central", 1e-5), ("finite", 1e-6)]
)
def test_steps_are_shortened_before_a_kink(name, tolerance, seed):
    asked, exact = near_a_kink(seed)
    value, doubt = answer(name, asked)
    assert np.all(np.abs(value - exact) <= doubt + 1e-15)
    assert np.all(doubt <= tolerance * np.max(np.abs(exact)))


def test_a_step_that_was_asked_for_stays():
    asked = problem(lambda b, v: b.op("Relu", v), [1e-7])
    short, _ = answer("finite-central", asked)
    value, doubt = answer("finite-central", asked, step=1e-6)
    assert short == pytest.approx(1.0, rel=1e-6)
    assert value == pytest.approx(0.55, rel=1e-6)
    assert doubt > 0.45


def test_where_a_tie_of_the_point_has_no_sides_the_textbooks_are_certain_too():
    # max(relu(x), 0) of a negative x ties, and stays 0.
    asked = problem(lambda b, v: b.op("Max", b.op("Relu", v), b.constant([0.0])) + v, [-1.0])
    for name in ("finite-forward", "finite-central"):
        value, doubt = answer(name, asked)
        assert value == pytest.approx(1.0, abs=1e-7)
        assert doubt < 1e-7
