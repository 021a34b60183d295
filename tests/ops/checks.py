"""What is asked of every operator, as plain functions over one drawn case: see test_ops.py."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from gradcli import onnxfile
from gradcli.errors import CannotError
from gradcli.graph import Builder, DType, Graph, Shape, Var
from gradcli.interpret import interpret
from gradcli.numbers import Ball, Numbers, complex_, real
from gradcli.ops import OPS, Card, Table
from gradcli.transform import Derivative, cast, expand, jvp, vjp, vmap
from tests.ops.recorder import opened, recorder
from tests.ops.table import Case, Row

Arrays = dict[str, np.ndarray]
Function = Callable[[Arrays], Arrays]

# ---- one case as a graph ----------------------------------------------------------------------


@dataclass(frozen=True)
class Applied:
    """A drawn case as a graph of one node.

    Attributes:
        row: Where it was drawn.
        card: The operator's card.
        case: What was drawn.
        graph: One node; the differentiated operands are its inputs `x0`, `x1`..., the others are
            constants.
        feeds: The operands that are inputs.
        smooth: Names of the float outputs.
    """

    row: Row
    card: Card
    case: Case
    graph: Graph
    feeds: Arrays

    @property
    def smooth(self) -> list[str]:
        return [v.name for v in self.graph.outputs if v.dtype.is_float]

    def rng(self, salt: int = 0) -> np.random.Generator:
        """A generator of its own, so that a check does not hang on those before it."""
        return np.random.default_rng([zlib.crc32(self.row.op.encode()), salt])

    def directions(self, names: Sequence[str], salt: int = 0, count: int = 0) -> Arrays:
        """Random arrays shaped as these values, with a leading axis of `count` unless 0."""
        rng = self.rng(salt)
        shapes = {name: np.shape(x) for name, x in (self.feeds | self.primal()).items()}
        lead = (count,) if count else ()
        return {name: rng.standard_normal((*lead, *shapes[name])) for name in names}

    def primal(self) -> Arrays:
        return interpret(self.graph, self.feeds)


@functools.cache
def draw(row: Row, trial: int) -> Applied:
    """The trial-th case of a row."""
    rng = np.random.default_rng([zlib.crc32(row.op.encode()), trial])
    return applied(row, row.draw(rng))


def applied(row: Row, case: Case, dynamic: str = "", dtype: DType = DType.FLOAT64) -> Applied:
    """A case as a graph, with those dimensions unknown that `dynamic` says."""
    b = Builder(OPS)
    operands: list[Var | None] = []
    feeds: Arrays = {}
    for k, x in enumerate(case.inputs):
        if x is None:
            operands.append(None)
        elif np.asarray(x).dtype == np.float64 and k not in case.fixed:
            name = f"x{k}"
            operands.append(b.input(name, dtype, _shape(k, x.shape, dynamic)))
            feeds[name] = x
        else:
            operands.append(b.constant(x, name=f"c{k}"))
    made = b.ops(row.op, *operands, outputs=case.outputs, name="y", **case.attrs)
    return Applied(row, OPS[row.op], case, b.graph(made), feeds)


def _shape(k: int, dims: tuple[int, ...], dynamic: str) -> Shape:
    if dynamic == "free":
        return tuple(f"x{k}_{axis}" for axis in range(len(dims)))
    if dynamic == "all":
        return tuple(d if d == 1 else f"n{d}" for d in dims)
    if dynamic == "batch" and k == 0 and dims:
        return ("N", *dims[1:])
    return dims


# ---- witnesses that use no rule ---------------------------------------------------------------


def complex_step(a: Applied, directions: Mapping[str, np.ndarray]) -> Arrays:
    """The tangents of the float outputs, from the imaginary part of the primal alone."""
    h = 1e-40
    feeds = {name: real.lift(x) + 0j for name, x in a.feeds.items()}
    for name, v in directions.items():
        feeds[name] = feeds[name] + 1j * h * v
    out = interpret(a.graph, feeds, complex_)
    return {name: np.imag(out[name]) / h for name in a.smooth}


def central(
    f: Function, at: Arrays, directions: Mapping[str, np.ndarray], h: float = 2e-3
) -> Arrays:
    """The tangents of f's outputs by central differences, extrapolated to order 6."""

    def difference(step: float) -> Arrays:
        ahead = f({name: x + step * directions.get(name, 0.0) for name, x in at.items()})
        back = f({name: x - step * directions.get(name, 0.0) for name, x in at.items()})
        moved = {name for name, y in ahead.items() if y.dtype == np.float64}
        return {name: (ahead[name] - back[name]) / (2.0 * step) for name in moved}

    d1, d2, d4 = difference(h), difference(h / 2), difference(h / 4)
    once = {name: ((4 * d2[name] - d1[name]) / 3, (4 * d4[name] - d2[name]) / 3) for name in d1}
    return {name: (16 * fine - coarse) / 15 for name, (coarse, fine) in once.items()}


