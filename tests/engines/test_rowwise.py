import numpy as np
import pytest

from gradcli.engines.base import Primal
from tests.engines.problems import problem

RNG = np.random.default_rng(0)


def weights(*shape):
    return RNG.standard_normal(shape)


def mlp(b, x):
    x = b.op("Gemm", x, b.constant(weights(6, 5)), b.constant(weights(5)))
    x = b.op("LayerNormalization", b.op("Gelu", x), b.constant(weights(5)), b.constant(weights(5)))
    return b.op("Softmax", b.op("MatMul", x, b.constant(weights(5, 4))) + b.constant(weights(1, 4)))


def convolutions(b, x):
    x = b.op("Reshape", x, b.ints([1, 1, 6, 6]))
    x = b.op("Relu", b.op("Conv", x, b.constant(weights(3, 1, 3, 3)), b.constant(weights(3))))
    x = b.op("MaxPool", x, kernel_shape=(2, 2), strides=(2, 2))
    x = b.op("Concat", x, b.op("Transpose", x, perm=(0, 1, 3, 2)), axis=1)
    x = b.op("ReduceMean", x, b.ints([-1]), keepdims=0)
    return b.op("MatMul", b.op("Flatten", x), b.constant(weights(12, 3)))


def attention(b, x):
    x = b.op("Reshape", x, b.ints([1, 4, 3]))
    q, k, v = (b.op("MatMul", x, b.constant(weights(3, 3))) for _ in range(3))
    scores = b.op("Softmax", b.op("MatMul", q, b.op("Transpose", k, perm=(0, 2, 1))))
    x = b.op("Where", scores > 0.1, scores, b.constant(np.zeros((1, 4, 4))))
    return b.op("ReduceSum", b.op("MatMul", x, v), b.ints([1]), keepdims=0)


@pytest.mark.parametrize(
    ("f", "shape"), [(mlp, (1, 6)), (mlp, (3, 6)), (convolutions, (1, 36)), (attention, (1, 12))]
)
def test_many_points_at_once_are_as_one_by_one(f, shape):
    primal = Primal(problem(f, np.zeros(shape)))
    assert primal.is_wide
    xs = RNG.standard_normal((5, int(np.prod(shape))))
    together = primal.many(xs, {})
    np.testing.assert_allclose(together, [primal(x, {}) for x in xs], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "f",
    [
        lambda b, x: b.op("Softmax", x, axis=0),
        lambda b, x: b.op("Softmax", x, axis=-2),
        lambda b, x: b.op("BatchNormalization", x, *[b.constant(np.ones(2))] * 4, training_mode=1),
        lambda b, x: x + b.op("ReduceSum", x, b.ints([0])),
        lambda b, x: b.op("ReduceSum", x),
        lambda b, x: b.op("ReduceSum", x, b.ints([-1, 0])),
        lambda b, x: x * b.constant(np.ones((3, 2))),
        lambda b, x: b.op("MatMul", b.constant(np.ones((3, 3))), x),
        lambda b, x: b.op("MatMul", x, b.op("Transpose", x, perm=(1, 0))),
        lambda b, x: b.op("Gemm", x, b.constant(np.ones((3, 2))), transA=1),
        lambda b, x: b.op("Gemm", x, b.constant(np.ones((2, 2))), b.constant(np.ones((3, 2)))),
        lambda b, x: b.op("Transpose", x),
        lambda b, x: b.op("Reshape", x, b.ints([2, 3])),
        lambda b, x: b.op("Flatten", x, axis=0),
        lambda b, x: b.op("Unsqueeze", x, b.ints([0])),
        lambda b, x: b.op("Concat", x, b.constant(np.ones((3, 1))), axis=1),
        lambda b, x: b.op("Concat", x, x, axis=0),
        lambda b, x: b.op("Slice", x, b.ints([0]), b.ints([2]), b.ints([0])),
        lambda b, x: b.op("Slice", x, b.ints([0]), b.ints([2])),
        lambda b, x: b.op("Gather", x, b.ints([2, 0]), axis=0),
        lambda b, x: b.op("Expand", x, b.ints([4, 3, 2])),
    ],
)
def test_rows_that_meet_are_looped_over(f):
    """One row alone would pass many of these; three must not be taken for apart."""
    primal = Primal(problem(f, np.ones((3, 2))))
    assert not primal.is_wide
    xs = RNG.standard_normal((2, 6))
    np.testing.assert_array_equal(primal.many(xs, {}), [primal(x, {}) for x in xs])


@pytest.mark.parametrize(
    "f",
    [
        lambda b, x: x + b.op("ReduceSum", x, b.ints([0])),
        lambda b, x: b.op("Softmax", x, axis=0),
        lambda b, x: x * b.constant(np.ones((3, 2))),
        lambda b, x: b.op("MatMul", x, b.op("Transpose", x, perm=(1, 0))),
        lambda b, x: b.op("Transpose", x, perm=(1, 0)),
        lambda b, x: b.constant(np.ones((1, 2))) + b.op("Unsqueeze", x, b.ints([0])),
    ],
)
def test_a_single_row_hides_nothing(f):
    assert not Primal(problem(f, np.ones((1, 2)))).is_wide
