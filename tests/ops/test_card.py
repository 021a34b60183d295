"""The table of cards: attributes and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from gradcli.errors import InternalError, UnsupportedError
from gradcli.ops import OPS, Table


def test_float_attributes_are_what_a_file_can_hold():
    assert OPS.attributes("LeakyRelu", {})["alpha"] == float(np.float32(0.01)) != 0.01
    assert OPS.attributes("LeakyRelu", {"alpha": 0.3})["alpha"] == float(np.float32(0.3))
    assert OPS.attributes("Cast", {"to": "int64"}) == {"to": "int64", "saturate": 1}


def test_unknown_attributes_are_named():
    with pytest.raises(UnsupportedError, match="Tanh has no attribute colour"):
        OPS.attributes("Tanh", {"colour": 1})


def test_missing_attributes_are_named():
    with pytest.raises(UnsupportedError, match="Cast needs its attribute to"):
        OPS.attributes("Cast", {})


def test_no_operator_has_two_cards():
    card = OPS["Add"]
    with pytest.raises(InternalError, match="two cards for Add"):
        Table((card,), (card,))