def unit_length(directions: Arrays) -> Arrays:
    """Directions whose largest element is 1, so that a step means a distance."""
    top = max((float(np.max(np.abs(v))) for v in directions.values() if v.size), default=1.0)
    return {name: v / top for name, v in directions.items()}


# ---- comparing --------------------------------------------------------------------------------


def close(got: Any, wanted: Any, rtol: float, what: str, floor: float = 1e-3) -> None:
    """Equal to `rtol` of the largest element (or of `floor`); not finite where that is wanted."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    assert got.shape == wanted.shape, f"{what}: shape {got.shape} instead of {wanted.shape}"
    finite = wanted[np.isfinite(wanted)]
    scale = max(float(np.max(np.abs(finite), initial=0.0)), floor)
    np.testing.assert_allclose(got, wanted, rtol=0.0, atol=rtol * scale, err_msg=what)


def zero_where_absent(d: Derivative, out: Arrays, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A result of a derivative graph; one that is absent is zero."""
    return out[d.results[name]] if name in d.results else np.zeros(shape)


def subsets(names: Sequence[str]) -> list[list[str]]:
    """Each name alone, and all together."""
    return [[name] for name in names] + ([list(names)] if len(names) > 1 else [])


def rename(names: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The arrays under the names that a derivative graph gives its directions."""
    return {names[name]: array for name, array in arrays.items() if name in names}


# ---- 1: types -----------------------------------------------------------------------------------


def check_types(a: Applied) -> None:
    """`infer` foretells the dtypes and shapes that `impl` returns."""
    out = a.primal()
    for value in a.graph.outputs:
        y = out[value.name]
        if a.row.data_dependent:
            assert value.shape is not None
            assert len(value.shape) == np.ndim(y), f"{value} but {np.shape(y)}"
        else:
            assert value.shape == np.shape(y), f"{value} but {np.shape(y)}"
        expected = np.dtype(np.float64) if value.dtype.is_float else value.dtype.np
        assert y.dtype == expected, f"{value} but {y.dtype}"


def check_symbolic_types(a: Applied) -> None:
    """With unknown dimensions, what `infer` says still agrees with what comes."""
    loose = applied(a.row, a.case, a.row.dynamic)
    out = a.primal()
    for value, static in zip(loose.graph.outputs, a.graph.outputs, strict=True):
        assert value.dtype is static.dtype
        assert value.shape is not None, f"{value}: not even its rank"
        y = out[static.name]
        assert len(value.shape) == y.ndim
        for said, is_ in zip(value.shape, y.shape, strict=True):
            assert isinstance(said, str) or said == is_, f"{value} but {y.shape}"


# ---- 2 and 9: onnxruntime -----------------------------------------------------------------------


def run_onnx(graph: Graph, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """The graph in onnxruntime, one thread, unoptimised."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        onnxfile.write(graph), options, providers=["CPUExecutionProvider"]
    )
    typed = {v.name: np.asarray(feeds[v.name], v.dtype.np) for v in graph.inputs}
    names = list(dict.fromkeys(v.name for v in graph.outputs))
    return dict(zip(names, session.run(names, typed), strict=True))


MISSING = (
    onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidGraph,
    onnxruntime.capi.onnxruntime_pybind11_state.Fail,
    onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException,
)
"""How onnxruntime says that it has no kernel for these element types."""


def check_runtime(a: Applied) -> None:
    """`impl` computes what onnxruntime computes: in float64 where it can, else in float32."""
    if a.row.runtime:
        with pytest.raises(MISSING):
            run_onnx(cast(a.graph, DType.FLOAT32), a.feeds)
        return
    try:
        got, tolerance, feeds = run_onnx(a.graph, a.feeds), a.row.tolerance, a.feeds
    except MISSING:
        feeds = {name: x.astype(np.float32).astype(np.float64) for name, x in a.feeds.items()}
        got, tolerance = run_onnx(cast(a.graph, DType.FLOAT32), feeds), max(a.row.tolerance, 3e-6)
    wanted = interpret(a.graph, feeds)
    for name, y in got.items():
        if y.dtype.kind == "f":
            close(y.astype(np.float64), wanted[name], tolerance, f"onnxruntime's {name}")
        else:
            np.testing.assert_array_equal(y, wanted[name], err_msg=f"onnxruntime's {name}")


