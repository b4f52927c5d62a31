r"""Plus-minus signs: the texts that `\\pm` and `\\mp` stand for."""

from __future__ import annotations

import re

PLUS_MINUS = re.compile(r"\\(pm|mp)(?![A-Za-z])\s*")
_DOUBLE_SIGN = re.compile(r"([({\[,=^]|^)\s*\+\s*")


def both_signs(text: str) -> list[str]:
    r"""The text with the upper and with the lower signs.

    >>> both_signs(r"1 \pm x")
    ['1 +x', '1 -x']
    """
    upper = PLUS_MINUS.sub(lambda match: "+" if match[1] == "pm" else "-", text)
    lower = PLUS_MINUS.sub(lambda match: "-" if match[1] == "pm" else "+", text)
    return [_DOUBLE_SIGN.sub(r"\1", upper), _DOUBLE_SIGN.sub(r"\1", lower)]


def tuple_signs(parts: list[str]) -> list[list[str]]:
    r"""The tuples that one with signs is: `(\pm 1, \pm 2)` four, `(\pm 1, \mp 2)` two."""
    signed = [index for index, part in enumerate(parts) if PLUS_MINUS.search(part)]
    if not signed:
        return [parts]
    together = len(signed) == 1 or any("\\mp" in part for part in parts) or len(signed) > 4
    if together:
        both = [
            both_signs(part) if index in signed else [part, part]
            for index, part in enumerate(parts)
        ]
        return [[pair[side] for pair in both] for side in (0, 1)]
    variants: list[list[str]] = [[]]
    for index, part in enumerate(parts):
        options = both_signs(part) if index in signed else [part]
        variants = [[*variant, option] for variant in variants for option in options]
    return variants
