r"""How right and how fast the math verifier is, on real answers.

    RLVR_DATA=folder python benchmarks/math_answers.py

Prints, for the files of that folder: agreement with the labels of GSM8K solutions, MATH-500's
solutions against its answers, labelled pairs of equal and unequal answers, and, for 2,500 answers
of MATH's training part, themselves, equal rewrites and near misses that are made here.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rlvr
from rlvr.types import Task, Verdict
from rlvr.verifiers.pool import verify_many

WORKERS = 2
MATH = rlvr.load_verifier("math")


def grade(pairs: Sequence[tuple[Any, str]]) -> tuple[list[Verdict], float]:
    """Verdicts, and seconds for one pair."""
    items = [(Task(id="", prompt="", answer=answer), text) for answer, text in pairs]
    started = time.perf_counter()
    verdicts = verify_many(MATH, items, workers=WORKERS)
    return verdicts, (time.perf_counter() - started) / len(items)


def show(what: str, verdicts: Sequence[Verdict], right: Sequence[bool], seconds: float) -> None:
    """One line: how many verdicts are as they should be."""
    good = sum(v.is_correct == r and not v.is_error for v, r in zip(verdicts, right, strict=True))
    undecided = sum("undecided" in verdict.reason for verdict in verdicts)
    print(
        f"{what:<34} {good:>5} of {len(verdicts):>5} right, {undecided:>3} undecided, "
        f"{seconds * 1e6:8.0f} us each"
    )


def read(name: str) -> list[dict[str, Any]]:
    """The rows of a JSONL file in the data folder."""
    folder = Path(os.environ["RLVR_DATA"])
    return [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]


def rewrites(gold: str) -> list[str]:
    """The same answer, written otherwise."""
    found = [gold.replace(r"\frac", r"\dfrac").replace("+", " + ").replace(",", ", ")]
    if r"\left" in gold:
        found.append(gold.replace(r"\left", "").replace(r"\right", ""))
    doubled = re.sub(
        r"\\frac\{(\d+)\}\{(\d+)\}", lambda m: rf"\frac{{{2 * int(m[1])}}}{{{2 * int(m[2])}}}", gold
    )
    power = re.sub(r"\\sqrt\{(\d+)\}", r"(\1)^{1/2}", gold)
    return found + [text for text in (doubled, power) if text != gold]


def near_miss(gold: str) -> str | None:
    """The answer with its last digit one higher, where it has one."""
    head, digit, tail = re.fullmatch(r"(.*?)(\d?)(\D*)", gold, re.DOTALL).groups()  # type: ignore[union-attr]
    return f"{head}{(int(digit) + 1) % 10}{tail}" if digit else None


def main() -> None:
    """Measure and print."""
    grade([(r"\sqrt{12}", r"\boxed{2\sqrt{3}}")])
    rows = read("gsm8k_labelled_solutions.jsonl")
    verdicts, seconds = grade([(row["answer"], row["completion"]) for row in rows])
    show("GSM8K solutions: label", verdicts, [row["label"] for row in rows], seconds)
    rows = read("math500.jsonl")
    verdicts, seconds = grade([(row["answer"], row["solution"]) for row in rows])
    show("MATH-500 solutions: paid", verdicts, [True] * len(rows), seconds)

    rows = [row for row in read("math_equivalence_dev.jsonl") if row["policy"] is None]
    texts = [
        row["completion"] if row["is_full_response"] else rf"\boxed{{{row['completion']}}}"
        for row in rows
    ]
    verdicts, seconds = grade(
        [(row["answer"], text) for row, text in zip(rows, texts, strict=True)]
    )
    labels = [row["label"] for row in rows]
    show("labelled pairs: label", verdicts, labels, seconds)
    paid = [(verdict.is_correct, label) for verdict, label in zip(verdicts, labels, strict=True)]
    recall = paid.count((True, True)) / labels.count(True)
    wrongly = paid.count((True, False)) / labels.count(False)
    print(f"    equal pairs paid {recall:.3f}, unequal pairs paid {wrongly:.3f}")

    answers = {row["answer"] for row in read("math_train.jsonl") if row["answer"]}
    golds = sorted(answers)
    random.Random(0).shuffle(golds)
    golds = golds[:2500]
    same = [(gold, rf"\boxed{{{gold}}}") for gold in golds]
    equal = [(gold, rf"\boxed{{{text}}}") for gold in golds for text in rewrites(gold)]
    missed = [(gold, rf"\boxed{{{text}}}") for gold in golds if (text := near_miss(gold))]
    for what, pairs, right in (
        ("MATH answers: themselves, paid", same, True),
        ("MATH answers: rewrites, paid", equal, True),
        ("MATH answers: near misses, refused", missed, False),
    ):
        verdicts, seconds = grade(pairs)
        show(what, verdicts, [right] * len(pairs), seconds)


if __name__ == "__main__":
    main()
