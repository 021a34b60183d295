"""The machine systems against mpmath: values, and derivatives along the imaginary axis."""

import mpmath as mp
import numpy as np
import pytest

from gradcli.numbers import complex_, real

STEPS = (1e-20, 1e-30)
TINY = 2.0 ** np.arange(-60, 1, 7.0)
BOTH = np.concatenate([-TINY, [0.0], TINY])

INSIDE = 1 - TINY[3:-1]
UNIT = np.concatenate([BOTH[1:-1], np.linspace(-0.95, 0.95, 40), INSIDE, -INSIDE])
WIDE = np.concatenate([BOTH, np.logspace(0, 100, 40), -np.logspace(0, 100, 40)])

# Name: the function, its derivative in mpmath, and where: as far as h times it is a normal float.
CASES = {
    "exp": (mp.exp, mp.exp, np.linspace(-630, 700, 60)),
    "expm1": (mp.expm1, mp.exp, np.concatenate([BOTH, np.linspace(-630, 700, 60)])),
    "log": (mp.log, lambda x: 1 / x, np.logspace(-9, 250, 60)),
    "log1p": (
        mp.log1p,
        lambda x: 1 / (1 + x),
        np.concatenate([BOTH[1:], np.logspace(0, 280, 40), [-0.999999]]),
    ),
    "sqrt": (mp.sqrt, lambda x: 0.5 / mp.sqrt(x), np.logspace(-9, 300, 60)),
    "tanh": (
        mp.tanh,
        lambda x: mp.sech(x) ** 2,
        np.concatenate([BOTH, np.linspace(-310, 310, 81)]),
    ),
    "sigmoid": (
        lambda x: 1 / (1 + mp.exp(-x)),
        lambda x: 1 / ((1 + mp.exp(-x)) * (1 + mp.exp(x))),
        np.concatenate([BOTH, np.linspace(-630, 630, 81)]),
    ),
    "softplus": (
        lambda x: mp.log1p(mp.exp(x)),
        lambda x: 1 / (1 + mp.exp(-x)),
        np.concatenate([BOTH, np.linspace(-630, 630, 81)]),
    ),
    "erf": (
        mp.erf,
        lambda x: 2 / mp.sqrt(mp.pi) * mp.exp(-x * x),
        np.concatenate([BOTH, np.linspace(-25, 25, 101)]),
    ),
    "erfc": (
        mp.erfc,
        lambda x: -2 / mp.sqrt(mp.pi) * mp.exp(-x * x),
        np.concatenate([BOTH, np.linspace(-25, 25, 101)]),
    ),
    "sin": (mp.sin, mp.cos, np.concatenate([BOTH, np.linspace(-100, 100, 51)])),
    "cos": (mp.cos, lambda x: -mp.sin(x), np.linspace(-100, 100, 51)),
    "tan": (
        mp.tan,
        lambda x: 1 + mp.tan(x) ** 2,
        np.concatenate([BOTH, np.linspace(-100, 100, 51)]),
    ),
    "asin": (mp.asin, lambda x: 1 / mp.sqrt((1 - x) * (1 + x)), UNIT),
    "acos": (mp.acos, lambda x: -1 / mp.sqrt((1 - x) * (1 + x)), UNIT),
    "atan": (mp.atan, lambda x: 1 / (1 + x * x), WIDE),
    "sinh": (mp.sinh, mp.cosh, np.concatenate([BOTH, np.linspace(-630, 700, 60)])),
    "cosh": (mp.cosh, mp.sinh, np.concatenate([BOTH, np.linspace(-630, 700, 60)])),
    "asinh": (mp.asinh, lambda x: 1 / mp.sqrt(1 + x * x), WIDE),
    "acosh": (
        mp.acosh,
        lambda x: 1 / mp.sqrt((x - 1) * (x + 1)),
        np.concatenate([1 + TINY[3:], np.logspace(0.1, 250, 60)]),
    ),
    "atanh": (mp.atanh, lambda x: 1 / ((1 - x) * (1 + x)), UNIT),
}


def relative(found, true):
    """The greatest relative error, in mpmath's precision."""
    worst = mp.mpf(0)
    for a, b in zip(found, true, strict=True):
        error = abs(mp.mpf(float(a)) - b)
        worst = max(worst, error / abs(b) if b else error)
    return float(worst)


def exactly(function, x):
    with mp.workdps(60):
        return [function(mp.mpf(float(v))) for v in x]


@pytest.mark.parametrize("name", CASES)
def test_real_values(name):
    function, _, x = CASES[name]
    assert relative(getattr(real, name)(x), exactly(function, x)) < 1e-15


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("h", STEPS)
def test_imaginary_part_is_the_derivative(name, h):
    function, derivative, x = CASES[name]
    # A step along with x keeps h^2 f'' out of the value.
    step = h * np.where(x == 0, 1.0, np.minimum(np.abs(x), 1.0))
    y = getattr(complex_, name)(x + 1j * step)
    assert relative(y.imag / step, exactly(derivative, x)) < 1e-14
    assert relative(y.real, exactly(function, x)) < 5e-15


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "erf", "erfc"])
@pytest.mark.parametrize("at", [-800.0, -400.0, 400.0, 800.0])
def test_far_tails_are_flat_and_finite(name, at):
    y = getattr(complex_, name)(np.array([at + 1e-30j]))
    assert y.real == getattr(real, name)(np.array([at]))
    assert abs(y.imag) < 1e-170


def test_softplus_far_out():
    x = np.array([-800.0, 800.0])
    assert real.softplus(x).tolist() == [0.0, 800.0]
    z = complex_.softplus(x + 1e-30j)
    assert z.real.tolist() == [0.0, 800.0]
    assert z.imag.tolist() == [0.0, 1e-30]


