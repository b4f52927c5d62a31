"""The report: one file, no network, hostile text inert, equal input gives an equal page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rlvr.errors import DataError, UserError
from rlvr.evals.report import write_report
from rlvr.evals.report.svg import compact, nice_range, nice_ticks, smooth, thin
from rlvr.evals.store import EvaluationFolder
from rlvr.evals.summary import summarise
from rlvr.types import Completion, FinishReason, Outcome, Rollout, Task, Verdict

HOSTILE = "</pre></script><script>alert('x')</script><img src=x onerror=alert(1)>&lt;\x00\u202e"
VOID = {"meta", "input", "br", "img", "link", "hr"}


class Page(HTMLParser):
    """Elements by name, with the text of each `pre`; refuses tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.pre: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "pre":
            self.pre.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "pre" in self.open:
            self.pre[-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def rollouts(correct: int, text: str = "x") -> Iterator[Rollout]:
    """Ten tasks of four samples, of which `correct` are right; one of them could not be graded."""
    for index in range(10):
        prompt = [{"role": "user", "content": f"{HOSTILE} {index}"}]
        task = Task(id=f"task/{index}{HOSTILE}", prompt=prompt, answer=HOSTILE)  # type: ignore[arg-type]
        for sample in range(4):
            verdict = Verdict.correct(HOSTILE, extracted=HOSTILE)
            if sample >= correct:
                verdict = Verdict.wrong(HOSTILE, Outcome.TRUNCATED)
            if index == 9 and sample == 3:
                verdict = Verdict.error(HOSTILE)
            yield Rollout(
                task=task,
                completion=Completion(
                    text=text,
                    token_ids=(1,) * (3 + index),
                    finish_reason=FinishReason.LENGTH if sample >= correct else FinishReason.STOP,
                ),
                verdict=verdict,
            )


def evaluation(folder: Path, correct: int = 2, text: str = HOSTILE, name: str = "sums") -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with EvaluationFolder(folder, {"environment": name}, 1) as store:
        store.write_part(0, list(rollouts(correct, text)))
        store.merge()
        config = {"environment": name, "model": HOSTILE}
        store.write_summary(summarise(store.rollouts(), (1, 4), environment=name, config=config))
    return folder


def training_run(folder: Path) -> Path:
    for step, correct in ((0, 1), (10, 2), (20, 4)):
        evaluation(folder / "evals" / f"step_{step:06d}", correct)
    rows = [{"step": 0, "eval/pass@1": 0.25}]
    rows += [{"step": i, "reward/mean": i / 20, "loss": -i / 9, "lr": 1e-4} for i in range(1, 21)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metrics.jsonl").write_text(lines + '{"step": 21, "rew')
    (folder / "config.yaml").write_text(f"algorithm: grpo # {HOSTILE}\n")
    (folder / "evals" / "step_000030").mkdir()  # begun, not finished
    return folder


@pytest.fixture(scope="module")
def run_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    page = write_report([training_run(folder / "run")], folder / "r.html")
    return page.read_text(encoding="utf-8")


def test_every_tag_of_the_page_is_closed(run_page: str) -> None:
    assert len(Page(run_page).tags) > 100


def test_hostile_text_is_shown_as_it_is_and_makes_no_element(run_page: str) -> None:
    page = Page(run_page)
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert all(not key.startswith("on") for _, attrs in page.tags for key in attrs)
    assert any(
        HOSTILE.replace("\x00", "\ufffd") in text.replace("\x00", "\ufffd") for text in page.pre
    )


def test_only_its_own_script_may_run(run_page: str) -> None:
    policy = next(m for m in Page(run_page).all("meta") if "http-equiv" in m)["content"] or ""
    script = re.findall(r"<script>(.*?)</script>", run_page, re.DOTALL)[-1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_nothing_is_loaded_from_elsewhere(run_page: str) -> None:
    page = Page(run_page)
    assert not [a for _, a in page.tags if {"src", "href", "srcset"} & set(a)]
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest", run_page)


def test_a_training_run_shows_before_and_after_with_intervals_and_curves(run_page: str) -> None:
    for expected in (
        "before (step 0)",
        "after (step 20)",
        "Learning curve",
        "Training reward",
        "pass@k",
        "Completion length",
        "Outcomes",
        "could not grade 1 of 40",
        "Configuration and versions",
    ):
        assert expected in run_page, expected
    assert re.search(r'<span class="was">0\.2\d+</span>.*?1\.000', run_page)


def test_equal_input_gives_an_equal_page(tmp_path: Path) -> None:
    run = training_run(tmp_path / "run")
    first = write_report([run], tmp_path / "a.html").read_bytes()
    assert write_report([run], tmp_path / "b.html").read_bytes() == first


def test_evaluations_of_one_environment_stand_side_by_side(tmp_path: Path) -> None:
    a, b = evaluation(tmp_path / "a" / "eval", 1), evaluation(tmp_path / "b" / "eval", 3)
    other = evaluation(tmp_path / "c", 3, name="others")
    text = write_report([a, b, other], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "a/eval" in text and "b/eval" in text
    assert text.count("<h1>") == 2


def test_a_run_without_evaluations_has_its_curves(tmp_path: Path) -> None:
    rows = [{"step": i, "loss": 1 / i} for i in range(1, 9)]
    rows += [
        {"step": i, "eval/accuracy": 0.5, "eval/accuracy/low": 0.4, "eval/accuracy/high": 0.6}
        for i in (0, 8)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = write_report([tmp_path], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Training loss" in text and "Held-out accuracy" in text
    Page(text)


def test_long_texts_are_cut_and_say_so(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "e", text="y" * 20_000)
    text = write_report([folder], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "15000 more characters" in text
    assert "y" * 5001 not in text


def test_rollouts_of_every_outcome_are_shown_whichever_are_rare(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "e", 4)
    text = write_report([folder], tmp_path / "r.html").read_text(encoding="utf-8")
    assert 'class="rollout" data-outcome="verifier_error"' in text


def test_what_is_no_result_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a finished evaluation"):
        write_report([tmp_path], tmp_path / "r.html")
    with pytest.raises(DataError, match="nothing to report"):
        write_report([], tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []
    evaluation(tmp_path / "e")
    with pytest.raises(UserError, match="cannot write the report"):
        write_report([tmp_path / "e"], tmp_path / "e" / "summary.json" / "r.html")


@pytest.mark.parametrize(
    "values",
    [[0, 1], [1e-4, 1e-4 + 1e-20], [-3.5, 12], [1e9, 2e9], [5, 5], [0, 0], [-1e-12, 1e-12]],
)
def test_axes_hold_their_values_and_have_distinct_ticks(values: list[float]) -> None:
    low, high = nice_range(values)
    assert low <= min(values) and max(values) <= high and low < high
    ticks = [compact(tick) for tick in nice_ticks(low, high)]
    assert 2 <= len(set(ticks)) == len(ticks) <= 12


def test_smoothing_and_thinning_by_hand() -> None:
    points = [(0.0, 0.0), (1.0, 2.0), (2.0, 4.0), (3.0, 0.0)]
    assert smooth(points, 2) == [(0.0, 0.0), (1.0, 1.0), (2.0, 3.0), (3.0, 2.0)]
    assert thin(points, 2) == [(1.0, 1.0), (3.0, 2.0)]
