"""Programs in other languages: built and run in the sandbox, each file with its ending on top.

// status: ok                    how the built program ends (`RunStatus`)
// build: compile_error | ...    how building ends, where it fails
// says: "expected"              what the compiler's message holds (a JSON string)
// stdin: "1 2\n"                what the program reads
// output: "3\n"                 what it writes
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from rlvr.errors import SandboxError, UnknownNameError
from rlvr.sandbox import BuildFailed, Limits, LocalSandbox, Program, RunStatus
from rlvr.sandbox.languages import LANGUAGES, find_language, job_of
from rlvr.sandbox.toolchains import host_tools, missing_tools, probe_languages

pytestmark = [pytest.mark.sandbox, pytest.mark.languages, pytest.mark.slow]

FILES = sorted((Path(__file__).parent / "languages").glob("*.txt"))
LANGUAGE_OF = {"sh": "bash"}
SLOW = ("bomb_", "memory_", "time_", "output_")
RUN_LIMITS = Limits(cpu_seconds=5, wall_seconds=20, memory_bytes=256 << 20, output_bytes=1 << 20)
BUILD_LIMITS = Limits(
    cpu_seconds=20, wall_seconds=60, memory_bytes=512 << 20, processes=128, file_bytes=64 << 20
)


@pytest.fixture(scope="module")
def sandbox():
    with LocalSandbox(slots=1) as made:
        yield made


def is_here(sandbox: LocalSandbox, language: str) -> bool:
    return all(tool in sandbox.tools for tool in LANGUAGES[language].tools)


def need(sandbox: LocalSandbox, language: str) -> None:
    try:
        missing_tools(LANGUAGES[language], sandbox.tools, sandbox.name)
    except SandboxError as error:
        pytest.skip(str(error))


def parameters():
    for path in FILES:
        slow = path.name.startswith(SLOW) or path.name.endswith((".java.txt", ".rs.txt", ".go.txt"))
        name = path.name.removesuffix(".txt")
        yield pytest.param(path, id=name, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize("path", parameters())
def test_each_program_ends_as_it_says(sandbox, path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    header = dict(re.findall(r"^(?://|#) ([a-z]+): (.+)$", source, re.MULTILINE))
    extension = path.name.split(".")[-2]
    language = find_language(LANGUAGE_OF.get(extension, extension))
    need(sandbox, language)
    if "build" in header:
        with pytest.raises(BuildFailed) as caught:
            sandbox.build(source, language, BUILD_LIMITS)
        assert caught.value.result.status in header["build"].split(" | "), caught.value
        assert json.loads(header.get("says", '""')) in str(caught.value)
        return
    program = sandbox.build(source, language, BUILD_LIMITS)
    result = sandbox.run(program, json.loads(header.get("stdin", '""')).encode(), RUN_LIMITS)
    assert result.status == header["status"], result
    if "output" in header:
        assert result.stdout.decode() == json.loads(header["output"]), result


def test_the_sandbox_is_clean_afterwards(sandbox) -> None:
    program = sandbox.build("ls -A /tmp /dev/shm; ls -d /proc/[0-9]* | wc -l", "bash")
    assert sandbox.run(program).stdout == b"/dev/shm:\n\n/tmp:\nmain.sh\n3\n"


def test_one_build_serves_many_runs(sandbox) -> None:
    need(sandbox, "c")
    source = '#include <stdio.h>\nint main(void) { puts(fopen("x", "w") ? "new" : "old"); }'
    program = sandbox.build(source, "c")
    results = list(sandbox.run_each(program, [b""] * 3))
    assert [result.stdout for result in results] == [b"new\n"] * 3


def test_files_and_arguments_reach_a_program(sandbox) -> None:
    program = sandbox.build('cat "$1" folder/b', "bash")
    given = program.given({"a": b"A", "folder/b": b"B"}, ("a",))
    assert sandbox.run(given).stdout == b"AB"
    assert sandbox.run(program).status is RunStatus.NONZERO_EXIT


def test_python_is_a_language_too(sandbox) -> None:
    program = sandbox.build("print(int(input()) + 1)", "py")
    assert sandbox.run(program, b"41").stdout == b"42\n"
    assert job_of(program, Limits()) == job_of("print(int(input()) + 1)", Limits())
    with pytest.raises(ValueError, match="given its files by its source"):
        program.given({}, ())


def test_headers_lie_beside_the_source(sandbox) -> None:
    need(sandbox, "c")
    program = sandbox.build(
        '#include "answer.h"\nint main(void) { return ANSWER; }',
        "c",
        files={"answer.h": b"#define ANSWER 42\n"},
    )
    assert sandbox.run(program).exit_code == 42


def test_a_result_that_is_too_large_is_the_sources_fault(sandbox) -> None:
    need(sandbox, "c")
    with pytest.raises(BuildFailed, match="larger than") as caught:
        sandbox.build("char data[40 << 20] = {1};\nint main(void) { return data[1]; }", "c")
    assert caught.value.result.status is RunStatus.COMPILE_ERROR


def test_a_missing_tool_chain_is_no_fault_of_the_program(sandbox) -> None:
    with pytest.raises(SandboxError, match="'go' is not present in sandbox 'local'"):
        missing_tools(LANGUAGES["go"], {}, "local")
    absent = Program("c", ("/usr/bin/absent",), {})
    with pytest.raises(SandboxError, match="could not start a built program: /usr/bin/absent"):
        sandbox.run(absent)
    assert sandbox.run("print(1)").ok


def test_an_unknown_language_names_the_known_ones(sandbox) -> None:
    assert find_language("C++") == "cpp"
    with pytest.raises(UnknownNameError, match="did you mean 'javascript'"):
        sandbox.build("", "javascrip")


@pytest.mark.slow
def test_the_probe_says_which_languages_are_there(sandbox) -> None:
    found = {status.name: status for status in probe_languages(sandbox)}
    assert list(found) == ["python", *LANGUAGES]
    assert found["python"].present and found["bash"].present
    for status in found.values():
        assert status.present or status.absent, status
        assert status.absent == ("not present" in status.detail), status


def test_a_tool_chain_that_does_not_work_is_told_from_one_that_is_absent() -> None:
    with LocalSandbox(slots=1) as made:
        made._tools = {"gcc": "/usr/bin/true", "bash": "/usr/bin/false"}
        found = {status.name: status for status in probe_languages(made)}
    assert found["java"].absent and not found["java"].present
    assert not found["c"].absent and not found["c"].present
    assert not found["bash"].absent and not found["bash"].present


def test_only_the_tool_chain_is_shown_of_a_home_folder(sandbox) -> None:
    source = "import os\nprint(sorted(os.listdir('/root/.rustup')), os.path.exists('/root/.cargo'))"
    if not any("/.rustup/" in folder for folder in host_tools().shown):
        pytest.skip("no tool chain of rustup is here")
    shown = sandbox.run(source.replace("/root", str(Path.home()))).stdout
    assert shown == b"['toolchains'] False\n"


ORDINARY = """
import sys
sys.path.insert(0, sys.argv[1])
from rlvr.sandbox import BuildFailed, LocalSandbox
with LocalSandbox(slots=1) as sandbox:
    for language in sys.argv[2:]:
        hello = __import__("rlvr.sandbox.languages").sandbox.languages.LANGUAGES[language].hello
        print(language, sandbox.run(sandbox.build(hello, language)).stdout.decode().strip())
