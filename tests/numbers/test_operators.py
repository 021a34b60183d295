"""Every operator of the table over balls with radii and over free symbols."""

import zlib

import flint
import numpy as np
import pytest
import sympy

from gradcli.errors import CannotError
from gradcli.numbers import Ball, Symbol, real
from gradcli.ops import OPS
from tests.ops.rows import ROWS

SYMBOL = Symbol()
FINE = Ball(256)

# What a wide ball or a free symbol leaves open and integers hang on.
REFUSED = {"ArgMax", "ArgMin", "BitCast", "Cast", "Hardmax", "NonZero", "Range", "TopK"} | {
    *("DeformConv", "GridSample", "RoiAlign"),
    "NonMaxSuppression",
    "Unique",
    "ai.onnx.ml::LabelEncoder",
    "ai.onnx.ml::OneHotEncoder",
    "ai.onnx.ml::TreeEnsemble",
    "ai.onnx.ml::TreeEnsembleClassifier",
    "ai.onnx.ml::TreeEnsembleRegressor",
    *("QuantizeLinear", "DynamicQuantizeLinear", "com.microsoft::QuantizeLinear"),
    *("com.microsoft::DynamicQuantizeMatMul", "com.microsoft::DynamicQuantizeLSTM"),
}

CASES = [
    pytest.param(row, trial, id=f"{row.op}-{trial}")
    for row in ROWS
    for trial in range(2)
    if OPS[row.op].impl is not None
]


def drawn(row, trial):
    """A case, and which of its operands vary."""
    rng = np.random.default_rng([zlib.crc32(row.op.encode()), trial])
    case = row.draw(rng)
    varied = [
        x is not None and np.asarray(x).dtype == np.float64 and k not in case.fixed
        for k, x in enumerate(case.inputs)
    ]
    return rng, case, varied


def lifted(n, x):
    return None if x is None else n.lift(np.asarray(x))


def results(n, row, case, operands):
    """What the card computes, but for what it computes only where it is read."""
    impl, attrs = OPS[row.op].impl, OPS.attributes(row.op, case.attrs)
    assert impl is not None
    with np.errstate(all="ignore"):
        out = impl(n, *operands, **attrs)
    out = out if isinstance(out, tuple) else (out,)
    return [y for y in out if y is not None and not callable(y)]


def widened(n, x, radius):
    elements = (flint.arb(v, radius * 1.001) for v in np.ravel(x).tolist())
    return n.box(np.fromiter(elements, object, np.size(x)).reshape(np.shape(x)))


@pytest.mark.parametrize("radius", [2.0**-30, 0.5])
@pytest.mark.parametrize(("row", "trial"), CASES)
def test_a_wide_ball_encloses_what_a_point_inside_gives(row, trial, radius):
    rng, case, varied = drawn(row, trial)
    n = Ball()
    points = [
        np.asarray(x) + radius * rng.uniform(-1, 1, np.shape(x)) if moves else x
        for x, moves in zip(case.inputs, varied, strict=True)
    ]
    wide = [
        widened(n, x, radius) if moves else lifted(n, x)
        for x, moves in zip(case.inputs, varied, strict=True)
    ]
    try:
        enclosures = results(n, row, case, wide)
    except CannotError:
        assert row.op in REFUSED
        return
    truths = results(FINE, row, case, [lifted(FINE, x) for x in points])
    for found, true in zip(enclosures, truths, strict=True):
        assert found.shape == true.shape
        if n.is_number(found):
            for a, b in zip(found.flat, true.flat, strict=True):
                # What is not finite encloses everything; a small radius off kinks is no reason.
                assert a.overlaps(b) or not a.is_finite()
                assert a.is_finite() or radius > 0.1 or not b.is_finite()
        elif n.is_mask(found):
            pairs = zip(found.flat, true.flat, strict=True)
            assert all(a == b for a, b in pairs if isinstance(a, bool | np.bool_))
        else:
            np.testing.assert_array_equal(found, true)


@pytest.mark.parametrize(("row", "trial"), CASES[::2])  # slow: the first of each operator
def test_expressions_compute_what_floats_do(row, trial):
    _, case, varied = drawn(row, trial)
    operands = [
        SYMBOL.symbols(f"x{k}", np.shape(x)) if moves else lifted(SYMBOL, x)
        for k, (x, moves) in enumerate(zip(case.inputs, varied, strict=True))
    ]
    symbols = [s for x, moves in zip(operands, varied, strict=True) if moves for s in x.flat]
    values = [
        v
        for x, moves in zip(case.inputs, varied, strict=True)
        if moves
        for v in np.ravel(x).tolist()
    ]
    try:
        expressions = results(SYMBOL, row, case, operands)
    except CannotError:
        assert row.op in REFUSED
        return
    expected = results(real, row, case, [lifted(real, x) for x in case.inputs])
    for found, true in zip(expressions, expected, strict=True):
        assert found.shape == np.shape(true)
        if SYMBOL.is_number(found):
            f = sympy.lambdify(symbols, list(found.flat), ["scipy", "numpy"], cse=True)
            with np.errstate(all="ignore"):
                got = np.array(f(*values), float).reshape(found.shape)
            np.testing.assert_allclose(got, true, rtol=1e-11, atol=1e-12)