def check_derivative_runtime(a: Applied) -> None:
    """The derivative graphs run in onnxruntime in float32, and give the interpreter's numbers."""
    graph = cast(a.graph, DType.FLOAT32)
    for transform, names in ((jvp, list(a.feeds)), (vjp, a.smooth)):
        d = transform(graph)
        if not d.results:
            continue
        feeds = a.feeds | rename(d.directions, a.directions(names, 9))
        feeds = {name: x.astype(np.float32).astype(np.float64) for name, x in feeds.items()}
        got, wanted = run_onnx(d.graph, feeds), interpret(d.graph, feeds)
        for name in d.results.values():
            assert got[name].dtype == np.float32
            # What cancels within the graph keeps the rounding of terms that were of size 1.
            close(got[name].astype(np.float64), wanted[name], 1e-4, f"onnxruntime's {name}", 1.0)


# ---- 3: rules against witnesses -----------------------------------------------------------------


def check_jvp(a: Applied, table: Table = OPS) -> None:
    """jvp along a random direction is what the primal alone says, for each operand and for all."""
    for wrt in subsets(list(a.feeds)):
        d = jvp(a.graph, wrt, table=table)
        v = unit_length(a.directions(wrt, 3))
        out = interpret(d.graph, a.feeds | rename(d.directions, v))
        witness = central(lambda at: interpret(a.graph, at), a.feeds, v)
        exact = complex_step(a, v) if a.card.holomorphic else {}
        for name in a.smooth:
            got = zero_where_absent(d, out, name, witness[name].shape)
            close(got, witness[name], 1e-6, f"jvp {wrt} -> {name} by differences")
            if name in exact:
                close(got, exact[name], 1e-9, f"jvp {wrt} -> {name} by complex step")


def check_vjp(a: Applied, table: Table = OPS) -> None:
    """vjp of a random cotangent is what the primal alone says, element by element."""
    y_bars = a.directions(a.smooth, 4)
    rng = a.rng(5)
    for wrt in subsets(list(a.feeds)):
        d = vjp(a.graph, wrt, table=table)
        out = interpret(d.graph, a.feeds | rename(d.directions, y_bars))
        x_bars = {x: zero_where_absent(d, out, x, a.feeds[x].shape) for x in wrt}
        for x in wrt:
            assert x_bars[x].shape == a.feeds[x].shape, f"vjp of {x}: shape {x_bars[x].shape}"
            if a.card.holomorphic:
                _check_elements(a, x, x_bars[x], y_bars, rng)
        v = unit_length(a.directions(wrt, 6))
        witness = central(lambda at: interpret(a.graph, at), a.feeds, v)
        terms = [np.sum(y_bars[name] * witness[name]) for name in a.smooth]
        size = sum(np.sum(np.abs(y_bars[name] * witness[name])) for name in a.smooth)
        got = sum(np.sum(x_bars[x] * v[x]) for x in wrt)
        assert abs(got - sum(terms)) <= 1e-6 * max(size, 1e-3), f"vjp of {wrt} by differences"


def _check_elements(
    a: Applied, x: str, x_bar: np.ndarray, y_bars: Arrays, rng: np.random.Generator, most: int = 24
) -> None:
    """Elements of a cotangent (all, or a sample) against the complex step along each."""
    size = x_bar.size
    places = np.arange(size) if size <= most else rng.choice(size, most, replace=False)
    wanted = np.zeros(len(places))
    for k, place in enumerate(places):
        unit = np.zeros(size)
        unit[place] = 1.0
        column = complex_step(a, {x: unit.reshape(x_bar.shape)})
        wanted[k] = sum(np.sum(y_bars[name] * column[name]) for name in a.smooth)
    scale = max(
        float(np.max(np.abs(x_bar), initial=0.0)), float(np.max(np.abs(wanted), initial=0.0)), 1e-3
    )
    got = x_bar.reshape(-1)[places]
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-9 * scale, err_msg=f"vjp of {x}")


