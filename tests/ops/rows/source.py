"""How the operators of gradcli/ops/source.py are tested."""

from __future__ import annotations

import numpy as np

from tests.ops.table import Case, Row, normal, shape


def draw_constant(rng: np.random.Generator) -> Case:
    """One attribute of the seven."""
    kinds = {
        "value": rng.standard_normal(shape(rng)),
        "value_float": float(np.float32(rng.standard_normal())),
        "value_floats": tuple(float(np.float32(v)) for v in rng.standard_normal(3)),
        "value_int": int(rng.integers(-9, 9)),
        "value_ints": tuple(int(i) for i in rng.integers(-9, 9, 3)),
    }
    name = str(rng.choice(list(kinds)))
    return Case((), {name: kinds[name]})


def draw_constant_of_shape(rng: np.random.Generator) -> Case:
    """Any number, float or whole."""
    target = np.array(shape(rng, low=0), np.int64)
    value: np.ndarray = rng.standard_normal(1) if rng.random() < 0.5 else rng.integers(-9, 9, 1)
    return Case((target,), {"value": value})


def draw_range(rng: np.random.Generator) -> Case:
    """Up or down, whole or not, and sometimes empty; the limit well between two steps."""
    if rng.random() < 0.3:
        start, limit = (np.array(i, np.int64) for i in rng.integers(-5, 6, 2))
        return Case((start, limit, np.array(rng.choice([-2, -1, 1, 2]), np.int64)))
    start, delta = normal(rng, ()), normal(rng, (), 0.2)
    steps = int(rng.integers(-1, 6)) + rng.uniform(0.2, 0.8)
    return Case((start, np.asarray(start + steps * delta), delta))


def draw_eye(rng: np.random.Generator) -> Case:
    """Any diagonal, perhaps in another dtype."""
    attrs = {"k": int(rng.integers(-3, 4))}
    other = {} if rng.random() < 0.5 else {"dtype": str(rng.choice(["float64", "int64"]))}
    return Case((normal(rng, shape(rng, 2)),), attrs | other)


NO_STEP = Case((np.array(0.0), np.array(1.0), np.array(0.0)))

ROWS = (
    Row("Constant", draw_constant),
    Row("ConstantOfShape", draw_constant_of_shape),
    Row("Range", draw_range, data_dependent=True, edges=(NO_STEP,)),
    Row("EyeLike", draw_eye, dynamic="free"),
)
