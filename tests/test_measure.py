"""Budgets, samples, timings and failures, by a clock that only engines of known cost move."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal
from unittest import mock

import numpy as np
import pytest

from gradcli import api, runtime
from gradcli.comparison import judge
from gradcli.comparison.facts import Verdict
from gradcli.engines import ENGINES
from gradcli.engines.base import Engine, Evidence, Images, Outcome
from gradcli.errors import CannotError, InternalError, UsageError
from gradcli.graph import Builder, DType, Graph, Var
from gradcli.interpret import Evaluator
from gradcli.measure import ALONG, SAMPLE, measure, timed
from gradcli.onnxfile import Model, read, write
from gradcli.ops import OPS
from gradcli.problem import Problem, pose

QUICK = ("forward", "reverse", "complex-step")


def model(size: int = 3, body: Callable[[Builder, Var], Var] | None = None) -> Model:
    """y = tanh(x W), or a body of one's own, in float32."""
    weights = np.random.default_rng(0).standard_normal((size, 2)).astype(np.float32) / size**0.5

    def plain(b: Builder, x: Var) -> Var:
        return b.op("Tanh", b.op("MatMul", x, b.constant(weights)))

    b = Builder(OPS)
    y = (body or plain)(b, b.input("x", DType.FLOAT32, (1, size)))
    return read(write(b.graph([b.rename(y, "y")])), OPS)


def problem(size: int = 3, **how: Any) -> Problem:
    x = np.random.default_rng(1).standard_normal((1, size)).astype(np.float32)
    return pose(model(size), {"x": x}, **{"operator": "vjp", **how})


