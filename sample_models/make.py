"""Train the sample models and write them as small, readable ONNX files.

Every model is trained on data that ships inside scikit-learn, or on a physical law, so nothing is
downloaded. The graphs are written node by node from the trained weights, which keeps value names
meaningful, and each written file is checked against the network it came from.

Usage:
    python sample_models/make.py [--out DIR] [--only NAME]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

try:
    import sklearn
    import torch
    from digits import make_attention, make_digits, make_sequence
    from small import make_diabetes, make_kinked, make_physics
    from training import SEED, Sample
except ImportError as error:
    raise SystemExit(
        f"make.py trains the sample models and needs '{error.name}', which gradcli itself does "
        'not use.\nInstall it with:  pip install "gradcli[samples]"'
    ) from error

RECIPES: Mapping[str, Callable[[], Sample]] = {
    "diabetes": make_diabetes,
    "digits": make_digits,
    "attention": make_attention,
    "sequence": make_sequence,
    "physics": make_physics,
    "kinked": make_kinked,
}


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file, then move it into place."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".make-") as folder:
        # numpy appends .npz to names that lack it, so the temporary name keeps the suffix.
        draft = Path(folder) / path.name
        write(draft)
        draft.replace(path)


def save(name: str, sample: Sample, out: Path) -> None:
    """Write the model, with its facts as metadata, and its input."""
    torch_version = torch.__version__.split("+")[0]
    toolchain = f"make.py, torch {torch_version}, scikit-learn {sklearn.__version__}"
    model = onnx.ModelProto()
    model.CopyFrom(sample.model)
    model.doc_string = sample.facts.what
    helper.set_model_props(model, {**vars(sample.facts), "made_by": toolchain})
    content = model.SerializeToString(deterministic=True)
    write_atomically(out / f"{name}.onnx", lambda path: path.write_bytes(content))
    write_atomically(out / f"{name}.npz", lambda path: np.savez(path, **sample.inputs))


PROVENANCE_HEAD = """\
# Where the sample models come from

Written by `make.py` from the metadata inside each file; run it again instead of editing this table.
Every model has its input beside it in `NAME.npz`. The data stay in the packages named here; besides
what training left in the weights, only the one input row is taken from them.

| name | what | data | training | input | opset | bytes | accuracy | made by |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def provenance_row(path: Path) -> str:
    """Return the table row of one model file."""
    model = onnx.load(path)
    facts = {item.key: item.value for item in model.metadata_props}
    cells = (
        path.name,
        *(facts[key] for key in ("what", "data", "training", "sample")),
        str(model.opset_import[0].version),
        str(path.stat().st_size),
        facts["accuracy"],
        facts["made_by"],
    )
    return "| " + " | ".join(cells) + " |\n"


def write_provenance(out: Path) -> None:
    """Write the table of the model files present, in the order of the recipes."""
    paths = [out / f"{name}.onnx" for name in RECIPES]
    text = PROVENANCE_HEAD + "".join(provenance_row(path) for path in paths if path.exists())
    write_atomically(out / "PROVENANCE.md", lambda path: path.write_text(text, encoding="utf-8"))


def make(name: str, out: Path) -> None:
    """Train one model from its own seed and write it."""
    torch.manual_seed(SEED)
    sample = RECIPES[name]()
    save(name, sample, out)
    size = (out / f"{name}.onnx").stat().st_size
    print(f"{name}: {sample.facts.accuracy} ({size} bytes)", flush=True)


def main() -> None:
    """Read the command line and make the models it asks for."""
    parser = argparse.ArgumentParser(description="Train and write the sample models.")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="folder for the files"
    )
    parser.add_argument("--only", choices=sorted(RECIPES), help="make this model alone")
    options = parser.parse_args()
    # More threads could change the order of sums, and with it the bytes.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in [options.only] if options.only else RECIPES:
        make(name, options.out)
    write_provenance(options.out)


if __name__ == "__main__":
    main()
