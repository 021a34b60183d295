"""Categories and their codes, of ai.onnx.ml."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import DType, Type
from gradcli.numbers import Array, Numbers
from gradcli.ops.card import Card, Site
from gradcli.ops.kinds import flat, same
from gradcli.ops.score import DOMAIN, X

CODES = "a code stands for a category, and does not move with it"


def _binarizer(n: Numbers, x: Array, *, threshold: float) -> Array:
    if not n.is_number(x):
        return (x > threshold).astype(x.dtype)
    return n.mask_to_number(n.less(n.full((), threshold), x))


def _looked_up(keys: Sequence[Any], values: np.ndarray, x: np.ndarray, other: Any) -> np.ndarray:
    """For each element the value of its key, or another where it is none."""
    table = dict(zip(keys, values.tolist(), strict=True))
    found = [table.get(key, other) for key in np.asarray(x).reshape(-1).tolist()]
    out = np.empty(len(found), values.dtype)
    out[:] = found
    return out.reshape(np.shape(x))


def _one_hot(n: Numbers, x: Array, *, cats_int64s: Any, cats_strings: Any, zeros: int) -> Array:
    if n.is_number(x):
        x = n.to_integer(x, np.dtype(np.int64))
    cats = list(cats_strings or cats_int64s or ())
    places = _looked_up(cats, np.arange(len(cats)), x, -1)
    if not zeros and np.any(places < 0):
        raise UnsupportedError("OneHotEncoder of an unknown category")
    return n.lift((places[..., None] == np.arange(len(cats))).astype(np.float64))


def _one_hot_types(s: Site) -> Sequence[Type]:
    width = len(s["cats_strings"] or s["cats_int64s"] or ())
    return [(DType.FLOAT32, None if s.x.shape is None else (*s.x.shape, width))]


def _mapped(n: Numbers, x: Array, **attrs: Any) -> Array:
    ints, strings = attrs["cats_int64s"], np.array(attrs["cats_strings"], object)
    if DType.of(x) is DType.STRING:
        return _looked_up(strings.tolist(), np.array(ints, np.int64), x, attrs["default_int64"])
    return _looked_up(ints, strings, x, attrs["default_string"])


def _mapped_types(s: Site) -> Sequence[Type]:
    return [(DType.INT64 if s.x.dtype is DType.STRING else DType.STRING, s.x.shape)]


def _encoder_side(attrs: Any, side: str) -> np.ndarray:
    """The keys or the values of a LabelEncoder, by whichever attribute holds them."""
    tensor = attrs[f"{side}_tensor"]
    if tensor is not None:
        flattened: np.ndarray = np.asarray(tensor).reshape(-1)
        return flattened
    for kind, dtype in (("strings", object), ("int64s", np.int64), ("floats", np.float32)):
        if attrs[f"{side}_{kind}"] is not None:
            return np.array(attrs[f"{side}_{kind}"], dtype)
    raise UnsupportedError(f"LabelEncoder without {side}")


def _encoder_default(attrs: Any, values: np.ndarray) -> Any:
    if attrs["default_tensor"] is not None:
        return np.asarray(attrs["default_tensor"]).reshape(-1)[0].item()
    kind = {"O": "string", "i": "int64", "f": "float"}[values.dtype.kind]
    return attrs[f"default_{kind}"]


def _encoder(n: Numbers, x: Array, **attrs: Any) -> Array:
    keys, values = _encoder_side(attrs, "keys"), _encoder_side(attrs, "values")
    other = _encoder_default(attrs, values)
    if not n.is_number(x):
        return n.lift(_looked_up(keys.tolist(), values, x, other))
    y = n.lift(np.full(x.shape, other, values.dtype))
    # Of a key that comes twice the first counts.
    for key, value in zip(keys[::-1], values[::-1], strict=True):
        is_key = n.is_nan(x) if np.isnan(key) else n.equal(x, n.full((), float(key)))
        y = n.where(is_key, n.lift(np.array(value, values.dtype)), y)
    return y


def _encoder_types(s: Site) -> Sequence[Type]:
    return [(DType.of(_encoder_side(s.attrs, "values")), s.x.shape)]


CARDS: tuple[Card, ...] = (
    flat(
        DOMAIN + "Binarizer",
        _binarizer,
        "a step: constant until the threshold is crossed",
        inputs=X,
        infer=same,
        attrs={"threshold": 0.0},
        kinks=lambda n, x, threshold: (np.abs(x - threshold), x > threshold),
    ),
    flat(
        DOMAIN + "OneHotEncoder",
        _one_hot,
        CODES,
        inputs=X,
        infer=_one_hot_types,
        attrs={"cats_int64s": None, "cats_strings": None, "zeros": 1},
    ),
    flat(
        DOMAIN + "CategoryMapper",
        _mapped,
        CODES,
        inputs=X,
        infer=_mapped_types,
        attrs={
            "cats_int64s": None,
            "cats_strings": None,
            "default_int64": -1,
            "default_string": "_Unused",
        },
    ),
    flat(
        DOMAIN + "LabelEncoder",
        _encoder,
        CODES,
        inputs=X,
        infer=_encoder_types,
        attrs={
            "default_float": -0.0,
            "default_int64": -1,
            "default_string": "_Unused",
            "default_tensor": None,
            "keys_floats": None,
            "keys_int64s": None,
            "keys_strings": None,
            "keys_tensor": None,
            "values_floats": None,
            "values_int64s": None,
            "values_strings": None,
            "values_tensor": None,
        },
    ),
)
