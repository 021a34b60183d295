"""How the operators of gradcli/ops/feature.py are tested."""

from __future__ import annotations

import numpy as np

from tests.ops.rows.reduce import apart
from tests.ops.rows.score import ML, floats
from tests.ops.table import Case, Kink, Row, normal, shape


def draw_scaler(rng: np.random.Generator) -> Case:
    """One offset and scale for all features, or for each."""
    features = int(rng.integers(1, 5))
    count = features if rng.random() < 0.7 else 1
    attrs = {"offset": floats(normal(rng, (count,))), "scale": floats(normal(rng, (count,)))}
    return Case((normal(rng, (int(rng.integers(1, 4)), features)),), attrs)


def draw_normalizer(rng: np.random.Generator) -> Case:
    """Each norm, off its kinks."""
    norm = str(rng.choice(["MAX", "L1", "L2"]))
    dims = (int(rng.integers(1, 4)), int(rng.integers(2, 5)))  # of one feature, it is a sign
    x = normal(rng, dims, away=0.1)
    if norm == "MAX":
        x = apart(rng, dims)
        x[:, 0] = 9.0 + rng.random(dims[0])  # the greatest is not near 0
    return Case((x,), {"norm": norm})


def draw_imputer(rng: np.random.Generator) -> Case:
    """NaN or a number is missing; one substitute for all features, or for each."""
    dims = (int(rng.integers(1, 4)), int(rng.integers(1, 5)))
    x = normal(rng, dims, away=0.2)
    missing = 0.0
    x[rng.random(dims) < 0.3] = missing
    count = dims[1] if rng.random() < 0.5 else 1
    attrs = {
        "imputed_value_floats": floats(normal(rng, (count,))),
        "replaced_value_float": float(rng.choice([7.5, np.nan])),
    }
    return Case((x,), attrs)


def draw_vectorizer(rng: np.random.Generator) -> Case:
    """As wide as its operands say, or cut, or filled up."""
    rows = int(rng.integers(1, 4))
    widths = [int(rng.integers(1, 4)) for _ in range(int(rng.integers(1, 4)))]
    xs = tuple(normal(rng, (rows, w)) for w in widths)
    return Case(xs, {"inputdimensions": tuple(widths)})


def draw_extractor(rng: np.random.Generator) -> Case:
    """Features repeated, in any order, of tensors of any rank."""
    dims = shape(rng, rank=int(rng.integers(1, 4)))
    count = int(rng.integers(1, 5))
    return Case((normal(rng, dims), rng.integers(0, dims[-1], (1, count), dtype=np.int64)))


ROWS: tuple[Row, ...] = (
    Row(ML + "Scaler", draw_scaler, dynamic="batch"),
    Row(
        ML + "Normalizer",
        draw_normalizer,
        kinks=(
            Kink(Case((np.array([[2.0, 2.0]]),)), 0, np.array([[0.0, 0.0]])),
            Kink(Case((np.array([[0.0, 2.0]]),), {"norm": "L1"}), 0, np.array([[0.5, 0.0]])),
        ),
        edges=(Case((np.zeros((1, 2)),), {"norm": "L2"}),),
    ),
    Row(ML + "Imputer", draw_imputer),
    Row(ML + "FeatureVectorizer", draw_vectorizer),
    Row(ML + "ArrayFeatureExtractor", draw_extractor),
)
