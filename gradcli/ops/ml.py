"""The operators of ai.onnx.ml: scikit-learn's linear models, machines and trees, and their steps.

Formulas and conventions are onnxruntime's where the standard leaves them open. A result that the
standard has in float32 whatever the operand is here of the operand's own width; the reader rounds
it where a file of float64 says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Dim, DType, Type
from gradcli.numbers import Array, Numbers, real
from gradcli.ops.card import REQUIRED, Card, Site
from gradcli.ops.emit import Emit, emitted, rank
from gradcli.ops.forest import Forest, Given, gathered, jumps, leaves, listed, packed
from gradcli.ops.kinds import composite, flat, same
from gradcli.ops.softmax import softmax

DOMAIN = "ai.onnx.ml::"
X = ("X",)
TREES = "trees are a staircase: constant until a feature crosses a threshold"
CODES = "a code stands for a category, and does not move with it"

# ---- types ---------------------------------------------------------------------------------------


def _float_of(s: Site) -> DType:
    return s.x.dtype if s.x.dtype.is_float else DType.FLOAT32


def _as_floats(s: Site) -> Sequence[Type]:
    return [(_float_of(s), s.x.shape)]


def _rows(s: Site) -> Dim | None:
    """The number of samples in [N, features], or in [features] alone; None where not known."""
    if s.x.shape is None:
        return None
    if not 1 <= len(s.x.shape) <= 2:
        raise ValueError(f"samples of shape {s.x.shape}, not [N, features]")
    return s.x.shape[0] if len(s.x.shape) == 2 else 1


def _scores(s: Site, width: int) -> Type:
    rows = _rows(s)
    return _float_of(s), None if rows is None else (rows, width)


def _labelled(s: Site, width: int) -> Sequence[Type]:
    rows = _rows(s)
    kind = DType.STRING if s["classlabels_strings"] else DType.INT64
    return [(kind, None if rows is None else (rows,)), _scores(s, width)]


def _samples(n: Any, x: Array) -> Array:
    """x as numbers [N, features]."""
    if not n.is_number(x):
        x = n.lift(x if isinstance(n, Emit) else x.astype(np.float64))
    return n.reshape(x, (1, -1)) if rank(x) == 1 else x


def _numbers(n: Any, values: Any, *shape: int) -> Array:
    array = np.asarray(() if values is None else values, np.float64)
    return n.lift(array.reshape(shape) if shape else array)


def _labels(attrs: dict[str, Any], ints: str = "classlabels_ints") -> np.ndarray:
    strings = attrs["classlabels_strings"]
    if strings:
        return np.array(strings, object)
    return np.array(attrs[ints] or (), np.int64)


# ---- from scores to probabilities ----------------------------------------------------------------

_NOTHING = 1e-7
"""Scores nearer to 0 than this have no part in a SOFTMAX_ZERO."""

_WINITZKI = 0.147, 2.0 / (3.14159 * 0.147)
"""Constants of the inverse error function that onnxruntime approximates a probit with."""


def _softmax(n: Any, x: Array) -> Array:
    return n.softmax(x) if isinstance(n, Emit) else softmax(n, x, axis=-1)


def _softmax_zero(n: Any, x: Array) -> Array:
    """A softmax over what is not 0; a 0 stays one, or nearly."""
    top = n.anchor(x, -1)
    tiny = n.less(n.abs(x), n.full((), _NOTHING))
    e = n.exp(x - top)
    total = n.sum(n.where(tiny, n.zero, e), [-1], True)
    return n.where(tiny, x * n.exp(-top), e) / total


def _probit(n: Any, p: Array) -> Array:
    """The normal quantile of p, by Winitzki's erfinv, written so that p = 1/2 is no 0 / 0."""
    a, b = _WINITZKI
    x = p * 2.0 - 1.0
    square = x * x
    near = n.less(square, n.full((), 1e-3))
    # log(1 - x^2) / -x^2: a series near 0, where the logarithm would cancel.
    series = n.full((), 1.0)
    power = square
    for k in range(2, 7):
        series, power = series + power / float(k), power * square
    far = n.where(near, n.full((), 0.5), x)
    slope = n.where(near, series, -n.log((1.0 - far) * (far + 1.0)) / (far * far))
    log = -(slope * square)
    middle = log / 2.0 + b
    return x * n.sqrt(slope / ((n.sqrt(middle * middle - log / a) + middle) * a)) * 1.41421356


