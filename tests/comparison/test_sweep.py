"""The error of finite differences against the step: what is known of simple functions."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike

from gradcli import api
from gradcli.comparison import Comparison, Sweep, judge
from gradcli.engines.base import EPS, Point, Watch
from gradcli.measure import measure
from gradcli.measure.clock import Clock
from gradcli.measure.sample import draw
from gradcli.measure.sweep import over_steps
from gradcli.report.sweeps import sweep_facts
from tests.engines.problems import Function, problem

FORWARD, CENTRAL = math.sqrt(EPS), math.cbrt(EPS)


def swept(f: Function, x: ArrayLike, operator: str = "jacobian", **how: Any) -> Sweep:
    """The only sweep of y = f(x), in float64."""
    (only,) = compared(f, x, operator, **how).sweeps
    return only


def compared(f: Function, x: ArrayLike, operator: str, **how: Any) -> Comparison:
    asked = problem(f, x, operator, **how)
    return judge(measure(asked, ["finite-central"], runs=1, warmup=0, budget=20.0, sweep=True))


def test_a_smooth_function_has_the_orders_and_best_steps_of_the_textbook():
    sweep = swept(lambda b, x: b.op("Exp", x), [0.3, 1.1, -0.7])
    assert (sweep.dtype, sweep.directions, sweep.along, sweep.elements) == ("float64", 3, 1, 9)
    assert sweep.size == pytest.approx(math.exp(1.1))
    assert sweep.floor < 1e-15
    forward, central = sweep.formulas
    assert (forward.method, central.method) == ("finite-forward", "finite-central")
    assert forward.order == pytest.approx(1.0, abs=0.05)
    assert central.order == pytest.approx(2.0, abs=0.05)
    for formula, step in ((forward, FORWARD), (central, CENTRAL)):
        assert formula.best_step is not None
        assert formula.best_error is not None
        assert formula.textbook_step == step
        assert step / 16 < formula.best_step < step * 16
        assert formula.best_error <= formula.textbook_error < 200 * formula.best_error
        assert formula.kink is None
    assert sweep.ladder_error is not None
    assert sweep.ladder_error < 1e-12
    assert sweep.ladder_step is not None
    assert 1e-4 < sweep.ladder_step < 1


def test_points_are_those_of_the_formulas_and_never_beyond_truncation_and_noise():
    x = 0.4
    sweep = swept(lambda b, x: b.op("Sin", x), [x], "gradient")
    slope, steps = math.cos(x), [p.step for p in sweep.points]
    assert steps == sorted(steps, reverse=True)
    assert steps[0] == 0.5
    assert steps[-1] == 2.0**-50
    assert {FORWARD, CENTRAL} <= set(steps)
    for p in sweep.points[:20]:
        h = p.step
        forward = abs((math.sin(x + h) - math.sin(x)) / h - slope) / slope
        central = abs((math.sin(x + h) - math.sin(x - h)) / (2 * h) - slope) / slope
        assert p.forward == pytest.approx(forward, rel=1e-3, abs=4 * EPS / h)
        assert p.central == pytest.approx(central, rel=1e-3, abs=4 * EPS / h)
    for p in sweep.points:
        assert p.forward <= 0.6 * p.step + 2 * sweep.noise / p.step + 1e-15
        assert p.central <= 0.2 * p.step**2 + sweep.noise / p.step + 1e-15
        # One number in, one out: a random direction is a multiple of the coordinate.
        assert p.forward_along == pytest.approx(p.forward, rel=1e-2, abs=4 * EPS / p.step)


def test_kinks_begin_where_the_step_reaches_them_and_on_one_side_only_where_they_are():
    sweep = swept(lambda b, x: b.op("Abs", x - 2.0**-10 * 0.75), [0.0], "gradient")
    forward, central = sweep.formulas
    assert forward.kink == central.kink == 2.0**-10
    for p in sweep.points:
        # The random direction may point either way; of one number it is as long as the coordinate.
        assert (p.ahead or p.behind) == (p.step >= 2.0**-10)
        assert p.ahead == (p.step >= 2.0**-10)
        if not p.ahead:
            assert p.forward < 1e-15 + sweep.noise / p.step
    assert sweep.points[0].forward > 0.1


def test_on_a_kink_every_step_crosses_it_and_the_ladder_finds_none():
    sweep = swept(lambda b, x: b.op("Relu", x), [0.0, 1.0])
    # The shortest steps are within rounding of the kink.
    assert all(p.ahead or p.behind for p in sweep.points if p.step > 2.0**-46)
    for formula in sweep.formulas:
        assert formula.kink is not None
        assert formula.kink <= 2.0**-46
    assert sweep.ladder_step is not None  # of the other element
    only = swept(lambda b, x: b.op("Relu", x), [0.0])
    assert only.ladder_step is None
    assert only.ladder_error is None


def test_a_jvp_goes_along_its_tangent_alone():
    tangent = {"x": np.array([1.0, -2.0])}
    sweep = swept(lambda b, x: b.op("Tanh", x), [0.1, 0.5], "jvp", tangents=tangent)
    assert (sweep.directions, sweep.along, sweep.elements) == (1, 0, 2)
    assert all(math.isnan(p.central_along) for p in sweep.points)
    assert sweep.formulas[1].order == pytest.approx(2.0, abs=0.1)
    assert sweep.size == pytest.approx(2 * (1 - math.tanh(0.5) ** 2))


def test_a_linear_function_has_no_truncation():
    sweep = swept(lambda b, x: b.op("Mul", x, b.constant(3.0)), [0.25, 2.0])
    assert [f.order for f in sweep.formulas] == [None, None]
    assert all(p.central <= 1e-15 + 4 * sweep.noise / p.step for p in sweep.points)


def test_float32_is_swept_in_its_own_arithmetic_where_that_is_asked():
    path = Path(__file__).parents[2] / "sample_models" / "physics.onnx"
    with np.load(path.with_suffix(".npz")) as stored:
        given = dict(stored)
    both = api.compare(path, given, methods="finite", dtype="float32", sweep=True, runs=1)
    exact, narrow = both.sweeps
    assert (exact.dtype, narrow.dtype) == ("float64", "float32")
    assert narrow.noise > 1e6 * exact.noise
    steps, errors = (
        [getattr(s.formulas[1], name) for s in (exact, narrow)]
        for name in ("best_step", "best_error")
    )
    assert steps[1] > 30 * steps[0]
    assert errors[1] > 1e3 * errors[0]
    # So short a step does not move a number of float32 at all.
    assert math.isnan(narrow.points[-1].central)
    assert narrow.ladder_error == exact.ladder_error
    own = api.compare(path, given, methods="finite", sweep=True, runs=1)
    assert [s.dtype for s in own.sweeps] == ["float64"]
    assert not api.compare(path, given, methods="finite", dtype="float32", runs=1).sweeps


def test_what_cannot_be_swept_says_why():
    found = compared(lambda b, x: b.op("Exp", x), [1.0], "gradient")
    assert not any("no sweep" in note for note in found.notes)
    asked = problem(lambda b, x: b.op("Exp", x), [1.0], "gradient")
    evidence = measure(
        replace(asked, straight_through=True), ["reverse"], runs=1, sweep=True, budget=20.0
    )
    (note,) = [note for note in judge(evidence).notes if note.startswith("no sweep")]
    assert "straight-through" in note


def test_without_a_reference_there_is_no_error_and_the_notes_say_so():
    asked = problem(lambda b, x: b.op("Exp", x), [1.0], "gradient")
    evidence = measure(asked, ["reverse"], runs=1, sweep=True, reference="float64")
    unknown = replace(evidence, witness=replace(evidence.witness, estimate=None))
    found = judge(unknown)
    assert not found.sweeps
    assert "no sweep: there is no reference" in found.notes


def test_coordinates_of_many_inputs_are_sampled_and_random_directions_see_the_rest():
    x = np.linspace(-1.0, 1.0, 40)
    sweep = swept(lambda b, x: b.op("ReduceSum", b.op("Exp", x), keepdims=0), x, "gradient")
    assert (sweep.directions, sweep.along, sweep.elements) == (16, 1, 16)
    best = min(p.central_along for p in sweep.points)
    assert best < 1e-9


def test_a_sweep_without_time_is_left_out_and_the_notes_say_so():
    asked = problem(lambda b, x: b.op("Exp", x), [1.0], "gradient")
    clock = Clock(1e-9)
    swept, why = over_steps(asked, draw(asked), True, clock)
    assert swept == ()
    assert "not one direction" in why
    assert "raise --budget" in why


def test_a_sweep_that_runs_out_of_time_keeps_the_directions_that_it_has_done(monkeypatch):
    asked = problem(lambda b, x: b.op("Exp", x), np.ones(10), "jacobian")
    now, seen = [0.0], Point.seen

    def slow(self: Point, x: np.ndarray) -> tuple[np.ndarray, Watch]:
        now[0] += 0.01
        return seen(self, x)

    monkeypatch.setattr(Point, "seen", slow)
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    (some,), why = over_steps(asked, draw(asked), True, Clock(30.0))
    assert not why
    assert 1 < len(some.noise) < 10
    assert now[0] < 0.35 * 30.0
    assert some.forward.shape == (len(some.steps), len(some.noise), 10)
    assert {len(v) for v in some.directions.values()} == {len(some.noise)}


@pytest.mark.parametrize(("price", "count"), [(0.0, 52), (0.01, 52), (0.07, 27), (0.15, 15)])
def test_of_a_slow_function_fewer_steps_are_taken_and_always_those_of_textbooks(price, count):
    asked = problem(lambda b, x: b.op("Exp", x), [1.0, 2.0], "gradient")
    clock = Clock(25.0)
    clock.primal = price
    (sweep,), _ = over_steps(asked, draw(asked), True, clock)
    assert len(sweep.steps) == pytest.approx(count, abs=2)
    assert {FORWARD, CENTRAL} <= set(sweep.steps)


def test_of_a_very_slow_function_some_steps_are_taken_and_more_around_the_best(monkeypatch):
    asked = problem(lambda b, x: b.op("Exp", x), [1.0, 2.0], "gradient")
    clock = Clock(25.0)
    clock.primal, now, seen = 1.0, [0.0], Point.seen

    def slow(self: Point, x: np.ndarray) -> tuple[np.ndarray, Watch]:
        now[0] += 0.4
        return seen(self, x)

    monkeypatch.setattr(Point, "seen", slow)
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    (sweep,), why = over_steps(asked, draw(asked), True, clock)
    assert (why, sweep.sparse, len(sweep.noise)) == ("", True, 1)
    assert {FORWARD, CENTRAL} <= set(sweep.steps)
    assert 6 < len(sweep.steps) < 15
    best = sweep.rung[0, 0]
    assert 1e-7 < best < 1e-2
    assert np.sum(np.abs(np.log2(sweep.steps / best)) < 5) > np.sum(sweep.steps < 1e-8)
    assert now[0] < 0.35 * 25.0


def test_where_there_is_time_for_the_random_direction_only_errors_are_of_that():
    asked = problem(
        lambda b, x: b.op("ReduceSum", b.op("Exp", x), keepdims=0), [1.0, 2.0], "gradient"
    )
    evidence = measure(asked, ["reverse"], runs=1, sweep=True, reference="float64")
    (whole,) = evidence.swept
    only = replace(
        whole,
        directions={"x": whole.directions["x"][:1]},
        **{k: getattr(whole, k)[:, :1] for k in ("forward", "central", "ahead", "behind")},
        **{k: getattr(whole, k)[:1] for k in ("noise", "ladder", "rung")},
    )
    (both,), (one,) = judge(evidence).sweeps, judge(replace(evidence, swept=(only,))).sweeps
    assert (one.directions, one.along, one.elements) == (0, 1, 1)
    assert [p.central for p in one.points] == [p.central_along for p in both.points]
    assert all(math.isnan(p.central_along) for p in one.points)
    (fact, *_) = sweep_facts(replace(judge(evidence), sweeps=(one,)), one)
    assert "along a random direction, against" in fact.text
