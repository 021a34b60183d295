"""A project whose configuration names two models, for the tests of `gradcli check`."""

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from tests.cli.support import SAMPLES

CONFIG = """
runs = 1
warmup = 0
methods = ["reverse", "finite", "complex-step"]

[[model]]
path = "physics.onnx"
inputs = "physics.npz"

[[model]]
path = "kinked.onnx"
inputs = "kinked.npz"
"""


def made(folder):
    for name in ("physics", "kinked"):
        for suffix in (".onnx", ".npz"):
            shutil.copy(SAMPLES / f"{name}{suffix}", folder)
    (folder / "gradcli.toml").write_text(CONFIG, encoding="utf-8")
    return folder


def rewritten(name, text):
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return str(path)


def perturbed(path, tensor, index=0, by=1e-3):
    """Change one weight of a file by so much of it."""
    model = onnx.load(path)
    (weight,) = [t for t in model.graph.initializer if t.name == tensor]
    array = numpy_helper.to_array(weight).copy()
    array.flat[index] *= 1 + by
    weight.CopyFrom(numpy_helper.from_array(array, tensor))
    onnx.save(model, path)


def first_weight(path):
    return next(t.name for t in onnx.load(path).graph.initializer if np.prod(t.dims) > 1)
