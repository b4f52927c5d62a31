"""Attacks: ways to be paid without knowing, and texts made to hang, crash or fill the memory."""

from __future__ import annotations

import json
import resource
import string
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr.types import Completion, Task
from rlvr.verifiers.equivalence.compare import compare
from rlvr.verifiers.math import MathVerifier
from rlvr.verifiers.math_extract import extract
from rlvr.verifiers.pool import verify_many
from rlvr.verifiers.thinking import split_thinking

UNEARNED = json.loads((Path(__file__).parent / "golden" / "math_unearned.json").read_text("utf-8"))
DEADLINE = 0.5
ROTATION = (
    r"\begin{pmatrix}0&1&0&0&0&0\\0&0&1&0&0&0\\0&0&0&1&0&0\\"
    r"0&0&0&0&1&0\\0&0&0&0&0&1\\1&0&0&0&0&0\end{pmatrix}"
)
HOSTILE = {
    "tower": "9^{9^{9^{9}}}",
    "tall tower": "2^" * 500 + "2",
    "tower of brackets": "(" * 200 + "9" + ")^{99}" * 200,
    "tower less one": "9^{9^{9^{9}}} - 9^{9^{9^{9}}} + 1",
    "exact power of two": r"b + (9^{2^{9^9}})!",
    "divisor of powers of two": r"b + \gcd(2^{9^9} b, 6^{9^9})",
    "factorial tower": "((((9!)!)!)!)!",
    "factorials": "100000! - 99999! \\cdot 100000",
    "double factorials": "9" + "!" * 1000,
    "binomial": r"\binom{99999999999}{49999999999}",
    "long division": r"\frac{1}{" * 2000 + "2" + "}" * 2000,
    "roots": r"\sqrt{1+" * 2000 + "1" + "}" * 2000,
    "nested braces": "{" * 100_000 + "2" + "}" * 100_000,
    "open braces": "{" * 100_000,
    "nested brackets": "(" * 100_000 + "2" + ")" * 100_000,
    "bars": "|" * 50_000,
    "digits": "1" * 1_000_000,
    "decimals": "0." + "3" * 1_000_000,
    "exponent": "1e999999999999",
    "negative exponent": "10^{-999999999999}",
    "letters": "x" * 1_000_000,
    "sum of letters": "+".join("abcdefghijklmnopqrstuvwxyz" * 200),
    "power of a sum": "(a+b+c+d+e+f+g)^{300} - (g+f+e+d+c+b+a)^{300}",
    "powers of powers": "((((x+1)^{99})^{99})^{99})^{99}",
    "sum of sums in exponents": r"\sum_{n=1}^{10} n^" * 4 + "n",
    "long sum": r"\sum_{n=1}^{10^{12}} \frac{1}{n}",
    "nested sums": r"\sum_{a=1}^{999}\sum_{b=1}^{999}\sum_{c=1}^{999}\sum_{d=1}^{999} abcd",
    "products": r"\prod_{n=1}^{10^9} n^n",
    "integral": r"\int_0^{\infty} \frac{\sin(x^3+x)}{x^5+\cos x} dx",
    "integrals": r"\int_0^1\int_0^1\int_0^1\int_0^1 \sin(xyzw)^{xyzw} dxdydzdw",
    "limit": r"\lim_{x\to\infty} (1+\sin(1/x)^{x})^{x^{x}}",
    "matrix": r"\begin{pmatrix}" + r"\\".join(["1&" * 300] * 300) + r"\end{pmatrix}",
    "matrix power": r"\begin{pmatrix}1&1\\1&0\end{pmatrix}^{999999999}",
    "matrix powers": rf"{ROTATION}^{{-64}}" * 6,
    "powers of a matrix": ROTATION + "^{64}" * 800,
    "matrices": r"\begin{pmatrix}1\end{pmatrix}" * 600,
    "matrices in brackets": "(" * 300 + ROTATION + ")" * 300,
    "matrices that stay open": r"\begin{pmatrix}1&2" * 300,
    "matrix of letters": rf"{ROTATION}\left({ROTATION.replace('1', 'a+b')}\right)" * 6,
    "determinants": r"\det " * 700 + ROTATION,
    "set": r"\{" + ",".join(map(str, range(20_000))) + r"\}",
    "signs": r"\pm" * 200 + "2",
    "many signs": "+".join([r"\pm 1"] * 40),
    "chain": "=".join(["2"] * 5000),
    "commas": "," * 100_000,
    "percent": "%" * 100_000,
    "dollars": "$" * 100_000,
    "backslashes": "\\" * 100_000,
    "null bytes": "\x00" * 10_000 + "2",
    "half a pair": "2\ud800",
    "right to left": "\u202e2\u202c",
    "combining": "2" + "\u0301" * 10_000,
    "spaces": "2" + " " * 1_000_000,
    "new lines": "\n" * 1_000_000,
    "units": "2" + r"\text{ cm}" * 5000,
    "words": "two hundred " * 5000,
    "and": "2 and " * 10_000,
    "ratio": ":".join(["2"] * 10_000),
    "mixed": "2" + r"\frac{1}{2}" * 5000,
    "subscripts": "x" + "_{1" * 2000 + "}" * 2000,
    "cosines": r"\cos" * 5000 + "x",
    "commands": "".join(f"\\a{chr(97 + index % 26)}" for index in range(20_000)),
    "unknown command": "\\" + "q" * 100_000,
    "python": "__import__('os').system('touch pwned')",
    "lambda": "(lambda: 2)()",
    "attribute": "().__class__.__bases__[0].__subclasses__()",
}  # fmt: skip
GOLDS = ("2", r"\sqrt{2}+x", r"\{1,2\}")
_PIECES = st.lists(
    st.sampled_from(
        [
            *"{}()[]|12379x,.^_+-*/=<>:;!%$&~ ",
            *(r"\frac", r"\sqrt", r"\binom", r"\text{", r"\pm", r"\le", r"\cup", r"\{", r"\}"),
            *(r"\infty", r"\begin{pmatrix}", r"\end{pmatrix}", r"\\", r"\pi", r"\sin", r"\log"),
            *(
                r"\sum_{n=1}^{",
                r"\int_0^1",
                r"\overline{",
                r"\circ",
                " or ",
                " and ",
                "cm",
                "e",
                "i",
            ),
        ]
    ),
    max_size=24,
).map("".join)


