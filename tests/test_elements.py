"""Every number of the answer, kept beside the verdicts where that is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gradcli import api
from gradcli.comparison import elements_of
from gradcli.engines.base import Estimate
from gradcli.report import comparison_json
from tests.cli.support import SAMPLES
from tests.comparison.made import X, evidence, outcome, said

QUICK: dict[str, Any] = {"runs": 1, "warmup": 0, "methods": ["reverse", "finite"]}


def test_a_jacobian_keeps_the_axes_of_both_sides_and_is_what_the_method_said():
    with np.load(SAMPLES / "digits.npz") as point:
        found = api.compare(SAMPLES / "digits.onnx", dict(point), elements=True, **QUICK)
        jacobian = api.jacobian(SAMPLES / "digits.onnx", dict(point), method="reverse")
    (block,) = found.elements
    assert (block.name, block.of, block.wrt) == ("logits/image", (1, 10), (1, 1, 8, 8))
    assert np.array_equal(block.values["reverse"], jacobian["logits/image"])
    off = np.abs(block.values["finite"] - block.truth)
    finite = found.methods[1]
    assert finite.max_abs_error == np.max(off)
    assert np.all(block.uncertainty >= 0)


def test_nothing_is_kept_unless_asked_and_json_never_has_it():
    with np.load(SAMPLES / "physics.npz") as point:
        given = dict(point)
    bare = api.compare(SAMPLES / "physics.onnx", given, **QUICK)
    kept = api.compare(SAMPLES / "physics.onnx", given, elements=True, **QUICK)
    assert bare.elements == ()
    assert comparison_json(kept) == comparison_json(replace(kept, elements=()))


def test_what_a_sample_left_out_is_no_number():
    known = {X: np.array([True, False, True])}
    sampled = Estimate({X: np.array([1.0, 7.0, 4.0])}, known)
    found = evidence(
        (1.0, 2.0, 4.0), outcome("finite", sampled), outcome("reverse", said([1, 2, 4]))
    )
    (block,) = elements_of(found)
    assert np.array_equal(block.values["finite"], [1.0, np.nan, 4.0], equal_nan=True)
    assert np.array_equal(block.values["reverse"], [1.0, 2.0, 4.0])


def test_methods_that_computed_nothing_and_a_truth_that_nobody_knows():
    lost = outcome("witness", None, status="skipped", reason="none")
    found = evidence((1.0, 2.0, 4.0), outcome("symbolic", None, status="skipped"), witness=lost)
    (block,) = elements_of(found)
    assert block.values == {}
    assert np.all(np.isnan(block.truth))
    assert block.truth.shape == (3,)
