"""What a derivative costs beside a forward pass: the same while a machine does other things."""

import importlib

import pytest

ratios = importlib.import_module("gradcli.measure.ratios")  # the package has a function so called


class Machine:
    """A clock that calls move on; whoever comes after another finds the caches cold."""

    def __init__(self, monkeypatch, cold):
        self.now = 0.0
        self.cold = cold
        self.last = ""
        monkeypatch.setattr(ratios.time, "process_time", lambda: self.now)
        monkeypatch.setattr(ratios.time, "perf_counter", lambda: self.now)

    def call(self, name, seconds):
        def one():
            self.now += seconds + (self.cold if self.last != name else 0.0)
            self.last = name

        return one


@pytest.mark.parametrize("one", [8e-5, 3e-4, 2e-3])
@pytest.mark.parametrize("cold", [0.0, 5e-4, 3e-3])
def test_the_first_call_after_another_s_turn_does_not_count(monkeypatch, one, cold):
    machine = Machine(monkeypatch, cold)
    forward, method = machine.call("forward", 1e-5), machine.call("method", one)
    turns = ratios.by_turns(forward, method, 10.0)
    assert len(turns) == ratios.TURNS
    assert turns == pytest.approx([one / 1e-5] * len(turns), rel=0.01)


def test_a_turn_is_long_enough_for_a_coarse_clock(monkeypatch):
    machine = Machine(monkeypatch, 0.0)
    called = machine.call("method", 1e-6)
    monkeypatch.setattr(ratios.time, "process_time", lambda: round(machine.now, 3))
    repeats = ratios._repeats(called)
    assert repeats * 1e-6 >= ratios.BLOCK / 2
