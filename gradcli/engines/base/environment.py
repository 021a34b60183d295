"""What a measurement was made with: programs, libraries and the machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Environment:
    """Versions, and the machine that times are of; empty where that is not known.

    Attributes:
        gradcli: Its version.
        python: Likewise, with the implementation: `CPython 3.13.1`.
        onnxruntime: The version of what runs models.
        numpy: Of what the interpreter computes with.
        onnx: Of what reads models.
        flint: Of python-flint; None where that is not installed.
        system: The operating system and its version.
        machine: The architecture: `x86_64`.
        cpu: The processor's name, as its maker calls it.
        cores: Logical cores that this process may use; 0 where not known.
    """

    gradcli: str = ""
    python: str = ""
    onnxruntime: str = ""
    numpy: str = ""
    onnx: str = ""
    flint: str | None = None
    system: str = ""
    machine: str = ""
    cpu: str = ""
    cores: int = 0


UNKNOWN = Environment()
"""Of what nobody measured."""
