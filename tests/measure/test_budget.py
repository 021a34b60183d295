"""Budgets, samples and timings, by a clock that only engines of known cost move."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest

from gradcli import api
from gradcli.comparison import judge
from gradcli.comparison.facts import Verdict
from gradcli.engines import ENGINES
from gradcli.engines.base import Engine, Probes
from gradcli.errors import CannotError, OutOfTimeError, UsageError
from gradcli.graph import Builder, DType, Var
from gradcli.interpret import Evaluator
from gradcli.measure import ALONG, SAMPLE, certify, measure, timed
from gradcli.measure.clock import Clock as BudgetClock
from gradcli.onnxfile import write
from gradcli.ops import OPS
from gradcli.problem import Problem, pose
from tests.measure.made import QUICK, Clock, Slow, engine, model, one, problem, replace_vjp

# ---- the budget ---------------------------------------------------------------------------------


def test_what_does_not_fit_is_sampled_and_the_whole_keeps_to_its_budget(clock):
    asked = problem(400)
    start = clock.now
    with engine(lambda _: Slow(0.02, clock)) as name:
        found = measure(asked, [name], budget=2.0)
    assert clock.now - start < 2.1
    outcome = one(found)
    assert outcome.sampled
    assert outcome.estimate is not None
    assert outcome.estimate.known is not None
    assert 2 <= outcome.evaluations <= SAMPLE + ALONG
    assert found.probes is not None
    (note,) = [n for n in judge(found).notes if n.startswith("sampled")]
    assert "made" in note
    assert "400" in note
    assert "seed 0" in note


def test_what_fits_is_whole(clock):
    with engine(lambda _: Slow(0.0, clock)) as name:
        found = measure(problem(400), [name], budget=20.0, runs=1)
    assert not one(found).sampled
    assert one(found).evaluations == 400
    assert found.probes is None


def test_a_method_of_which_not_even_a_sample_fits_is_skipped_with_the_reason(clock):
    start = clock.now
    with engine(lambda _: Slow(0.7, clock)) as name:
        found = measure(problem(50), [name], budget=1.0)
    assert clock.now - start < 1.5
    assert one(found).status == "skipped"
    assert "budget" in one(found).reason
    assert "50" in one(found).reason


class Padded(Slow):
    """All directions cost what one does."""

    width = 64
    pads = True


def test_what_is_taken_at_once_is_whole_whatever_it_costs(clock):
    with engine(lambda _: Padded(0.7, clock)) as name:
        found = measure(problem(50), [name], budget=1.0)
    assert (one(found).status, one(found).sampled) == ("computed", False)
    with engine(lambda _: Padded(0.7, clock)) as name:
        found = measure(problem(400), [name], budget=0.5)
    assert one(found).status == "skipped"
    assert "of the 400 directions of the answer 64 at once took 0.7 s" in one(found).reason


def test_where_nothing_is_left_nothing_is_tried(clock):
    tried = []

    def late(_):
        clock.now += 5.0
        tried.append(Slow(0.01, clock))
        return tried[-1]

    with engine(late) as name:
        found = measure(problem(50), [name], budget=2.0)
    assert one(found).reason == "out of time: nothing of the budget is left for it"
    assert len(tried) == 1


def test_time_that_one_method_leaves_goes_to_the_next(clock):
    with engine(lambda _: Slow(0.01, clock)) as name:
        found = measure(problem(60), ["reverse", name], budget=3.0, runs=1)
    assert not one(found).sampled


def test_a_slow_preparation_counts(clock):
    def prepare(_: Problem) -> Slow:
        clock.now += 5.0
        return Slow(0.01, clock)

    with engine(prepare) as name:
        found = measure(problem(), [name], runs=3)
    run = one(found).run
    assert one(found).prepare == pytest.approx(5.0, rel=1e-3)
    assert run is not None
    assert run.times == pytest.approx([0.03] * 3, rel=1e-2)


def test_every_share_together_keeps_to_the_budget(clock):
    slow = {
        name: Engine(name, "slow", "push", lambda *_: Slow(0.02, clock), uses="impl")
        for name in ("reverse", "complex-step", "finite", "forward", "symbolic")
    }
    start = clock.now
    with mock.patch.dict(ENGINES, slow):
        found = measure(problem(2000), list(slow), budget=10.0)
    assert clock.now - start < 11.0
    assert [o.sampled for o in found.outcomes] == [True] * 5
    assert found.witness.sampled


def test_a_certificate_leaves_time_for_the_methods(monkeypatch: pytest.MonkeyPatch):
    """However little was left when it began, and however long it would take."""
    given: list[float] = []

    @contextmanager
    def recorded(end: float) -> Iterator[None]:
        given.append(end - time.perf_counter())
        yield
        raise OutOfTimeError

    monkeypatch.setattr(certify, "until", recorded)
    clock = BudgetClock(100.0)
    clock.end = time.perf_counter() + 50.0
    found, why = certify.certificate(problem(), Probes(), "certified", clock, lambda _: None, {})
    assert found is None
    assert "was over: raise --budget" in why
    assert given[0] == pytest.approx(0.7 * 50.0, rel=0.1)


def test_a_witness_that_does_not_fit_gives_way(clock):
    slow = Engine("complex-step", "slow", "push", lambda *_: Slow(0.5, clock), uses="impl")
    with mock.patch.dict(ENGINES, {"complex-step": slow}):
        found = measure(problem(50), ["reverse"], budget=2.0)
    assert found.witness.method == "finite"
    assert judge(found).exit_code == 0


def test_an_input_of_the_size_of_an_image_is_confirmed_by_a_sample():
    rng = np.random.default_rng(0)

    def body(b: Builder, x: Var) -> Var:
        x = b.op("Reshape", x, b.ints([1, 3, 40, 40]))
        for m, n in ((3, 8), (8, 8)):
            w = (rng.standard_normal((n, m, 3, 3)) / (3 * m**0.5)).astype(np.float32)
            x = b.op("Conv", x, b.constant(w), pads=(1, 1, 1, 1), strides=(2, 2))
            x = b.op("Softplus", x)
        x = b.op("Reshape", x, b.ints([1, -1]))
        out = (rng.standard_normal((8 * 10 * 10, 10)) / 45).astype(np.float32)
        return b.op("MatMul", x, b.constant(out))

    net = model(3 * 40 * 40, body)
    x = rng.standard_normal((1, 3 * 40 * 40)).astype(np.float32)
    found = measure(pose(net, {"x": x}, operator="vjp"), ["reverse"], runs=1, reference="float64")
    said = judge(found)
    assert [(m.verdict, m.sampled) for m in said.methods] == [(Verdict.AGREE, False)]
    assert found.witness.sampled
    assert said.reference.confirmed == SAMPLE + ALONG
    assert said.reference.elements == 3 * 40 * 40


def test_what_was_too_slow_for_a_witness_is_not_tried_again(clock):
    made: list[None] = []

    def prepare(*_: Any) -> Slow:
        made.append(None)
        return Slow(0.5, clock)

    slow = Engine("complex-step", "slow", "push", prepare, uses="impl")
    with mock.patch.dict(ENGINES, {"complex-step": slow}):
        found = measure(problem(50), ["complex-step"], budget=2.0)
    assert one(found, "complex-step").status == "skipped"
    assert len(made) == 1


def test_what_a_slow_primal_makes_hopeless_is_not_tried(clock):
    slow = Slow(0.0, clock)
    runs: list[None] = []
    evaluate = Evaluator.run

    def run(self: Evaluator, *given: Any, **how: Any) -> Any:
        clock.now += 3.0
        runs.append(None)
        return evaluate(self, *given, **how)

    with engine(lambda _: slow) as name, mock.patch.object(Evaluator, "run", run):
        found = measure(problem(50), [name], budget=8.0, reference="float64")
    assert one(found).status == "skipped"
    assert "one takes 3 s at the least" in one(found).reason
    assert len(runs) < 5


def test_what_only_the_first_evaluation_costs_is_no_price(clock):
    # A fresh process loads libraries then.
    evaluate = Evaluator.run
    runs: list[None] = []

    def run(self: Evaluator, *given: Any, **how: Any) -> Any:
        clock.now += 0.0 if runs else 5.0
        runs.append(None)
        return evaluate(self, *given, **how)

    with mock.patch.object(Evaluator, "run", run):
        found = measure(
            problem(50, operator="jacobian"), QUICK, budget=20.0, runs=1, reference="float64"
        )
    assert found.reference.status == "computed"
    assert [o.status for o in found.outcomes] == ["computed"] * 3
    assert judge(found).reference.kind == "float64-reverse"


# ---- samples ------------------------------------------------------------------------------------


def test_a_sample_is_drawn_by_the_seed(clock):
    def sampled(seed: int) -> np.ndarray:
        with engine(lambda _: Slow(0.01, clock)) as name:
            found = measure(problem(300, seed=seed), [name], budget=1.5)
        assert found.probes is not None
        return found.probes.wrt["x"]

    assert np.array_equal(sampled(0), sampled(0))
    assert not np.array_equal(sampled(0), sampled(1))
    assert len(np.unique(sampled(0))) == SAMPLE


def test_a_jacobian_too_large_for_the_budget_is_sampled_by_rows_when_pulled(clock):
    def body(b: Builder, x: Var) -> Var:
        return b.op("Tanh", b.op("Expand", b.op("ReduceSum", x), b.ints([1, 500])))

    asked = pose(model(4, body), {"x": np.ones((1, 4), np.float32)}, operator="jacobian")
    with engine(lambda _: Slow(0.01, clock), "pull") as name:
        found = measure(asked, [name], budget=2.0, runs=1)
    estimate = one(found).estimate
    assert estimate is not None
    assert estimate.known is not None
    (known,) = estimate.known.values()
    rows = np.all(known.reshape(500, 4), axis=1)
    assert np.array_equal(rows, np.any(known.reshape(500, 4), axis=1))
    assert 1 < rows.sum() <= SAMPLE


def test_a_jacobian_that_memory_could_not_hold_is_refused():
    def body(b: Builder, x: Var) -> Var:
        return b.op("Expand", x, b.ints([3000, 4000]))

    asked = pose(model(4000, body), {"x": np.ones((1, 4000), np.float32)}, operator="jacobian")
    with pytest.raises(UsageError, match="too large to compare") as refused:
        measure(asked, ["reverse"])
    assert "vjp" in refused.value.hint


# ---- timings ------------------------------------------------------------------------------------


def test_runs_and_warmup():
    calls: list[None] = []
    assert len(timed(lambda: calls.append(None), 10.0, 5, 3).times) == 5
    assert len(calls) == 8


def test_no_time_left_is_still_one_run():
    calls: list[None] = []
    assert len(timed(lambda: calls.append(None), 0.0, 5, 3).times) == 1
    assert len(calls) == 1


def test_a_run_is_repeated_as_often_as_asked():
    found = measure(problem(), ["reverse"], runs=7, warmup=2)
    run = one(found, "reverse").run
    assert run is not None
    assert len(run.times) == 7
    assert found.forward is not None


def test_progress_is_told_step_by_step():
    told: list[str] = []
    measure(problem(), QUICK, runs=1, progress=told.append)
    certifying = [step for step in told if step.startswith("certified")]
    at_once = ["reverse", *(name for name in QUICK if name != "reverse")]
    assert told == ["primal", "reference", "witness", *certifying, *at_once]


def test_what_has_the_answer_in_one_direction_is_run_first_and_reported_where_it_was_asked():
    told: list[str] = []
    made = measure(problem(), ("forward", "reverse"), runs=1, progress=told.append)
    assert [step for step in told if step in ("forward", "reverse")] == ["reverse", "forward"]
    assert [o.method for o in made.outcomes] == ["forward", "reverse"]


# ---- what cannot be hurried ---------------------------------------------------------------------


@contextmanager
def slow_nodes(clock: Clock, seconds: float) -> Iterator[None]:
    """Every node of every evaluation takes so long."""
    evaluate = Evaluator.run

    def run(self: Evaluator, feeds: Any, observe: Any = None, *given: Any, **how: Any) -> Any:
        def seen(*node: Any) -> None:
            clock.now += seconds
            if observe is not None:
                observe(*node)

        return evaluate(self, feeds, seen, *given, **how)

    with mock.patch.object(Evaluator, "run", run):
        yield


@pytest.mark.parametrize("budget", [1.0, 3.0, 10.0, 30.0])
@pytest.mark.parametrize("operator", ["vjp", "jvp", "jacobian"])
def test_a_whole_comparison_keeps_to_its_budget_however_slow_the_network_is(
    clock, operator, budget
):
    rule = OPS["Tanh"].vjp
    assert rule is not None
    wrong = OPS.replace(replace_vjp("Tanh", lambda *how: [v and v * 1.01 for v in rule(*how)]))
    asked = problem(300, operator=operator, table=wrong)
    node = 0.05
    start = clock.now
    with slow_nodes(clock, node):
        said = api.judged(asked, api.Settings(budget=budget))
    assert clock.now - start < budget + 2 * node
    assert [m.method for m in said.methods] == list(ENGINES)
    if budget >= 10.0:
        assert said.exit_code == 1


def test_a_budget_below_one_evaluation_says_so(clock):
    with slow_nodes(clock, 1.0), pytest.raises(CannotError, match="out of time") as said:
        measure(problem(), budget=0.5)
    assert "--budget" in said.value.hint


def wide(size: int = 3, **how: Any) -> Problem:
    def body(b: Builder, x: Var) -> Var:
        return b.op("Tanh", b.op("Expand", x, b.ints([100, size])))

    x = np.random.default_rng(1).standard_normal((1, size)).astype(np.float32)
    return pose(model(size, body), {"x": x}, operator="jvp", **how)


def test_the_reference_of_a_jvp_of_many_outputs_is_one_forward_pass():
    found = measure(wide(), ["forward", "reverse"], runs=1, reference="float64")
    assert (found.reference.method, found.reference.sampled) == ("forward", False)
    said = judge(found)
    assert said.reference.kind == "float64-forward"
    assert said.reference.confirmed == 300
    assert {m.verdict for m in said.methods} == {Verdict.AGREE}


def test_where_its_rule_is_wrong_that_reference_is_withdrawn_and_forward_blamed():
    rule = OPS["Tanh"].jvp
    assert rule is not None
    wrong = replace(OPS["Tanh"], jvp=lambda *how: [v and v * 1.01 for v in rule(*how)])
    said = api.judged(
        wide(table=OPS.replace(wrong)),
        api.Settings(("forward", "reverse"), runs=1, reference="float64"),
    )
    assert said.reference.kind == "complex-step"
    assert [(m.method, m.verdict) for m in said.methods] == [
        ("forward", Verdict.DISAGREE),
        ("reverse", Verdict.AGREE),
    ]
    assert said.methods[0].cause is not None
    assert said.methods[0].cause.value == "rule"


def test_a_network_of_nothing_but_eight_bits_rounds_nothing_more() -> None:
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT8E4M3FN, (2, 3))
    found = api.compare(
        write(b.graph([b.op("Transpose", x, perm=(1, 0), name="y")])), budget=10, runs=1, warmup=0
    )
    assert {m.verdict for m in found.methods if m.method in QUICK} <= {
        Verdict.AGREE,
        Verdict.INCONCLUSIVE,
    }
