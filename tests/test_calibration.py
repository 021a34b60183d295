"""Stated uncertainties beside the truth, on a few networks: benchmarks/calibration.py has many."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "calibration.py"


@pytest.fixture(scope="module")
def calibration():
    pytest.importorskip("flint")
    return runpy.run_path(str(BENCHMARK))


def test_what_methods_say_of_their_errors_covers_them_and_is_not_far_from_them(calibration):
    rng = np.random.default_rng(1)
    drawn = [(kind, calibration["network"](kind, rng)) for kind in calibration["BODIES"]] * 2
    tallies = calibration["calibrate"](drawn, budget=20.0)
    assert set(tallies) == {*calibration["METHODS"], calibration["MODEL"]}
    for name, tally in tallies.items():
        elements, covered, median, _, most = tally.line()
        assert elements > 100, name
        assert covered > 0.99, name
        assert most < 2.0, name
        assert median < 2 * calibration["WITHIN"], name


def test_every_kind_of_network_has_elements_whose_truth_is_certain(calibration):
    rng = np.random.default_rng(2)
    for kind in calibration["BODIES"]:
        drawn = [(kind, calibration["network"](kind, rng)) for _ in range(3)]
        tallies = calibration["calibrate"](drawn, budget=20.0)
        assert all(sum(map(len, tally.u)) > 5 for tally in tallies.values()), kind


def test_the_tally_counts_misses_and_takes_medians(calibration, capsys):
    tally = calibration["Tally"]()
    tally.add(np.array([1.0, 1.0, 0.0, 4.0]), np.array([0.5, 2.0, 0.0, 0.25]))
    assert tally.line() == (4, 0.75, 2.0, 2.0, 2.0)
    assert calibration["report"]({"finite": tally}) == 1
    assert "75.000%" in capsys.readouterr().out
