"""Fourier transforms of sizes that the table of operators does not draw."""

from __future__ import annotations

import numpy as np
import pytest

from gradcli.numbers import Ball, real
from gradcli.ops import OPS

DFT = OPS["DFT"].impl
PAIR = {"inverse": 0, "onesided": 0}


@pytest.mark.parametrize("size", [1, 2, 251, 257, 3 * 263, 720, 1024])
def test_a_transform_of_any_size_is_numpys(size):
    assert DFT is not None
    x = np.random.default_rng(size).standard_normal((2, size, 2))
    forward, back = (DFT(real, x, **{**PAIR, "inverse": k}) for k in (0, 1))
    z = x[..., 0] + 1j * x[..., 1]
    for y, wanted in ((forward, np.fft.fft(z)), (back, np.fft.ifft(z))):
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(y[..., 0] + 1j * y[..., 1], wanted, rtol=0, atol=1e-13 * scale)


def test_balls_enclose_the_transform_of_a_large_prime_size():
    assert DFT is not None
    n, size = Ball(), 257
    x = n.lift(np.ones((1, size, 1)))
    y = DFT(n, x, **PAIR)
    assert np.all(n.radius(y) < 1e-25)
    wanted = np.zeros((1, size, 2))
    wanted[0, 0, 0] = size
    assert np.all(np.abs(n.lower(y) - wanted) <= n.radius(y))