_TRANSFORMS: dict[str, Callable[[Any, Array], Array]] = {
    "NONE": lambda n, x: x,
    "LOGISTIC": lambda n, x: n.sigmoid(x),
    "SOFTMAX": _softmax,
    "SOFTMAX_ZERO": _softmax_zero,
    "PROBIT": _probit,
}


def _transformed(n: Any, scores: Array, width: int, how: str) -> Array:
    """Scores [N, width] after `post_transform`, which of one score alone only PROBIT changes."""
    if how not in _TRANSFORMS:
        raise UnsupportedError(f"post_transform {how}")
    return _TRANSFORMS[how](n, scores) if width > 1 or how == "PROBIT" else scores


def _two(n: Any, score: Array, how: str, signed: bool) -> Array:
    """The scores of two classes from that of the second alone, [N, 1].

    Args:
        n: The number system.
        score: Of the second class.
        how: post_transform.
        signed: Whether the first class's score is the second's negative, not the rest to 1.

    Raises:
        UnsupportedError: For PROBIT, where onnxruntime leaves the second score unwritten.
    """
    if how == "PROBIT":
        raise UnsupportedError("PROBIT of one score for two classes")
    if how == "LOGISTIC":
        return n.sigmoid(n.concat([-score, score], 1))
    return n.concat([-score if signed else 1.0 - score, score], 1)


# ---- features ------------------------------------------------------------------------------------


def _scaler(n: Any, x: Array, *, offset: Any, scale: Any) -> Array:
    x = x if n.is_number(x) else n.lift(x if isinstance(n, Emit) else x.astype(np.float64))
    if offset is not None and np.any(offset):
        x = x - _numbers(n, offset)
    return x if scale is None else x * _numbers(n, scale)


def _normalizer(n: Any, x: Array, *, norm: str) -> Array:
    """Each sample over its greatest element, its sum of distances, or its length.

    Where that is 0 a sample stays what it is, so a sample of zeros gives zeros.
    """
    axis = min(1, rank(x) - 1)
    if norm == "MAX":
        size = n.max(x, [axis], True)
    elif norm == "L1":
        size = n.sum(n.abs(x), [axis], True)
    elif norm == "L2":
        size = n.sum(x * x, [axis], True)
    else:
        raise UnsupportedError(f"norm {norm}")
    # By squares, which symbols can be asked about: distances are themselves choices.
    empty = n.equal(n.sum(x * x, [axis], True) if norm == "L1" else size, n.zero)
    safe = n.where(empty, n.full((), 1.0), size)
    return n.where(empty, x, x / (n.sqrt(safe) if norm == "L2" else safe))


def _normalizer_kink(n: Numbers, x: Array, *, norm: str) -> tuple[np.ndarray, np.ndarray]:
    if norm == "L1":
        return np.abs(x), x > 0
    margin, branch = np.full(np.shape(x), np.inf), np.zeros(np.shape(x), np.int64)
    axis = min(1, x.ndim - 1)
    if norm == "MAX" and x.shape[axis] > 1:
        last = np.sort(x, axis)
        gap = np.take(last, [-1], axis) - np.take(last, [-2], axis)
        margin = np.broadcast_to(gap, x.shape)
        branch = np.broadcast_to(np.argmax(x, axis, keepdims=True), x.shape)
    return margin, branch


def _normalizer_edge(n: Numbers, x: Array, *, norm: str) -> np.ndarray:
    axis = min(1, x.ndim - 1)
    size = np.max(x, axis, keepdims=True) if norm == "MAX" else np.linalg.norm(x, None, axis, True)
    return np.broadcast_to(np.abs(size), x.shape)


def _imputer(
    n: Any,
    x: Array,
    *,
    imputed_value_floats: Any,
    imputed_value_int64s: Any,
    replaced_value_float: float,
    replaced_value_int64: int,
) -> Array:
    if not n.is_number(x):
        if isinstance(n, Emit):
            return n.b.op("Identity", x)  # integers have no derivative to expand
        return np.where(
            x == replaced_value_int64, np.asarray(imputed_value_int64s, x.dtype), x
        ).astype(x.dtype)
    missing = (
        n.is_nan(x)
        if np.isnan(replaced_value_float)
        else n.equal(x, n.full((), replaced_value_float))
    )
    return n.where(missing, _numbers(n, imputed_value_floats), x)


