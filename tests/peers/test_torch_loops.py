"""Loops, lists and splits as torch's exporters write them: gradcli agrees with its autograd."""

# A script takes no Any for the type of a tensor.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any

import pytest

from gradcli import api
from gradcli.inspection import inspect

WHY = "needs the extra `peers`: pip install gradcli[peers]"
torch = pytest.importorskip("torch", reason=WHY)
nn: Any = torch.nn
exports = pytest.importorskip("tests.peers.test_torch_exports", reason=WHY)

# The exporters warn of themselves, and torch of its scripts.
pytestmark = pytest.mark.filterwarnings("ignore")


class Counted(nn.Module):  # type: ignore[misc] # torch has no types here
    """A recurrence over time, its outputs collected in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(7, 4)

    def forward(self, x):
        state = torch.zeros(x.size(0), 4, dtype=x.dtype)
        states = []
        for t in range(x.size(1)):
            state = torch.tanh(self.cell(torch.cat([x[:, t], state], dim=1)))
            states.append(state)
        return torch.stack(states, dim=1)


class Until(nn.Module):  # type: ignore[misc] # likewise
    """As often as the data ask for, with a branch within."""

    def forward(self, x):
        y = x
        while y.abs().sum() > 1.0:
            y = 0.5 * torch.sin(y) if y.sum() > 0 else 0.75 * y * torch.cos(y)
        return y


class Unbound(nn.Module):  # type: ignore[misc] # likewise
    """Over the rows of a split."""

    def forward(self, x):
        y = torch.zeros(x.size(1), dtype=x.dtype)
        for row in x.unbind(0):
            y = torch.tanh(y + row * row)
        return y


class Split(nn.Module):  # type: ignore[misc] # likewise
    """Parts of a size, of which the last is smaller."""

    def forward(self, x: Any) -> Any:
        parts = torch.split(x, 2, dim=0)
        return torch.exp(parts[0]) * parts[1] + torch.sin(parts[1])


class Scanned(nn.Module):  # type: ignore[misc] # likewise
    """A recurrence as an operator."""

    def forward(self, x: Any) -> Any:
        from torch._higher_order_ops.scan import scan

        def step(s: Any, row: Any) -> Any:
            now = torch.tanh(s + row * row)
            return now, now * row

        last, rows = scan(step, torch.zeros_like(x[0]), x, dim=0)
        return last + rows.sum(0)


SCRIPTS = {
    "a list in a loop": (Counted, (2, 5, 3), "Loop"),
    "a condition on data": (Until, (3, 2), "Loop"),
    "rows of a split": (Unbound, (4, 3), "SplitToSequence"),
}
PROGRAMS = {
    "a split": (Split, (4, 3), ""),
    "a scan": (Scanned, (4, 3), "Scan"),
}


def has(data: bytes, op: str) -> bool:
    return not op or any(used.op == op for used in inspect(api.load(data)).operators)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_agree_with_autograd(name: str) -> None:
    make, shape, op = SCRIPTS[name]
    module, inputs = exports.prepared(make(), (shape,))
    script = torch.jit.script(module)
    data = exports.exported(script, inputs, dynamo=False, opset=17)
    assert has(data, op)
    exports.check(data, module, inputs, lambda _: True)


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_agree_with_autograd(name: str) -> None:
    pytest.importorskip("onnxscript", reason=exports.NEWER)
    make, shape, op = PROGRAMS[name]
    module, inputs = exports.prepared(make(), (shape,))
    data = exports.exported(module, inputs, dynamo=True, opset=18, dynamic=False)
    assert has(data, op)
    exports.check(data, module, inputs, lambda _: True)
