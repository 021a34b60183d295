"""How the operators of gradcli/ops/signal.py are tested."""

from __future__ import annotations

from tests.ops.table import Row

ROWS: tuple[Row, ...] = ()
