"""What this process computes with, and on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from functools import cache
from pathlib import Path

from gradcli.engines.base import Environment

CPUINFO = Path("/proc/cpuinfo")
LONGEST = 100
"""Characters of a processor's name: what a machine says of itself is shown in reports."""


@cache
def environment() -> Environment:
    """The versions in use and the machine, from what Python knows of them."""
    return Environment(
        version("gradcli") or "",
        f"{platform.python_implementation()} {platform.python_version()}",
        version("onnxruntime") or "",
        version("numpy") or "",
        version("onnx") or "",
        version("flint", "python-flint"),
        platform.platform(),
        platform.machine(),
        cpu(),
        cores(),
    )


def version(module: str, distribution: str = "") -> str | None:
    """The version of a library: what the loaded one says, or the installed one.

    onnxruntime comes under several distributions' names; loaded, it tells its version itself.

    Args:
        module: What it is imported as.
        distribution: What it is installed as, where that is another name.

    Returns:
        None where it is not there.
    """
    loaded = getattr(sys.modules.get(module), "__version__", None)
    if loaded is not None:
        return str(loaded)
    try:
        return importlib.metadata.version(distribution or module)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu() -> str:
    """The processor's name in printable characters; where the system has none, the architecture."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2] for line in lines if line.startswith("model name"))
    name = next(named, "") or platform.processor() or platform.machine()
    printable = "".join(c if c.isprintable() else " " for c in name)
    return " ".join(printable.split())[:LONGEST]


def cores() -> int:
    """Logical cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 0
