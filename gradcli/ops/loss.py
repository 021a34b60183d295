"""Losses."""

from __future__ import annotations

from gradcli.ops.card import Card

CARDS: tuple[Card, ...] = ()
