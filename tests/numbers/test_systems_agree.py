"""Every number system has every operation, and all of them compute the same numbers."""

import inspect

import numpy as np
import pytest

from gradcli.numbers import Ball, Numbers, Series, Symbol, complex_, real

OTHERS = [complex_, Ball(), Series(), Symbol()]
RNG = np.random.default_rng(2)
X = RNG.standard_normal((2, 3, 4))
Y = RNG.standard_normal((3, 1))
P = np.abs(X) + 0.5
U = np.tanh(X)
A = RNG.standard_normal((2, 4, 3)).astype(np.float32)
TIES = np.array([[1.0, 2.0, 2.0], [0.0, 0.0, -1.0]])
IMAGE = RNG.standard_normal((1, 2, 4, 4))
INDEX = np.array([[2, 0, 2], [-1, 1, 0]])
WHOLE = np.array([[3, -7, 5], [0, 2, 2]])
TRUE = np.array([[True, False, True], [False, False, True]])

# Every operation on something of a kind it must take; a result is numbers, a mask or integers.
OPERATIONS = {
    "lift": lambda n: (n.lift(A), n.lift(WHOLE), n.lift(TRUE)),
    "lower": lambda n: n.lower(n.lift(X)),
    "full": lambda n: (n.full((2, 2), 0.1), n.full((), -3.0)),
    "is_number": lambda n: [
        n.is_number(x)
        for x in (n.lift(X), n.zero, n.zero * n.zero, WHOLE, TRUE, n.less(n.zero, n.zero), None)
    ],
    "is_mask": lambda n: [n.is_mask(x) for x in (n.less(n.lift(X), n.zero), TRUE, n.zero, WHOLE)],
    "to_integer": lambda n: n.to_integer(n.lift(X * 10), np.dtype(np.int32)),
    "to_bits": lambda n: n.to_bits(n.lift(X), np.dtype(np.float32), np.dtype(np.uint32)),
    "exp": lambda n: n.exp(n.lift(X)),
    "log": lambda n: n.log(n.lift(P)),
    "log1p": lambda n: n.log1p(n.lift(P)),
    "expm1": lambda n: n.expm1(n.lift(X)),
    "sqrt": lambda n: n.sqrt(n.lift(P)),
    "tanh": lambda n: n.tanh(n.lift(X)),
    "sigmoid": lambda n: n.sigmoid(n.lift(X * 20)),
    "softplus": lambda n: n.softplus(n.lift(X * 20)),
    "erf": lambda n: n.erf(n.lift(X)),
    "erfc": lambda n: n.erfc(n.lift(X * 5)),
    "sin": lambda n: n.sin(n.lift(X)),
    "cos": lambda n: n.cos(n.lift(X)),
    "tan": lambda n: n.tan(n.lift(X)),
    "asin": lambda n: n.asin(n.lift(U)),
    "acos": lambda n: n.acos(n.lift(U)),
    "atan": lambda n: n.atan(n.lift(X * 5)),
    "sinh": lambda n: n.sinh(n.lift(X)),
    "cosh": lambda n: n.cosh(n.lift(X)),
    "asinh": lambda n: n.asinh(n.lift(X * 5)),
    "acosh": lambda n: n.acosh(n.lift(P + 0.5)),
    "atanh": lambda n: n.atanh(n.lift(U)),
    "power": lambda n: (
        n.power(n.lift(P), n.lift(Y)),
        n.power(n.lift(X), n.full((), 3.0)),
        n.power(n.lift(TIES), WHOLE % 4),
    ),
    "sign": lambda n: n.sign(n.lift(TIES)),
    "floor": lambda n: n.floor(n.lift(X)),
    "round_to": lambda n: n.round_to(n.lift(X), np.dtype(np.float16)),
    "divide": lambda n: (n.divide(n.lift(X), n.lift(Y)), n.divide(WHOLE, np.array(2))),
    "less": lambda n: (n.less(n.lift(TIES), n.zero), n.less(WHOLE, np.array(2))),
    "equal": lambda n: (
        n.equal(n.lift(TIES), n.zero),
        n.equal(WHOLE, np.array(2)),
        n.equal(TRUE, ~TRUE[:1]),
        n.equal(np.array(["a", "b"], object), np.array(["a", "c"], object)),
    ),
    "where": lambda n: (
        n.where(TRUE, n.lift(TIES), n.zero),
        n.where(TRUE, WHOLE, np.array(9)),
        n.where(n.less(n.lift(TIES), n.full((), 1.0)), n.full((), 1.0), n.lift(TIES)),
    ),
    "logical_not": lambda n: n.logical_not(TRUE),
    "logical_and": lambda n: n.logical_and(TRUE, n.less(n.zero, n.lift(TIES))),
    "logical_or": lambda n: n.logical_or(TRUE, n.less(n.zero, n.lift(TIES))),
    "mask_to_number": lambda n: n.mask_to_number(n.less(n.zero, n.lift(TIES))),
    "is_nan": lambda n: n.is_nan(n.lift(np.array([1.0, np.nan, np.inf]))),
    "is_infinite": lambda n: n.is_infinite(n.lift(np.array([1.0, np.nan, np.inf, -np.inf]))),
    "maximum": lambda n: (n.maximum(n.lift(X), n.lift(Y)), n.maximum(WHOLE, np.array(2))),
    "minimum": lambda n: (n.minimum(n.lift(X), n.lift(Y)), n.minimum(WHOLE, np.array(2))),
    "abs": lambda n: (n.abs(n.lift(X)), n.abs(WHOLE)),
    "zero_of": lambda n: (n.zero_of(n.lift(X)), n.zero_of(WHOLE)),
    "pi": lambda n: n.pi,
    "zero": lambda n: n.zero,
    "sum": lambda n: (
        n.sum(n.lift(X), (0, -1), False),
        n.sum(n.lift(X), (1,), True),
        n.sum(n.lift(X), (0, 1, 2), False),
        n.sum(n.lift(X), (), False),
        n.sum(n.lift(np.zeros((2, 0))), (1,), False),
        n.sum(WHOLE, (0,), True),
    ),
    "max": lambda n: (
        n.max(n.lift(X), (0, -1), False),
        n.max(n.lift(TIES), (1,), True),
        n.max(n.lift(X), (0, 1, 2), False),
        n.max(n.lift(np.zeros((2, 0))), (1,), False),
        n.max(WHOLE, (0,), True),
    ),
    "min": lambda n: (
        n.min(n.lift(X), (0, -1), False),
        n.min(n.lift(TIES), (1,), True),
        n.min(n.lift(X), (0, 1, 2), False),
        n.min(n.lift(np.zeros((2, 0))), (1,), False),
        n.min(WHOLE, (0,), True),
    ),
    "argsort": lambda n: (
        n.argsort(n.lift(X), 1),
        n.argsort(n.lift(TIES), -1),
        n.argsort(WHOLE, 0),
        n.argsort(n.full((2, 0), 0.0), 1),
    ),
    "argmax": lambda n: (n.argmax(n.lift(X), 1), n.argmax(n.lift(TIES), -1), n.argmax(WHOLE, 0)),
    "matmul": lambda n: (
        n.matmul(n.lift(X), n.lift(A)),
        n.matmul(n.lift(X), n.lift(A[0])),
        n.matmul(n.lift(X[0]), n.lift(A)),
        n.matmul(n.lift(X[0, 0]), n.lift(A)),
        n.matmul(n.lift(X), n.lift(A[0, :, 0])),
        n.matmul(n.lift(X[0, 0]), n.lift(A[0, :, 0])),
        n.matmul(n.lift(np.zeros((2, 0))), n.lift(np.zeros((0, 3)))),
        n.matmul(WHOLE, WHOLE.T),
    ),
    "reshape": lambda n: n.reshape(n.lift(X), (4, -1)),
    "transpose": lambda n: n.transpose(n.lift(X), (2, 0, 1)),
    "broadcast_to": lambda n: (n.broadcast_to(n.lift(Y), (2, 3, 4)), n.broadcast_to(n.zero, (2,))),
    "concat": lambda n: n.concat([n.lift(X), n.lift(X[:1])], 0),
    "take": lambda n: (
        n.take(n.lift(X), INDEX, 1),
        n.take(n.lift(X[0, 0]), np.array(2), 0),
        n.take(WHOLE, INDEX, 1),
    ),
    "take_along": lambda n: n.take_along(n.lift(X[0]), INDEX[:, :1], 0),
    "ordered": lambda n: n.ordered(n.lift(X[0]), INDEX[:, :1], 0),
    "slice": lambda n: n.slice(n.lift(X), [slice(None), slice(2, None, -1)]),
    "pad": lambda n: (
        n.pad(n.lift(X), [(0, 0), (1, 0), (0, 2)], 0.5),
        n.pad(n.lift(X), [(1, 0), (0, 0), (0, 0)], n.lift(np.array(-np.inf))),
        n.pad(WHOLE, [(1, 1), (0, 0)], np.array(7)),
    ),
    "windows": lambda n: n.windows(n.lift(X), (2, 2), (1, 2), (1, 1)),
    "overlap_add": lambda n: n.overlap_add(
        n.windows(n.lift(X), (2, 2), (1, 2), (1, 1)), (4, 5), (1, 2), (1, 1)
    ),
    "scatter": lambda n: (
        n.scatter(n.lift(TIES), (np.array([0, 1]), np.array([2, 0])), n.full((2,), 5.0), "none"),
        n.scatter(n.lift(TIES), (np.array([0, 0]), np.array([2, 2])), n.full((2,), 5.0), "add"),
        n.scatter(WHOLE, (np.array([0, 0]), np.array([2, 2])), np.array([1, 2]), "add"),
    ),
}