def _vectorizer(n: Any, *xs: Array, inputdimensions: Any) -> Array:
    """Features side by side, each operand cut or filled with zeros to its width."""
    parts = []
    for operand, width in zip(xs, inputdimensions, strict=True):
        x = _samples(n, operand)
        more = width - x.shape[1] if isinstance(x.shape[1], int) else 0
        kept = n.take(x, np.arange(width), 1) if more < 0 else x
        parts.append(n.pad(kept, [(0, 0), (0, more)], 0.0) if more > 0 else kept)
    return n.concat(parts, 1)


def _vectorizer_types(s: Site) -> Sequence[Type]:
    total = sum(int(width) for width in s["inputdimensions"] or ())
    return [_scores(s, total)]


def _extractor(n: Any, x: Array, y: Array) -> Array:
    """The features of these numbers; of a vector, as a row."""
    picked = n.take(x, n.reshape(y, (-1,)), -1)
    return n.reshape(picked, (1, -1)) if rank(x) == 1 else picked


def _extractor_types(s: Site) -> Sequence[Type]:
    if s.x.shape is None:
        return [(s.x.dtype, None)]
    indices = s.x1.shape
    count: Dim = s.b.fresh(1)[0]
    if indices is not None and all(isinstance(d, int) for d in indices):
        count = int(np.prod([int(d) for d in indices]))
    elif indices is not None and len(indices) == 1:
        count = indices[0]
    lead = s.x.shape[:-1] if len(s.x.shape) > 1 else (1,)
    return [(s.x.dtype, (*lead, count))]


FEATURES = (
    composite(
        DOMAIN + "Scaler",
        _scaler,
        emitted(_scaler),
        inputs=X,
        infer=_as_floats,
        attrs={"offset": None, "scale": None},
    ),
    composite(
        DOMAIN + "Normalizer",
        _normalizer,
        emitted(_normalizer),
        inputs=X,
        infer=_as_floats,
        attrs={"norm": "MAX"},
        kinks=_normalizer_kink,
        convention="as Abs and ReduceMax have it: 0 at 0, equal shares among ties",
        edges=_normalizer_edge,
        edge="a sample whose norm is 0",
    ),
    composite(
        DOMAIN + "Imputer",
        _imputer,
        emitted(_imputer),
        inputs=X,
        infer=same,
        attrs={
            "imputed_value_floats": None,
            "imputed_value_int64s": None,
            "replaced_value_float": 0.0,
            "replaced_value_int64": 0,
        },
        rounds=False,
    ),
    composite(
        DOMAIN + "FeatureVectorizer",
        _vectorizer,
        emitted(_vectorizer),
        inputs=("X*",),
        infer=_vectorizer_types,
        attrs={"inputdimensions": None},
        rounds=False,
    ),
    composite(
        DOMAIN + "ArrayFeatureExtractor",
        _extractor,
        emitted(_extractor),
        inputs=("X", "Y"),
        infer=_extractor_types,
        rounds=False,
    ),
)

# ---- linear models -------------------------------------------------------------------------------


def _linear_scores(n: Any, x: Array, coefficients: Any, intercepts: Any, width: int) -> Array:
    x = _samples(n, x)
    scores = n.matmul(x, n.transpose(_numbers(n, coefficients, width, -1), (1, 0)))
    return scores if not len(intercepts or ()) else scores + _numbers(n, intercepts)


def _linear_regressor(
    n: Any, x: Array, *, coefficients: Any, intercepts: Any, post_transform: str, targets: int
) -> Array:
    scores = _linear_scores(n, x, coefficients, intercepts, targets)
    return _transformed(n, scores, targets, post_transform)


def _classes(attrs: Any) -> int:
    return len(attrs["classlabels_strings"] or attrs["classlabels_ints"] or ())


def _linear_classifier_types(s: Site) -> Sequence[Type]:
    width = len(s["intercepts"] or ())
    if not width:
        raise UnsupportedError("LinearClassifier without intercepts")
    return _labelled(s, 2 if width == 1 and _classes(s.attrs) == 2 else width)


