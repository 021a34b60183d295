"""Text for streams that cannot show all of it, and for files that somebody else reads."""

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


def visible(text: str) -> str:
    """The text in one line of printable characters: line ends are spaces, others become escapes.

    Names of models are so already; what an error of a library says need not be.
    """
    line = " ".join(text.split("\n")) if "\n" in text else text
    if line.isprintable():
        return line
    return "".join(
        c
        if c.isprintable()
        else c.encode("ascii", "backslashreplace").decode()
        if ord(c) > 127
        else f"\\x{ord(c):02x}"
        for c in line
    )