FREE = {"anchor"}
"""Each system may have its own: see the softmax below."""


def lowered(n, result):
    """Results as plain arrays, and what kind each is."""
    for x in result if isinstance(result, tuple) else (result,):
        kind = "number" if n.is_number(x) else "mask" if n.is_mask(x) else "plain"
        yield kind, np.real(n.lower(x))


def assert_alike(n, compute):
    with np.errstate(all="ignore"):
        expected, found = list(lowered(real, compute(real))), list(lowered(n, compute(n)))
    for (kind, x), (kind_here, y) in zip(expected, found, strict=True):
        assert kind_here == kind
        assert y.shape == x.shape
        assert y.dtype == x.dtype
        if x.dtype.kind == "f":
            np.testing.assert_allclose(y, x, rtol=1e-13, atol=1e-14)
        else:
            np.testing.assert_array_equal(y, x)


def test_every_operation_is_here():
    public = {name for name, _ in inspect.getmembers(Numbers) if not name.startswith("_")}
    assert public - FREE == OPERATIONS.keys()


@pytest.mark.parametrize("n", OTHERS, ids=lambda n: n.name)
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation(name, n):
    compute = OPERATIONS[name]
    if name == "lower":
        np.testing.assert_array_equal(compute(n), compute(real))
    elif name.startswith("is_n") or name == "is_mask":
        assert np.all(compute(n) == np.asarray(compute(real)))
    else:
        assert_alike(n, compute)


