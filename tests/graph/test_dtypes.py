"""Element types and shapes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcli.graph import DType, broadcast, is_static, size

DIMS = st.lists(st.sampled_from([1, 1, 2, 3, 0]), max_size=4).map(tuple)


@given(st.lists(DIMS, max_size=4))
def test_known_shapes_broadcast_as_numpy_says(shapes):
    try:
        want = np.broadcast_shapes(*shapes)
    except ValueError:
        with pytest.raises(ValueError, match="do not broadcast"):
            broadcast(*shapes)
    else:
        assert broadcast(*shapes) == want


@given(
    st.lists(st.lists(st.sampled_from([1, 3, "A", "B"]), max_size=3).map(tuple), max_size=3),
    st.sampled_from([1, 3]),
    st.sampled_from([1, 3]),
)
def test_what_is_known_of_symbols_is_true_of_every_size_that_fits(shapes, a, b):
    sizes = {"A": a, "B": b}
    known = broadcast(*shapes)
    assert known is not None
    real = np.broadcast_shapes(*[tuple(sizes.get(d, d) for d in s) for s in shapes])
    assert len(known) == len(real)
    for dim, actual in zip(known, real, strict=True):
        if isinstance(dim, int):
            # A symbol that meets 3 is taken for 3 or 1, and either gives 3.
            assert dim == actual
        elif dim in sizes:
            assert sizes[dim] == actual
        else:
            assert dim == "A|B"


def test_an_unknown_rank_stays_unknown():
    assert broadcast(None, (2,)) is None
    assert broadcast(None) is None
    assert broadcast() == ()
    assert broadcast(("N", 3), ("N", 3)) == ("N", 3)


def test_sizes():
    assert size((2, 3, 4)) == 24
    assert size(()) == 1
    assert size((2**40, 2**40)) == 2**80
    with pytest.raises(TypeError, match="'N'"):
        size((2, "N"))
    assert is_static((2, 0))
    assert is_static(())
    assert not is_static((2, "N"))
    assert not is_static(None)


@pytest.mark.parametrize("dtype", DType)
def test_every_type_is_stored_by_numpy_and_found_again(dtype):
    assert DType.of(np.zeros(2, dtype.np)) is dtype
    assert dtype.is_float + dtype.is_integer <= 1


def test_kinds():
    floats = {d.value for d in DType if d.is_float}
    assert {"float16", "bfloat16", "float32", "float64", "float8_e5m2"} <= floats
    assert not {"int64", "bool", "str", "complex64"} & floats
    integers = {d.value for d in DType if d.is_integer}
    assert {"int8", "uint64", "int4"} <= integers
    assert not {"bool", "float32"} & integers


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_eps_is_the_spacing_at_one(dtype):
    assert DType(np.dtype(dtype).name).eps == np.finfo(dtype).eps


def test_eps_of_what_does_not_round_or_nobody_models():
    assert DType.INT64.eps == 0.0
    assert DType.BFLOAT16.eps == 2.0**-7
    with pytest.raises(KeyError):
        _ = DType.FLOAT8E5M2.eps


def test_arrays_that_onnx_does_not_have():
    assert DType.of(np.array(["a"])) is DType.STRING
    for array in (np.zeros(1, "datetime64[s]"), np.zeros(1, np.longdouble)):
        with pytest.raises(ValueError, match="not a valid DType"):
            DType.of(array)
