"""The four operators, from a pushforward or a pullback: every way gives the same numbers."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradcli.deadline import until
from gradcli.engines import ENGINES, Estimate, Program
from gradcli.engines.base import Images, Options, Probes, chunk_width, program
from gradcli.errors import CannotError, OutOfTimeError
from gradcli.graph import Builder, DType, Var
from gradcli.interpret import interpret
from gradcli.numbers import complex_
from gradcli.ops import OPS
from gradcli.problem import OPERATORS, Problem
from gradcli.runtime import Session

F64 = DType.FLOAT64
Make = Callable[..., tuple[Var, ...]]
Inputs = Mapping[str, tuple[int, ...]]

W = np.random.default_rng(0).standard_normal((3, 4))


def several(b: Builder, x: Var, z: Var, s: Var) -> tuple[Var, ...]:
    """Tensors of every rank; the second output does not depend on x, nor the third on s."""
    h = b.op("Tanh", b.op("MatMul", x, b.constant(W)))
    y0 = b.op("Softmax", h) * s
    y1 = b.op("Exp", z * s)
    return y0, y1, b.sum(h, None, keepdims=False) * b.sum(z, None, keepdims=False)


def one_number(b: Builder, x: Var, z: Var, s: Var) -> tuple[Var, ...]:
    parts = several(b, x, z, s)
    return (
        b.sum(parts[0], None, keepdims=False) + b.sum(parts[1], None, keepdims=False) * parts[2],
    )


def scalar(b: Builder, s: Var) -> tuple[Var, ...]:
    return (b.op("Sin", s),)


def nothing_there(b: Builder, x: Var, e: Var) -> tuple[Var, ...]:
    return b.op("Exp", e), b.op("Mul", x, x)


def apart(b: Builder, x: Var, z: Var) -> tuple[Var, ...]:
    """No way from z to anything, nor from anything to the second output."""
    del z
    return b.op("Sin", x), b.op("Floor", x)


def an_input(b: Builder, x: Var, z: Var) -> tuple[Var, ...]:
    return x, b.op("Mul", x, z)


FUNCTIONS: Mapping[str, tuple[Make, Inputs]] = {
    "several": (several, {"x": (2, 3), "z": (2, 2), "s": ()}),
    "one number": (one_number, {"x": (2, 3), "z": (2, 2), "s": ()}),
    "scalar": (scalar, {"s": ()}),
    "empty": (nothing_there, {"x": (3,), "e": (0, 2)}),
    "only empty": (lambda b, e: (b.op("Exp", e),), {"e": (2, 0)}),
    "apart": (apart, {"x": (3,), "z": (2,)}),
    "an input": (an_input, {"x": (3,), "z": (3,)}),
}


def asked(name: str, operator: str) -> Problem:
    make, shapes = FUNCTIONS[name]
    b, rng = Builder(OPS), np.random.default_rng(1)
    made = make(b, *(b.input(k, F64, shape) for k, shape in shapes.items()))
    graph = b.graph(
        [y if y.value in b.inputs else b.rename(y, f"y{k}") for k, y in enumerate(made)]
    )
    outputs = {v.name: tuple(map(int, v.shape or ())) for v in graph.outputs}

    def some(of: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
        return {k: np.asarray(rng.standard_normal(shape)) for k, shape in of.items()}

    point, dots, bars = some(shapes), some(shapes), some(outputs)
    ones = {k: np.ones(shape) for k, shape in outputs.items()}
    return Problem(
        None,
        graph,
        tuple(shapes),
        tuple(outputs),
        operator,
        point,
        dots if operator == "jvp" else {},
        bars if operator == "vjp" else ones if operator == "gradient" else {},
        F64,
    )


def jacobian(p: Problem) -> dict[Any, np.ndarray]:
    """By the complex step, straight from the interpreter."""
    blocks = {}
    for wrt, x in p.point.items():
        for of in p.of:
            blocks[of, wrt] = np.zeros((*p.shape(of), *x.shape))
        for at in np.ndindex(*x.shape):
            moved = x.astype(complex)
            moved[at] += 1e-30j
            out = interpret(p.graph, {**p.point, wrt: moved}, complex_)
            for of in p.of:
                blocks[of, wrt][(..., *at)] = np.imag(out[of]) / 1e-30
    return blocks


def wanted(p: Problem) -> dict[Any, np.ndarray]:
    j = jacobian(p)
    if p.operator == "jacobian":
        return j
    found: dict[Any, np.ndarray] = {key: np.zeros(p.block_shape(key)) for key in p.keys}
    for (of, wrt), block in j.items():
        if p.operator == "jvp":
            dot = p.tangents[wrt]
            found[of, ""] = found[of, ""] + np.tensordot(block, dot, dot.ndim)
        else:
            bar = p.cotangents[of]
            found["", wrt] = found["", wrt] + np.tensordot(bar, block, bar.ndim)
    return found


CASES = [
    (name, operator)
    for name, operator in itertools.product(FUNCTIONS, OPERATORS)
    if operator != "gradient" or name in ("one number", "scalar")
]
METHODS = ("forward", "reverse", "complex-step")


def run(method: str, p: Problem, **how: Any) -> Estimate:
    return Program(ENGINES[method], p).run(**how)


def same(found: Estimate, p: Problem, want: Mapping[Any, np.ndarray]) -> None:
    """Everything that is known is right, in the right places; the rest is NaN."""
    assert list(found.blocks) == list(p.keys)
    for key, block in found.blocks.items():
        assert block.shape == p.block_shape(key)
        assert block.dtype == np.float64
        known = np.ones(block.shape, bool) if found.known is None else found.known[key]
        np.testing.assert_allclose(block[known], want[key][known], rtol=1e-11, atol=1e-13)
        assert np.all(np.isnan(block[~known]))


@pytest.mark.parametrize("width", [1, 2, 5, 64])
@pytest.mark.parametrize(("name", "operator"), CASES)
def test_every_way_gives_the_same_whatever_goes_at_once(name, operator, width, monkeypatch):
    monkeypatch.setattr(program, "CHUNK", width)
    p = asked(name, operator)
    want = wanted(p)
    for method in METHODS:
        made = Program(ENGINES[method], p)
        assert made.map.width <= max(width, 1) or method == "complex-step"
        found = made.run()
        assert found.known is None
        same(found, p, want)
        assert made.evaluations == made.count()


def probes(p: Problem) -> Probes:
    """Some elements of each tensor, and two random directions."""
    rng = np.random.default_rng(3)

    def some(shape: tuple[int, ...]) -> np.ndarray:
        size = math.prod(shape)
        return np.sort(rng.permutation(size)[: (size + 1) // 2])

    along = {n: rng.standard_normal((2, *p.shape(n))) for n in p.wrt}
    contracted = p.operator in ("gradient", "vjp")
    return Probes(
        {n: some(p.shape(n)) for n in p.wrt},
        {n: some(p.shape(n)) for n in p.of},
        along if contracted else {},
    )


@pytest.mark.parametrize("width", [1, 3, 64])
@pytest.mark.parametrize(("name", "operator"), CASES)
def test_a_sample_is_a_part_of_the_whole(name, operator, width, monkeypatch):
    monkeypatch.setattr(program, "CHUNK", width)
    p = asked(name, operator)
    want, sample = wanted(p), probes(p)
    for method in METHODS:
        made = Program(ENGINES[method], p)
        found = made.run(sample)
        same(found, p, want)
        assert made.evaluations == made.count(sample)
        pushes = ENGINES[method].mode == "push"
        if operator in ("gradient", "vjp"):
            products = sum(
                sample.along[w].reshape(2, -1) @ block.reshape(-1) for (_, w), block in want.items()
            )
            np.testing.assert_allclose(found.along, products, rtol=1e-11, atol=1e-13)
        if pushes and operator != "jvp" and found.known is not None:
            for (_, wrt), known in found.known.items():
                columns = np.zeros(p.shape(wrt), bool)
                columns.reshape(-1)[sample.wrt[wrt]] = True
                np.testing.assert_array_equal(known, np.broadcast_to(columns, known.shape))
        if not pushes and operator == "jvp" and found.known is not None:
            for (of, _), known in found.known.items():
                assert set(np.flatnonzero(known)) == set(sample.of[of])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("operator", ["jacobian", "jvp", "vjp"])
def test_what_a_deadline_cuts_off_is_not_known(method, operator, monkeypatch):
    monkeypatch.setattr(program, "CHUNK", 2)
    p = asked("several", operator)
    want = wanted(p)
    made = Program(ENGINES[method], p)
    apply, now = made.map.apply, [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def tick(*given: Any) -> Images:
        images = apply(*given)
        now[0] += 1.0
        return images

    monkeypatch.setattr(made.map, "apply", tick)
    if made.count() == 1 or method == "complex-step":  # whose chunks are of its own width
        same(made.run(deadline=0.5), p, want)
        return
    for chunks in (1, 2):
        now[0] = 0.0
        part = made.run(deadline=chunks - 0.5)
        same(part, p, want)
        assert made.evaluations == 2 * chunks
        assert part.known is not None
        for key, known in part.known.items():
            np.testing.assert_array_equal(known, ~np.isnan(part.blocks[key]))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("operator", ["jacobian", "jvp", "vjp"])
def test_before_its_first_directions_a_deadline_ends_a_run(method, operator):
    made = Program(ENGINES[method], asked("several", operator))
    with pytest.raises(OutOfTimeError), until(-math.inf):
        made.run()
    assert made.evaluations == 0


def test_what_is_being_computed_at_the_deadline_is_dropped(monkeypatch):
    p = asked("several", "jacobian")
    made = Program(ENGINES["forward"], p, Options(width=2))
    apply, calls = made.map.apply, itertools.count()

    def stop(*given: Any) -> Images:
        if next(calls) == 1:
            raise OutOfTimeError
        return apply(*given)

    monkeypatch.setattr(made.map, "apply", stop)
    part = made.run(deadline=math.inf)
    assert (made.evaluations, next(calls)) == (2, 2)
    same(part, p, wanted(p))
    assert part.known is not None


def test_random_directions_leave_half_of_the_time_to_coordinates(monkeypatch):
    p = asked("several", "vjp")
    made = Program(ENGINES["forward"], p, Options(width=1))
    apply, now = made.map.apply, [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def tick(*given: Any) -> Images:
        now[0] += 1.0
        return apply(*given)

    monkeypatch.setattr(made.map, "apply", tick)
    along = {n: np.ones((8, *p.shape(n))) for n in p.wrt}
    part = made.run(Probes({n: np.arange(1) for n in p.wrt}, {}, along), deadline=4.5)
    assert len(part.along) == 3
    assert made.evaluations == 5


@pytest.mark.parametrize("method", METHODS)
def test_another_point_and_other_directions(method):
    for operator in ("jvp", "vjp", "jacobian"):
        p, made = asked("several", operator), Program(ENGINES[method], asked("several", operator))
        same(made.run(), p, wanted(p))
        rng = np.random.default_rng(9)
        point = {k: rng.standard_normal(x.shape) for k, x in p.point.items()}
        dots = {k: rng.standard_normal(x.shape) for k, x in p.tangents.items()}
        bars = {k: rng.standard_normal(x.shape) for k, x in p.cotangents.items()}
        other = replace(p, point=point, tangents=dots, cotangents=bars)
        found = made.run(point=point, tangents=dots or None, cotangents=bars or None)
        same(found, p, wanted(other))
        same(
            made.run(point={"s": point["s"]}),
            p,
            wanted(replace(p, point={**p.point, "s": point["s"]})),
        )
        same(made.run(), p, wanted(p))


@pytest.mark.parametrize("method", ["forward", "reverse"])
def test_the_primal_comes_along(method):
    p = asked("several", "jacobian")
    found = run(method, p).primal
    for name, y in interpret(p.graph, p.point).items():
        np.testing.assert_allclose(found[name], y, rtol=1e-14)


@pytest.mark.parametrize("method", ["forward", "reverse"])
@pytest.mark.parametrize(("name", "operator"), [c for c in CASES if "empty" not in c[0]])
def test_the_same_in_float32(name, operator, method):
    p = replace(asked(name, operator), dtype=DType.FLOAT32)
    found = run(method, p)
    for key, want in wanted(p).items():
        np.testing.assert_allclose(found.blocks[key], want, rtol=2e-5, atol=2e-5)


def test_float32_runs_in_onnxruntime_and_float64_does_not(monkeypatch):
    runs = []
    native = Session.run

    def counted(self: Session, feeds: Any) -> Any:
        runs.append(self)
        return native(self, feeds)

    monkeypatch.setattr(Session, "run", counted)
    p = asked("scalar", "gradient")
    run("reverse", p)
    assert not runs
    run("reverse", replace(p, dtype=DType.FLOAT32))
    assert len(runs) == 1


def test_a_width_that_onnxruntime_has_no_kernels_for_is_out_of_depth():
    with pytest.raises(CannotError, match="bfloat16"):
        run("reverse", replace(asked("scalar", "gradient"), dtype=DType.BFLOAT16))


def test_what_does_not_fit_together_goes_one_by_one(monkeypatch):
    card = OPS["Softmax"]
    p = replace(asked("several", "jacobian"), table=OPS.replace(replace(card, batch=None)))
    # The rules of Softmax are other operators; take away the batching of one of those.
    assert Program(ENGINES["forward"], p).map.width > 1
    alone = OPS.replace(replace(OPS["MatMul"], batch=None))
    p = replace(p, table=alone)
    made = Program(ENGINES["forward"], p)
    assert made.map.width == 1
    same(made.run(), p, wanted(p))


def test_heavy_tensors_take_fewer_directions_at_once():
    b = Builder(OPS)
    x = b.input("x", F64, (1000,))
    graph = b.graph([b.op("Exp", x)])
    assert chunk_width(graph, 3) == 3
    assert chunk_width(graph, 10**6) == program.CHUNK
    large = Builder(OPS)
    x = large.input("x", F64, (program.CHUNK_BYTES // 8 // 5,))
    assert chunk_width(large.graph([large.op("Exp", x)]), 10**6) == 5
    huge = Builder(OPS)
    x = huge.input("x", F64, (2**40,))
    assert chunk_width(huge.graph([huge.op("Exp", x)]), 10) == 1
    unknown = Builder(OPS)
    x = unknown.input("x", F64, ("N",))
    assert chunk_width(unknown.graph([unknown.op("Exp", x)]), 10) == 10
