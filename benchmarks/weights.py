"""Is a weight that changed by a thousandth found? In every float tensor of the sample models.

    python benchmarks/weights.py [SAMPLE]... [--dtype float32|float64] [--seed N]

Of each tensor the largest weight changes, and one at random. What `gradcli check --baseline` does
not find is held against float64 reverse AD of both files, which shares neither the reference nor
what a baseline keeps: it is excused where that did not move either, as by a last layer's bias, and
else a miss. The exit code is 1 where anything is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from gradcli.checks import Entry, read
from gradcli.cli.checking import check, posed
from gradcli.engines import ENGINES, Program
from gradcli.graph import DType

SAMPLES = Path(__file__).parent.parent / "sample_models"
NAMES = ("attention", "diabetes", "digits", "kinked", "physics", "sequence")
BY = 1e-3

STILL = 1e-14
"""What a derivative that does not move may be off by, relative to its largest element: rounding."""


def perturbed(source: Path, target: Path, tensor: str, index: int) -> bool:
    """Write the file with one weight changed; whether that is another file."""
    model = onnx.load(source)
    (weight,) = [t for t in model.graph.initializer if t.name == tensor]
    array = numpy_helper.to_array(weight).copy()
    before = array.flat[index]
    array.flat[index] *= 1 + BY
    weight.CopyFrom(numpy_helper.from_array(array, tensor))
    onnx.save(model, target)
    return bool(array.flat[index] != before)


def tensors(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    for tensor in onnx.load(path).graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype.kind == "f" and array.size:
            yield tensor.name, array


def derivative(entry: Entry) -> dict[str, np.ndarray]:
    """By float64 reverse AD."""
    problem = replace(posed(entry), dtype=DType.FLOAT64)
    return Program(ENGINES["reverse"], problem).run().blocks


def moved(a: dict, b: dict) -> float:
    """How far the derivative moved, relative to its largest element."""
    size = max(float(np.abs(a[k]).max()) for k in a)
    return max(float(np.abs(b[k] - a[k]).max()) for k in a) / size


def swept(
    sample: str, dtype: str, rng: np.random.Generator, folder: Path
) -> Iterator[tuple[str, str, int, str, float]]:
    """By weight: what came of it, and by how much, in units of what is uncertain or of the size."""
    target = folder / "model.onnx"
    (folder / "gradcli.toml").write_text(
        f'methods = ["reverse"]\nruns = 1\nwarmup = 0\ndtype = "{dtype}"\n'
        f"[[model]]\npath = 'model.onnx'\ninputs = '{SAMPLES / f'{sample}.npz'}'\n",
        encoding="utf-8",
    )
    (entry,) = read(folder / "gradcli.toml").models
    target.write_bytes((SAMPLES / f"{sample}.onnx").read_bytes())
    _, before = check(entry, keeping=True)
    assert before is not None
    then = derivative(entry)
    for name, array in tensors(SAMPLES / f"{sample}.onnx"):
        places = {"largest": int(np.argmax(np.abs(array))), "random": int(rng.integers(array.size))}
        for how, index in places.items():
            if not perturbed(SAMPLES / f"{sample}.onnx", target, name, index):
                yield name, how, index, "weight is 0", 0.0
                continue
            found, _ = check(entry, before, same_machine=False)
            moves = [c.by / c.uncertainty for c in found.changes if c.what == "derivative"]
            if moves:
                yield name, how, index, "found", max(moves)
                continue
            by = moved(then, derivative(entry))
            yield name, how, index, "still" if by <= STILL else "MISSED", by


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("samples", nargs="*", default=NAMES)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    counts: Counter[str] = Counter()
    for sample in given.samples:
        with tempfile.TemporaryDirectory() as folder:
            for name, how, index, what, by in swept(sample, given.dtype, rng, Path(folder)):
                print(f"{sample:10} {name:24} {how} {index:5} {what:12} {by:.1e}", flush=True)
                counts[what] += 1
    print(", ".join(f"{n} {what}" for what, n in counts.items()))
    return int(counts["MISSED"] > 0)


if __name__ == "__main__":
    sys.exit(main())
