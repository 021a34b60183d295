"""What is being done, in words, and how much of it is done."""

from __future__ import annotations


class Part(str):
    """A few words that also say how far along something is.

    Attributes:
        what: What is being done.
        done: How many parts of it are done, or in hand.
        total: How many there are.
    """

    __slots__ = ("done", "total", "what")

    what: str
    done: int
    total: int

    def __new__(cls, what: str, done: int, total: int) -> Part:
        """As text it says all three."""
        made = super().__new__(cls, f"{what}: {done:,} of {total:,}")
        made.what, made.done, made.total = what, done, total
        return made
