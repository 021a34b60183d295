"""How the operators of gradcli/ops/category.py are tested."""

from __future__ import annotations

import numpy as np

from tests.ops.rows.score import ML
from tests.ops.table import Case, Kink, Row, normal


def draw_binarizer(rng: np.random.Generator) -> Case:
    """A threshold that is not near any feature."""
    return Case((normal(rng, (3, 2), away=0.2) + 0.5,), {"threshold": 0.5})


def words(rng: np.random.Generator, dims: tuple[int, ...]) -> np.ndarray:
    """Strings, of which some repeat."""
    return rng.choice(np.array(["a", "b", "c", "d"], object), dims)


def draw_one_hot_encoder(rng: np.random.Generator) -> Case:
    """Strings, integers, and floats that stand for integers; some of them unknown."""
    dims = (int(rng.integers(1, 4)), 1)
    kind = rng.integers(0, 3)
    if kind == 0:
        return Case((words(rng, dims),), {"cats_strings": ("c", "a", "b")})
    numbers = rng.integers(0, 4, dims, dtype=np.int64)
    cats = {"cats_int64s": (2, 0, 3)}
    return Case((numbers if kind == 1 else numbers + 0.25,), cats)


def draw_category_mapper(rng: np.random.Generator) -> Case:
    """Both ways, with unknown ones."""
    attrs = {"cats_strings": ("a", "b", "c"), "cats_int64s": (5, 7, 9)}
    if rng.random() < 0.5:
        return Case((words(rng, (3,)),), attrs)
    return Case((rng.choice(np.array([5, 7, 9, 11]), (3,)),), attrs)


def draw_label_encoder(rng: np.random.Generator) -> Case:
    """Between strings, integers and floats."""
    keys = str(rng.choice(["strings", "int64s", "floats"]))
    values = str(rng.choice(["strings", "int64s", "floats"]))
    of = {"strings": ("a", "b", "c"), "int64s": (3, 1, 2), "floats": (0.5, 1.5, 2.5)}
    x: np.ndarray = words(rng, (4,))
    if keys == "int64s":
        x = rng.integers(0, 5, (4,), dtype=np.int64)
    elif keys == "floats":
        x = rng.integers(0, 5, (4,)) + 0.25  # off every key, where the table jumps
    return Case((x,), {f"keys_{keys}": of[keys], f"values_{values}": of[values][::-1]})


ROWS: tuple[Row, ...] = (
    Row(ML + "Binarizer", draw_binarizer, kinks=(Kink(Case((np.zeros(1),)), 0, np.zeros(1)),)),
    Row(ML + "OneHotEncoder", draw_one_hot_encoder),
    Row(ML + "CategoryMapper", draw_category_mapper),
    Row(ML + "LabelEncoder", draw_label_encoder),
)