def check_off_kinks(a: Applied) -> None:
    """What was drawn keeps away from kinks and edges, or the witnesses would say nothing."""
    operands = [None if x is None else real.lift(np.asarray(x)) for x in a.case.inputs]
    attrs = OPS.attributes(a.row.op, a.case.attrs)
    shape = np.shape(next(iter(a.primal().values())))
    with np.errstate(all="ignore"):
        if a.card.kinks is not None:
            margin, branch = a.card.kinks(real, *operands, **attrs)
            assert np.broadcast_shapes(np.shape(margin), shape) == shape
            assert np.shape(branch) == np.shape(margin)
            assert np.all(margin > 0.01), "drawn on a kink"
        if a.card.edges is not None:
            distance = a.card.edges(real, *operands, **attrs)
            assert np.broadcast_shapes(np.shape(distance), shape) == shape
            assert np.all(distance > 0.01), "drawn at an edge"


# ---- 4: many directions at once -----------------------------------------------------------------


def check_batched(a: Applied) -> None:
    """Directions along a leading axis give what a loop over them gives."""
    for wrt in a.feeds:
        for transform, names in ((jvp, [wrt]), (vjp, a.smooth)):
            d = transform(a.graph, [wrt])
            if not d.results:
                continue
            v = rename(d.directions, a.directions(names, 7, count=3))
            if transform is jvp and int(wrt[1:]) in a.row.unbatched:
                with pytest.raises(CannotError):
                    vmap(d.graph, v.keys(), 3)
                continue
            out = interpret(vmap(d.graph, v.keys(), 3), a.feeds | v)
            for k in range(3):
                one = interpret(d.graph, a.feeds | {name: x[k] for name, x in v.items()})
                for name in d.results.values():
                    close(out[name][k], one[name], 1e-12, f"{transform.__name__} {name}[{k}]")
            check_batched_types(d, v, out)


def check_batched_types(d: Derivative, v: Arrays, out: Arrays) -> None:
    """With the number of directions left open, the types say a leading axis."""
    for value in vmap(d.graph, v.keys()).outputs:
        assert value.shape is not None
        assert len(value.shape) == np.ndim(out[value.name]), f"{value}"


# ---- 5: only through the number system ----------------------------------------------------------


def check_sealed(a: Applied) -> None:
    """`impl` gives the same when its arrays can do nothing but what `n` and arithmetic do."""
    out = interpret(a.graph, a.feeds, recorder)
    for name, y in a.primal().items():
        np.testing.assert_array_equal(np.asarray(opened(out[name])), y)


# ---- the other number systems -------------------------------------------------------------------


def check_system(a: Applied, n: Numbers) -> None:
    """`impl` computes the same in another number system; in balls, to 20 digits."""
    out = interpret(a.graph, a.feeds, n)
    for name, y in a.primal().items():
        got = out[name]
        if y.dtype.kind == "f":
            assert n.is_number(got), f"{name} holds no numbers of {n.name}"
            close(np.real(n.lower(got)), y, 1e-11, f"{name} in {n.name}")
            if isinstance(n, Ball):
                finite = np.isfinite(y)
                assert np.all(n.radius(got)[finite] <= 1e-20 * (1.0 + np.abs(y[finite])))
        else:
            assert not n.is_number(got), f"{name} became numbers of {n.name}"
            np.testing.assert_array_equal(got, y, err_msg=f"{name} in {n.name}")


# ---- 6: unknown dimensions ----------------------------------------------------------------------


def check_symbolic(a: Applied) -> None:
    """The rules give the same numbers when they cannot know the shapes."""
    loose = applied(a.row, a.case, a.row.dynamic)
    for transform, names in ((jvp, list(a.feeds)), (vjp, a.smooth)):
        d, known = transform(loose.graph), transform(a.graph)
        assert d.results == known.results
        feeds = a.feeds | rename(d.directions, a.directions(names, 8))
        out, wanted = interpret(d.graph, feeds), interpret(known.graph, feeds)
        for name in d.results.values():
            close(out[name], wanted[name], 1e-12, f"{transform.__name__} {name}")


# ---- 7: kinks -----------------------------------------------------------------------------------


