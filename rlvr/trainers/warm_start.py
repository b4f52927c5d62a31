"""The warm start: imitate worked solutions until the policy solves a stated share of tasks.

It stops on measured pass@1, because for small policies the step from hopeless to perfect is abrupt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlvr.config import Component
from rlvr.distributed import World
from rlvr.errors import ConfigError
from rlvr.policy import Policy
from rlvr.protocols import Environment, Sampler
from rlvr.rollouts import RoundSettings, roll_out
from rlvr.seeds import derive_seed
from rlvr.trainers.collecting import choose_verifier, make_sampler
from rlvr.trainers.config import PolicyGradientConfig, WarmStartConfig
from rlvr.trainers.loop import Metrics, Plan, fit
from rlvr.trainers.shared_sampler import sample_together
from rlvr.trainers.supervised import Demonstration, SupervisedLearner, worked_solution
from rlvr.types import Task
from rlvr.verifiers.pool import verify_many


def check_tasks(settings: WarmStartConfig, environment: Environment) -> Sequence[Task]:
    """The environment's tasks, if a warm start can learn from them.

    Raises:
        ConfigError: the environment's tasks are streamed, or too few.
        DataError: a task has no worked solution.
    """
    tasks = environment.tasks
    if not isinstance(tasks, Sequence) or len(tasks) <= settings.check_tasks:
        raise ConfigError(
            "warm_start needs more training tasks than warm_start.check_tasks "
            f"({settings.check_tasks}), and not streamed ones"
        )
    worked_solution(tasks[0])
    return tasks


class WorkedSolutions(Sequence[Demonstration]):
    """The worked solutions of tasks, made as they are asked for."""

    def __init__(self, tasks: Sequence[Task], start: int) -> None:
        self._tasks = tasks
        self._start = start

    def __len__(self) -> int:
        return max(0, len(self._tasks) - self._start)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        """The solution of one task."""
        return worked_solution(self._tasks[self._start + index])


def warm_start(
    config: PolicyGradientConfig,
    policy: Policy,
    sampled: Policy,
    environment: Environment,
    folder: Path,
    *,
    resume: bool,
    world: World,
) -> None:
    """Train `policy` in place on worked solutions, into `folder`.

    The first `check_tasks` training tasks are kept apart to measure pass@1 on, by sampling from
    `sampled`: `policy` itself, or a policy that takes over its weights.
    """
    settings = config.warm_start
    assert settings is not None
    tasks = check_tasks(settings, environment)
    checked = [tasks[i] for i in range(settings.check_tasks)]
    hf = make_sampler(Component(name="hf"), sampled)
    verifier = choose_verifier(config.verifier, environment)

    def measure(step: int) -> Metrics:
        hf.update_weights(policy.model)
        metrics: Metrics = sample_together(world, hf, lambda sampler: pass_rate(sampler, step))
        return metrics

    def pass_rate(sampler: Sampler, step: int) -> Metrics:
        round_settings = RoundSettings(
            group_size=1,
            params=config.sampling.params(),
            seed=derive_seed(config.seed, "warm_start", step),
        )
        groups = roll_out(
            checked,
            sampler,
            lambda pairs: verify_many(
                verifier,
                pairs,
                workers=config.rollout.workers,
                timeout=config.rollout.timeout,
            ),
            round_settings,
        )
        solved = [r.verdict.is_correct for group in groups for r in group.graded]
        return {"eval/pass@1": sum(solved) / max(1, len(solved))}

    learner = SupervisedLearner(
        policy=policy,
        demonstrations=WorkedSolutions(tasks, settings.check_tasks),
        batch_size=settings.batch_size,
        optimizer=settings.optimizer,
        steps=settings.max_steps,
        micro_batch_tokens=config.micro_batch_tokens,
        seed=config.seed,
        measure=measure,
        world=world,
    )
    plan = Plan(
        name="warm start",
        folder=folder,
        steps=settings.max_steps,
        evaluate_every=settings.check_every,
        checkpoint_every=config.checkpoint.every,
        keep=config.checkpoint.keep,
        stop=lambda metrics: metrics.get("eval/pass@1", 0.0) >= settings.stop_at,
    )
    fit(learner, plan, resume=resume, world=world)
