import numpy as np
import pytest

from gradcli.graph import Builder, DType
from gradcli.interpret import interpret
from gradcli.onnxfile import read, write
from gradcli.ops import OPS
from gradcli.problem import pose
from gradcli.transform.norms import join_norms
from tests.engines.problems import estimate


def square(b, x):
    return b.op("Mul", x, x)


def power(b, x):
    return b.op("Pow", x, b.constant(2.0, x.dtype))


def spelled(f, reduce="ReduceSum", dtype=DType.FLOAT64):
    b = Builder(OPS)
    x = b.input("x", dtype, (2, 3))
    y = b.op("Sqrt", b.op(reduce, f(b, x), b.ints([1]), keepdims=0))
    return b.graph([b.rename(y, "y")])


@pytest.mark.parametrize(
    ("f", "reduce"),
    [(square, "ReduceSum"), (power, "ReduceSum"), (lambda _, x: x, "ReduceSumSquare")],
)
def test_a_norm_that_is_spelled_out_is_one_operator(f, reduce):
    plain = spelled(f, reduce)
    joined = join_norms(plain)
    assert [n.key for n in joined.nodes] == ["ReduceL2", "Identity"]
    assert joined.nodes[0].name == plain.nodes[-2].name
    x = np.random.default_rng(0).standard_normal((2, 3))
    want, got = (interpret(g, {"x": x})["y"] for g in (plain, joined))
    np.testing.assert_allclose(got, want, rtol=1e-15)


@pytest.mark.parametrize(
    "f",
    [
        lambda b, x: b.op("Mul", x, b.op("Abs", x)),
        lambda b, x: b.op("Pow", x, b.constant(2.5)),
        lambda b, x: b.op("Abs", x),
        lambda b, x: square(b, x) + 1e-12,
    ],
)
def test_other_roots_stay_as_they_are(f):
    plain = spelled(f)
    assert join_norms(plain) is plain


@pytest.mark.parametrize("method", ["forward", "reverse"])
def test_the_distance_of_a_point_to_itself_has_slope_zero(method):
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT32, (2, 3))
    y = b.op("Sqrt", b.op("ReduceSum", square(b, b.unsqueeze(x, [1]) - x), b.ints([-1])))
    asked = pose(read(write(b.graph([b.rename(y, "y")])), OPS), {"x": np.eye(2, 3, dtype="f4")})
    half = np.sqrt(0.5)
    found = estimate(method, asked).blocks["y", "x"].reshape(2, 2, 6)
    np.testing.assert_array_equal(found[[0, 1], [0, 1]], 0.0)
    np.testing.assert_allclose(found[0, 1], [half, -half, 0, -half, half, 0], rtol=1e-6)
