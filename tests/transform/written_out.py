"""Loops, scans and sequences as text, each with inputs: what is written out at a point."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx.parser

from gradcli import api, onnxfile, runtime
from gradcli.onnxfile import Model
from gradcli.ops import OPS
from gradcli.problem import Problem

Arrays = dict[str, np.ndarray]

HEAD = '<ir_version: {ir}, opset_import: ["" : {opset}]>\n'


class Form(NamedTuple):
    """A model as text, and inputs for it: float64, so that differences of runs are sharp."""

    text: str
    feeds: Arrays
    opset: int = 21

    def model(self) -> Model:
        proto = onnx.parser.parse_model(
            HEAD.format(opset=self.opset, ir=9 if self.opset > 8 else 3) + self.text
        )
        return onnxfile.read(proto.SerializeToString(), OPS)


def some(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 1.5, shape)


def number(value: Any) -> np.ndarray:
    return np.array(value)


X = {"x": some(3)}
ROWS = {"x": some(4, 3)}

LOOPS = {
    "counted, with a captured value and a scan output": Form(
        """m (double[3] x, double[3] w) => (y, rows) <int64 n = {3}> {
            y, rows = Loop <body = b (int64 i, bool go, double[3] s) => (on, s2, row) {
                on = Identity (go)
                t = Mul (s, w)
                s2 = Sin (t)
                row = Exp (s2)
            }> (n, , x)
        }""",
        {"x": some(3), "w": some(3, seed=1)},
    ),
    "a condition on data, without a count": Form(
        """m (double[3] x) => (y, rows) <double most = {20.0}, bool true = {1}> {
            y, rows = Loop <body = b (int64 i, bool go, double[3] s) => (on, s2, s) {
                h = Exp (x)
                s2 = Mul (s, h)
                total = ReduceSum <keepdims = 0> (s2)
                on = Less (total, most)
            }> (, true, x)
        }""",
        X,
    ),
    "a condition that ends a count early": Form(
        """m (double[3] x) => (y) <int64 n = {50}, bool true = {1}, double most = {20.0}> {
            y = Loop <body = b (int64 i, bool go, double[3] s) => (on, s2) {
                h = Exp (x)
                s2 = Mul (s, h)
                total = ReduceSum <keepdims = 0> (s2)
                on = Less (total, most)
            }> (n, true, x)
        }""",
        X,
    ),
    "no trips": Form(
        """m (double[3] x) => (y, rows, z) <int64 n = {0}> {
            y, rows = Loop <body = b (int64 i, bool go, double[3] s) => (go, s2, row) {
                s2 = Sin (s)
                row = Concat <axis = 0> (s2, s)
            }> (n, , x)
            z = ReduceSum <keepdims = 0> (rows)
        }""",
        X,
    ),
    "a condition that is false from the first": Form(
        """m (double[3] x) => (y, rows) <int64 n = {4}, double most = {0.0}> {
            total = ReduceSum <keepdims = 0> (x)
            go = Less (total, most)
            y, rows = Loop <body = b (int64 i, bool go, double[3] s) => (go, s2, s2) {
                s2 = Sin (s)
            }> (n, go, x)
        }""",
        X,
    ),
    "a count that hangs on data": Form(
        """m (double[3] x) => (y) {
            total = ReduceSum <keepdims = 0> (x)
            n = Cast <to = 7> (total)
            y = Loop <body = b (int64 i, bool go, double[3] s) => (go, s2) { s2 = Sin (s) }>
                (n, , x)
        }""",
        X,
    ),
    "a count that is an input": Form(
        """m (double[3] x, int64 n) => (y) {
            y = Loop <body = b (int64 i, bool go, double[3] s) => (go, s2) { s2 = Sin (s) }>
                (n, , x)
        }""",
        {"x": some(3), "n": number(5)},
    ),
    "the trip's number, as an index and as a factor": Form(
        """m (double[4,3] x, double[3] s0) => (y, rows) <int64 n = {4}> {
            y, rows = Loop <body = b (int64 i, bool go, double[3] s) => (go, s2, p) {
                row = Gather <axis = 0> (x, i)
                k = Cast <to = 11> (i)
                p = Mul (row, k)
                s2 = Add (s, p)
            }> (n, , s0)
        }""",
        {"x": some(4, 3), "s0": some(3, seed=2)},
    ),
    "carried values change places, and grow": Form(
        """m (double[N] x, double[N] z) => (y, u) <int64 n = {3}> {
            y, u = Loop <body = b (int64 i, bool go, double[M] s, double[K] t) => (go, t, v) {
                w = Sin (s)
                v = Concat <axis = 0> (t, w)
            }> (n, , x, z)
        }""",
        {"x": some(3), "z": some(2, seed=3)},
    ),
    "a loop in a loop": Form(
        """m (double[3] x) => (y, all) <int64 n = {2}> {
            y, all = Loop <body = b (int64 i, bool go, double[3] s) => (go, s3, rows) {
                one = Constant <value_int = 1> ()
                m = Add (i, one)
                s3, rows = Loop <body = c (int64 j, bool on, double[3] t) => (on, t2, t2) {
                    k = Mul (t, x)
                    t2 = Sin (k)
                }> (n, , s)
                both = Cast <to = 11> (m)
            }> (n, , x)
        }""",
        X,
    ),
    "a loop in a loop, of another length each time": Form(
        """m (double[3] x) => (y) <int64 n = {3}> {
            y = Loop <body = b (int64 i, bool go, double[3] s) => (go, s3) {
                s3 = Loop <body = c (int64 j, bool on, double[3] t) => (on, t2) {
                    k = Mul (t, x)
                    t2 = Sin (k)
                }> (i, , s)
            }> (n, , x)
        }""",
        X,
    ),
    "an If in a loop, on data": Form(
        """m (double[3] x) => (y) <int64 n = {5}, double two = {2.0}> {
            y = Loop <body = b (int64 i, bool go, double[3] s) => (go, s2) {
                total = ReduceSum <keepdims = 0> (s)
                big = Greater (total, two)
                s2 = If (big) <
                    then_branch = t () => (a) { a = Sin (s) },
                    else_branch = e () => (a) { a = Exp (s) }
                >
            }> (n, , x)
        }""",
        X,
    ),
    "a loop in an If": Form(
        """m (double[3] x) => (y) <int64 n = {3}, double two = {2.0}> {
            total = ReduceSum <keepdims = 0> (x)
            big = Greater (total, two)
            y = If (big) <
                then_branch = t () => (a) {
                    a = Loop <body = b (int64 i, bool go, double[3] s) => (go, s2) {
                        s2 = Sin (s)
                    }> (n, , x)
                },
                else_branch = e () => (c) { c = Exp (x) }
            >
        }""",
        X,
    ),
    "a shape that is put together in a loop": Form(
        """m (double[8] x) => (y) <int64 n = {2}, int64[0] none = {}> {
            shape = Loop <body = b (int64 i, bool go, int64[K] s) => (go, s2) {
                zero = Constant <value_ints = [0]> ()
                one = Constant <value_ints = [1]> ()
                k = Unsqueeze (i, zero)
                d = Add (k, one)
                s2 = Concat <axis = 0> (s, d)
            }> (n, , none)
            rest = Constant <value_ints = [-1]> ()
            full = Concat <axis = 0> (shape, rest)
            t = Reshape (x, full)
            y = Sin (t)
        }""",
        {"x": some(8)},
    ),
}

SCANS = {
    "states, two inputs, a captured value": Form(
        """m (double[4,3] x, double[4] g, double[3] w) => (last, y)
            <double[3] s0 = {1., 2., 3.}> {
            last, y = Scan <num_scan_inputs = 2, body = b (double[3] s, double[3] e, double f)
                    => (s2, o) {
                a = Mul (s, w)
                c = Mul (e, f)
                u = Add (a, c)
                s2 = Sin (u)
                o = Exp (s2)
            }> (s0, x, g)
        }""",
        {"x": some(4, 3), "g": some(4, seed=1), "w": some(3, seed=2)},
    ),
    "from the end, along other axes": Form(
        """m (double[3,4] x, double[4,3] z) => (last, y, v) <double[3] s0 = {1., 2., 3.}> {
            last, y, v = Scan <num_scan_inputs = 2, scan_input_axes = [1, 0],
                    scan_input_directions = [1, 0], scan_output_axes = [1, -1],
                    scan_output_directions = [0, 1],
                    body = b (double[3] s, double[3] e, double[3] f) => (s2, o, p) {
                a = Mul (s, e)
                s2 = Sin (a)
                o = Exp (s2)
                p = Mul (o, f)
            }> (s0, x, z)
        }""",
        {"x": some(3, 4), "z": some(4, 3, seed=1)},
    ),
    "axes counted from the end": Form(
        """m (double[3,4] x) => (y) {
            y = Scan <num_scan_inputs = 1, scan_input_axes = [-1], scan_output_axes = [-1],
                    body = b (double[3] e) => (o) { o = Sin (e) }> (x)
        }""",
        {"x": some(3, 4)},
    ),
    "a length that hangs on data": Form(
        """m (double[5] x, double[3] s0) => (last, y) <double one = {1.0}> {
            big = Greater (x, one)
            some = Compress (x, big)
            last, y = Scan <num_scan_inputs = 1, body = b (double[3] s, double e) => (s2, o) {
                s2 = Mul (s, e)
                o = Sin (s2)
            }> (s0, some)
        }""",
        {"x": some(5), "s0": some(3)},
    ),
    "a scan in a scan": Form(
        """m (double[2,4,3] x, double[3] s0) => (last, y) {
            last, y = Scan <num_scan_inputs = 1, body = b (double[3] s, double[4,3] e)
                    => (s2, rows) {
                s2, rows = Scan <num_scan_inputs = 1, body = c (double[3] t, double[3] f)
                        => (t2, o) {
                    a = Mul (t, f)
                    t2 = Sin (a)
                    o = Add (t2, s)
                }> (s, e)
            }> (s0, x)
        }""",
        {"x": some(2, 4, 3), "s0": some(3, seed=1)},
    ),
    "opset 8: a batch, from the end": Form(
        """m (double[2,4,3] x, double[2,4] g, double[2,3] s0, double[3] w) => (last, y) {
            last, y = Scan <num_scan_inputs = 2, directions = [0, 1],
                    body = b (double[3] s, double[3] e, double f) => (double[3] s2, double[3] o) {
                a = Mul (s, e)
                c = Mul (a, f)
                d = Add (c, w)
                s2 = Sin (d)
                o = Exp (s2)
            }> (, s0, x, g)
        }""",
        {"x": some(2, 4, 3), "g": some(2, 4, seed=1), "s0": some(2, 3), "w": some(3, seed=2)},
        opset=8,
    ),
}

SEQUENCES = {
    "put together, inserted, erased, counted, taken and joined": Form(
        """m (double[3] x, double[3] z) => (y, all, n)
            <int64 first = {0}, int64 last = {-1}, int64 one = {1}> {
            a = Sin (x)
            q = SequenceConstruct (x, a)
            r = SequenceInsert (q, z)
            s = SequenceInsert (r, z, last)
            t = SequenceErase (s, first)
            u = SequenceErase (t)
            y = SequenceAt (u, one)
            n = SequenceLength (t)
            all = ConcatFromSequence <axis = 0> (t)
        }""",
        {"x": some(3), "z": some(3, seed=1)},
    ),
    "collected in a loop": Form(
        """m (double[4,3] x) => (y, u) <int64 n = {4}> {
            empty = SequenceEmpty <dtype = 11> ()
            q = Loop <body = b (int64 i, bool go, seq(double[3]) s) => (go, s2) {
                row = Gather <axis = 0> (x, i)
                e = Sin (row)
                s2 = SequenceInsert (s, e)
            }> (n, , empty)
            y = ConcatFromSequence <axis = 1, new_axis = 1> (q)
            u = ConcatFromSequence <axis = -1> (q)
        }""",
        ROWS,
    ),
    "split into single rows, taken apart in a loop": Form(
        """m (double[T,3] x) => (y) <double[3] z = {0.0, 0.0, 0.0}> {
            q = SplitToSequence <axis = 0, keepdims = 0> (x)
            n = SequenceLength (q)
            y = Loop <body = b (int64 i, bool go, double[3] s) => (go, s2) {
                e = SequenceAt (q, i)
                a = Mul (e, e)
                c = Add (s, a)
                s2 = Sin (c)
            }> (n, , z)
        }""",
        ROWS,
    ),
    "split into parts of one size, of given sizes, and of one each": Form(
        """m (double[3,5] x) => (y) <int64 two = {2}, int64[2] how = {1, 4}, int64 one = {1}> {
            q = SplitToSequence <axis = 1> (x, two)
            r = SplitToSequence <axis = -1> (x, how)
            s = SplitToSequence <axis = 0> (x)
            a = SequenceAt (q, one)
            b = SequenceAt (r, one)
            c = SequenceAt (s, one)
            d = ConcatFromSequence <axis = 1> (q)
            f = Mul (d, c)
            y = Concat <axis = 1> (a, b, f)
        }""",
        {"x": some(3, 5)},
    ),
    "split into parts of size 1 without their axis, as torch writes unbind": Form(
        """m (double[4,3] x) => (y) <int64 one = {1}, int64[4] ones = {1, 1, 1, 1}> {
            q = SplitToSequence <keepdims = 0> (x, one)
            r = SplitToSequence <keepdims = 0> (x, ones)
            a = SequenceAt (q, one)
            b = SequenceAt (r, one)
            c = Mul (a, b)
            y = Sin (c)
        }""",
        ROWS,
    ),
    "a position that hangs on data": Form(
        """m (double[3] x) => (y) {
            q = SplitToSequence <axis = 0, keepdims = 0> (x)
            i = ArgMax <keepdims = 0> (x)
            e = SequenceAt (q, i)
            y = Sin (e)
        }""",
        X,
    ),
    "a body on every tensor": Form(
        """m (double[4,3] x, double[3] w) => (y) {
            q = SplitToSequence <axis = 0, keepdims = 0> (x)
            r = SequenceMap <body = b (double[3] e, double[3] f, double[3] g) => (double[3] o) {
                a = Mul (e, f)
                c = Sin (a)
                o = Mul (c, g)
            }> (q, w, q)
            y = ConcatFromSequence <axis = 0> (r)
        }""",
        {"x": some(4, 3), "w": some(3, seed=1)},
    ),
    "two results of a body on every tensor": Form(
        """m (double[4,3] x) => (y, n) {
            q = SplitToSequence <axis = 0> (x)
            r, s = SequenceMap <body = b (double[M,3] e) => (double[M,3] o, int64[2] t) {
                o = Sin (e)
                t = Shape (e)
            }> (q)
            y = ConcatFromSequence <axis = 0> (r)
            n = ConcatFromSequence <axis = 0> (s)
        }""",
        ROWS,
    ),
    "chosen by an If": Form(
        """m (double[3] x) => (y) <double two = {2.0}, int64 one = {1}> {
            total = ReduceSum <keepdims = 0> (x)
            big = Greater (total, two)
            q = If (big) <
                then_branch = t () => (a) {
                    s = Sin (x)
                    a = SequenceConstruct (x, s)
                },
                else_branch = e () => (c) { c = SequenceConstruct (x, x) }
            >
            y = SequenceAt (q, one)
        }""",
        X,
    ),
    "of whole numbers, as a shape": Form(
        """m (double[8] x) => (y) <int64 two = {2}, int64 four = {4}> {
            q = SequenceConstruct (two, four)
            shape = ConcatFromSequence <axis = 0, new_axis = 1> (q)
            t = Reshape (x, shape)
            y = Sin (t)
        }""",
        {"x": some(8)},
    ),
    "optional: a tensor": Form(
        """m (double[3] x) => (y, there) {
            o = Optional (x)
            there = OptionalHasElement (o)
            e = OptionalGetElement (o)
            y = Sin (e)
        }""",
        X,
    ),
    "optional: a sequence, whether it is there decides": Form(
        """m (double[3] x) => (y) <int64 one = {1}> {
            s = Sin (x)
            q = SequenceConstruct (x, s)
            o = Optional (q)
            there = OptionalHasElement (o)
            y = If (there) <
                then_branch = t () => (a) {
                    r = OptionalGetElement (o)
                    a = SequenceAt (r, one)
                },
                else_branch = e () => (c) { c = Exp (x) }
            >
        }""",
        X,
    ),
}

NO_STEPS = Form(
    """m (double[T,3] x, double[3] s0) => (last, y) {
        last, y = Scan <num_scan_inputs = 1, body = b (double[3] s, double[3] e) => (s2, o) {
            s2 = Mul (s, e)
            o = Sin (s2)
        }> (s0, x)
    }""",
    {"x": np.zeros((0, 3)), "s0": some(3)},
)

FORMS = LOOPS | SCANS | SEQUENCES


def posed(form: Form, operator: str = "jacobian", **more: Any) -> Problem:
    return api.ask(form.model(), dict(form.feeds), operator=operator, **more)


def runs(form: Form) -> Arrays:
    """What onnxruntime makes of the file itself."""
    return runtime.prepare(form.model()).run(form.feeds)


def varied(form: Form) -> list[str]:
    return [name for name, x in form.feeds.items() if x.dtype == np.float64 and x.size]
