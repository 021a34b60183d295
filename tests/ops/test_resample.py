"""What the table of rows does not reach of sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradcli import transform
from gradcli.graph import Builder, DType
from gradcli.interpret import interpret
from gradcli.ops import OPS
from tests.ops import checks


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_no_regions_at_all(mode, sampling_ratio):
    """A detector that finds nothing has no regions: no result, and a derivative of 0."""
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT32, (1, 2, 4, 5))
    rois = b.input("rois", DType.FLOAT32, ("R", 4))
    at = b.input("at", DType.INT64, ("R",))
    y = b.op("RoiAlign", x, rois, at, mode=mode, sampling_ratio=sampling_ratio, name="y")
    d = transform.vjp(b.graph([y]), ["x"])
    feeds = {
        "x": np.ones((1, 2, 4, 5)),
        "rois": np.zeros((0, 4)),
        "at": np.zeros(0, np.int64),
        d.directions["y"]: np.zeros((0, 2, 1, 1)),
    }
    for run in (checks.run_onnx, interpret):
        out = run(d.graph, feeds)
        assert out["y"].shape == (0, 2, 1, 1)
        np.testing.assert_array_equal(out[d.results["x"]], np.zeros((1, 2, 4, 5)))


@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_regions_in_float16(mode, sampling_ratio):
    """Where samples count is asked with a number so small that float16 has none like it."""
    rng = np.random.default_rng(0)
    point = {"x": rng.standard_normal((1, 2, 8, 8)), "rois": np.array([[1, 1.2, 9, 9.3]])}
    found = {}
    for dtype in (DType.FLOAT16, DType.FLOAT64):
        b = Builder(OPS)
        x, rois = (b.input(name, dtype, value.shape) for name, value in point.items())
        how: dict[str, Any] = {"output_height": 2, "output_width": 2, "spatial_scale": 0.5}
        y = b.op("RoiAlign", x, rois, b.ints([0]), mode=mode, sampling_ratio=sampling_ratio, **how)
        d = transform.jvp(b.graph([y]), ["x"])
        feeds = point | {d.directions["x"]: np.ones((1, 2, 8, 8))}
        run = checks.run_onnx if dtype is DType.FLOAT16 else interpret
        found[dtype] = run(d.graph, feeds)[d.results[y.value.name]]
    assert np.any(found[DType.FLOAT64] > 0.1)
    np.testing.assert_allclose(found[DType.FLOAT16], found[DType.FLOAT64], rtol=1e-2)
