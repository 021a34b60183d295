"""How the operators of gradcli/ops/norm.py are tested."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.table import Case, Kink, Row, narrower, normal, shape


def draw_layer_norm(rng: np.random.Generator) -> Case:
    """Any axis, one to three results, scale and bias narrower than x or absent."""
    dims = shape(rng, rank=int(rng.integers(1, 5)), low=2)
    axis = int(rng.integers(-len(dims), len(dims)))
    attrs: dict[str, Any] = {"axis": axis}
    if rng.random() < 0.5:
        attrs["epsilon"] = float(rng.choice([1e-3, 0.5]))
    inner = dims[axis:]
    scale = normal(rng, inner if rng.random() < 0.7 else narrower(rng, inner))
    bias = (normal(rng, inner),) if rng.random() < 0.5 else ()
    return Case((normal(rng, dims), scale, *bias), attrs, outputs=int(rng.choice([1, 1, 3])))


def draw_instance_norm(rng: np.random.Generator) -> Case:
    """One to three spatial axes."""
    dims = shape(rng, rank=int(rng.integers(3, 6)), low=2, high=3)
    attrs = {"epsilon": float(rng.choice([1e-3, 0.1]))} if rng.random() < 0.5 else {}
    return Case((normal(rng, dims), normal(rng, dims[1:2]), normal(rng, dims[1:2])), attrs)


def draw_group_norm(rng: np.random.Generator) -> Case:
    """From one group to as many as there are channels."""
    groups, each = (int(d) for d in rng.integers(1, 4, size=2))
    dims = (
        int(rng.integers(1, 4)),
        groups * each,
        *shape(rng, int(rng.integers(1, 4)), low=2, high=3),
    )
    attrs = {"num_groups": groups, "epsilon": float(rng.choice([1e-5, 1e-3, 0.1]))}
    return Case((normal(rng, dims), normal(rng, dims[1:2]), normal(rng, dims[1:2])), attrs)


def draw_rms_norm(rng: np.random.Generator) -> Case:
    """Any axis, a scale as long as the axes from there on, or narrower."""
    dims = shape(rng, rank=int(rng.integers(1, 5)))
    axis = int(rng.integers(-len(dims), len(dims)))
    scale = dims[axis:] if rng.random() < 0.7 else narrower(rng, dims[axis:])
    attrs: dict[str, Any] = {} if axis == -1 else {"axis": axis}
    if rng.random() < 0.5:
        attrs["epsilon"] = float(rng.choice([1e-3, 0.5]))
    return Case((normal(rng, dims), normal(rng, scale)), attrs)


def draw_lp_normalization(rng: np.random.Generator) -> Case:
    """Either order, along any axis."""
    dims = shape(rng, rank=int(rng.integers(1, 5)), low=2)
    axis = int(rng.integers(-len(dims), len(dims)))
    return Case((normal(rng, dims, 0.1),), {"p": int(rng.integers(1, 3)), "axis": axis})


def draw_mean_variance(rng: np.random.Generator) -> Case:
    """The axes that are the default, or others; few elements, for expressions grow as their cube.

    Of two elements the result would be 1 and -1, whatever they are.
    """
    dims = (2, int(rng.integers(3, 5)), 2, 2)
    others = [(0, 1, 2, 3), (1,), (-1, 2), (0, 2)]
    attrs = {} if rng.random() < 0.5 else {"axes": others[int(rng.integers(len(others)))]}
    return Case((normal(rng, dims),), attrs)


def draw_lrn(rng: np.random.Generator) -> Case:
    """Windows wider than the channels too; onnxruntime takes no even ones."""
    attrs: dict[str, Any] = {"size": int(rng.choice([1, 3, 5]))}
    if rng.random() < 0.7:
        attrs |= {"alpha": 0.5, "beta": float(rng.choice([0.25, 0.75, 1.5])), "bias": 2.0}
    return Case((normal(rng, shape(rng, rank=4)),), attrs)


ROWS: tuple[Row, ...] = (
    # Mean and InvStdDev exist in float32 only, and a mean may cancel.
    Row("LayerNormalization", draw_layer_norm, dynamic="all", tolerance=1e-5),
    Row("InstanceNormalization", draw_instance_norm, dynamic="all"),
    Row("GroupNormalization", draw_group_norm, dynamic="batch", tolerance=1e-6),
    Row("RMSNormalization", draw_rms_norm, dynamic="all", tolerance=1e-6),
    Row(
        "LpNormalization",
        draw_lp_normalization,
        kinks=(
            Kink(
                Case((np.array([[0.0, 1.0, 3.0]]),), {"p": 1}),
                0,
                np.array([[0.25, 0.0, 0.0]]),
            ),
            Kink(Case((np.zeros((2, 3)),), {"p": 1}), 0, np.zeros((2, 3))),
        ),
        edges=(Case((np.zeros((2, 3)),)), Case((np.zeros((2, 3)),), {"p": 1})),
        dynamic="all",
    ),
    Row(
        "MeanVarianceNormalization",
        draw_mean_variance,
        kinks=(Kink(Case((np.full((1, 1, 1, 2), 3.0),)), 0, np.zeros((1, 1, 1, 2))),),
        dynamic="all",
    ),
    Row(
        "LRN",
        draw_lrn,
        dynamic="batch",
        edges=(Case((np.zeros((1, 2, 1, 1)),), {"size": 3, "bias": 0.0}),),
    ),
)
