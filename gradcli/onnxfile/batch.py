"""Scan as opset 8 had it, over a batch: a later Scan along the batch, with another one in it."""

from __future__ import annotations

from dataclasses import replace

from gradcli.graph import CANONICAL_OPSET, Graph, Node, Shape, Value, Var
from gradcli.onnxfile.call import Call
from gradcli.onnxfile.draft import Draft


def scan_8(_d: Draft, call: Call) -> Call:
    """Every operand and result has a leading axis, along which entries know nothing of each other.

    Raises:
        ModelError: For entries of unlike lengths.
    """
    if call.inputs[0] is not None:
        raise call.refuse(
            "has sequences of unlike lengths (sequence_lens), as only opset 8 has them",
            f"Export the model again with opset {CANONICAL_OPSET}.",
        )
    operands = [call.operand(place) for place in range(1, len(call.inputs))]
    body: Graph = call.attrs["body"]
    entries = tuple(Value(f"entry_{k}", x.dtype, _entry(x)) for k, x in enumerate(operands))
    results = tuple(Value(f"result_{k}", v.dtype, None) for k, v in enumerate(body.outputs))
    attrs = {
        "body": body,
        "num_scan_inputs": call.attrs["num_scan_inputs"],
        "scan_input_directions": call.attrs.get("directions"),
    }
    each = Node("Scan", entries, results, attrs, name=call.name)
    whole = Graph(entries, results, (each,), captures=body.captures)
    last = call.having(*operands, body=whole, num_scan_inputs=len(operands))
    return replace(last, opset=CANONICAL_OPSET)


def _entry(x: Var) -> Shape | None:
    return None if x.shape is None else x.shape[1:]
