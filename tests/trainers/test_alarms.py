"""Alarms: histories that must and must not raise each one, and a real run that raises one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rlvr
from rlvr.tracking import read_jsonl
from rlvr.trainers.alarms import CHECKS, Alarms

Row = dict[str, Any]


def run(rows: list[Row]) -> list[tuple[int, str]]:
    """(step, name) of everything that a run with these rows raises."""
    alarms = Alarms()
    found = []
    for index, row in enumerate(rows, start=1):
        step = row.pop("step", index)
        found += [(step, alarm.name) for alarm in alarms.look(step, row)]
    return found


def steps(count: int, **values: Callable[[int], float]) -> list[Row]:
    """Rows whose values are functions of the step; `a__b` stands for `a/b`."""
    named = {name.replace("__", "/"): value for name, value in values.items()}
    return [{name: value(i) for name, value in named.items()} for i in range(1, count + 1)]


def level(value: float) -> Callable[[int], float]:
    return lambda step: value


def ramp(start: float, end: float, count: int) -> Callable[[int], float]:
    return lambda step: start + (end - start) * min(1.0, (step - 1) / (count - 1))


def test_entropy_that_is_gone_before_the_task_is_solved_raises() -> None:
    rows = steps(40, entropy=ramp(1.0, 0.01, 30), outcome__correct=ramp(0.2, 0.4, 30))
    assert [name for _, name in run(rows)] == ["entropy_collapse"]


@pytest.mark.parametrize(
    "rows",
    [
        steps(40, entropy=ramp(1.0, 0.05, 30), outcome__correct=ramp(0.2, 0.97, 30)),
        steps(40, entropy=ramp(1.0, 0.5, 30), outcome__correct=level(0.4)),
        steps(4, entropy=ramp(1.0, 0.01, 4), outcome__correct=level(0.4)),
        steps(40, entropy=lambda i: 0.01 if i == 20 else 1.0, outcome__correct=level(0.4)),
    ],
    ids=["as the answers get right", "a slow fall", "too short to say", "one odd batch"],
)
def test_entropy_that_may_be_low_raises_nothing(rows: list[Row]) -> None:
    assert run(rows) == []


def test_groups_without_signal_raise_and_say_of_which_kind() -> None:
    rows = steps(
        9,
        groups__zero_signal=lambda i: 0.9 if i > 3 else 0.2,
        groups__all_wrong=level(0.7),
        groups__all_right=level(0.2),
        reward__mean=level(0.1),
    )
    alarms = Alarms()
    raised = [a for i, row in enumerate(rows, 1) for a in alarms.look(i, row)]
    assert [(a.step, a.name) for a in raised] == [(8, "zero_signal")]
    assert "20% all right, 70% all wrong" in raised[0].seen


@pytest.mark.parametrize(("share", "reward"), [(0.7, 0.3), (1.0, 0.95)])
def test_groups_with_signal_or_solved_tasks_raise_nothing(share: float, reward: float) -> None:
    assert run(steps(30, groups__zero_signal=level(share), reward__mean=level(reward))) == []


def with_evaluations(values: list[float], rewards: list[float], width: float = 0.02) -> list[Row]:
    """Ten steps between evaluations, each with its reward."""
    rows: list[Row] = []
    for index, value in enumerate(values):
        bounds = {"eval/pass@1/low": value - width, "eval/pass@1/high": value + width}
        if index:
            rows += [
                {"step": 10 * index - 9 + i, "reward/mean": rewards[index - 1]} for i in range(10)
            ]
        rows.append({"step": 10 * index, "eval/pass@1": value, **bounds})
    return rows


def test_a_reward_that_rises_while_held_out_falls_raises() -> None:
    rows = with_evaluations([0.3, 0.5, 0.4, 0.3], [0.4, 0.6, 0.8])
    assert run(rows) == [(20, "held_out_falls")]


@pytest.mark.parametrize(
    ("values", "rewards", "width"),
    [
        ([0.3, 0.5, 0.6], [0.4, 0.8], 0.02),
        ([0.3, 0.5, 0.4], [0.4, 0.8], 0.06),
        ([0.3, 0.5, 0.4], [0.8, 0.4], 0.02),
        ([0.5], [], 0.02),
        ([0.3, math.nan, 0.1], [0.4, 0.8], 0.02),
    ],
    ids=["both rise", "within the intervals", "both fall", "one evaluation", "no value"],
)
def test_held_out_scores_that_may_move_so_raise_nothing(
    values: list[float], rewards: list[float], width: float
) -> None:
    assert run(with_evaluations(values, [*rewards, 0.0], width)) == []


def test_length_that_doubles_for_nothing_raises() -> None:
    rows = steps(40, length__mean=ramp(100, 300, 30), reward__mean=level(0.5))
    assert [name for _, name in run(rows)] == ["length_blow_up"]


@pytest.mark.parametrize(
    "rows",
    [
        steps(40, length__mean=ramp(100, 300, 30), reward__mean=ramp(0.3, 0.6, 30)),
        steps(40, length__mean=ramp(100, 180, 30), reward__mean=level(0.5)),
    ],
    ids=["the reward rises with it", "less than double"],
)
def test_length_that_may_grow_raises_nothing(rows: list[Row]) -> None:
    assert run(rows) == []


@pytest.mark.parametrize(("gap", "raised"), [(0.2, True), (0.02, False), (1e-6, False)])
def test_a_sampler_that_disagrees_raises(gap: float, raised: bool) -> None:
    names = [name for _, name in run(steps(10, **{"sampler_gap__mean": level(gap)}))]
    assert names == (["sampler_mismatch"] if raised else [])


@pytest.mark.parametrize(("share", "raised"), [(0.5, True), (0.1, False)])
def test_truncation_raises(share: float, raised: bool) -> None:
    names = [name for _, name in run(steps(10, length__truncated=level(share)))]
    assert names == (["truncation"] if raised else [])


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        (level(60), [(1, "verifier_errors")]),
        (level(8), [(5, "verifier_errors")]),
        (level(2), []),
        (lambda step: 8 if step == 3 else 0, []),
    ],
    ids=["most of a step", "a share that stays", "a few", "one step of some"],
)
def test_missing_verdicts_raise(
    errors: Callable[[int], float], expected: list[tuple[int, str]]
) -> None:
    assert run(steps(12, verifier_errors=errors, sampling__rollouts=level(100))) == expected


def test_a_gradient_that_is_not_finite_raises_at_once() -> None:
    rows = steps(6, grad_norm=lambda step: math.inf if step == 3 else 1.0)
    assert run(rows) == [(3, "gradient_not_finite")]
    assert run(steps(6, grad_norm=level(1e4))) == []


def test_a_healthy_run_raises_nothing() -> None:
    rows = steps(
        200,
        entropy=ramp(0.4, 0.05, 200),
        reward__mean=ramp(0.25, 0.95, 200),
        outcome__correct=ramp(0.25, 0.95, 200),
        length__mean=ramp(8, 9, 200),
        length__truncated=level(0.01),
        groups__zero_signal=ramp(0.3, 0.7, 200),
        sampler_gap__mean=level(2e-7),
        verifier_errors=level(0),
        sampling__rollouts=level(512),
        grad_norm=level(0.7),
    )
    assert run(rows) == []


def test_every_alarm_can_be_raised_by_a_test_here_and_says_what_to_do() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    for check in CHECKS:
        assert f'"{check.name}"' in text
        assert check.cause
        assert check.remedy


def test_a_resumed_run_raises_what_a_run_that_never_stopped_raises() -> None:
    rows = steps(40, entropy=ramp(1.0, 0.01, 30), outcome__correct=level(0.4), grad_norm=level(1.0))
    rows[5]["grad_norm"] = math.nan
    straight = run([dict(row) for row in rows])
    for stop in range(1, 40):
        written = [
            json.loads(json.dumps({"step": i, **row}).replace("NaN", "null"))
            for i, row in enumerate(rows[:stop], 1)
        ]
        first = [pair for pair in straight if pair[0] <= stop]
        alarms = Alarms(written, [name for _, name in first])
        later = [
            (i, alarm.name) for i in range(stop + 1, 41) for alarm in alarms.look(i, rows[i - 1])
        ]
        assert first + later == straight


CONFIG = """
algorithm: grpo
output: {output}
policy: new
new_policy: {{hidden_size: 16, layers: 1, heads: 2, alphabet: "0123456789+=A: \\n"}}
environment: {{name: arithmetic, digits: 1, size: 200}}
sampling: {{max_new_tokens: 8}}
rollout: {{tasks_per_step: 4, group_size: 4, workers: 1}}
evaluation: null
checkpoint: {{every: 3}}
steps: {steps}
"""


def test_a_run_of_an_untrained_policy_raises_two_alarms_once_and_resumes_with_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, output = tmp_path / "run.yaml", tmp_path / "run"
    config.write_text(CONFIG.format(output=output, steps=7))
    rlvr.train(config)
    raised = [(row["step"], row["name"]) for row in read_jsonl(output / "alarms.jsonl")]
    assert raised == [(5, "zero_signal"), (5, "truncation")]
    printed = capsys.readouterr().err
    assert printed.count("ALARM") == 2
    assert "likely cause" in printed
    assert "what to do" in printed
    config.write_text(CONFIG.format(output=output, steps=9))
    rlvr.train(config, resume=True)
    assert "ALARM" not in capsys.readouterr().err
    assert [(r["step"], r["name"]) for r in read_jsonl(output / "alarms.jsonl")] == raised
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "Alarms in training" in page
    assert "zero signal" in page
