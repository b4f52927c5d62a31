"""One expression from text: `parse_expression`."""

from __future__ import annotations

from rlvr.verifiers.equivalence.nodes import Node


class ParseError(ValueError):
    """The text is not one expression; the message says why."""


def parse_expression(text: str) -> Node:
    """Read one expression; the whole text must be used up.

    Raises:
        ParseError: the text is not one expression, or is larger than the bounds.
    """
    raise NotImplementedError
