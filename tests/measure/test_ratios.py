"""What a derivative costs beside a forward pass: the same while a machine does other things."""

import importlib
import threading
import time
from functools import partial

import numpy as np
import pytest

from tests.measure.made import problem

ratios = importlib.import_module("gradcli.measure.ratios")  # the package has a function so called


class Machine:
    """A clock that calls move on; whoever comes after another finds the caches cold."""

    def __init__(self, monkeypatch, cold):
        self.now = 0.0
        self.cold = cold
        self.last = ""
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
    turns = ratios.by_turns(forward, method, 10.0, lambda: machine.now)
    assert len(turns) == ratios.TURNS
    assert turns == pytest.approx([one / 1e-5] * len(turns), rel=0.01)


def test_a_turn_is_long_enough_for_a_coarse_clock(monkeypatch):
    machine = Machine(monkeypatch, 0.0)
    called = machine.call("method", 1e-6)
    repeats = ratios._repeats(called, lambda: round(machine.now, 3))
    assert repeats * 1e-6 >= ratios.BLOCK / 2


@pytest.mark.parametrize(("threads", "clock"), [(1, "thread_time"), (2, "process_time")])
def test_other_threads_of_the_process_count_where_onnxruntime_has_some(threads, clock):
    at = problem(threads=threads)
    assert ratios._clock(at) is getattr(time, clock)


def test_a_thread_that_spins_beside_it_changes_nothing():
    """As those of NumPy do behind a product of matrices."""
    stop = threading.Event()

    def work_on():
        while not stop.is_set():
            np.tanh(np.ones(1_000_000))

    spin = threading.Thread(target=work_on)
    spin.start()
    try:
        work = np.ones((200, 200))
        one, ten = (partial(_often, work, n) for n in (10, 100))
        turns = ratios.by_turns(one, ten, 1.0, time.thread_time)
    finally:
        stop.set()
        spin.join()
    assert ratios.percentile(turns, 0.5) == pytest.approx(10, rel=0.3)


def _often(work, times):
    for _ in range(times):
        np.tanh(work)
