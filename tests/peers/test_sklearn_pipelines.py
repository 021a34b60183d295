"""Pipelines that skl2onnx converts: gradcli agrees with scikit-learn's own float64 predictions.

Their derivative is taken by differences, extrapolated to order 4, at points off kinks.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from gradcli import api

WHY = "needs the extra `peers`: pip install gradcli[peers]"
pytest.importorskip("sklearn", reason=WHY)
skl2onnx: Any = pytest.importorskip("skl2onnx", reason=WHY)

# The converter warns of its own use of NumPy and onnx.
pytestmark = pytest.mark.filterwarnings("ignore")

RNG = np.random.default_rng(5)
X = RNG.standard_normal((60, 4)).astype(np.float32)
TARGET = np.sin(X[:, 0]) + X[:, 1] * X[:, 2]
CLASSES = (X[:, 0] + X[:, 1] > 0).astype(np.int64) + (X[:, 2] > 0.7)
POINT = (X[:3] + 0.013).astype(np.float32)


class Pipeline(NamedTuple):
    """A model that is not trained yet, what it learns, and whether its derivative is 0."""

    made: Callable[[], Any]
    learns: np.ndarray
    flat: bool = False
    rtol: float = 1e-5


def pipelines() -> dict[str, Pipeline]:
    from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler
    from sklearn.svm import SVC, SVR

    scale = StandardScaler
    two = np.minimum(CLASSES, 1)
    small: dict[str, Any] = {"hidden_layer_sizes": (6,), "activation": "tanh", "max_iter": 50}
    small["random_state"] = 0
    return {
        "scaler, linear": Pipeline(lambda: make_pipeline(scale(), LinearRegression()), TARGET),
        "range, linear": Pipeline(
            lambda: make_pipeline(MinMaxScaler(), LinearRegression()), TARGET
        ),
        "normaliser": Pipeline(lambda: make_pipeline(Normalizer("l2"), LinearRegression()), TARGET),
        "normaliser l1": Pipeline(
            lambda: make_pipeline(Normalizer("l1"), LinearRegression()), TARGET
        ),
        "imputer": Pipeline(lambda: make_pipeline(SimpleImputer(), LinearRegression()), TARGET),
        "logistic, two": Pipeline(lambda: make_pipeline(scale(), LogisticRegression()), two),
        "logistic, three": Pipeline(LogisticRegression, CLASSES),
        "SVR rbf": Pipeline(lambda: make_pipeline(scale(), SVR(kernel="rbf")), TARGET),
        "SVR poly": Pipeline(lambda: SVR(kernel="poly", degree=3, coef0=1.0), TARGET),
        "SVR sigmoid": Pipeline(lambda: SVR(kernel="sigmoid", gamma=0.1), TARGET, rtol=1e-4),
        "SVC poly, three": Pipeline(
            lambda: SVC(kernel="poly", probability=True, random_state=0), CLASSES, rtol=1e-4
        ),
        "SVC rbf, two": Pipeline(lambda: SVC(probability=True, random_state=0), two, rtol=1e-4),
        # Its distances are a Scan.
        "Gaussian process": Pipeline(
            lambda: GaussianProcessRegressor(RBF(1.5), alpha=0.1), TARGET, rtol=1e-4
        ),
        "MLP": Pipeline(lambda: MLPRegressor(**small), TARGET),
        "MLP, classes": Pipeline(lambda: MLPClassifier(**small), CLASSES),
        "forest": Pipeline(lambda: RandomForestClassifier(5, random_state=0), CLASSES, flat=True),
        "boosting": Pipeline(
            lambda: GradientBoostingRegressor(n_estimators=5, random_state=0), TARGET, flat=True
        ),
    }


def converted(pipeline: Pipeline) -> tuple[Any, bytes]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = pipeline.made().fit(X, pipeline.learns)
        kind = skl2onnx.common.data_types.FloatTensorType([None, 4])
        proto = skl2onnx.convert_sklearn(fitted, initial_types=[("x", kind)], target_opset=17)
    return fitted, bytes(proto.SerializeToString())


NAMES = sorted(pipelines())


@pytest.mark.parametrize("name", NAMES)
def test_scikit_learn_agrees(name: str) -> None:
    pipeline = pipelines()[name]
    fitted, data = converted(pipeline)
    model = api.load(data)
    of = next(v.name for v in model.graph.outputs if v.dtype.is_float)
    predict = fitted.predict_proba if hasattr(fitted, "predict_proba") else fitted.predict
    point = POINT.astype(np.float64)
    y = np.asarray(predict(point))
    v = np.random.default_rng(1).standard_normal(point.shape)
    w = np.random.default_rng(2).standard_normal(y.shape)

    def along(step: float) -> float:
        ahead, back = predict(point + step * v), predict(point - step * v)
        return float(np.sum(w * (ahead - back)) / (2 * step))

    wanted = (4 * along(5e-5) - along(1e-4)) / 3
    shape = (len(point), -1)
    for method, operator, given in (
        ("reverse", "vjp", {"cotangent": {of: w.reshape(shape)}}),
        ("forward", "jvp", {"tangent": {"x": v}}),
    ):
        asked = api.ask(model, {"x": POINT}, of=of, operator=operator, dtype="float64", **given)
        blocks = api.derive(asked, method).blocks
        got = (
            np.sum(blocks["", "x"] * v)
            if method == "reverse"
            else np.sum(blocks[of, ""] * w.reshape(shape))
        )
        if pipeline.flat:
            assert got == 0.0
            assert any("is 0" in note for note in asked.notes)
        else:
            assert abs(wanted) > 1e-3
            np.testing.assert_allclose(got, wanted, rtol=pipeline.rtol)