def _linear_classifier(n: Any, x: Array, **attrs: Any) -> tuple[Any, Array]:
    width = len(attrs["intercepts"])
    how, labels = attrs["post_transform"], _labels(attrs)
    scores = _linear_scores(n, x, attrs["coefficients"], attrs["intercepts"], width)
    if width > 1:
        z = _transformed(n, scores, width, how)
        return lambda: n.take(labels, n.argmax(scores, 1), 0), z
    if len(labels) != 2:
        labels = np.array(["0", "1"], object) if labels.dtype == object else np.arange(2)
        z = _transformed(n, scores, 1, how)
    else:
        z = _two(n, scores, how, signed=False)

    def label() -> Any:
        above = n.where(n.less(n.zero, scores), np.array(1), np.array(0))
        return n.take(labels, n.reshape(above, (-1,)), 0)

    return label, z


# ---- support vector machines ---------------------------------------------------------------------


def _kernel(n: Any, x: Array, vectors: np.ndarray, kind: str, parameters: Any) -> Array:
    """The kernel of every sample with every support vector, [N, vectors]."""
    gamma, shift, degree = (*(parameters or ()), 0.0, 0.0, 0.0)[:3]
    if kind == "RBF":
        # Not by |x|^2 - 2 x v + |v|^2, which cancels.
        apart = n.reshape(x, (-1, 1, vectors.shape[1])) - n.lift(vectors[None])
        return n.exp(n.sum(apart * apart, [2], False) * -gamma)
    dot = n.matmul(x, n.lift(np.ascontiguousarray(vectors.T)))
    if kind == "LINEAR":
        return dot
    moved = dot * gamma + shift
    if kind == "SIGMOID":
        return n.tanh(moved)
    if kind != "POLY":
        raise UnsupportedError(f"kernel_type {kind}")
    if degree in (1.0, 2.0, 3.0):
        return [moved, moved * moved, moved * moved * moved][int(degree) - 1]
    return n.power(moved, n.full((), degree))


def _vectors(values: Any, count: int) -> np.ndarray:
    return np.asarray(values or (), np.float64).reshape(count, -1)


def _svm_regressor(n: Any, x: Array, **attrs: Any) -> Array:
    x = _samples(n, x)
    count, rho = attrs["n_supports"], float(attrs["rho"][0])
    weights = _numbers(n, attrs["coefficients"], -1, 1)
    if count:
        vectors = _vectors(attrs["support_vectors"], count)
        x = _kernel(n, x, vectors, attrs["kernel_type"], attrs["kernel_params"])
    y = n.matmul(x, weights) + rho
    if not attrs["one_class"]:
        return y
    return n.where(n.less(n.zero, y), n.full((), 1.0), n.full((), -1.0))


def _svm_width(attrs: Any) -> int:
    classes = _classes(attrs)
    pairs = classes * (classes - 1) // 2
    by_pairs = sum(attrs["vectors_per_class"] or ()) and not attrs["prob_a"]
    return pairs if by_pairs and classes > 2 else classes


def _svm_classifier(n: Any, x: Array, **attrs: Any) -> tuple[Any, Array]:
    x = _samples(n, x)
    how, labels = attrs["post_transform"], _labels(attrs)
    classes = len(labels)
    if not sum(attrs["vectors_per_class"] or ()):
        weights = _numbers(n, attrs["coefficients"], classes, -1)
        scores = n.matmul(x, n.transpose(weights, (1, 0))) + float(attrs["rho"][0])
        return _linear_label(n, scores, labels, attrs), _transformed(n, scores, classes, how)
    if classes < 2:
        raise UnsupportedError("SVMClassifier of one class")
    scores = _against_each_other(n, x, classes, attrs)

    def label() -> Any:
        return n.take(labels, n.argmax(_votes(n, scores, classes), 1), 0)

    if attrs["prob_a"]:
        estimates = _coupled(n, scores, classes, attrs)
        return label, _transformed(n, estimates, classes, how)
    if classes == 2:
        return label, _two(n, scores, how, signed=how == "NONE")
    return label, _transformed(n, scores, _svm_width(attrs), how)


def _linear_label(n: Any, scores: Array, labels: np.ndarray, attrs: Any) -> Callable[[], Any]:
    """The best class; of two, the second from a certain score of either on."""

    def label() -> Any:
        best = n.argmax(scores, 1)
        if len(labels) == 2:
            most = n.max(scores, [1], False)
            positive = min(attrs["coefficients"]) >= 0
            bar = n.full((), float(np.nextafter(0.5, 0.0)) if positive else 0.0)
            best = n.where(n.less(bar, most), np.array(1), best)
        return n.take(labels, best, 0)

    return label


def _pairs(classes: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(classes) for j in range(i + 1, classes)]


