"""Runs whose batches are made ahead: the plain loop at 0, repeatable above, and ended well."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from warmed import Warmed

import rlvr
from rlvr.batch import Batch
from rlvr.errors import SamplerError
from rlvr.forward import score_tokens
from rlvr.policy import make_policy
from rlvr.registry import environments
from rlvr.rollout_table import read_rollouts
from rlvr.samplers.hf import HFSampler
from rlvr.tracking import read_jsonl
from rlvr.trainers.config import PolicyGradientConfig, parse_config
from rlvr.trainers.policy_gradient import PolicyGradientLearner
from rlvr.trainers.policy_update import PolicyUpdate

TINY: dict[str, Any] = {
    "algorithm": "dapo",
    "policy": "new",
    "new_policy": {"hidden_size": 16, "layers": 1, "heads": 2, "alphabet": "0123456789+=A: \n"},
    "environment": {"name": "arithmetic", "digits": 1, "size": 40},
    "verifier": {"name": "regex", "pattern": ".*[0-4].{1,7}"},
    "sampling": {"max_new_tokens": 8},
    "objective": {"mini_batches": 1},
    "optimizer": {"lr": 1e-2},
    "evaluation": None,
    "steps": 6,
}


def mapping(output: Path, staleness: int, **changes: Any) -> dict[str, Any]:
    rollout = {"tasks_per_step": 4, "group_size": 4, "workers": 1, "save_every": 1}
    return {
        **TINY,
        "output": str(output),
        "rollout": {**rollout, "max_staleness": staleness},
        **changes,
    }


def learner(folder: Path, staleness: int) -> PolicyGradientLearner:
    """A learner whose verdicts need no other process."""
    config = parse_config(mapping(folder, staleness, verifier=None), "test")
    assert isinstance(config, PolicyGradientConfig)
    folder.mkdir(exist_ok=True)
    policy = make_policy(**config.new_policy.model_dump(), seed=config.seed)
    made = PolicyGradientLearner(
        config,
        policy=policy,
        reference=None,
        environment=environments.create("arithmetic", config.environment.options),
        held_out=None,
        sampler=HFSampler(policy=policy.copy() if staleness else policy),
        folder=folder,
    )
    made.source.verify = (
        lambda pairs: [  # type: ignore[method-assign]
            rlvr.Verdict.correct() if completion.text[:1] in "01234" else rlvr.Verdict.wrong("no")
            for _, completion in pairs
        ]
    )
    return made


def weights(one: PolicyGradientLearner) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in one.policy.model.parameters()])


def test_without_staleness_it_is_the_plain_loop(tmp_path: Path) -> None:
    """Collecting and learning by turns, without a pipeline, comes to the same bit for bit."""
    one, plain = learner(tmp_path / "one", 0), learner(tmp_path / "plain", 0)
    for step in range(1, 5):
        metrics = one.step(step)
        collected = plain.source.collect(step, plain.optim.updates)
        expected = plain.learn(collected.groups, step)
        assert expected["grad_norm"] > 0
        assert {name: metrics[name] for name in expected} == expected
    assert torch.equal(weights(one), weights(plain))


@pytest.mark.parametrize("staleness", [1, 2])
def test_how_fast_anything_goes_changes_nothing(
    tmp_path: Path, staleness: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slow sampling with quick updates, and the other way round, against neither."""
    results = []
    for slow in (None, HFSampler, PolicyUpdate):
        name = "sample" if slow is HFSampler else "update"
        with monkeypatch.context() as patch:
            if slow is not None:
                patch.setattr(slow, name, delayed(getattr(slow, name)))
            one = learner(tmp_path / str(slow), staleness)
            results.append(([one.step(step) for step in range(1, 7)], weights(one)))
            one.close()
    for metrics, after in results[1:]:
        assert metrics == results[0][0]
        assert torch.equal(after, results[0][1])
    ages = [row["staleness/mean"] for row in results[0][0]]
    assert ages == [min(step - 1, staleness) for step in range(1, 7)]


