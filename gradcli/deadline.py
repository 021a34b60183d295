"""When to stop: a deadline that surrounds whatever computes, however deep down."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from gradcli.errors import OutOfTimeError

_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


@contextmanager
def until(deadline: float) -> Iterator[None]:
    """Within it, whatever takes long stops once a deadline has passed.

    Evaluations stop between two nodes, and slow number systems between two elements too. Of nested
    deadlines the earliest holds.

    Args:
        deadline: A reading of `time.perf_counter`.

    Raises:
        OutOfTimeError: Out of what is stopped.
    """
    token = _deadline.set(min(deadline, _deadline.get()))
    try:
        yield
    finally:
        _deadline.reset(token)


def check() -> None:
    """Stop here if the deadline has passed.

    Raises:
        OutOfTimeError: When it has.
    """
    if time.perf_counter() > _deadline.get():
        raise OutOfTimeError
