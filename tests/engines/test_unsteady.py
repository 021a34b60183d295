"""Two runs of one program: what differs, and where most."""

from __future__ import annotations

import numpy as np
import pytest

from gradcli.engines.base import unsteady

NAN, INF = np.nan, np.inf


@pytest.mark.parametrize("same", [[1.0, -2.0], [NAN, INF, -INF], [], 3.0, [0.0]])
def test_equal_results_are_steady_nan_and_infinity_included(same):
    assert unsteady("primal", (1, 1), {"y": np.array(same)}, {"y": np.array(same)}) is None


def test_the_place_is_where_the_difference_is_largest_over_all_tensors():
    first = {"a": np.array([1.0, 2.0]), "b": np.array([[100.0, 7.0]], np.float32)}
    second = {"a": np.array([1.5, 2.0]), "b": np.array([[104.0, 7.0]], np.float32)}
    found = unsteady("reverse", (1, 4), first, second)
    assert found is not None
    assert (found.program, found.threads, found.elements) == ("reverse", (1, 4), 2)
    assert (found.name, found.index, found.max_abs) == ("b", (0, 0), 4.0)
    assert found.max_rel == pytest.approx(0.5 / 1.5)


@pytest.mark.parametrize("other", [NAN, INF, -INF])
def test_a_number_and_none_differ_without_bound(other):
    for x, y in ((1.0, other), (other, 1.0)):
        found = unsteady("primal", (1, 1), {"y": np.array([2.0, x])}, {"y": np.array([2.5, y])})
        assert found is not None
        assert (found.index, found.max_abs, found.max_rel) == ((1,), INF, INF)


def test_results_that_are_no_floats_count_too():
    found = unsteady("primal", (1, 1), {"y": np.array([True, 3])}, {"y": np.array([True, 4])})
    assert found is not None
    assert (found.max_abs, found.max_rel) == (1.0, 0.25)
