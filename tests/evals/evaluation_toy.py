"""A sum environment and a seeded sampler for the tests of evaluation; runs as a program as well.

python evaluation_toy.py DIR SECONDS    evaluates into DIR, SECONDS a part
"""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from rlvr.environments.base import Environment, GeneratedTasks
from rlvr.evals.runner import evaluate
from rlvr.evals.summary import Summary
from rlvr.protocols import Sampler
from rlvr.types import Completion, FinishReason, Prompt, SamplingParams, Task, Verdict
from rlvr.verifiers.base import Verifier

PARAMS = SamplingParams(max_new_tokens=8)


@dataclass(frozen=True)
class SumVerifier(Verifier):
    """Right, wrong, without an answer, or (for "?") not to be graded."""

    name = "sum"

    def judge(self, task: Task, completion: Completion) -> Verdict:
        if "?" in completion.text:
            raise RuntimeError("cannot judge this")
        found = re.search(r"\d+", completion.text)
        if found is None:
            return Verdict.wrong("no number", "no_answer")  # type: ignore[arg-type]
        if int(found[0]) == task.answer:
            return Verdict.correct("equal", extracted=found[0])
        return Verdict.wrong(f"expected {task.answer}", extracted=found[0])


@dataclass(frozen=True)
class SleepingVerifier(Verifier):
    """Takes a minute."""

    name = "sleeping"

    def judge(self, task: Task, completion: Completion) -> Verdict:
        time.sleep(60)
        return Verdict.wrong("too late")


def make_task(index: int) -> Task:
    return Task(id=f"sum/{index}", prompt=f"{index}+{index}=", answer=2 * index)


def environment(size: int = 12) -> Environment:
    return Environment(name="sums", tasks=GeneratedTasks(make_task, size), verifier=SumVerifier())


@dataclass
class SeededSampler:
    """Answers drawn from each completion's seed alone, so that any part can be had alone."""

    delay: float = 0.0
    fail_at: int | None = None
    failure: BaseException = field(default_factory=KeyboardInterrupt)
    name: str = "seeded"
    calls: list[int] = field(default_factory=list)

    def sample(
        self, prompts: Sequence[Prompt], params: SamplingParams, *, seeds: Sequence[int]
    ) -> list[Completion]:
        if len(self.calls) == self.fail_at:
            raise self.failure
        self.calls.append(len(prompts))
        time.sleep(self.delay)
        return [self._one(str(p), random.Random(s)) for p, s in zip(prompts, seeds, strict=True)]

    def _one(self, prompt: str, rng: random.Random) -> Completion:
        right = 2 * int(prompt.partition("+")[0])
        text = rng.choice([str(right), str(right), str(right + 1), "I do not know", "?"])
        tokens = tuple(ord(letter) for letter in text)
        logprobs = tuple(-rng.random() for _ in tokens)
        return Completion(
            text=text,
            token_ids=tokens,
            logprobs=logprobs,
            prompt_token_ids=tuple(map(ord, prompt)),
            finish_reason=FinishReason.LENGTH if len(text) > 8 else FinishReason.STOP,
        )

    def close(self) -> None:
        pass


def run(output: str, sampler: Sampler, **changes: object) -> Summary:
    options: dict[str, object] = {
        "n": 4,
        "ks": (1, 4),
        "params": PARAMS,
        "workers": 1,
        "samples_a_part": 8,
        "seed": 3,
    }
    size = changes.pop("size", 12)
    return evaluate(
        environment(size),  # type: ignore[arg-type]
        sampler,
        output=output,
        **(options | changes),  # type: ignore[arg-type]
    )


if __name__ == "__main__":
    run(sys.argv[1], SeededSampler(delay=float(sys.argv[2])))
