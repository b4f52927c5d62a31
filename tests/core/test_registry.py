"""The registry: names, nearest names, options, local files, entry points."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import rlvr
from rlvr import registry
from rlvr.errors import ConfigError, UnknownNameError, UserError
from rlvr.registry import Registry, check_options


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'math'"):
        rlvr.load_verifier("maths")


def test_an_unknown_option_suggests_the_nearest() -> None:
    def factory(*, tolerance: float = 0.0) -> None: ...

    with pytest.raises(ConfigError, match=r"no option 'tolerence'; did you mean 'tolerance'"):
        check_options(factory, {"tolerence": 1}, "verifier 'x'")


def test_a_missing_option_is_named() -> None:
    def factory(pattern: str) -> None: ...

    with pytest.raises(ConfigError, match="needs the option 'pattern'"):
        check_options(factory, {}, "verifier 'x'")


def test_a_name_is_taken_once_but_a_cell_may_run_twice() -> None:
    names: Registry = Registry("thing", "rlvr.nothing", {})

    def first() -> None: ...

    def second() -> None: ...

    names.register("a", first)
    names.register("a", first)
    with pytest.raises(ConfigError, match="registered already"):
        names.register("a", second)


def test_every_builtin_name_loads() -> None:
    for kind in (registry.verifiers, registry.environments, registry.samplers, registry.sandboxes):
        for name in kind._builtins:
            if name != "vllm":
                assert callable(kind.get(name)), name
                assert kind.describe(name), f"{kind.kind} {name} says nothing of itself"


def test_a_verifier_in_a_local_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        textwrap.dedent(
            '''
            import rlvr

            @rlvr.verifier("shouts")
            def shouts(completion: str, *, minimum: int = 1) -> bool:
                """Enough exclamation marks."""
                return completion.count("!") >= minimum
            '''
        )
    )
    verifier = rlvr.load_verifier(f"{file}:shouts", minimum=2)
    task = rlvr.Task(id="t", prompt="p")
    assert verifier.verify(task, "oh!!").reward == 1.0
    assert verifier.verify(task, "oh!").reward == 0.0


def test_a_local_file_that_is_missing_is_one_clear_error() -> None:
    with pytest.raises(UserError, match="no file"):
        rlvr.load_environment("./nowhere.py:thing")


def test_a_local_file_that_does_not_import_says_why(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("1 / 0\n")
    with pytest.raises(UserError, match="ZeroDivisionError"):
        rlvr.load_environment(f"{file}:thing")


def test_a_separate_package_registers_through_an_entry_point(tmp_path: Path) -> None:
    """A distribution on the path is found by its metadata alone, without an import before use."""
    (tmp_path / "rhymes.py").write_text(
        textwrap.dedent(
            '''
            import rlvr

            @rlvr.verifier("rhymes")
            def rhymes(completion: str, answer: str) -> bool:
                """The last two letters agree."""
                return completion[-2:] == answer[-2:]
            '''
        )
    )
    metadata = tmp_path / "rhymes-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: rhymes\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[rlvr.verifiers]\nrhymes = rhymes:rhymes\n")
    program = (
        "import rlvr; v = rlvr.load_verifier('rhymes'); t = rlvr.Task(id='t', prompt='', "
        "answer='night'); assert v.verify(t, 'light').reward == 1.0; "
        "assert v.verify(t, 'dark').reward == 0.0; print(v.name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "rhymes"
