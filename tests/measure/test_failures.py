"""What is said of methods that break, of files that cannot be run, and of results that change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest

from gradcli import api, runtime
from gradcli.comparison import Comparison, judge
from gradcli.comparison.facts import Verdict
from gradcli.engines import ENGINES
from gradcli.engines.base import Engine
from gradcli.errors import CannotError, InternalError, UsageError
from gradcli.graph import Builder, DType, Graph, Var
from gradcli.measure import measure
from gradcli.onnxfile import read, write
from gradcli.ops import OPS
from gradcli.problem import Problem, pose
from tests.measure.made import QUICK, engine, model, one, problem, replace_vjp

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


def test_what_is_done_before_an_interruption_is_told():
    with engine(raising(KeyboardInterrupt())) as name:
        settings = api.Settings(("reverse", name, "forward"), runs=1)
        with pytest.raises(KeyboardInterrupt) as interruption:
            api.judged(problem(), settings)
    assert isinstance(interruption.value, api.Interrupted)
    said = interruption.value.comparison
    assert [(m.method, m.verdict) for m in said.methods] == [("reverse", Verdict.AGREE)]
    assert said.unfinished == (name, "forward")
    assert said.exit_code == 0  # of what is done; the command's is 130


def test_an_interruption_before_anything_is_known_is_just_that():
    with (
        mock.patch("gradcli.measure.gather.timed_file_primal", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt) as interruption,
    ):
        api.judged(problem())
    assert not isinstance(interruption.value, api.Interrupted)


def test_every_method_that_is_done_is_told_at_once():
    told: list[Comparison] = []
    last = api.judged(
        problem(), api.Settings(QUICK, runs=1), so_far=lambda made: told.append(made())
    )
    done = [[m.method for m in said.methods] for said in told]
    # Reverse needs one direction, and is first.
    assert done == [[], ["reverse"], ["forward", "reverse"], list(QUICK)]
    assert [said.unfinished for said in told] == [
        QUICK,
        ("forward", "complex-step"),
        ("complex-step",),
        (),
    ]
    assert [m.method for m in last.methods] == list(QUICK)
    assert last.unfinished == ()


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
        api.Settings(("revers",))
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
