"""Dynamic sampling with refill, oversampling and a bound; greedy baselines; the curriculum."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from learners import group, learner

from rlvr.errors import ConfigError, RlvrError
from rlvr.rollouts import Collected, collect, is_informative
from rlvr.trainers.collecting import within_bound
from rlvr.trainers.config import CurriculumConfig, RolloutConfig
from rlvr.trainers.curriculum import Curriculum
from rlvr.types import RolloutGroup, Task


def rounds_of(
    *rewards: list[list[float]],
) -> tuple[Callable[[int, int], list[RolloutGroup]], list[int]]:
    """A round function that gives out groups in turn, and the list of what it was asked for."""
    asked: list[int] = []
    stock = [group(f"t{i}", row) for i, row in enumerate(r for part in rewards for r in part)]

    def next_round(index: int, count: int) -> list[RolloutGroup]:
        assert index == len(asked)
        asked.append(count)
        taken = stock[:count]
        del stock[:count]
        return taken

    return next_round, asked


def test_a_refill_asks_for_as_many_as_the_pass_rate_says() -> None:
    mixed, equal = [0.0, 1.0], [0.0, 0.0]
    next_round, asked = rounds_of([mixed, equal, equal, equal], [mixed] * 20)
    collected = collect(4, next_round, keep=is_informative, max_rounds=5)
    assert asked == [4, 4]  # 3 missing at a pass rate of 1/4 are 12, bounded by the batch
    assert collected.is_full and len(collected.groups) == 4


def test_oversampling_takes_fewer_rounds_and_keeps_the_first() -> None:
    mixed, equal = [0.0, 1.0], [1.0, 1.0]
    next_round, asked = rounds_of([equal, mixed] * 10)
    collected = collect(4, next_round, keep=is_informative, max_rounds=5, oversampling=2.0)
    assert asked == [8]
    assert [one.task.id for one in collected.groups] == ["t1", "t3", "t5", "t7"]


@pytest.mark.parametrize("noise", [1e-16, 1e-12])
def test_float_noise_in_equal_rewards_is_no_signal(noise: float) -> None:
    """A threshold on the std let such groups through elsewhere (trl#3708, OpenRLHF#1272)."""
    third = 0.1 + 0.2
    assert not is_informative(group("t", [0.3, third, 0.3 + noise]))
    assert is_informative(group("t", [0.3, 0.31]))


def test_a_greedy_rollout_and_named_parts_are_signals_too() -> None:
    assert not is_informative(group("t", [1.0, 1.0], greedy=1.0))
    assert is_informative(group("t", [1.0, 1.0], greedy=0.0))
    assert is_informative(group("t", [1.0]), ()) is False


def half_full(groups: int) -> Collected:
    found = [group(f"t{i}", [0.0, 1.0]) for i in range(groups)]
    return Collected(groups=found, sampled=found, rounds=3, wanted=4)


@pytest.mark.parametrize(("choice", "left"), [("train", 2), ("skip", 0)])
def test_what_happens_at_the_bound_is_chosen_and_said(
    choice: str, left: int, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = RolloutConfig(at_bound=choice)  # type: ignore[arg-type]
    groups, metrics = within_bound(half_full(2), settings, step=7)
    assert len(groups) == left and metrics == {"sampling/at_bound": 1.0}
    said = capsys.readouterr().err
    assert "step 7: 3 rounds" in said and "2 of 4 groups" in said
    assert ("skipped" in said) == (choice == "skip")
    assert within_bound(half_full(4), settings, step=8)[1] == {"sampling/at_bound": 0.0}
    assert capsys.readouterr().err == ""


def test_the_bound_can_stop_the_run() -> None:
    with pytest.raises(RlvrError, match=r"step 7: .* 2 of 4 groups .* raise rollout.max_rounds"):
        within_bound(half_full(2), RolloutConfig(at_bound="stop"), step=7)


def test_skipping_leaves_the_weights_alone(tmp_path: Path) -> None:
    rollout = {"at_bound": "skip", "max_rounds": 1, "dynamic_sampling": True, "group_size": 2}
    one = learner(tmp_path, rollout=rollout)
    metrics = one.step(1)
    assert metrics["sampling/at_bound"] == 1.0
    assert one.optim.updates == 0 and "loss" not in metrics


def test_remax_samples_one_greedy_rollout_a_task_which_does_not_train(tmp_path: Path) -> None:
    one = learner(tmp_path, objective={"advantage": "remax"}, rollout={"group_size": 1})
    collected = one.source.collect(1, 0)
    assert all(found.greedy is not None for found in collected.groups)
    assert all(len(found.rollouts) == 1 for found in collected.groups)
    again = one.source.sampler.sample(
        [found.task.prompt for found in collected.groups],
        one.config.sampling.params().__class__(max_new_tokens=6, temperature=0.0),
        seeds=[9] * 4,
    )
    for found, completion in zip(collected.groups, again, strict=True):
        assert found.greedy is not None and found.greedy.completion.text == completion.text
    metrics = one.learn(collected.groups, 1)
    assert metrics["loss"] == metrics["loss"]


def tasks(count: int) -> list[Task]:
    return [Task(id=f"t{i}", prompt=f"{i}", answer="") for i in range(count)]


def test_a_curriculum_prefers_what_is_neither_solved_nor_hopeless() -> None:
    settings = CurriculumConfig(uniform=0.25, floor=0.05)
    curriculum = Curriculum(tasks(90), settings, seed=3)
    seen = {task.id: 0 for task in curriculum.tasks}

    def rate(task: Task) -> list[float | None]:
        kind = int(task.id[1:]) % 3
        return [[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]][kind]

    for step in range(120):
        drawn = curriculum.take(12)
        assert len({task.id for task in drawn}) == 12
        curriculum.observe([group(task.id, rate(task)) for task in drawn])
        if step >= 30:
            for task in drawn:
                seen[task.id] += 1
    by_kind = [[seen[f"t{i}"] for i in range(k, 90, 3)] for k in range(3)]
    hopeless, middling, solved = (sum(kind) / 30 for kind in by_kind)
    assert middling > 3 * hopeless and middling > 3 * solved
    # Three of every twelve go round all tasks in turn: 90 steps are 3 rounds.
    assert min(seen.values()) >= 2


def test_a_curriculum_goes_on_where_its_state_was_taken() -> None:
    settings = CurriculumConfig()
    first, second = (Curriculum(tasks(40), settings, seed=3) for _ in range(2))
    for _ in range(5):
        first.observe([group(task.id, [0.0, 1.0, 1.0]) for task in first.take(8)])
    second.restore(json.loads(json.dumps(first.state())))
    for _ in range(5):
        drawn = first.take(8)
        assert drawn == second.take(8)
        for curriculum in (first, second):
            curriculum.observe([group(task.id, [0.0, 1.0]) for task in drawn])


def test_a_curriculum_larger_than_its_tasks_repeats_them() -> None:
    drawn = Curriculum(tasks(3), CurriculumConfig(), seed=0).take(8)
    assert len(drawn) == 8 and {task.id for task in drawn} == {"t0", "t1", "t2"}


def test_a_curriculum_needs_tasks_that_it_can_choose_from() -> None:
    with pytest.raises(ConfigError, match="streams its tasks"):
        Curriculum(iter(tasks(3)), CurriculumConfig(), seed=0)


def test_a_group_is_judged_by_the_rewards_that_train() -> None:
    """A verdict's own reward may differ where the parts that are weighted do not."""

    def with_metrics(rewards: list[float], formats: list[float]) -> RolloutGroup:
        made = group("t", list(rewards))
        pairs = zip(made.rollouts, formats, strict=True)
        members = [
            dataclasses.replace(
                one, verdict=dataclasses.replace(one.verdict, metrics={"format": value})
            )
            for one, value in pairs
        ]
        return dataclasses.replace(made, rollouts=tuple(members))

    only_reward = with_metrics([1.0, 0.0], [0.5, 0.5])
    assert is_informative(only_reward)
    assert is_informative(only_reward, ("reward", "format"))
    assert not is_informative(only_reward, ("format",))
    only_format = with_metrics([1.0, 1.0], [0.5, 0.0])
    assert is_informative(only_format, ("format",))
    assert not is_informative(only_format, ("reward",))
    assert not is_informative(only_format)
    assert is_informative(only_reward, ("fromat",)), "so that packing can name it"


def test_a_part_of_the_reward_that_no_verdict_has_is_named_with_dynamic_sampling_too(
    tmp_path: Path,
) -> None:
    one = learner(tmp_path, reward={"weights": {"fromat": 1.0}}, rollout={"dynamic_sampling": True})
    with pytest.raises(ConfigError, match=r"reward\.weights names 'fromat'"):
        one.step(1)


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        (
            {"algorithm": "pass_at_k", "objective": {"advantage": {"name": "pass-at-k", "k": 3}}},
            group("broken", [1.0, 0.0, None, None]),
        ),
        (
            {"algorithm": "remax"},
            dataclasses.replace(
                group("broken", [1.0, 0.0]), greedy=group("broken", [None]).rollouts[0]
            ),
        ),
    ],
)
def test_a_verifier_that_fails_takes_a_group_out_of_the_batch_and_out_of_replay(
    tmp_path: Path, changes: dict[str, Any], broken: RolloutGroup
) -> None:
    one = learner(tmp_path, replay={"groups": 4}, **changes)
    greedy = None if broken.greedy is None else 0.0
    whole = group("whole", [1.0, 0.0, 0.0, 1.0], greedy=greedy)
    assert not one.source.trains(broken)
    assert one.source.trains(whole)
    one.remember(Collected(groups=[], sampled=[broken, whole], rounds=1, wanted=1))
    assert one.replay is not None
    assert [kept.task.id for kept in one.replay.groups] == ["whole"]
    one.step(1)
