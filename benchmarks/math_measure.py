r"""How right and how fast the math verifier is, beside Math-Verify on the same pairs and core.

    RLVR_DATA=folder python benchmarks/math.py [--part NAME] [--sample N] [--no-peer]

Parts: `trainer` (speed on answers as a trainer sees them), `hard` (speed and p99 on the labelled
pairs), `accuracy` (labelled
pairs, policies under their option), `rewrites` (every ground truth of MATH against itself, 20 equal
rewrites and 20 near misses), `solutions` (MATH-500 and GSM8K labels), `unearned` (ways to be paid
without knowing). Both verifiers run in this process, in one thread, one after the other; ours with
a cold cache. On a busy machine the pairs a CPU second tell more than those a second; they leave out
only what workers do, which is algebra. Math-Verify is used as TRL does: boxes first, its alarm on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from math_rewrites import mutations, rewrites

import rlvr
from rlvr.types import Task
from rlvr.verifiers import math_decide
from rlvr.verifiers.equivalence import answer as answer_grammar
from rlvr.verifiers.equivalence.strictness import POLICIES, Strictness
from rlvr.verifiers.math import MathVerifier

Pair = tuple[str, str]
GOLDEN = Path(__file__).parent.parent / "tests" / "verifiers" / "golden"
DEADLINE = 3.0
DEV = "math_equivalence_dev.jsonl"
SLACK = 0.1
GROUP = 8
TEMPLATES = (
    r"Let us compute step by step. Therefore, the final answer is $\boxed{%s}$.",
    r"We simplify and get $%s$. So the answer is $\boxed{%s}$.",
    r"Adding everything up, we find that the result is \[\boxed{%s}.\]",
    r"**Final Answer:** $\boxed{%s}$",
)


@dataclasses.dataclass(frozen=True)
class Timing:
    """What one verifier did with a list of pairs: verdicts, and seconds for each."""

    paid: list[bool]
    undecided: int
    seconds: list[float]
    cpu_seconds: float

    def line(self, name: str) -> str:
        """Pairs a second, and how the seconds are spread."""
        ordered = sorted(self.seconds)
        count = len(ordered)
        late = sum(seconds > DEADLINE + SLACK for seconds in ordered)
        return (
            f"    {name:<12} {count / sum(ordered):8.0f} pairs/s"
            f"  {count / self.cpu_seconds:8.0f} a CPU second  p50 {ordered[count // 2] * 1e3:7.3f}"
            f"  p99 {ordered[min(count - 1, count * 99 // 100)] * 1e3:7.2f}"
            f"  max {ordered[-1] * 1e3:7.1f} ms  late {late}  undecided {self.undecided}"
        )


def run_ours(pairs: Sequence[Pair], **options: Any) -> Timing:
    """Our verdicts, one response after the other, from a cold cache."""
    verifier = rlvr.load_verifier("math", timeout=DEADLINE, **options)
    with_algebra = r"\boxed{\lim_{x\to 3} x}"
    verifier.verify(Task(id="", prompt="", answer="3"), with_algebra)  # a worker stands ready
    math_decide.CACHE.clear()
    answer_grammar.readings.cache_clear()
    paid, seconds, undecided, cpu = [], [], 0, time.process_time()
    for gold, text in pairs:
        task = Task(id="", prompt="", answer=gold)
        started = time.perf_counter()
        verdict = verifier.verify(task, text)
        seconds.append(time.perf_counter() - started)
        paid.append(verdict.is_correct)
        undecided += verdict.reason.startswith("undecided")
    return Timing(paid, undecided, seconds, time.process_time() - cpu)


def run_peer(pairs: Sequence[Pair]) -> Timing:
    """Math-Verify's verdicts on the same pairs."""
    verify = peer()
    paid, seconds, cpu = [], [], time.process_time()
    for gold, text in pairs:
        started = time.perf_counter()
        result = verify(gold, text)
        seconds.append(time.perf_counter() - started)
        paid.append(result)
    return Timing(paid, 0, seconds, time.process_time() - cpu)