class Clock:
    """Seconds that pass only when somebody says so, and a trifle whenever one looks."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1e-7
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "perf_counter", made)
    return made


class Slow:
    """A derivative that says 0 after so many seconds a direction."""

    width = 1
    pads = False

    def __init__(self, seconds: float, clock: Clock) -> None:
        self.seconds, self.clock = seconds, clock

    def apply(self, point: Any, directions: Any) -> Images:
        del point, directions
        self.clock.now += self.seconds
        return Images({})


@contextmanager
def engine(
    prepare: Callable[[Problem], Any], mode: Literal["push", "pull"] = "push"
) -> Iterator[str]:
    """An engine called `made` among the others, for as long as this lasts."""
    made = Engine("made", "for a test", mode, lambda asked, _: prepare(asked), uses="impl")
    with mock.patch.dict(ENGINES, {"made": made}):
        yield "made"


def one(evidence: Evidence, name: str = "made") -> Outcome:
    return next(o for o in evidence.outcomes if o.method == name)


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
    assert told == ["primal", "reference", "witness", *certifying, *QUICK]


# ---- failures -----------------------------------------------------------------------------------


def raising(error: BaseException) -> Callable[[Problem], Any]:
    def prepare(asked: Problem) -> Any:
        raise error

    return prepare


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (CannotError("not analytic"), "skipped", "not analytic"),
        (MemoryError(), "skipped", "it does not fit into memory"),
        (InternalError("no rule for y"), "failed", "no rule for y"),
        (ZeroDivisionError("by 0"), "failed", "ZeroDivisionError: by 0"),
        (RecursionError("too deep"), "failed", "RecursionError: too deep"),
    ],
)
def test_a_method_that_breaks_is_a_row_and_the_others_go_on(error, status, reason):
    with engine(raising(error)) as name:
        found = measure(problem(), [name, "reverse"], runs=1)
    assert (one(found).status, one(found).reason) == (status, reason)
    said = judge(found)
    assert [m.verdict for m in said.methods] == [None, Verdict.AGREE]
    assert said.exit_code == (70 if status == "failed" else 0)
    assert said.counts[status] == 1


def test_an_interruption_is_none_of_a_methods_failures():
    with engine(raising(KeyboardInterrupt())) as name, pytest.raises(KeyboardInterrupt):
        measure(problem(), [name])


def test_a_reverse_rule_that_breaks_leaves_the_witness_as_the_reference():
    def broken(*_: Any) -> Any:
        raise TypeError("no such operand")

    table = OPS.replace(replace_vjp("Tanh", broken))
    found = measure(problem(table=table), ("reverse", "forward", "symbolic"), runs=1)
    said = judge(found)
    assert [m.status for m in said.methods] == ["failed", "computed", "computed"]
    assert "no such operand" in said.methods[0].reason
    assert said.reference.kind == "complex-step"
    assert {m.verdict for m in said.methods[1:]} == {Verdict.AGREE}


def replace_vjp(op: str, vjp: Any) -> Any:
    return replace(OPS[op], vjp=vjp)


def test_when_no_witness_works_nothing_is_decided():
    broken = {
        name: Engine(name, "broken", "push", lambda *_: 1 / 0, uses="impl")  # type: ignore[arg-type]
        for name in ("complex-step", "finite")
    }
    with mock.patch.dict(ENGINES, broken):
        found = measure(problem(), ["reverse"], runs=1, reference="float64")
    said = judge(found)
    assert said.exit_code == 3
    assert said.methods[0].verdict is Verdict.INCONCLUSIVE
    assert "division by zero" in said.reference.reason


# ---- which methods ------------------------------------------------------------------------------


def test_one_method_alone_has_a_reference_and_a_witness():
    found = measure(problem(), ["forward"], runs=1)
    assert [o.method for o in found.outcomes] == ["forward"]
    assert judge(found).methods[0].verdict is Verdict.AGREE
    assert found.witness.method == "complex-step"


def test_an_unknown_method_is_refused_with_near_names():
    with pytest.raises(UsageError, match="no method called 'revers'") as refused:
        api.judged(problem(), methods=["revers"])
    assert "reverse" in refused.value.hint


def test_a_model_that_onnxruntime_cannot_run_is_said():
    asked = problem()
    with mock.patch("gradcli.runtime.prepare", side_effect=CannotError("no kernel for Tanh")):
        found = measure(asked, ["symbolic"], runs=1)
    assert found.primal_reason == "no kernel for Tanh"
    assert judge(found).exit_code == 3


def test_a_kernel_that_refuses_only_as_it_runs_is_none_of_a_methods_failures():
    def rows(b: Builder, x: Var) -> Var:
        """onnxruntime takes a linear Resize, and finds out too late that it wants other axes."""
        x = b.reshape(x, [2, 1, 2, 1])
        return b.op("Resize", x, None, None, b.ints([4, 1, 4, 1]), mode="linear")

    asked = pose(model(4, rows), {"x": np.ones((1, 4), np.float32)}, operator="vjp")
    found = measure(asked, ["forward", "reverse", "symbolic"], runs=1)
    assert [o.status for o in found.outcomes] == ["skipped", "skipped", "computed"]
    assert "Resize node" in one(found, "reverse").reason
    said = judge(found)
    assert (said.verdict, said.exit_code) == (Verdict.INCONCLUSIVE, 3)


def test_without_a_file_there_is_nothing_to_hold_the_primal_against():
    asked = problem()
    graph: Graph = asked.graph
    alone = Problem(
        None, graph, asked.wrt, asked.of, "vjp", asked.point, {}, asked.cotangents, asked.dtype
    )
    assert measure(alone, ["symbolic"], runs=1).primal_reason == "there is no file"


TAILS = {
    "Sigmoid": (lambda b, x: b.op("Sigmoid", x * 0.1 - 8.5), DType.FLOAT32),
    "Sigmoid, wide": (lambda b, x: b.op("Sigmoid", x * 0.1 - 18.5), DType.FLOAT64),
    "Elu": (lambda b, x: b.op("Elu", x * -1e-3), DType.FLOAT32),
    "Selu": (lambda b, x: b.op("Selu", x * -1e-3), DType.FLOAT32),
    "Celu": (lambda b, x: b.op("Celu", x * -1e-3), DType.FLOAT32),
    "Gelu": (lambda b, x: b.op("Gelu", x - 4.5), DType.FLOAT32),
}


@pytest.mark.parametrize("name", TAILS)
@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_a_kernels_absolute_error_in_a_tail_is_no_other_function(name: str, scale: float):
    """Of a Sigmoid of -8 onnxruntime has no more than four digits; exp(x) - 1 it takes as it is."""
    tail, dtype = TAILS[name]
    b = Builder(OPS)
    x = b.input("x", dtype, (1, 3))
    made = read(write(b.graph([b.rename(tail(b, x), "y")])), OPS)
    found = measure(pose(made, {"x": np.full((1, 3), 0.5371, dtype.np)}), QUICK, runs=1)
    given = {name: y * scale for name, y in found.file_primal.items()}
    assert judge(replace(found, file_primal=given)).primal.matches == (scale == 1.0)


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("GroupNormalization", {"num_groups": 1}),
        ("Gelu", {"approximate": "tanh"}),
        ("com.microsoft::FastGelu", {}),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 1.0 + 1e-5])
def test_a_float64_file_is_held_to_what_its_kernels_compute_in(op, attrs, scale: float):
    """These compute in float32 inside; a few digits less are another function all the same."""
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT64, (2, 3, 2))
    affine = [b.constant(np.ones(3)), b.constant(np.ones(3))] if "num_groups" in attrs else []
    y = b.op(op, x, *affine, name="coarse", **attrs)
    made = read(write(b.graph([b.rename(y + x, "y")])), OPS)
    point = np.random.default_rng(0).standard_normal((2, 3, 2))
    found = measure(pose(made, {"x": point}), QUICK, runs=1)
    given = {name: y * scale for name, y in found.file_primal.items()}
    said = judge(replace(found, file_primal=given))
    assert said.primal.matches == (scale == 1.0)
    assert said.exit_code == (0 if scale == 1.0 else 3)
    assert any(f"'coarse' ({op})" in note and "float32" in note for note in said.notes)


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
        said = api.judged(asked, budget=budget)
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
        methods=["forward", "reverse"],
        runs=1,
        reference="float64",
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


# ---- results that change ------------------------------------------------------------------------


def test_what_always_gives_the_same_says_nothing():
    found = measure(problem(dtype=DType.FLOAT32), QUICK, runs=2)
    assert not found.unsteady
    assert not any(o.unsteady for o in found.outcomes)
    assert not judge(found).unsteady


def test_results_that_change_from_run_to_run_are_reported_with_their_size(monkeypatch):
    rng, run = np.random.default_rng(0), runtime.Session.run

    def jitter(self: runtime.Session, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        out = run(self, feeds)
        return {
            k: (y * (1 + 1e-6 * rng.standard_normal(y.shape))).astype(y.dtype)
            for k, y in out.items()
        }

    monkeypatch.setattr(runtime.Session, "run", jitter)
    found = judge(measure(problem(), QUICK, runs=2))
    assert [(u.program, u.threads) for u in found.unsteady] == [
        (name, (1, 1)) for name in ("primal", "forward", "reverse")
    ]
    assert all(1e-8 < u.max_rel < 1e-5 for u in found.unsteady)
    assert [u.name for u in found.unsteady] == ["y", "x", "x"]
    assert found.exit_code == 0


def test_results_that_change_with_the_threads_are_reported(monkeypatch):
    prepare = runtime.prepare

    def uneven(source: Any, *, threads: int = 1, **how: Any) -> runtime.Session:
        session = prepare(source, threads=threads, **how)
        run = session.run
        monkeypatch.setattr(
            session,
            "run",
            lambda feeds: {k: y * np.float32(threads) for k, y in run(feeds).items()},
        )
        return session

    monkeypatch.setattr(runtime, "prepare", uneven)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    asked = problem()
    for threads, other in ((1, 3), (3, 1)):
        found = measure(replace(asked, threads=threads), ["reverse"], runs=1)
        (primal,), (reverse,) = found.unsteady, one(found, "reverse").unsteady
        assert primal.threads == reverse.threads == (threads, other)
        assert [primal.max_rel, reverse.max_rel] == pytest.approx([2 / 3, 2 / 3], rel=1e-6)


def test_a_model_that_is_random_elsewhere_only_says_nothing():
    def body(b: Builder, x: Var) -> Var:
        return b.op("Tanh", x)

    b = Builder(OPS)
    x = b.input("x", DType.FLOAT32, (1, 3))
    noise = b.op("RandomNormal", shape=[1, 3]) * x
    made = read(write(b.graph([b.rename(body(b, x), "y"), b.rename(noise, "z")])), OPS)
    asked = pose(made, {"x": np.ones((1, 3), np.float32)}, of=["y"], operator="vjp")
    assert not measure(asked, ["reverse"], runs=1).unsteady


def test_a_kernel_that_rounds_otherwise_on_two_threads_is_reported_as_onnxruntime_does_it(
    monkeypatch,
):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    made = model(20_003, lambda b, x: b.op("Softplus", x))
    x = np.random.default_rng(1).uniform(0.1, 2.0, (1, 20_003)).astype(np.float32)
    one_thread, two = (runtime.prepare(made, threads=t).run({"x": x})["y"] for t in (1, 2))
    asked = pose(made, {"x": x}, operator="vjp")
    found = measure(asked, ["reverse"], runs=1, reference="float64").unsteady
    assert sum(u.elements for u in found) == np.sum(one_thread != two)


def test_looking_whether_results_change_is_left_out_where_it_would_cost_much(monkeypatch, clock):
    run = runtime.Session.run
    runs = []

    def slow(self: runtime.Session, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        clock.now += 0.5
        runs.append(self)
        return run(self, feeds)

    monkeypatch.setattr(runtime.Session, "run", slow)
    measure(problem(), ["complex-step"], budget=10.0, runs=1, warmup=0)
    forward = runs[0]
    assert sum(session is forward for session in runs) == 2  # timed once, and run for its outputs