def powers():
    rng = np.random.default_rng(7)
    positive = np.exp(rng.uniform(-50, 50, 100))
    yield "any", positive, rng.uniform(-10, 10, 100)
    yield "root", np.exp(rng.uniform(-40, 300, 100)), np.full(100, 0.5)
    yield "whole", -positive, rng.integers(1, 12, 100) * np.where(rng.random(100) < 0.5, 1.0, -1.0)
    yield (
        "large",
        rng.choice([-1, 1], 50) * rng.uniform(0.1, 2, 50),
        rng.integers(64, 200, 50).astype(float),
    )


@pytest.mark.parametrize(
    ("kind", "x", "y"), list(powers()), ids=lambda v: v if isinstance(v, str) else ""
)
@pytest.mark.parametrize("h", STEPS)
def test_power(kind, x, y, h):
    with mp.workdps(60):
        pairs = [(mp.mpf(float(a)), mp.mpf(float(b))) for a, b in zip(x, y, strict=True)]
        value = [a**b for a, b in pairs]
        slope = [b * a**b for a, b in pairs]  # x dz/dx
    assert relative(real.power(x, y), value) < 1e-15
    z = complex_.power(x + 1j * h * x, y + 0j)
    assert relative(z.real, value) < 1e-15
    assert relative(z.imag / h, slope) < 2e-15
    if np.all(x > 0):
        with mp.workdps(60):
            in_exponent = [a**b * mp.log(a) for a, b in pairs]
        assert relative(complex_.power(x + 0j, y + 1j * h).imag / h, in_exponent) < 2e-15


def test_power_at_zero():
    x = np.array([1e-30j] * 4)
    z = complex_.power(x, np.array([0.0, 1.0, 2.0, 3.0]) + 0j)
    np.testing.assert_allclose(z.imag, [0.0, 1e-30, 0.0, 0.0], rtol=0, atol=1e-45)
    np.testing.assert_allclose(z.real, [1.0, 0.0, 0.0, 0.0], rtol=0, atol=1e-45)


def test_softmax_along_the_imaginary_axis():
    x = np.array([[700.0, 701.5, -400.0], [1.0, 1.0, 1.0]])
    v = np.array([[1.0, -2.0, 3.0], [0.5, 0.25, -1.0]])
    z = x + 1e-30j * v
    e = complex_.exp(z - complex_.anchor(z, 1))
    y = e / complex_.sum(e, (1,), True)
    s = np.exp(x - x.max(1, keepdims=True))
    s /= s.sum(1, keepdims=True)
    np.testing.assert_allclose(
        y.imag / 1e-30, s * (v - (s * v).sum(1, keepdims=True)), rtol=1e-14, atol=1e-300
    )


@pytest.mark.parametrize("n", [real, complex_], ids=lambda n: n.name)
def test_roots_and_logarithms_below_zero_are_not_numbers(n):
    x = n.lift(np.array([-1.0]))
    with np.errstate(invalid="ignore"):
        for y in (n.sqrt(x), n.log(x), n.power(x, n.full((1,), 0.5))):
            assert np.isnan(n.lower(y)).all()


@pytest.mark.parametrize("n", [real, complex_], ids=lambda n: n.name)
def test_inverse_functions_beyond_their_domain_are_not_numbers(n):
    with np.errstate(invalid="ignore"):
        for f in (n.asin, n.acos, n.atanh):
            assert np.isnan(n.lower(f(n.lift(np.array([-1.5, 1.5, np.inf]))))).all()
        assert np.isnan(n.lower(n.acosh(n.lift(np.array([-2.0, 0.5]))))).all()


@pytest.mark.parametrize("n", [real, complex_], ids=lambda n: n.name)
def test_maxima_pass_not_a_number_on(n):
    x, y = n.lift(np.array([np.nan, 1.0])), n.lift(np.array([2.0, np.nan]))
    assert np.isnan(n.lower(n.maximum(x, y))).all()
    assert np.isnan(n.lower(n.minimum(x, y))).all()
    assert np.isnan(n.lower(n.max(x, (0,), False)))


@pytest.mark.parametrize("n", [real, complex_], ids=lambda n: n.name)
def test_scalars_of_numpy_are_numbers(n):
    two = n.full((), 2.0)
    assert n.is_number(two * two)
    assert n.lower(n.divide(two / two, two)) == 0.5


def test_integers_divide_towards_zero_exactly():
    large = 2**62 + 1
    x = np.array([7, -7, 7, -7, large], np.int64)
    y = np.array([2, 2, -2, -2, 1], np.int64)
    quotient = real.divide(x, y)
    assert quotient.dtype == np.int64
    assert quotient.tolist() == [3, -3, -3, 3, large]


def test_only_floats_are_lifted():
    import ml_dtypes

    for dtype in (np.float16, np.float32, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn):
        assert real.lift(np.ones(2, dtype)).dtype == np.float64
    for dtype in (np.int8, np.bool_, ml_dtypes.int4, np.uint64, object):
        assert real.lift(np.ones(2, dtype)).dtype == dtype


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 5), (5,)])
def test_real_weights_by_complex_columns(shape):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(shape), rng.standard_normal((5, 40)) + 1j * 2.0**-400
    for weights in (a, a + 0j):
        got = complex_.matmul(complex_.lift(weights), b)
        assert complex_.is_number(got)
        np.testing.assert_allclose(got.real, a @ b.real, rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(got.imag, a @ b.imag, rtol=1e-13, atol=0)
    odd = a + 1j
    np.testing.assert_allclose(complex_.matmul(odd, b), odd @ b, rtol=1e-13, atol=1e-13)