def peer() -> Callable[[str, str], bool]:
    """Math-Verify 0.9, as TRL's reward calls it, ground truths between dollar signs."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    boxes_first = LatexExtractionConfig(
        normalization_config=NormalizationConfig(units=True), boxed_match_priority=0
    )

    def grade(gold: str, text: str) -> bool:
        wanted = parse(gold if "$" in gold else f"${gold}$")
        given = parse(text, [boxes_first, ExprExtractionConfig()])
        return bool(verify(wanted, given))

    grade("1", r"\boxed{x+1}")
    return grade


# ---------------------------------------------------------------------------------------- parts


def trainer(args: argparse.Namespace) -> None:
    """Speed on GSM8K solutions and on groups of eight answers to MATH."""
    rows = read("gsm8k_labelled_solutions.jsonl")
    solutions = [(row["answer"], row["completion"]) for row in rows][: args.sample]
    labels = [row["label"] for row in rows][: args.sample]
    compare_speed("GSM8K, labelled solutions", solutions, labels, args)
    golds = math_answers()[: args.sample // GROUP]
    groups = [(pair, right) for gold in golds for pair, right in group_of(gold, golds)]
    pairs, rights = [pair for pair, _ in groups], [right for _, right in groups]
    compare_speed("MATH, 8 answers a task", pairs, rights, args)


def hard(args: argparse.Namespace) -> None:
    """Speed on the labelled pairs, which are the hard forms."""
    rows = labelled(policy=False)[: args.sample]
    compare_speed("labelled pairs", *as_pairs(rows), args)


def accuracy(args: argparse.Namespace) -> None:
    """Accuracy, recall and false positives on the labelled pairs; policies under their option."""
    pairs, labels = as_pairs(labelled(policy=False))
    show_accuracy("ours, no policy", run_ours(pairs).paid, labels)
    if args.peer:
        show_accuracy("Math-Verify, no policy", run_peer(pairs).paid, labels)
    rows = labelled(policy=True)
    for policy in sorted({row["policy"] for row in rows}):
        pairs, labels = as_pairs([row for row in rows if row["policy"] == policy])
        paid = run_ours(pairs, **options_of(POLICIES[policy])).paid
        show_accuracy(f"ours, {policy}", paid, labels)


def rewritten(args: argparse.Namespace) -> None:
    """Every ground truth of MATH against itself, its rewrites and its near misses."""
    golds = math_answers()[: args.sample]
    for what, make, right in (
        ("themselves", lambda gold: [gold], True),
        ("20 equal rewrites", rewrites, True),
        ("20 near misses", mutations, False),
    ):
        pairs = [(gold, boxed(text)) for gold in golds for text in make(gold)]
        timing = run_ours(pairs)
        report_share(f"MATH, {what}: ours", timing.paid, right)
        print(timing.line("ours"))
        if args.peer:
            few = random.Random(0).sample(pairs, min(len(pairs), args.peer_sample))
            report_share(f"MATH, {what}: Math-Verify", run_peer(few).paid, right)
        if args.show:
            show_wrong(pairs, timing.paid, [right] * len(pairs))


def solutions(args: argparse.Namespace) -> None:
    """MATH-500's own solutions, and GSM8K's labels."""
    rows = read("math500.jsonl")
    pairs = [(row["answer"], row["solution"]) for row in rows]
    report_share("MATH-500, own solutions: ours", run_ours(pairs).paid, True)
    rows = read("gsm8k_labelled_solutions.jsonl")
    paid = run_ours([(row["answer"], row["completion"]) for row in rows]).paid
    right = sum(p == row["label"] for p, row in zip(paid, rows, strict=True))
    print(f"GSM8K, labels: ours {right} of {len(rows)} right")
    if args.peer:
        report_share("MATH-500, own solutions: Math-Verify", run_peer(pairs).paid, True)


def unearned(args: argparse.Namespace) -> None:
    """Responses that are paid without knowing the answer, if a verifier lets them."""
    pairs = unearned_pairs()
    print(f"paid without knowing: ours {sum(run_ours(pairs).paid)} of {len(pairs)}")
    if args.peer:
        print(f"paid without knowing: Math-Verify {sum(run_peer(pairs).paid)} of {len(pairs)}")


PARTS = {
    "trainer": trainer, "hard": hard, "accuracy": accuracy, "rewrites": rewritten,
    "solutions": solutions, "unearned": unearned,
}  # fmt: skip


# ------------------------------------------------------------------------------- data and lines


def compare_speed(
    what: str, pairs: Sequence[Pair], labels: Sequence[bool], args: argparse.Namespace
) -> None:
    """Both verifiers on the same pairs, with the ratio of their speeds."""
    ours = run_ours(pairs)
    agree = sum(p == label for p, label in zip(ours.paid, labels, strict=True))
    print(f"{what}: {len(pairs)} pairs; ours agrees with {agree} labels")
    if args.show:
        show_wrong(pairs, ours.paid, labels)
    print(ours.line("ours"))
    if not args.peer:
        return
    few = sorted(random.Random(0).sample(range(len(pairs)), min(len(pairs), args.peer_sample)))
    theirs = run_peer([pairs[index] for index in few])
    agree = sum(p == labels[index] for p, index in zip(theirs.paid, few, strict=True))
    print(theirs.line("Math-Verify") + f"   {agree} of {len(few)} labels")
    again = run_ours([pairs[index] for index in few])
    wall = sum(theirs.seconds) / sum(again.seconds)
    cpu = theirs.cpu_seconds / again.cpu_seconds
    print(
        f"    on the same {len(few)} pairs ours is {wall:.1f} times as fast; in CPU time {cpu:.1f}"
    )


def show_wrong(pairs: Sequence[Pair], paid: Sequence[bool], labels: Sequence[bool]) -> None:
    """The pairs that were not graded as they should be."""
    for pair, result, label in zip(pairs, paid, labels, strict=True):
        if result != label:
            print("        paid" if result else "        refused", *map(repr, pair))


def show_accuracy(what: str, paid: Sequence[bool], labels: Sequence[bool]) -> None:
    """Accuracy, recall and the rate of false positives."""
    seen = list(zip(paid, labels, strict=True))
    right = sum(p == label for p, label in seen)
    true, false = list(labels).count(True), list(labels).count(False)
    recall = seen.count((True, True)) / true if true else 1.0
    wrongly = seen.count((True, False)) / false if false else 0.0
    print(
        f"{what:<40} {right:4} of {len(seen):4}   accuracy {right / len(seen):.4f}"
        f"   recall {recall:.4f}   FPR {wrongly:.4f}"
    )


def report_share(what: str, paid: Sequence[bool], right: bool) -> None:
    """How many were graded as they should be."""
    good = sum(p == right for p in paid)
    print(f"{what:<48} {good:6} of {len(paid):6} right ({good / len(paid):.5f})")


def group_of(gold: str, golds: Sequence[str]) -> list[tuple[Pair, bool]]:
    """Eight responses to one task, as a policy halfway through training gives them."""
    generator = random.Random(gold)
    right = [gold, gold, *rewrites(gold, 1)][:3]
    near = mutations(gold)
    others = [text for text in generator.sample(golds, 4) if text != gold]
    wrong = (near[:3] + near[:1] + others)[: GROUP - len(right)]
    answers = [(text, True) for text in right] + [(text, False) for text in wrong]
    generator.shuffle(answers)
    made = []
    for text, label in answers:
        template = generator.choice(TEMPLATES)
        filled = template.replace("%s", text.strip().strip("$"))
        made.append(((gold, filled), label))
    return made


def boxed(text: str) -> str:
    """An answer as a response gives it."""
    return rf"\boxed{{{text}}}"


def unearned_pairs() -> list[Pair]:
    """Ground truths with responses that must not be paid."""
    data = json.loads((GOLDEN / "math_unearned.json").read_text("utf-8"))
    pairs = []
    for index, (gold, other) in enumerate(data["golds"]):
        templates = data["any"] + (data["numbers_only"] if index < 3 else [])
        pairs += [(gold, t.replace("{gold}", gold).replace("{other}", other)) for t in templates]
    return pairs


def options_of(strictness: Strictness) -> dict[str, Any]:
    """A strictness as options of the verifier."""
    names = {field.name for field in dataclasses.fields(MathVerifier)}
    return {
        field.name: getattr(strictness, field.name)
        for field in dataclasses.fields(Strictness)
        if field.name in names
    }


def labelled(policy: bool) -> list[dict[str, Any]]:
    """The labelled pairs with a policy, or those on which everyone agrees."""
    rows = read(DEV)
    return [row for row in rows if (row["policy"] is not None) == policy]


def as_pairs(rows: Sequence[dict[str, Any]]) -> tuple[list[Pair], list[bool]]:
    """Ground truths with whole responses, and the labels."""
    pairs = [
        (row["answer"], row["completion"] if row["is_full_response"] else boxed(row["completion"]))
        for row in rows
    ]
    return pairs, [row["label"] for row in rows]


def math_answers() -> list[str]:
    """The different ground truths of MATH's training part, in a fixed random order."""
    answers = sorted({row["answer"] for row in read("math_train.jsonl") if row["answer"]})
    random.Random(0).shuffle(answers)
    return answers


def read(name: str) -> list[dict[str, Any]]:
    """The rows of a JSONL file in the data folder."""
    folder = Path(os.environ["RLVR_DATA"])
    return [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--sample", type=int, default=1_000_000, help="at most this many of ours")
    parser.add_argument("--peer-sample", type=int, default=1000, help="pairs for Math-Verify")
    parser.add_argument("--no-peer", dest="peer", action="store_false")
    parser.add_argument("--show", action="store_true", help="print the pairs graded wrongly")
    args = parser.parse_args()
    if (
        args.part != "unearned"
        and not Path(os.environ.get("RLVR_DATA", "")).joinpath(DEV).is_file()
    ):
        parser.error(f"RLVR_DATA must name the folder that holds {DEV} and the other data sets")
    for name, part in PARTS.items():
        if args.part in (name, "all"):
            print(f"== {name}")
            part(args)