def check_kink(row: Row, k: int) -> None:
    """At a kink the rules follow the convention, the margin is 0, and the branch changes across."""
    kink = row.kinks[k]
    a = applied(row, kink.case)
    wrt = f"x{kink.wrt}"
    y = a.graph.outputs[0].name
    if y in a.smooth:
        x = a.feeds[wrt]
        back, ahead = vjp(a.graph, [wrt], [y]), jvp(a.graph, [wrt], [y])
        ones = np.ones(np.shape(a.primal()[y]))
        out = interpret(back.graph, a.feeds | rename(back.directions, {y: ones}))
        got = zero_where_absent(back, out, wrt, x.shape)
        np.testing.assert_allclose(got, kink.gradient, rtol=1e-12, err_msg="vjp")
        for place in np.ndindex(x.shape):
            unit = np.zeros(x.shape)
            unit[place] = 1.0
            out = interpret(ahead.graph, a.feeds | rename(ahead.directions, {wrt: unit}))
            total = np.sum(zero_where_absent(ahead, out, y, ones.shape))
            np.testing.assert_allclose(total, kink.gradient[place], rtol=1e-12, err_msg="jvp")
    if a.card.kinks is not None:
        _check_margin(a)


def _check_margin(a: Applied) -> None:
    attrs = OPS.attributes(a.row.op, a.case.attrs)
    kinks = a.card.kinks
    assert kinks is not None

    def at(k: int, shift: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        operands = list(a.case.inputs)
        operands[k] = np.asarray(operands[k]) + shift
        with np.errstate(all="ignore"):
            margin, branch = kinks(real, *operands, **attrs)
        return np.asarray(margin), np.asarray(branch)

    # One element at a time: a tie between elements of one operand moves along with all of it.
    steps = [
        (int(name[1:]), 1e-9 * unit.reshape(x.shape))
        for name, x in a.feeds.items()
        for unit in np.eye(x.size)
    ]
    on = at(steps[0][0], 0.0)[0] == 0.0
    assert np.any(on), "not on a kink"
    flips = [at(k, step)[1] != at(k, -step)[1] for k, step in steps]
    assert np.all(np.any(flips, axis=0)[on]), "the branch is the same on all sides"


def check_edge(row: Row, case: Case) -> None:
    """At an edge of the domain the distance to it is 0, and it grows on the way inside."""
    a = applied(row, case)
    edges = a.card.edges
    assert edges is not None
    attrs = OPS.attributes(row.op, case.attrs)

    def distance(shift: float) -> np.ndarray:
        moved = (x if x is None or x.dtype.kind != "f" else x + shift for x in case.inputs)
        with np.errstate(all="ignore"):
            return np.asarray(edges(real, *moved, **attrs))

    at = distance(0.0) == 0.0
    assert np.any(at), "not at an edge"
    assert np.all(distance(1e-6)[at] > 0.0), "still at an edge"


# ---- 8: second order ----------------------------------------------------------------------------


def check_second_order(a: Applied) -> None:
    """jvp of vjp is what differences of the vjp say."""
    d = vjp(a.graph)
    if not d.results:
        return
    y_bars = rename(d.directions, a.directions(a.smooth, 10))
    wrt, of = list(a.feeds), list(d.results.values())
    dd = jvp(d.graph, wrt, of)
    v = unit_length(a.directions(wrt, 11))
    out = interpret(dd.graph, a.feeds | y_bars | rename(dd.directions, v))

    def pulled(at: Arrays) -> Arrays:
        result = interpret(d.graph, at | y_bars)
        return {name: result[name] for name in of}

    witness = central(pulled, a.feeds, v)
    for name in of:
        got = zero_where_absent(dd, out, name, witness[name].shape)
        close(got, witness[name], 1e-6, f"second order of {name}")


# ---- expansions, and rules that are wrong -------------------------------------------------------


def check_expansion(a: Applied) -> None:
    """An expansion into other operators computes the same."""
    written_out = expand(a.graph, lambda _, card: card is a.card)
    assert not any(node.key == a.row.op for node in written_out.nodes)
    out = interpret(written_out, a.feeds)
    for name, y in a.primal().items():
        if y.dtype.kind == "f":
            close(out[name], y, 1e-10, f"expanded {name}")
        else:
            np.testing.assert_array_equal(out[name], y)


def faulty(card: Card, mode: str, factor: float = 1.0001) -> Table:
    """The table with one rule wrong: every tangent, or every cotangent, a little too long."""
    rule = getattr(card, mode)

    def wrong(s: Any, directions: Any) -> list[Var | None]:
        return [None if x is None else x * factor for x in rule(s, directions)]

    return OPS.replace(replace(card, jvp=wrong) if mode == "jvp" else replace(card, vjp=wrong))