"""


@pytest.mark.slow
def test_programs_are_built_and_run_by_an_ordinary_user_too(sandbox, ordinary_user) -> None:
    folder, prefix = ordinary_user
    names = [name for name in LANGUAGES if name != "rust" and is_here(sandbox, name)]
    done = subprocess.run(
        [*prefix, "/usr/bin/python3", "-c", ORDINARY, str(folder), *names],
        capture_output=True,
        text=True,
        cwd="/",
        timeout=120,
    )
    assert done.stdout.splitlines() == [f"{name} hello" for name in names], done.stderr


INCLUDES = """
import sys
sys.path.insert(0, sys.argv[1])
from rlvr.sandbox import BuildFailed, Limits, LocalSandbox
with LocalSandbox(slots=1) as sandbox:
    for number in range(12):
        source = f'#include "/proc/1/fd/{number}"\\nint main() {{ return 0; }}'
        try:
            sandbox.build(source, "c", Limits(wall_seconds=1))
        except BuildFailed:
            pass
        print(number)
"""


@pytest.mark.slow
def test_no_include_turns_a_build_into_a_failure_of_ours(sandbox, ordinary_user) -> None:
    """Where zygote and programs are one user, a compiler could read what its guard had written."""
    need(sandbox, "c")
    folder, prefix = ordinary_user
    done = subprocess.run(
        [*prefix, "/usr/bin/python3", "-c", INCLUDES, str(folder)],
        capture_output=True,
        text=True,
        cwd="/",
        timeout=120,
    )
    assert done.stdout.split() == [str(number) for number in range(12)], done.stderr[-500:]
