"""Making many objects that stay: without the garbage collector looking at all of them again."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def burst() -> Iterator[None]:
    """Within it, or within a function that it decorates, nothing is collected.

    A pass over a graph makes hundreds of thousands of small objects and drops almost none of them:
    on 20 000 nodes, looking for cycles among them took a third of the time.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