def _against_each_other(n: Any, x: Array, classes: int, attrs: Any) -> Array:
    """The score of each pair of classes, [N, pairs]: above 0 the first of the two wins."""
    per_class = np.asarray(attrs["vectors_per_class"])
    ends = np.cumsum(per_class)
    total = int(ends[-1])
    given = np.asarray(attrs["coefficients"], np.float64).reshape(-1, total)
    weights = np.zeros((total, classes * (classes - 1) // 2))
    for k, (i, j) in enumerate(_pairs(classes)):
        of_i, of_j = (slice(ends[c] - per_class[c], ends[c]) for c in (i, j))
        weights[of_i, k], weights[of_j, k] = given[j - 1, of_i], given[i, of_j]
    vectors = _vectors(attrs["support_vectors"], total)
    kernels = _kernel(n, x, vectors, attrs["kernel_type"], attrs["kernel_params"])
    return n.matmul(kernels, n.lift(weights)) + _numbers(n, attrs["rho"][: weights.shape[1]])


def _votes(n: Any, scores: Array, classes: int) -> Array:
    wins = n.mask_to_number(n.less(n.zero, scores))
    first, second = (np.zeros((classes * (classes - 1) // 2, classes)) for _ in range(2))
    for k, (i, j) in enumerate(_pairs(classes)):
        first[k, i] = second[k, j] = 1.0
    return n.matmul(wins, n.lift(first)) + n.matmul(1.0 - wins, n.lift(second))


_SWEEPS = 16
"""onnxruntime allows 100, and stops when the error is small: after four at most, as measured."""

_SURE = 1e-7
"""A pair's probability keeps this distance from 0 and 1."""


def _coupled(n: Any, scores: Array, classes: int, attrs: Any) -> Array:
    """Class probabilities from those of pairs, by the sweeps that LIBSVM does.

    They minimise the sum over pairs of (r_ji p_i - r_ij p_j)^2 (Wu, Lin and Weng 2004, method 2).
    The sweeps end where the error is below 0.005 / classes, so what they give is not quite the
    minimum: it is what the file computes, and what is differentiated.
    """
    pairs = _pairs(classes)
    count = len(pairs)
    slope, shift = (_numbers(n, attrs[name][:count]) for name in ("prob_a", "prob_b"))
    r = n.sigmoid(-(scores * slope + shift))
    r = n.minimum(n.maximum(r, n.full((), _SURE)), n.full((), 1.0 - _SURE))
    # r_ij for every i and j, 0 on the diagonal: a sum of columns, by a constant matrix.
    forth, back = (np.zeros((count, classes * classes)) for _ in range(2))
    for k, (i, j) in enumerate(pairs):
        forth[k, i * classes + j] = back[k, j * classes + i] = 1.0
    square = (-1, classes, classes)
    whole = n.reshape(n.matmul(r, n.lift(forth)) + n.matmul(1.0 - r, n.lift(back)), square)
    turned = n.transpose(whole, (0, 2, 1))
    eye = n.lift(np.eye(classes))
    diagonal = n.sum(whole * whole, [1], False)
    q = n.reshape(diagonal, (-1, 1, classes)) * eye - whole * turned
    rows = [n.take(q, np.array(t), 1) for t in range(classes)]
    middle = [n.take(diagonal, np.array([t]), 1) for t in range(classes)]
    # The first multiple is 1 / classes for all: of a row's size, in every system.
    p = diagonal * 0.0 + 1.0 / classes
    bar = n.full((), 0.005 / classes)
    done: Any = None
    for _ in range(_SWEEPS):
        slopes = n.sum(q * n.reshape(p, (-1, 1, classes)), [2], False)
        mean = n.sum(p * slopes, [1], True)
        small = n.less(n.max(n.abs(slopes - mean), [1], True), bar)
        done = small if done is None else n.logical_or(done, small)
        p = n.where(done, p, _swept(n, p, mean, rows, middle))
    return p


def _swept(n: Any, p: Array, value: Array, rows: list[Array], middle: list[Array]) -> Array:
    """One sweep over the classes; p is divided by its sum only at the end."""
    total = 1.0
    for t, (row, own) in enumerate(zip(rows, middle, strict=True)):
        slope = n.sum(row * p, [1], True)
        step = (value / total - slope) / own
        value = value + step * (step * own + slope * 2.0)
        unit = np.zeros((1, len(rows)))
        unit[0, t] = 1.0
        p, total = p + step * n.lift(unit), step + total
    return p / total


MACHINES = (
    composite(
        DOMAIN + "LinearRegressor",
        _linear_regressor,
        emitted(_linear_regressor),
        inputs=X,
        infer=lambda s: [_scores(s, s["targets"])],
        attrs={"coefficients": None, "intercepts": None, "post_transform": "NONE", "targets": 1},
    ),
    composite(
        DOMAIN + "LinearClassifier",
        _linear_classifier,
        emitted(_linear_classifier),
        inputs=X,
        outputs=("Y", "Z"),
        infer=_linear_classifier_types,
        attrs={
            "classlabels_ints": None,
            "classlabels_strings": None,
            "coefficients": REQUIRED,
            "intercepts": None,
            "multi_class": 0,
            "post_transform": "NONE",
        },
    ),
    composite(
        DOMAIN + "SVMRegressor",
        _svm_regressor,
        emitted(_svm_regressor),
        inputs=X,
        infer=lambda s: [_scores(s, 1)],
        attrs={
            "coefficients": None,
            "kernel_params": None,
            "kernel_type": "LINEAR",
            "n_supports": 0,
            "one_class": 0,
            "post_transform": "NONE",
            "rho": None,
            "support_vectors": None,
        },
    ),
    composite(
        DOMAIN + "SVMClassifier",
        _svm_classifier,
        emitted(_svm_classifier),
        inputs=X,
        outputs=("Y", "Z"),
        infer=lambda s: _labelled(s, _svm_width(s.attrs)),
        attrs={
            "classlabels_ints": None,
            "classlabels_strings": None,
            "coefficients": None,
            "kernel_params": None,
            "kernel_type": "LINEAR",
            "post_transform": "NONE",
            "prob_a": None,
            "prob_b": None,
            "rho": None,
            "support_vectors": None,
            "vectors_per_class": None,
        },
    ),
)

# ---- trees ---------------------------------------------------------------------------------------


def _tree_regressor(n: Numbers, x: Array, **attrs: Any) -> Array:
    return _tree_scores(
        n, x, listed(Given(attrs), "target"), attrs, attrs["aggregate_function"], "post_transform"
    )


def _base(attrs: Any) -> np.ndarray:
    tensor = attrs.get("base_values_as_tensor")
    values = attrs.get("base_values") if tensor is None or not np.size(tensor) else tensor
    return np.asarray(() if values is None else values, np.float64).reshape(-1)


def _tree_scores(
    n: Numbers, x: Array, forest: Forest, attrs: Any, aggregate: str, how: str
) -> Array:
    width = attrs["n_targets"] or 1
    samples = _samples(n, x)
    scores, _ = gathered(n, forest, leaves(n, forest, samples), width, aggregate)
    base = _base(attrs)
    if len(base) == width or (width == 1 and len(base)):
        scores = scores + n.lift(base[:width])
    return _transformed(n, scores, width, attrs[how])


_TRANSFORM_NAMES = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")


def _tree_ensemble(n: Numbers, x: Array, **attrs: Any) -> Array:
    how = {"n_targets": attrs["n_targets"], "how": _TRANSFORM_NAMES[attrs["post_transform"]]}
    aggregate = _AGGREGATES[attrs["aggregate_function"]]
    return _tree_scores(n, x, packed(Given(attrs)), how, aggregate, "how")


def _tree_classifier(n: Numbers, x: Array, **attrs: Any) -> tuple[Any, Array]:
    forest = listed(Given(attrs), "class")
    labels, how = _labels(attrs, "classlabels_int64s"), attrs["post_transform"]
    classes, base = len(labels), _base(attrs)
    at = leaves(n, forest, _samples(n, x))
    scores, touched = gathered(n, forest, at, classes, "SUM")
    if classes != 2:
        if len(base) == classes:
            scores, touched = scores + n.lift(base), np.ones_like(touched)
        blind = n.where(touched, scores, n.full((), -np.inf)) if not touched.all() else scores
        z = _transformed(n, scores, classes, how)
        return lambda: n.take(labels, n.argmax(blind, 1), 0), z
    if len(base) == 2:
        raise UnsupportedError(
            "two base values for two classes, which onnxruntime does not add as the standard says"
        )
    given = set(np.unique(forest.target).tolist())
    bar = 0.5 if np.all(forest.weight >= 0) else 0.0
    if len(base) and 0 in given:
        scores = scores + n.lift(np.array([base[0], 0.0]))
    score = n.take(scores, np.array([0 if given == {0} else 1]), 1)
    signed = bar == 0.0
    z = _two(n, score, how, signed) if given == {0} else _transformed(n, scores, 2, how)
    if given == {0, 1}:
        # Then onnxruntime asks for the second's sign alone, and knows no labels but 0 and 1.
        bar, labels = 0.0, labels if labels.dtype == object else np.arange(2)

    def label() -> Any:
        above = n.where(n.less(n.full((), bar), score), np.array(1), np.array(0))
        return n.take(labels, n.reshape(above, (-1,)), 0)

    return label, z


def _tree_kinks(
    forest: Callable[[Given], Forest], result: Callable[[np.ndarray], np.ndarray]
) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Thresholds as kinks, for each sample in the shape of the first result's rows."""

    def kinks(n: Numbers, x: Array, **attrs: Any) -> tuple[np.ndarray, np.ndarray]:
        margin, branch = jumps(forest(Given(attrs)), _samples(real, x))
        return result(margin), result(branch)

    return kinks


def _column(x: np.ndarray) -> np.ndarray:
    return x[:, None]


_NODES = dict.fromkeys(
    (
        "nodes_falsenodeids",
        "nodes_featureids",
        "nodes_hitrates",
        "nodes_hitrates_as_tensor",
        "nodes_missing_value_tracks_true",
        "nodes_modes",
        "nodes_nodeids",
        "nodes_treeids",
        "nodes_truenodeids",
        "nodes_values",
        "nodes_values_as_tensor",
        "base_values",
        "base_values_as_tensor",
    )
)


def _weights(owner: str, ids: str) -> dict[str, Any]:
    names = ("nodeids", "treeids", "weights", "weights_as_tensor")
    return {ids: None} | {f"{owner}_{name}": None for name in names}


def _tree_labels(s: Site) -> Sequence[Type]:
    strings = s["classlabels_strings"]
    rows = _rows(s)
    kind = DType.STRING if strings else DType.INT64
    width = len(strings or s["classlabels_int64s"] or ())
    return [(kind, None if rows is None else (rows,)), _scores(s, width)]


FORESTS = (
    flat(
        DOMAIN + "TreeEnsembleRegressor",
        _tree_regressor,
        TREES,
        inputs=X,
        infer=lambda s: [_scores(s, s["n_targets"] or 1)],
        kinks=_tree_kinks(lambda given: listed(given, "target"), _column),
        attrs={
            **_NODES,
            **_weights("target", "target_ids"),
            "aggregate_function": "SUM",
            "n_targets": None,
            "post_transform": "NONE",
        },
    ),
    flat(
        DOMAIN + "TreeEnsembleClassifier",
        _tree_classifier,
        TREES,
        inputs=X,
        outputs=("Y", "Z"),
        infer=_tree_labels,
        kinks=_tree_kinks(lambda given: listed(given, "class"), np.asarray),
        attrs={
            **_NODES,
            **_weights("class", "class_ids"),
            "classlabels_int64s": None,
            "classlabels_strings": None,
            "post_transform": "NONE",
        },
    ),
    flat(
        DOMAIN + "TreeEnsemble",
        _tree_ensemble,
        TREES,
        inputs=X,
        infer=lambda s: [_scores(s, s["n_targets"] or 1)],
        kinks=_tree_kinks(packed, _column),
        attrs={
            "aggregate_function": 1,
            "leaf_targetids": REQUIRED,
            "leaf_weights": REQUIRED,
            "membership_values": None,
            "n_targets": None,
            "nodes_falseleafs": REQUIRED,
            "nodes_falsenodeids": REQUIRED,
            "nodes_featureids": REQUIRED,
            "nodes_hitrates": None,
            "nodes_missing_value_tracks_true": None,
            "nodes_modes": REQUIRED,
            "nodes_splits": REQUIRED,
            "nodes_trueleafs": REQUIRED,
            "nodes_truenodeids": REQUIRED,
            "post_transform": 0,
            "tree_roots": REQUIRED,
        },
    ),
)

# ---- categories ----------------------------------------------------------------------------------


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


CATEGORIES: tuple[Card, ...] = (
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

CARDS = (*FEATURES, *MACHINES, *FORESTS, *CATEGORIES)