def task(answer: Any) -> Task:
    return Task(id="t", prompt="", answer=answer)


def unearned() -> list[tuple[str, str]]:
    pairs = []
    for index, (gold, other) in enumerate(UNEARNED["golds"]):
        templates = UNEARNED["any"] + (UNEARNED["numbers_only"] if index < 3 else [])
        pairs += [(gold, t.replace("{gold}", gold).replace("{other}", other)) for t in templates]
    return pairs


def test_nothing_is_paid_without_knowing() -> None:
    pairs = unearned()
    verdicts = verify_many(MathVerifier(timeout=DEADLINE), [(task(g), text) for g, text in pairs])
    paid = [pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict.reward != 0.0]
    assert len(pairs) > 1000
    assert paid == []


def test_the_same_ground_truths_are_paid_where_they_are_known() -> None:
    for gold, _ in UNEARNED["golds"]:
        for response in (rf"\boxed{{{gold}}}", f"The answer is ${gold}$."):
            assert MathVerifier().verify(task(gold), response).reward == 1.0


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_answer_is_not_paid_and_takes_bounded_time(name: str) -> None:
    started = time.process_time()
    for gold in GOLDS:
        verdict = MathVerifier().quick(task(gold), rf"\boxed{{{HOSTILE[name]}}}")
        assert verdict is None or verdict.reward == 0.0
    assert time.process_time() - started < 3 * 1.0


@pytest.mark.slow
def test_nothing_is_over_its_deadline_and_no_worker_dies() -> None:
    verifier = MathVerifier(timeout=DEADLINE)
    verify_many(verifier, [(task("3"), r"\boxed{\lim_{x\to 3} x}")])  # workers stand ready
    pairs = [(task(gold), rf"\boxed{{{text}}}") for gold in GOLDS for text in HOSTILE.values()]
    verdicts = verify_many(verifier, pairs, workers=2)
    assert {verdict.reward for verdict in verdicts} == {0.0}
    slow = sorted(verdict.seconds for verdict in verdicts)
    assert slow[-1] < DEADLINE + 0.1 + 1.5  # and time for a busy machine
    assert not Path("pwned").exists()


def test_a_hostile_ground_truth_is_survived_too() -> None:
    verifier = MathVerifier(timeout=DEADLINE)
    for name, text in HOSTILE.items():
        verdict = verifier.quick(task(text), r"\boxed{3}")
        assert verdict is None or verdict.reward in (0.0, None), name


