"""Nobody here waits: the clock is moved by hand."""

from __future__ import annotations

import time

import pytest

from tests.measure.made import Clock


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "perf_counter", made)
    return made