def delayed(plain: Any) -> Any:
    draw = random.Random(0)

    def slow(*args: Any, **kwargs: Any) -> Any:
        time.sleep(draw.uniform(0.0, 0.05))
        return plain(*args, **kwargs)

    return slow


def test_sampling_and_updating_leave_the_global_random_states_alone(tmp_path: Path) -> None:
    """Two threads that drew from one state would draw in an order that the clock decides."""
    before = (torch.get_rng_state(), random.getstate())
    one = learner(tmp_path, 1)
    for step in (1, 2, 3):
        one.step(step)
    one.close()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_the_ratio_is_to_the_policy_that_sampled(tmp_path: Path) -> None:
    one = learner(tmp_path, 1)
    one.step(1)
    batches: list[Batch] = []
    update = one.updating.update

    def watched(batch: Batch, *rest: Any) -> Any:
        scores = score_tokens(one.policy.model, batch).logprobs
        ratio = (scores - batch.sampler_logprobs[batch.loss_mask]).exp().mean().item()
        metrics = update(batch, *rest)
        assert abs(ratio - 1.0) > 1e-4, "the policy has moved since it sampled"
        assert metrics["policy/ratio"] == pytest.approx(ratio, rel=1e-5)
        batches.append(batch)
        return metrics

    one.updating.update = watched  # type: ignore[method-assign]
    one.step(2)
    one.close()
    assert batches


def write(folder: Path, **changes: Any) -> Path:
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(mapping(folder, **changes)))
    return file


@pytest.mark.parametrize("staleness", [0, 1])
def test_a_sampler_that_fails_ends_the_run_with_its_error(
    tmp_path: Path, staleness: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, calls = HFSampler.sample, []

    def failing(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 12:
            raise SamplerError("the engine died")
        return plain(*args, **kwargs)

    monkeypatch.setattr(HFSampler, "sample", failing)
    with pytest.raises(SamplerError, match="the engine died"):
        rlvr.train(write(tmp_path / "run", staleness=staleness))
    assert not [thread for thread in threading.enumerate() if thread.name == "rollouts"]
    monkeypatch.undo()
    rlvr.train(tmp_path / "run.yaml", resume=True)
    rows = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 7))


@pytest.mark.slow
@pytest.mark.parametrize(("staleness", "parts"), [(0, 1), (1, 1), (0, 2), (1, 2)])
def test_ctrl_c_ends_a_run_promptly_with_all_its_processes(
    warmed: Warmed, tmp_path: Path, staleness: int, parts: int
) -> None:
    """While verdicts take 100 s each, of which 30 s are allowed."""
    config = mapping(tmp_path / "run", staleness, verifier="sleepy")
    config["rollout"]["parts"] = parts
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    began = tmp_path / "began"
    started = warmed.start("sleepy:train", str(tmp_path / "run.yaml"), str(began))
    (process,) = started.pids
    try:
        wait_until(began.exists, 60)
        time.sleep(0.5)
        os.kill(process, signal.SIGINT)
        interrupted = time.monotonic()
        ended = warmed.wait(started, 60)
        assert time.monotonic() - interrupted < 15
        assert "KeyboardInterrupt" in ended.output
        wait_until(lambda: not group_lives(process), 10)
    finally:
        if group_lives(process):
            os.killpg(process, signal.SIGKILL)


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(done: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_rollouts_of_a_run_have_seeds_of_their_own(tmp_path: Path) -> None:
    """Also where groups are refilled in several rounds: equal seeds would be equal samples."""
    rlvr.train(write(tmp_path / "run", staleness=1, objective={"epochs": 2, "mini_batches": 1}))
    seeds, rounds = [], 0.0
    for step in range(1, 7):
        path = tmp_path / "run" / "rollouts" / f"step_{step:06d}.parquet"
        seeds += [rollout.seed for rollout in read_rollouts(path)]
    for row in read_jsonl(tmp_path / "run" / "metrics.jsonl"):
        rounds = max(rounds, row["sampling/rounds"])
    assert rounds > 1
    assert len(seeds) >= 96 and len(set(seeds)) == len(seeds)
