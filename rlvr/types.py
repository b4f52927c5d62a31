"""The nouns of rlvr: task, completion, verdict, rollout, group. Standard library only.

    Task -> Completion -> Verdict -> Rollout -> RolloutGroup -> Batch (rlvr.batch) -> loss

Three things are kept apart everywhere: a wrong answer (reward 0), a truncated or unparsable answer
(reward 0 with its own outcome), and a verifier that could not do its job (reward `None`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypedDict


class Message(TypedDict):
    """One chat message, as OpenAI-compatible servers and chat templates take it."""

    role: str
    content: str


Prompt = str | Sequence[Message]
"""A prompt is plain text, or chat messages that the policy's chat template renders."""


class Outcome(StrEnum):
    """What became of an answer. All but `VERIFIER_ERROR` are the policy's doing."""

    CORRECT = "correct"
    INCORRECT = "incorrect"
    PARTIAL = "partial"
    NO_ANSWER = "no_answer"
    TRUNCATED = "truncated"
    WRONG_FORMAT = "wrong_format"
    RUNTIME_ERROR = "runtime_error"
    COMPILE_ERROR = "compile_error"
    TIMEOUT = "timeout"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
    FORBIDDEN = "forbidden"
    VERIFIER_ERROR = "verifier_error"


class FinishReason(StrEnum):
    """Why a sampler stopped."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"


class RolloutStatus(StrEnum):
    """`TRUNCATED` ran into the token limit; `ERROR` has no reward and trains nothing."""

    COMPLETED = "completed"
    TRUNCATED = "truncated"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One problem. `answer` is the ground truth: no sampler and no sandbox ever sees it."""

    id: str
    prompt: Prompt
    answer: Any = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prompt_text(self) -> str:
        """The prompt as one string; of chat messages, their contents joined by blank lines."""
        if isinstance(self.prompt, str):
            return self.prompt
        return "\n\n".join(message["content"] for message in self.prompt)


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """One answer of the policy.

    Attributes:
        text: the decoded completion, special tokens left out.
        token_ids: the sampled ids, the end-of-sequence id included; empty where unknown.
        logprobs: natural-log probabilities of `token_ids` under the engine that sampled them, at
            the sampling temperature; same length as `token_ids`, or empty where unknown.
        prompt_token_ids: the ids that the engine was given; empty where unknown.
        finish_reason: `stop`, `length` or `abort`.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    prompt_token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason = FinishReason.STOP


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a completion is worth.

    Attributes:
        reward: usually in [0, 1]; `None` only when the verifier could not do its job, which leaves
            the completion out of the loss and of every metric.
        outcome: why, as one of a closed set.
        reason: the same in words for a person; one line.
        extracted: the answer that was found in the completion, where one was.
        metrics: named parts of the reward and other numbers worth tracking.
        seconds: wall time spent on verifying.
        details: more on how the verdict came about, as plain JSON, such as each test's result. It
            is for people and tools; what of it a policy may see is the environment's choice. Two
            verdicts are equal whatever their details.
    """

    reward: float | None
    outcome: Outcome
    reason: str = ""
    extracted: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    details: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "outcome", Outcome(self.outcome))
        if (self.reward is None) != (self.outcome is Outcome.VERIFIER_ERROR):
            raise ValueError(
                f"verdict has reward {self.reward!r} with outcome {self.outcome.value!r}: "
                "a reward is None exactly when the outcome is 'verifier_error'"
            )

    @classmethod
    def correct(cls, reason: str = "", **fields: Any) -> Verdict:
        """Reward 1."""
        return cls(reward=1.0, outcome=Outcome.CORRECT, reason=reason, **fields)

    @classmethod
    def wrong(
        cls, reason: str = "", outcome: Outcome = Outcome.INCORRECT, **fields: Any
    ) -> Verdict:
        """Reward 0, for a reason that is the policy's doing."""
        return cls(reward=0.0, outcome=outcome, reason=reason, **fields)

    @classmethod
    def error(cls, reason: str, **fields: Any) -> Verdict:
        """No reward: the verifier itself failed."""
        return cls(reward=None, outcome=Outcome.VERIFIER_ERROR, reason=reason, **fields)

    @property
    def is_error(self) -> bool:
        """Whether the verifier failed, so that there is no reward."""
        return self.reward is None

    @property
    def is_correct(self) -> bool:
        """Whether this counts as solved in pass@k: the outcome is `correct`."""
        return self.outcome is Outcome.CORRECT

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, with the keys in a fixed order."""
        return {
            "reward": self.reward,
            "outcome": self.outcome.value,
            "reason": self.reason,
            "extracted": self.extracted,
            "metrics": dict(self.metrics),
            "seconds": self.seconds,
            "details": dict(self.details),
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Verdict:
        """The inverse of `to_dict`."""
        names = {item.name for item in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in row.items() if key in names})


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """One completion of one task, with its verdict.

    Attributes:
        task: the problem.
        completion: what the policy answered.
        verdict: what it is worth.
        policy_version: how many optimiser steps the sampling policy had behind it.
        seed: the seed that this completion's random draws came from.
    """

    task: Task
    completion: Completion
    verdict: Verdict
    policy_version: int = 0
    seed: int = 0

    @property
    def reward(self) -> float | None:
        """The verdict's reward."""
        return self.verdict.reward

    @property
    def status(self) -> RolloutStatus:
        """Error before truncated before completed."""
        if self.verdict.is_error:
            return RolloutStatus.ERROR
        if self.completion.finish_reason is FinishReason.LENGTH:
            return RolloutStatus.TRUNCATED
        return RolloutStatus.COMPLETED


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutGroup:
    """The rollouts of one task, among which advantages are compared.

    Attributes:
        task: the problem.
        rollouts: what the policy answered, sampled.
        greedy: its likeliest answer, whose reward is a baseline (ReMax) and which does not train;
            `None` where not asked for.
    """

    task: Task
    rollouts: tuple[Rollout, ...]
    greedy: Rollout | None = None

    @property
    def graded(self) -> tuple[Rollout, ...]:
        """The rollouts that have a reward."""
        return tuple(rollout for rollout in self.rollouts if rollout.reward is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingParams:
    """How to sample.

    Attributes:
        max_new_tokens: at most this many tokens a completion (the end of sequence counts).
        temperature: 0 is greedy.
        top_p: nucleus mass in (0, 1].
        top_k: keep the k likeliest tokens; 0 keeps all.
        stop: texts that end a completion and are cut from it.
    """

    max_new_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
