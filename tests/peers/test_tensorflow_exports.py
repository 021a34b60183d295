"""What tf2onnx makes of Keras networks: TensorFlow and the complex step agree with gradcli."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradcli import api

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
WHY = "needs tensorflow and tf2onnx, which are no part of the extra `peers`"
tf: Any = pytest.importorskip("tensorflow", reason=WHY)
tf2onnx: Any = pytest.importorskip("tf2onnx", reason=WHY)
keras: Any = tf.keras
layers: Any = keras.layers

pytestmark = pytest.mark.filterwarnings("ignore")


def chain(shape: tuple[int, ...], *parts: Any) -> Any:
    return keras.Sequential([keras.Input(shape), *parts])


def fn(shape: tuple[int, ...], f: Callable[[Any], Any]) -> Any:
    return chain(shape, layers.Lambda(f))


def attention() -> Any:
    x = keras.Input((5, 8))
    y = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4)(x, x))
    return keras.Model(x, layers.Dense(3)(y))


NETS: dict[str, Callable[[], Any]] = {
    "dense": lambda: chain(
        (5,),
        *(layers.Dense(6, activation=a) for a in ("tanh", "elu", "selu", "swish", "softplus")),
        layers.PReLU(),
        layers.Dense(3, activation="softmax"),
    ),
    "convolution": lambda: chain(
        (8, 9, 3),
        layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
        layers.BatchNormalization(),
        layers.MaxPooling2D(2, padding="same"),
        layers.AveragePooling2D((1, 2), strides=1, padding="same"),
        layers.Flatten(),
        layers.Dense(3),
    ),
    "depthwise": lambda: chain(
        (8, 8, 4), layers.DepthwiseConv2D(3, depth_multiplier=2), layers.SeparableConv2D(5, 3)
    ),
    "transposed": lambda: chain(
        (4, 4, 3),
        layers.Conv2DTranspose(4, 3, strides=2, padding="same"),
        layers.UpSampling2D(2, interpolation="bilinear"),
    ),
    "nearest": lambda: chain((5, 6, 2), layers.Resizing(8, 9, interpolation="nearest")),
    "LSTM": lambda: chain((6, 3), layers.Bidirectional(layers.LSTM(4))),
    "GRU": lambda: chain((6, 3), layers.GRU(4, return_sequences=True), layers.GRU(3)),
    "attention": attention,
    "group norm": lambda: chain((4, 4, 6), layers.GroupNormalization(2)),
    "cut and sorted": lambda: fn(
        (4, 6),
        lambda x: tf.concat(
            [tf.math.top_k(x, 2).values, tf.cumsum(x, axis=2)[:, :, ::2], x[..., 1:3] ** 2], 2
        ),
    ),
    "blocks": lambda: fn((4, 4, 8), lambda x: tf.nn.depth_to_space(x, 2) ** 2),
}


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("name", NETS)
def test_tensorflow_agrees(name: str, opset: int) -> None:
    keras.utils.set_random_seed(0)
    net = NETS[name]()
    shape = (2, *net.inputs[0].shape[1:])
    x = tf.constant(np.random.default_rng(0).standard_normal(shape), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = net(x, training=False)
    y_bar = np.cos(np.arange(np.size(y))).reshape(y.shape)
    x_bar = tape.gradient(y, x, tf.constant(y_bar, tf.float32)).numpy()

    spec = (tf.TensorSpec([None, *shape[1:]], tf.float32, name="x"),)
    called = tf.function(lambda x: net(x, training=False), input_signature=spec)
    proto, _ = tf2onnx.convert.from_function(called, input_signature=spec, opset=opset)
    model = api.load(proto.SerializeToString())
    (of,) = (v.name for v in model.graph.outputs)

    def derived(method: str, dtype: str) -> np.ndarray:
        asked = api.ask(model, {"x": x.numpy()}, operator="vjp", cotangent={of: y_bar}, dtype=dtype)
        return api.derive(asked, method).blocks["", "x"]

    scale = float(np.abs(x_bar).max())
    exact = derived("complex-step", "float64")
    np.testing.assert_allclose(exact, x_bar, rtol=0, atol=1e-4 * scale)
    for method in ("reverse", "forward"):
        np.testing.assert_allclose(derived(method, "float64"), exact, rtol=0, atol=1e-10 * scale)
        np.testing.assert_allclose(derived(method, "float32"), exact, rtol=0, atol=1e-4 * scale)
