"""Replay: bounded in size and age, exact through a checkpoint, with the right old policy."""

from __future__ import annotations

from pathlib import Path

import torch
from learners import group, learner

from rlvr.trainers.config import ReplayConfig
from rlvr.trainers.replay import ReplayBuffer


def buffer(**settings: int) -> ReplayBuffer:
    return ReplayBuffer(ReplayConfig(**settings), seed=1)


def test_a_buffer_keeps_the_newest_of_each_task_and_forgets_the_old() -> None:
    kept = buffer(groups=10, capacity=3, max_age=4)
    kept.add([group(name, [0, 1], version=1) for name in "abc"])
    kept.add([group("a", [1, 0], version=3), group("d", [0, 1], version=3)])
    assert [one.task.id for one in kept.groups] == ["c", "a", "d"]
    drawn = kept.draw(step=1, version=6, fresh=[group("d", [0, 1])])
    assert [one.task.id for one in drawn] == ["a"]  # c is 5 updates old, d is fresh
    assert drawn[0].rollouts[0].policy_version == 3


def test_a_draw_depends_on_the_step_alone() -> None:
    kept = buffer(groups=2, capacity=9, max_age=99)
    kept.add([group(name, [0, 1]) for name in "abcdefg"])
    names = [[one.task.id for one in kept.draw(step, 0, [])] for step in range(20)]
    assert names == [[one.task.id for one in kept.draw(step, 0, [])] for step in range(20)]
    assert len({tuple(some) for some in names}) > 5


def test_a_buffer_comes_back_from_a_checkpoint_as_it_was(tmp_path: Path) -> None:
    kept, other = buffer(capacity=9), buffer(capacity=9)
    kept.add([group("a", [0, 1, None]), group("b", [1, 0], version=2, greedy=1.0)])
    kept.save(tmp_path)
    other.load(tmp_path)
    assert other.groups == kept.groups


def test_an_empty_buffer_comes_back_too(tmp_path: Path) -> None:
    kept = buffer()
    kept.save(tmp_path)
    kept.load(tmp_path)
    assert kept.groups == []


def test_replayed_tokens_take_their_ratio_to_the_policy_that_sampled_them(tmp_path: Path) -> None:
    one = learner(tmp_path, replay={"groups": 4}, optimizer={"lr": 0.05})
    for step in (1, 2, 3):
        metrics = one.step(step)
    assert metrics["sampling/replayed"] > 0
    # The policy has moved since the replayed groups were sampled: their ratios are not 1.
    assert metrics["policy/approx_kl"] > 1e-6
    fresh = one.source.collect(4, one.optim.updates).groups
    assert one.replay is not None
    old = one.replay.draw(4, one.optim.updates, fresh)
    from rlvr.trainers.experience import pack

    experience = pack(fresh, one.config, old)
    batch = one.updating.scorer.complete(experience.batch, experience.replayed)
    assert batch.old_logprobs is not None
    gap = (batch.old_logprobs - batch.sampler_logprobs).abs()[batch.loss_mask]
    replayed = experience.replayed[batch.sequence_ids][batch.loss_mask]
    assert replayed.any() and torch.equal(gap[replayed], torch.zeros_like(gap[replayed]))
    assert float(gap[~replayed].max()) < 1e-4  # sampled and scored with the same weights


def test_groups_without_a_signal_are_not_kept(tmp_path: Path) -> None:
    one = learner(tmp_path, replay={"groups": 4, "capacity": 64}, rollout={"group_size": 2})
    for step in (1, 2, 3):
        one.step(step)
    assert one.replay is not None and one.replay.groups
    for kept in one.replay.groups:
        assert len({rollout.reward for rollout in kept.rollouts}) > 1
