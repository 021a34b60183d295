"""Draws docs/report.svg: what `gradcli compare` prints in a terminal, from a real run.

python docs/picture.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
COMMAND = ("compare", "sample_models/digits.onnx", "--input", "sample_models/digits.npz")
WIDTH = 80


def report(**environment: str) -> str:
    """What the command prints, `WIDTH` columns wide."""
    return subprocess.run(
        [sys.executable, "-m", "gradcli", *COMMAND],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": str(WIDTH), "PYTHONIOENCODING": "utf-8", **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    ).stdout


def picture(screen: str) -> str:
    """A terminal that shows it, as SVG that loads nothing: whatever font is there will do."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi(screen))
        svg = console.export_svg(
            title=f"gradcli {' '.join(COMMAND)}", theme=DIMMED_MONOKAI, unique_id="report"
        )
    start, end = svg.index("@font-face"), svg.index(".report-matrix")
    return svg[:start] + svg[end:]


if __name__ == "__main__":
    (ROOT / "docs" / "report.svg").write_text(
        picture(report(FORCE_COLOR="1")), encoding="utf-8", newline="\n"
    )
