"""A whole policy gradient run: policy, environments, warm start, training, report."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from rlvr.config import Component
from rlvr.distributed import ALONE, World
from rlvr.protocols import Environment
from rlvr.sharding import shard
from rlvr.trainers import objective
from rlvr.trainers.collecting import choose_verifier, make_sampler
from rlvr.trainers.components import (
    adapt,
    initial_policy,
    load_component,
    sampling_policy,
    sharded_critic,
)
from rlvr.trainers.config import EvaluationConfig, PolicyGradientConfig
from rlvr.trainers.loop import Metrics, Plan, fit
from rlvr.trainers.policy_gradient import PolicyGradientLearner
from rlvr.trainers.warm_start import check_tasks, warm_start
from rlvr.trainers.without_effect import doubts


def prepare_policy_gradient(
    config: PolicyGradientConfig, world: World = ALONE
) -> Callable[[Path, bool], None]:
    """Load everything that the run needs.

    Raises:
        UserError: something that it names cannot be loaded.
    """
    objective.check(config)
    for doubt in doubts(config) if world.is_main else ():
        print(f"warning: {doubt}", file=sys.stderr)
    environment = load_component(config.environment)
    choose_verifier(config.verifier, environment)
    held_out = load_held_out(config)
    if config.warm_start is not None:
        check_tasks(config.warm_start, environment)
    ahead = config.rollout.max_staleness > 0
    policy = initial_policy(config, world=world)
    sampled = sampling_policy(policy, world, own=ahead)
    whole = policy.copy().model if ahead and world.sharded else None
    sampler = make_sampler(config.sampler, sampled)
    if config.warm_start is None:
        adapt(policy, config)
    shard(policy.model, world)

    def job(folder: Path, resume: bool) -> None:
        nonlocal policy
        source = None
        if config.warm_start is not None:
            place = folder / "warm_start"
            source = str(place / "policy")
            warm_start(config, policy, sampled, environment, place, resume=resume, world=world)
            if config.lora is not None and world.sharded:
                policy = initial_policy(config, source, world)  # matrices come before sharding
                adapt(policy, config)
                shard(policy.model, world)
            else:
                adapt(policy, config)
        reference = None
        if config.objective.kl_coefficient > 0 and config.lora is None:
            reference = initial_policy(config, source, world)
            shard(reference.model, world)
        learner = PolicyGradientLearner(
            config,
            policy=policy,
            reference=reference,
            environment=environment,
            held_out=held_out,
            sampler=sampler,
            folder=folder,
            whole=whole,
            critic=sharded_critic(config, source, world),
            world=world,
        )
        try:
            plan = make_plan(config, folder, config.algorithm)
            fit(learner, plan, resume=resume, world=world)
        finally:
            learner.close()
        if world.is_main:
            announce(folder, config)

    return job


def load_held_out(config: PolicyGradientConfig) -> Environment | None:
    """The environment of evaluations: the configured one, or the training one's test split."""
    if config.evaluation is None:
        return None
    if config.evaluation.environment is not None:
        return load_component(config.evaluation.environment)
    options = {**config.environment.options, "split": "test"}
    return load_component(Component(name=config.environment.name, **options))


def make_plan(config: PolicyGradientConfig, folder: Path, name: str) -> Plan:
    """When the loop evaluates and saves."""
    evaluation: EvaluationConfig | None = config.evaluation
    return Plan(
        name=name,
        folder=folder,
        steps=config.steps,
        evaluate_every=None if evaluation is None else evaluation.every,
        checkpoint_every=config.checkpoint.every,
        keep=config.checkpoint.keep,
        tracking=config.tracking,
    )


def announce(folder: Path, config: PolicyGradientConfig) -> None:
    """Write the report, and say what the run came to."""
    from rlvr.evals.report import write_report
    from rlvr.tracking import read_jsonl

    report = write_report([folder], folder / "report.html")
    rows = [row for row in read_jsonl(folder / "metrics.jsonl") if "eval/pass@1" in row]
    if rows and config.evaluation is not None:
        for k in config.evaluation.k:
            print(f"pass@{k}: {show(rows[0], k)} before, {show(rows[-1], k)} after")
    print(f"policy: {folder / 'policy'}")
    print(f"report: {report}")


def show(row: Metrics, k: int) -> str:
    """`0.412 [0.380, 0.445]`."""
    name = f"eval/pass@{k}"
    return f"{row[name]:.3f} [{row[name + '/low']:.3f}, {row[name + '/high']:.3f}]"
