"""An answer as it is meant: its first sentence, without the accidents of how it is written."""

from __future__ import annotations

import re

from rlvr.verifiers.math_last_line import unwrapped

_SENTENCE_END = re.compile(
    r"(?<![A-Za-z])\.(?=\s|$|\*)|(?<=[A-Za-z}$)\]])\.(?=\s+[A-Z]|\s*$|\*)|[。！？!?](?=\s|$|\*)|。"
)
_ABBREVIATED = re.compile(r"\b[ap]\.m\.$", re.IGNORECASE)
_LOOSE_COMMA = re.compile(r"(?<=\d)\s*\{\s*,\s*\}\s*(?=\d)")
_BRACKETED_MATRIX = re.compile(
    r"\(\s*(\\begin\{[a-zA-Z]*matrix\}(?:(?!\\begin).)*\\end\{[a-zA-Z]*matrix\})\s*\)$", re.DOTALL
)
_GLUED_SPACE = re.compile(r"\\(q?quad)(?=[A-Za-z])")


def cleaned(text: str) -> str:
    r"""An answer or a ground truth without what is only an accident of how it was written.

    One pair of formula marks around it, backslashes that were all doubled, `\quadx`.
    """
    text = text.strip()
    if "\\" in text:
        if "\\\\" in text and not re.search(r"(?<!\\)\\[A-Za-z]", text):
            text = re.sub(r"\\\\(?=[A-Za-z,;!{}])", lambda _: "\\", text)
        text = _GLUED_SPACE.sub(r"\\\1 ", text)
        text = unwrapped(text)
    if "{" in text:
        text = _LOOSE_COMMA.sub("{,}", text)
    if text.startswith("$"):
        inner = text.strip("$").strip() if text.endswith(("$", "$.")) else text
        inner = text.removesuffix(".").strip("$").strip() if text.endswith("$.") else inner
        text = inner if "$" not in inner and inner else text
    if text.startswith("(") and "matrix" in text:
        text = _BRACKETED_MATRIX.sub(r"\1", text)
    return text


def first_sentence(rest: str) -> tuple[str, int]:
    """The first sentence, or the display formula that begins there; and how far it goes."""
    stripped = rest.lstrip(" \t*_:：\n")
    skipped = len(rest) - len(stripped)
    for opening, closing in (("$$", "$$"), ("\\[", "\\]")):
        if stripped.startswith(opening):
            end = stripped.find(closing, 2)
            if end > 0:
                return stripped[2:end].strip(), skipped + end + 2
    line = stripped.split("\n", 1)[0]
    for stop in _SENTENCE_END.finditer(line):
        if not _ABBREVIATED.search(line, 0, stop.end()) and not _inside_formula(line, stop.start()):
            return line[: stop.start()].strip(), skipped + stop.end()
    return line.strip(), skipped + len(line)


def _inside_formula(line: str, position: int) -> bool:
    r"""Whether a position lies between two dollar signs, or between `\(` and `\)`."""
    before = line[:position]
    if before.count("\\(") > before.count("\\)"):
        return "\\)" in line[position:]
    if before.endswith("$"):
        return False
    signs = len(re.findall(r"(?<!\\)\$", line))
    pattern = r"(?<!\\)\$" if signs % 2 == 0 else r"(?<!\\)\$(?!\d)"  # an odd one is a price
    return len(re.findall(pattern, before)) % 2 == 1 and "$" in line[position + 1 :]
