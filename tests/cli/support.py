"""What tests of the command line share: models, ways to run it, what an error looks like."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx
from click.testing import CliRunner, Result
from onnx import TensorProto, helper

from gradcli.cli import main

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "sample_models"
PHYSICS = str(SAMPLES / "physics.onnx")
POINT = str(SAMPLES / "physics.npz")
DIABETES = str(SAMPLES / "diabetes.onnx")

QUICK = ("--method", "reverse", "--runs", "1", "--warmup", "0")


def cli(*args: str, stdin: bytes | None = None, **env: str) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(main, list(args), input=stdin, env=env)


def process(
    *args: str, stdin: bytes = b"", cwd: Path = ROOT, **env: str
) -> subprocess.CompletedProcess[bytes]:
    """Run the command line as a user does."""
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH", "")) if p)
    return subprocess.run(
        [sys.executable, "-m", "gradcli", *args],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": path, **env},
    )


def refused(result: Result, *words: str, code: int = 2) -> str:
    """One screen on stderr that names all of these, nothing on stdout, no traceback."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) <= 24
    assert [word for word in words if word not in result.stderr] == [], result.stderr
    return result.stderr


def save_model(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, list[int | str]]],
    outputs: dict[str, tuple[int, list[int | str]]],
) -> str:
    """Write a model by hand; types are of TensorProto."""
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info(n, t, s) for n, (t, s) in inputs.items()],
        [helper.make_tensor_value_info(n, t, s) for n, (t, s) in outputs.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return str(path)


def two_inputs(path: Path) -> str:
    """y = a * b=c, where an input's name has '=' in it."""
    shape: list[int | str] = [2]
    float32 = int(TensorProto.FLOAT)
    return save_model(
        path,
        [helper.make_node("Mul", ["a", "a=b"], ["y"], name="product")],
        {"a": (float32, shape), "a=b": (float32, shape)},
        {"y": (float32, shape)},
    )
