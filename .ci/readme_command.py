"""Print the N-th code block of README.md, which is one command: what CI runs is what README says.

Usage: python .ci/readme_command.py N
"""

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


def command(number: int, text: str) -> str:
    """Return the one command of the `number`-th code block (from 1) of `text`.

    Raises:
        SystemExit: There is no such block, or it is not one line of shell.
    """
    blocks = list(BLOCK.finditer(text))
    if not 1 <= number <= len(blocks):
        sys.exit(f"README.md has {len(blocks)} code blocks; there is no number {number}")
    block = blocks[number - 1]
    lines = block["body"].splitlines()
    if block["language"] != "sh" or len(lines) != 1 or not lines[0].strip():
        sys.exit(f"code block {number} of README.md is not one line of sh")
    return lines[0]


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].isdecimal():
        sys.exit(__doc__)
    print(command(int(sys.argv[1]), README.read_text(encoding="utf-8")))
