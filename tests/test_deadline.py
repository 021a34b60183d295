"""Deadlines: nested, passed on the way, and looked at within what is slow."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from gradcli import deadline
from gradcli.deadline import until
from gradcli.errors import OutOfTimeError
from gradcli.graph import Builder, DType
from gradcli.interpret import interpret
from gradcli.numbers.symbol import Symbol
from gradcli.ops import OPS


def test_without_a_deadline_nothing_stops():
    deadline.check()
    with until(math.inf):
        deadline.check()


def test_a_deadline_ends_with_what_it_surrounds():
    with pytest.raises(OutOfTimeError), until(-math.inf):
        deadline.check()
    deadline.check()


def test_within_one_node_of_symbols_it_is_looked_at_too():
    """A Fourier transform written out takes minutes; it stops soon after its deadline."""
    n = Symbol()
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT64, (1, 256, 1))
    y = b.op("DFT", b.op("Exp", x), None, b.constant(np.array(1)))
    start = time.perf_counter()
    with pytest.raises(OutOfTimeError), until(start + 0.5):
        interpret(b.graph([y]), {"x": n.symbols("x", (256,)).reshape(1, 256, 1)}, n)
    assert time.perf_counter() - start < 10
