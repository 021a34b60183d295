"""Text for streams that cannot show all of it."""

from __future__ import annotations

PLAIN = {
    "×": "x",
    "µ": "u",
    "–": "-",
    "—": "-",
    "−": "-",
    "…": "...",
    "±": "+-",
    "≤": "<=",
    "≥": ">=",
    "≈": "~",
    "‖": "|",
    "∞": "inf",
    "·": "*",
    "’": "'",
    **dict.fromkeys("█▉▊▋▌", "#"),
    **dict.fromkeys("▍▎▏", "."),
}
"""What gradcli's own sentences use beyond ASCII, in ASCII."""


def encodable(text: str, encoding: str | None) -> str:
    """The text with every character that this encoding lacks replaced by its likeness, or escaped.

    Args:
        text: Any text without lone surrogates' guarantee: those are escaped too.
        encoding: The stream's; None is taken as ASCII.
    """
    encoding = encoding or "ascii"
    try:
        text.encode(encoding)
    except LookupError:
        return encodable(text, "ascii")
    except UnicodeEncodeError:
        return "".join(_one(c, encoding) for c in text)
    return text


def _one(c: str, encoding: str) -> str:
    try:
        c.encode(encoding)
    except UnicodeEncodeError:
        return PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode("ascii")
    return c
