"""The `code` verifier: answers in any language of the sandbox, judged by tests.

The language is the option `language`, else `task.metadata["language"]`, else the tag of the
answer's own code fence. Python answers are judged as `python_code` does, in every style; others are
built once and run on the cases of style `stdio`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlvr.errors import ConfigError, UnknownNameError, VerifierError
from rlvr.sandbox.languages import LANGUAGES, BuildFailed, find_language
from rlvr.sandbox.limits import Limits
from rlvr.types import Completion, Outcome, Task, Verdict
from rlvr.verifiers.base import verifier
from rlvr.verifiers.code_answer import checked
from rlvr.verifiers.code_extraction import extract_in_language, fence_languages
from rlvr.verifiers.code_results import ENDINGS, Tally, TestResult
from rlvr.verifiers.pool_wire import before_the_deadline
from rlvr.verifiers.python_code import PythonCodeVerifier


@verifier("code")
@dataclass(frozen=True, kw_only=True)
class CodeVerifier(PythonCodeVerifier):
    """Runs answers in any language of the sandbox against tests.

    Attributes:
        language: of the answers; by default what the task's metadata or the answer's fence says.
        build_timeout: processor seconds for compiling; by default what the language needs.

    Raises:
        UnknownNameError: there is no such language.
    """

    language: str | None = None
    build_timeout: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.language is not None:
            find_language(self.language)
        if self.build_timeout is not None and not self.build_timeout > 0:
            raise ConfigError(
                f"verifier 'code': build_timeout is {self.build_timeout!r}: expected a number "
                "above 0"
            )

    def judge(self, task: Task, completion: Completion) -> Verdict:
        """Find the code and its language, build it, run the tests.

        Raises:
            VerifierError: the answer key is malformed, the task names no language that there is, or
                the tests are broken or empty.
            SandboxError: the sandbox cannot run here, lacks the language, or failed twice.
        """
        answer = checked(task.answer)
        given = self.language or task.metadata.get("language")
        language = _known(str(given)) if given else self._chosen(completion.text, answer)
        if language is None:
            reason = "the answer has no whole code fence with the tag of a language that is present"
            return Verdict.wrong(reason, Outcome.NO_ANSWER)
        if language == "python":
            return super().judge(task, completion)
        answer = checked(answer, ("stdio",))
        source = extract_in_language(completion.text, language)
        if source is None:
            return Verdict.wrong("the answer holds no code", Outcome.NO_ANSWER)
        try:
            program = self._answers().build(source, language, self._build_limits(language))
        except BuildFailed as failure:
            tally = _not_built(failure, len(answer["cases"]))
        else:
            tally = self._run_cases(program, answer)
        return self._verdict(tally, source, "stdio", language)

    def _chosen(self, text: str, answer: Mapping[str, Any]) -> str | None:
        """The language that the answer chose: never one that would make the verifier fail."""
        if answer["style"] != "stdio":
            return "python"
        tools = getattr(self._answers(), "tools", None)
        if tools is None:
            raise VerifierError(
                f"sandbox {self.sandbox!r} does not say which languages it has: name one by the "
                "option 'language' or in the task's metadata"
            )
        for tag in reversed(fence_languages(text)):
            with contextlib.suppress(UnknownNameError):
                name = find_language(tag)
                if name == "python" or all(tool in tools for tool in LANGUAGES[name].tools):
                    return name
        return None

    def _build_limits(self, language: str) -> Limits:
        usual = LANGUAGES[language].build_limits
        seconds = self.build_timeout or usual.cpu_seconds
        return Limits(
            cpu_seconds=seconds,
            wall_seconds=before_the_deadline(3 * seconds, spare=0.3),
            memory_bytes=usual.memory_bytes,
            processes=usual.processes,
            file_bytes=usual.file_bytes,
            output_bytes=usual.output_bytes,
        )


def _known(name: str) -> str:
    try:
        return find_language(name)
    except UnknownNameError as error:
        raise VerifierError(f"the task's language: {error}") from error


def _not_built(failure: BuildFailed, total: int) -> Tally:
    result = failure.result
    outcome = ENDINGS.get(result.status, Outcome.COMPILE_ERROR)
    reason = f"while it was compiled: {failure}"
    test = TestResult(
        verdict=outcome,
        note=reason[:1000],
        cpu_seconds=round(result.cpu_seconds, 6),
        wall_seconds=round(result.wall_seconds, 6),
    )
    return Tally(0, total, outcome, reason, tests=[test], facts={"isolation": [*result.isolation]})
