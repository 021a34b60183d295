"""A transformer as onnxruntime's own optimiser, quantisers and converter write it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from gradcli import api

WHY = "needs the extra `peers`: pip install gradcli[peers]"
torch = pytest.importorskip("torch", reason=WHY)
optimizer: Any = pytest.importorskip("onnxruntime.transformers.optimizer", exc_type=ImportError)
quantization: Any = pytest.importorskip("onnxruntime.quantization", exc_type=ImportError)
nn: Any = torch.nn

pytestmark = pytest.mark.filterwarnings("ignore")

HEADS, WIDE = 2, 16


class Layer(nn.Module):  # type: ignore[misc] # torch has no types here
    """Attention and what follows it, spelled out as BERT has it."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDE, WIDE) for _ in range(4))
        self.wide, self.back = nn.Linear(WIDE, 2 * WIDE), nn.Linear(2 * WIDE, WIDE)
        self.one, self.two = nn.LayerNorm(WIDE), nn.LayerNorm(WIDE)

    def forward(self, x: Any, mask: Any) -> Any:
        n, t = x.shape[:2]
        q, k, v = (
            f(x).view(n, t, HEADS, WIDE // HEADS).permute(0, 2, 1, 3)
            for f in (self.q, self.k, self.v)
        )
        scores = torch.matmul(q, k.transpose(-1, -2)) / (WIDE // HEADS) ** 0.5 + mask
        y = torch.matmul(scores.softmax(-1), v).permute(0, 2, 1, 3).contiguous().view(n, t, WIDE)
        x = self.one(self.o(y) + x)
        return self.two(self.back(nn.functional.gelu(self.wide(x))) + x)


class Bert(nn.Module):  # type: ignore[misc] # likewise
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, WIDE)
        self.norm, self.last = nn.LayerNorm(WIDE), nn.Linear(WIDE, 3)
        self.layers = nn.ModuleList([Layer(), Layer()])

    def forward(self, x: Any, ids: Any, mask: Any) -> Any:
        x = self.norm(x + self.words(ids))
        hidden = (1.0 - mask[:, None, None, :].to(torch.float32)) * -10000.0
        for layer in self.layers:
            x = layer(x, hidden)
        return self.last(x)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("bert") / "bert.onnx"
    x, ids = torch.randn(2, 4, WIDE), torch.tensor([[1, 5, 3, 7], [2, 2, 9, 0]])
    feeds = {"x": x, "ids": ids, "mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])}
    torch.onnx.export(
        Bert().eval(),
        tuple(feeds.values()),
        path,
        dynamo=False,
        opset_version=17,
        input_names=list(feeds),
        dynamic_axes={name: {0: "N"} for name in feeds},
    )
    return path, {name: value.numpy() for name, value in feeds.items()}


def fused(path: Path, folder: Path) -> Path:
    """As the transformers' optimiser writes it."""
    made = optimizer.optimize_model(
        str(path), "bert", num_heads=HEADS, hidden_size=WIDE, opt_level=0
    )
    made.save_model_to_file(str(folder / "fused.onnx"))
    return folder / "fused.onnx"


def operators(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


def derived(path: Path, feeds: dict[str, np.ndarray], method: str, **how: Any) -> np.ndarray:
    model = api.load(path)
    (of,) = (v.name for v in model.graph.outputs)
    y_bar = {of: np.cos(np.arange(24.0)).reshape(2, 4, 3)}
    asked = api.ask(model, feeds, operator="vjp", wrt="x", cotangent=y_bar, **how)
    return api.derive(asked, method).blocks["", "x"]


def test_fused_attention_has_the_same_derivative(bert: Any, tmp_path: Path) -> None:
    path, feeds = bert
    made = fused(path, tmp_path)
    assert {"Attention", "SkipLayerNormalization", "BiasGelu"} <= operators(made)
    want = derived(path, feeds, "reverse", dtype="float64")
    scale = float(np.abs(want).max())
    for method in ("reverse", "forward", "complex-step"):
        got = derived(made, feeds, method, dtype="float64")
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-6 * scale)
    got = derived(made, feeds, "reverse", dtype="float32")
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * scale)


def quantised(path: Path, made: Path) -> str:
    # It knows no types behind operators that are not the standard's.
    known = {"DefaultTensorType": onnx.TensorProto.FLOAT}
    quantization.quantize_dynamic(fused(path, made.parent), made, extra_options=known)
    return "QAttention"


def packed(path: Path, made: Path) -> str:
    module: Any = pytest.importorskip("onnxruntime.quantization.matmul_nbits_quantizer")
    quantiser = module.MatMulNBitsQuantizer(
        onnx.load(path), bits=4, block_size=16, op_types_to_quantize=("MatMul", "Gather")
    )
    quantiser.process()
    quantiser.model.save_model_to_file(str(made))
    return "GatherBlockQuantized"


def halved(path: Path, made: Path) -> str:
    module: Any = pytest.importorskip("onnxruntime.transformers.float16")
    onnx.save(module.convert_float_to_float16(onnx.load(path), keep_io_types=True), made)
    return "Cast"


@pytest.mark.parametrize("write", [quantised, packed, halved])
def test_a_file_written_again_is_differentiated(write: Any, bert: Any, tmp_path: Path) -> None:
    path, feeds = bert
    made = tmp_path / "made.onnx"
    assert write(path, made) in operators(made)
    want = derived(made, feeds, "reverse", dtype="float64")
    assert np.abs(want).max() > 0.0
    got = derived(made, feeds, "forward", dtype="float64")
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-9 * np.abs(want).max())