# ---- whole computations -------------------------------------------------------------------------


def perceptron(n):
    x = n.lift(X[:, 0])
    for k, width in enumerate((4, 3, 2)):
        w = n.lift(np.random.default_rng(k).standard_normal((x.shape[-1], width)))
        x = n.tanh(n.matmul(x, w) + n.lift(np.full(width, 0.1)))
        x = n.maximum(x, n.zero) + n.sigmoid(x) * 0.5
    return x


def convolution(n):
    image = n.pad(n.lift(IMAGE), [(0, 0), (0, 0), (1, 1), (1, 1)], 0.0)
    kernel = n.lift(np.random.default_rng(4).standard_normal((3, 2, 3, 3)))
    windows = n.windows(image, (3, 3), (1, 1), (1, 1))  # N C H W 3 3
    rows = n.reshape(n.transpose(windows, (0, 2, 3, 1, 4, 5)), (16, 18))
    y = n.matmul(rows, n.transpose(n.reshape(kernel, (3, 18)), (1, 0)))
    y = n.maximum(n.transpose(n.reshape(y, (1, 4, 4, 3)), (0, 3, 1, 2)), n.zero)
    return n.max(n.windows(y, (2, 2), (2, 2), (1, 1)), (-1, -2), False)


def softmax(n):
    x = n.lift(X * 30.0)
    e = n.exp(x - n.anchor(x, -1))
    return e / n.sum(e, (-1,), True)


def masked_softmax(n):
    hidden = n.where(np.array([True, False, True, True]), n.lift(X), n.full((), -np.inf))
    e = n.exp(hidden - n.anchor(hidden, -1))
    return e / n.sum(e, (-1,), True)


def normalised(n):
    x = n.lift(X)
    centred = x - n.sum(x, (-1,), True) / 4.0
    variance = n.sum(centred * centred, (-1,), True) / 4.0
    return centred / n.sqrt(variance + 1e-5) * n.lift(Y) - n.erf(x)


@pytest.mark.parametrize("n", OTHERS, ids=lambda n: n.name)
@pytest.mark.parametrize(
    "compute",
    [perceptron, convolution, softmax, masked_softmax, normalised],
    ids=lambda f: f.__name__,
)
def test_networks_agree(compute, n):
    assert_alike(n, compute)


def test_a_softmax_of_balls_loses_little():
    n = Ball(128)
    x = n.lift(X) + n.full((), 1.0) / 3.0  # with radii
    e = n.exp(x - n.anchor(x, -1))
    y = e / n.sum(e, (-1,), True)
    assert (n.radius(y) / n.lower(y)).max() < 2.0**-118
    assert n.undecided == 0
