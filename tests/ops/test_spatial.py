"""Windows: what the operator table draws too seldom, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, DType, Graph
from gradcli.interpret import interpret
from gradcli.numbers import Real, real
from gradcli.ops import OPS, conv, spatial
from gradcli.transform import jvp, vjp
from tests.ops import checks
from tests.ops.rows import TABLE
from tests.ops.table import Case, normal

WINDOWED = ("Conv", "ConvTranspose", "MaxPool", "AveragePool")
DRAWS = 60


def case(op: str, dims: tuple[int, ...], weight: tuple[int, ...] = (), **attrs: Any) -> Case:
    """An operand of this shape, and a weight unless the operator is a pool."""
    rng = np.random.default_rng(0)
    inputs = [normal(rng, d) for d in (dims, weight) if d]
    return Case(tuple(inputs), attrs)


def open_sizes(a: checks.Applied) -> checks.Applied:
    """The same node, with samples and spatial sizes of the data known only at run time."""
    b = Builder(OPS)
    rank = a.feeds["x0"].ndim
    shape = ("N", a.feeds["x0"].shape[1], *(f"D{k}" for k in range(rank - 2)))
    operands = [b.input("x0", DType.FLOAT64, shape)]
    operands += [b.input(k, DType.FLOAT64, x.shape) for k, x in list(a.feeds.items())[1:]]
    made = b.ops(a.row.op, *operands, outputs=a.case.outputs, name="y", **a.case.attrs)
    return checks.Applied(a.row, a.card, a.case, b.graph(made), a.feeds)


# ---- against onnxruntime ---------------------------------------------------------------------


@pytest.mark.parametrize("op", WINDOWED)
def test_every_way_to_pad_is_that_of_onnxruntime(op):
    for seed in range(DRAWS):
        a = checks.applied(TABLE[op], TABLE[op].draw(np.random.default_rng([1, seed])))
        checks.check_types(a)
        checks.check_runtime(a)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pools_with_strides_beyond_their_windows_are_centred_as_in_onnxruntime(op, auto_pad):
    for size in range(1, 9):
        attrs = {"kernel_shape": (1,), "strides": (4,), "auto_pad": auto_pad}
        a = checks.applied(TABLE[op], case(op, (1, 2, size), **attrs))
        checks.check_runtime(a)
        checks.check_vjp(a)


# ---- rules where ONNX alone would not do ------------------------------------------------------

BEYOND_ONNXRUNTIME = {
    "output_padding of a whole stride and more": (
        "ConvTranspose",
        case("ConvTranspose", (2, 2, 3, 2), (2, 3, 2, 2), dilations=(3, 2), output_padding=(2, 1)),
    ),
    "output_shape beyond the reach of the windows": (
        "ConvTranspose",
        case("ConvTranspose", (1, 2, 3), (2, 1, 2), output_shape=(9,), strides=(2,)),
    ),
    "SAME with dilations": (
        "Conv",
        case("Conv", (2, 4, 7, 6), (4, 2, 2, 3), auto_pad="SAME_LOWER", dilations=(2, 2), group=2),
    ),
    "padding beyond the window, ceil_mode": (
        "AveragePool",
        case(
            "AveragePool",
            (1, 2, 4),
            kernel_shape=(2,),
            strides=(2,),
            pads=(3, 4),
            ceil_mode=1,
            count_include_pad=1,
        ),
    ),
    "no strides in reach, several groups": (
        "Conv",
        case("Conv", (2, 6, 10), (4, 3, 2), strides=(5,), group=2),
    ),
}


@pytest.mark.parametrize("what", BEYOND_ONNXRUNTIME)
def test_rules_hold_where_the_runtime_refuses_or_the_remainder_is_long(what):
    op, drawn = BEYOND_ONNXRUNTIME[what]
    a = checks.applied(TABLE[op], drawn)
    checks.check_types(a)
    checks.check_jvp(a)
    checks.check_vjp(a)
    checks.check_second_order(a)


@pytest.mark.parametrize("op", WINDOWED)
def test_rules_need_no_known_spatial_sizes(op):
    done = 0
    for seed in range(16):
        a = checks.applied(TABLE[op], TABLE[op].draw(np.random.default_rng([2, seed])))
        loose = open_sizes(a)
        attrs = a.case.attrs
        if any(attrs.get(k) for k in ("auto_pad", "ceil_mode", "output_shape")):
            continue  # there the padding may hang on the size: refused, see below
        checks.check_jvp(loose)
        checks.check_vjp(loose)
        done += 1
    assert done >= 4


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_samples_taken_one_at_a_time_give_the_same(op, monkeypatch):
    drawn = case(op, (3, 4, 5, 5), (4, 2, 3, 3), group=2)
    a = checks.applied(TABLE[op], drawn)
    whole = a.primal()["y"]
    monkeypatch.setattr(conv, "BLOCK", 1)
    np.testing.assert_allclose(a.primal()["y"], whole, rtol=1e-13)


# ---- the numbers underneath -------------------------------------------------------------------


def test_overlap_add_is_the_transpose_of_windows():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 11, 9))
    view = real.windows(x, (3, 2), (2, 3), (2, 1))
    v = rng.standard_normal(view.shape)
    back = real.overlap_add(v, (11, 9), (2, 3), (2, 1))
    assert np.sum(view * v) == pytest.approx(np.sum(x * back), rel=1e-13)


def test_max_pool_looks_for_places_only_when_they_are_read():
    class Undecided(Real):
        def argmax(self, *_):
            raise AssertionError("nobody asked where")

    b = Builder(OPS)
    x = b.input("x", DType.FLOAT64, (1, 1, 4))
    y = b.op("MaxPool", x, kernel_shape=(2,), name="y")
    ties = np.zeros((1, 1, 4))
    out = interpret(b.graph([y]), {"x": ties}, Undecided())
    np.testing.assert_array_equal(out["y"], np.zeros((1, 1, 3)))
    with pytest.raises(AssertionError, match="nobody asked where"):
        interpret(vjp(b.graph([y])).graph, {"x": ties, "y_bar": np.ones((1, 1, 3))}, Undecided())


def test_max_pool_of_infinities_points_into_its_operand():
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT64, (1, 1, 3))
    made = b.ops("MaxPool", x, outputs=2, kernel_shape=(2,), pads=(1, 1), name="y")
    out = interpret(b.graph(made), {"x": np.full((1, 1, 3), -np.inf)})
    assert np.all(out["y"] == -np.inf)
    assert np.all((out["y_1"] >= 0) & (out["y_1"] < 3))


# ---- refusals ---------------------------------------------------------------------------------


def graph_of(op: str, *shapes: tuple[int | str, ...], outputs: int = 1, **attrs: Any) -> Graph:
    """One node on inputs of these shapes."""
    b = Builder(OPS)
    operands = [b.input(f"x{k}", DType.FLOAT64, shape) for k, shape in enumerate(shapes)]
    return b.graph(b.ops(op, *operands, outputs=outputs, name="y", **attrs))


@pytest.mark.parametrize(
    ("op", "shapes", "attrs", "message"),
    [
        ("Conv", ((1, 2, 5), (3, 2, 6)), {}, "does not fit"),
        ("Conv", ((1, 3, 5), (3, 2, 2)), {}, "channels"),
        ("Conv", ((1, 2, 5), (3, 2, 2)), {"strides": (1, 1)}, "spatial axes"),
        ("Conv", ((1, 2, 5), (3, 2, 2)), {"pads": (-1, 0)}, "pads at least 0"),
        ("Conv", ((1, 2, 5), (3, 2, 2)), {"auto_pad": "SAME"}, "auto_pad"),
        ("ConvTranspose", ((1, 2, 5), (3, 2, 2)), {}, "channels"),
        ("ConvTranspose", ((1, 2, 2), (2, 2, 2)), {"pads": (2, 2)}, "cut away"),
        ("AveragePool", ((1, 2, 5),), {"kernel_shape": (2, 2)}, "spatial axes"),
        ("MatMul", ((2, 3), (4, 2)), {}, "3 columns"),
        ("Gemm", ((2, 3), (2, 3)), {}, "3 columns"),
        ("Gemm", ((2, 3, 1), (2, 3)), {}, "not matrices"),
        ("Softmax", ((2, 3),), {"axis": 2}, "axis 2"),
    ],
)
def test_operands_that_do_not_fit_are_refused(op, shapes, attrs, message):
    with pytest.raises(ValueError, match=message):
        graph_of(op, *shapes, **attrs)


def test_padding_that_hangs_on_an_unknown_size_is_refused_by_the_rule_alone():
    graph = graph_of("Conv", (1, 2, "W"), (3, 2, 3), strides=(2,), auto_pad="SAME_UPPER")
    jvp(graph)
    with pytest.raises(UnsupportedError, match="known only at run time"):
        vjp(graph)


def test_halves_split_towards_zero():
    assert spatial.halves(5, more_before=True) == (3, 2)
    assert spatial.halves(5, more_before=False) == (2, 3)
    assert spatial.halves(-3, more_before=True) == (-1, -2)
    assert spatial.halves(-3, more_before=False) == (-1, -2)