def test_hostile_answers_from_many_threads_fill_no_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    texts = [text for text in HOSTILE.values() if len(text) < 50_000]
    rewards: list[float | None] = []

    def grade(offset: int) -> None:
        for text in texts[offset::8]:
            verdict = MathVerifier().quick(task("2"), rf"\boxed{{{text}}}")
            rewards.append(0.0 if verdict is None else verdict.reward)

    threads = [threading.Thread(target=grade, args=(index % 8,)) for index in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert len(rewards) == 4 * len(texts)
    assert set(rewards) == {0.0}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # kilobytes


UNITS = [
    *string.printable, *"\u00a0é中½²", "a ", "ab ", "1 ", "1,", "1:", "1/", "-1", "0.", "(1,",
    "A) ",
    "**", "I ", "is ", "or ", "and ", "not ", "the ", "for ", "answer is ", "Answer: ", "#### a",
    "####  ", "\n \n", "$x$ ", "=x", "x=", "<x", "x_", "a'", "^{", "}{", "{}", "\\ ", r"\text{",
    r"\text{a}", r"\frac", r"\frac1", r"\boxed{", r"\boxed{1}", r"\vec ", r"\le", r"\pm", r"\cup",
    r"\quad ", r"\ldots,", r"\int ", r"\begin{pmatrix}", r"\end{pmatrix}",
    r"\begin{pmatrix}1\end{pmatrix}", r"\det", r"\\", "^T", "&", "f(x)<",
    "is 7? ", r"\boxed{1}? ", "?", "about ", r"\approx ", r"x\approx ", "sold 7 ", "she sold ",
    "a_n=", "a_n-", "½", "½ cup",
]  # fmt: skip
SAID = [
    "is wrong ", "wrong answer ", "the a ", "my x answer ", "so ", "not the ", "some x ", "wait ",
    "wait, ", "that is ", "that is not a ", "suppose ", "if ", "the result is ",
    "it is false that ", "I have made a x ", "still need to ", "would be ", "corrected ",
    "but the ", "? no ", "no, ", "~~", "~~a", " ~~a", "<!--", "<s>", "<s></s>", "<del>",
    r"\cancel{", "<think>", "<think ", "</think>", "[THINK]", "<|channel|> ",
    "<|channel|>analysis ", "<|end|>", "<|start|>assistant", "错误", "不是", "这", "これ",
    "есть ", "es falso ", "c'est ", "*", "**", "$", "the x is ", "in all ", "total of ",
    "it is 5\n", "5\n", "$5$\n", "Is ", "the wrong ", "your ", "one's ", "\n\n", ". ", "?",
]  # fmt: skip


def thread_seconds(read: Callable[[str], object], text: str) -> float:
    """Processor time of this thread for one call."""
    started = time.thread_time()
    read(text)
    return time.thread_time() - started


@pytest.mark.parametrize(
    "tail",
    ["", *(pytest.param(tail, marks=pytest.mark.slow) for tail in ("0", "!", "}", "$", " z"))],
)
def test_no_pattern_grows_on_a_long_run(tail: str) -> None:
    """Regular expressions that backtrack: each of these took from seconds to for ever once."""
    slow = {}
    for unit in UNITS:
        text = (unit * 4000)[:3900] + tail
        for name, read in (
            ("response", lambda text: extract(text)),
            ("box", lambda text: extract(rf"\boxed{{{text}}}")),
            ("answer", lambda text: compare("12", text)),
            ("both", lambda text: compare(text, text + "z")),
        ):
            seconds = thread_seconds(read, text)
            if seconds > 0.5:  # a pattern that grows is slow again; a garbage collection is not
                seconds = min(seconds, thread_seconds(read, unit + text))
            if seconds > 0.5:
                slow[name, unit] = seconds
    assert not slow


@pytest.mark.parametrize(
    "tail",
    ["", *(pytest.param(tail, marks=pytest.mark.slow) for tail in (" z", " 12.", "is $12$."))],
)
def test_no_pattern_grows_on_words_around_an_answer(tail: str) -> None:
    slow = {}
    for unit in SAID:
        text = (unit * 4000)[:3900] + tail
        for name, read in (
            ("response", lambda text: extract(text)),
            ("before", lambda text: extract(rf"{text} $\boxed{{12}}$")),
            ("after", lambda text: extract(rf"$\boxed{{12}}$ {text}")),
            ("between", lambda text: extract(rf"$\boxed{{11}}$ {text} $\boxed{{12}}$")),
            ("phrase", lambda text: extract(f"The answer is 12. {text}")),
            ("claim", lambda text: extract(f"{text} the answer is 12")),
            ("thinking", lambda text: split_thinking(Completion(text=text * 10))),
        ):
            seconds = thread_seconds(read, text)
            if seconds > 0.5:
                seconds = min(seconds, thread_seconds(read, unit + text))
            if seconds > 0.5:
                slow[name, unit] = seconds
    assert not slow


def test_a_line_of_letters_without_a_digit_is_read_at_once() -> None:
    started = time.process_time()
    extract("So we are left with one of the " + "many cases " * 300)
    assert time.process_time() - started < 0.5


@settings(max_examples=250, deadline=None)
@given(first=_PIECES, second=_PIECES)
def test_comparison_is_total_and_symmetric(first: str, second: str) -> None:
    there, back = compare(first, second), compare(second, first)
    assert bool(there.equal) == bool(back.equal)
    assert there.error_bound <= 1e-9


@settings(max_examples=150, deadline=None)
@given(text=_PIECES)
def test_an_answer_is_never_different_from_itself(text: str) -> None:
    if text.strip():
        assert compare(text, text).equal
        assert compare(text, f" {text} ").equal is not False
