"""Names from a file that a stranger made, turned into text that is safe to print.

A name may hold terminal escapes, bidirectional overrides, NUL or bytes that are no UTF-8 (protobuf
hands those over as `bytes`). Ordinary names, in any script, pass through unchanged.
"""

from __future__ import annotations

MAX_NAME = 512
"""Longer names are cut: no exporter writes them, and a megabyte of name drowns a report."""


def printable(name: str | bytes) -> str:
    """The name with everything that a terminal would act on, or not show, as a visible escape."""
    if isinstance(name, bytes):
        name = name.decode("utf-8", "backslashreplace")
    if not name.isprintable():
        name = "".join(c if c.isprintable() else _escape(c) for c in name)
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"


def _escape(c: str) -> str:
    # The code point rather than repr(): lone surrogates could not be printed.
    code = ord(c)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def text(value: str | bytes) -> str:
    """A string's content, not for display: valid UTF-8 as it is, other bytes as escapes."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
