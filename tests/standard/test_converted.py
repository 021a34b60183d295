"""The same network in another opset is the same function: the reader's table of old forms.

The standard's converter writes each case in every opset that it can. Where what it writes means
something else (it is known to be wrong on a few operators), onnxruntime says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import version_converter

from gradcli import onnxfile, runtime
from gradcli.errors import GradcliError
from gradcli.graph import DType
from gradcli.interpret import interpret
from gradcli.onnxfile import Model
from gradcli.ops import OPS
from gradcli.transform import cast
from tests.standard.cases import (
    ATOL,
    REFUSED,
    RTOL,
    WRONG,
    Arrays,
    Fault,
    close,
    data,
    load,
    reason,
    without_card,
)

OPSETS = range(7, 22)


def converted(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto | None:
    try:
        return version_converter.convert_version(proto, opset)
    except (RuntimeError, version_converter.ConvertError):
        return None


def apart(got: Arrays, wanted: Sequence[np.ndarray]) -> str:
    try:
        for (name, y), expected in zip(got.items(), wanted, strict=True):
            close(y, expected, name, RTOL, ATOL)
    except Fault as fault:
        return str(fault)
    return ""


def outcome(proto: onnx.ModelProto, label: str, xs: Sequence[object], ys: Sequence[np.ndarray]):
    """What came of one file: `equal`, `invalid`, `another function`, or a fault in words."""
    data = proto.SerializeToString()
    try:
        model: Model = onnxfile.read(data, OPS, name=label)
    except GradcliError as error:
        return _refused_by_both(proto, xs) or f"refused: {error}"
    feeds = dict(zip([v.name for v in model.graph.inputs], map(np.asarray, xs), strict=False))
    got = interpret(cast(model.graph, DType.FLOAT64), feeds)
    if not (fault := apart(got, ys)):
        return "equal"
    theirs = runtime.prepare(model).run(feeds)
    return fault if apart(got, list(theirs.values())) else "another function"


def _refused_by_both(proto: onnx.ModelProto, xs: Sequence[object]) -> str:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
        names = [i.name for i in session.get_inputs()]
        session.run(None, dict(zip(names, xs, strict=False)))
    except Exception:  # noqa: BLE001 # its own kinds of error
        return "invalid"
    return ""


@pytest.mark.slow
def test_a_network_is_the_same_function_in_every_opset() -> None:
    counts: Counter[str] = Counter()
    faults = []
    for case in load(["node"]):
        proto = case.model
        known = reason(case.name, REFUSED) or reason(case.name, WRONG)
        if proto is None or known or without_card(proto) or "expanded" in case.name:
            continue
        if "cast" in case.name:  # to types that older opsets do not have
            continue
        xs, ys = data(case, proto)[0]
        for opset in OPSETS:
            written = converted(proto, opset)
            if written is None:
                counts["not to be converted"] += 1
                continue
            said = outcome(written, f"{case.name} in opset {opset}", xs, ys)
            counts[said if said in ("equal", "invalid", "another function") else "fault"] += 1
            if said not in ("equal", "invalid", "another function"):
                faults.append(f"{case.name} in opset {opset}: {said}")
    print(counts)  # noqa: T201 # what was looked at
    assert not faults
    assert counts["equal"] > 5000
