"""The verifier pool: order, deadlines, deaths, threads, and nothing left behind."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

import rlvr
from rlvr.errors import ConfigError, MissingExtraError
from rlvr.types import Completion, Task, Verdict
from rlvr.verifiers.base import FunctionVerifier, Verifier
from rlvr.verifiers.pool import VerifierPool, verify_many, without_seconds

TASK = Task(id="t", prompt="p", answer="yes")


@dataclass(frozen=True)
class Obeys(Verifier):
    """Does what the completion says."""

    folder: str = ""

    name: ClassVar[str] = "obeys"
    worker_memory_bytes: ClassVar[int | None] = 512 << 20

    def judge(self, task: Task, completion: Completion) -> Verdict:
        order, _, argument = completion.text.partition(" ")
        if order == "sleep":
            time.sleep(float(argument))
        elif order == "die":
            os._exit(int(argument))
        elif order == "signal":
            os.kill(os.getpid(), int(argument))
        elif order == "die-once":
            mark = Path(self.folder, argument)
            if not mark.exists():
                mark.touch()
                os._exit(1)
        elif order == "hang-once":
            mark = Path(self.folder, argument)
            if not mark.exists():
                mark.write_text(f"{os.getpid()} ")
                time.sleep(60)
        elif order == "start":
            Path(self.folder, "pid").write_text(str(start_daemon()))
            time.sleep(60)
        elif order == "raise":
            raise ValueError(argument)
        elif order == "exit":
            sys.exit(3)
        elif order == "missing":
            raise MissingExtraError("z3", "logic", "this verifier")
        elif order == "allocate":
            bytearray(int(argument))
        elif order == "print":
            print(argument)
        elif order == "nest":
            inner = verify_many(self, [(task, "pid"), (task, "raise x")], workers=4)
            return Verdict.correct(inner[0].reason, metrics={"errors": inner[1].is_error})
        elif order == "pid":
            return Verdict.correct(str(os.getpid()))
        return Verdict.correct(order, extracted=argument)


def start_daemon() -> int:
    """A process in a session of its own whose parent has gone: its pid."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        pid = os.fork()
        if pid == 0:
            time.sleep(120)
            os._exit(0)
        os.write(writer, str(pid).encode())
        os._exit(0)
    return int(os.read(reader, 20))


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def wait_until_gone(pid: int, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not is_running(pid)


def run_script(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "script.py"
    path.write_text(textwrap.dedent(text))
    return subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=60, cwd=folder
    )


def test_verdicts_keep_the_order_of_the_items_for_any_number_of_workers() -> None:
    texts = [f"sleep {0.02 * (i % 3)}" if i % 4 else f"echo {i}" for i in range(40)]
    results = []
    for workers in (1, 3, 8):
        verdicts = verify_many(Obeys(), [(TASK, text) for text in texts], workers=workers)
        results.append([without_seconds(verdict) for verdict in verdicts])
    assert [verdict.extracted for verdict in results[0]] == [t.partition(" ")[2] for t in texts]
    assert results[0] == results[1] == results[2]


def test_an_overrun_is_cut_at_its_deadline_and_is_the_verifiers_fault() -> None:
    started = time.monotonic()
    verdicts = verify_many(
        Obeys(), [(TASK, "echo a"), (TASK, "sleep 60"), (TASK, "echo b")], timeout=0.5
    )
    assert time.monotonic() - started < 10.0
    assert [verdict.reward for verdict in verdicts] == [1.0, None, 1.0]
    assert verdicts[1].reason == "no verdict within 0.5 s"
    assert 0.5 <= verdicts[1].seconds < 2.5


def test_an_overrun_verifier_may_blame_the_policy() -> None:
    class Blames(Obeys):
        def on_timeout(self, seconds: float) -> Verdict:
            return Verdict.wrong(f"undecided after {seconds} s")

    [verdict] = verify_many(Blames(), [(TASK, "sleep 60")], timeout=0.2)
    assert (verdict.reward, verdict.reason) == (0.0, "undecided after 0.2 s")


def test_a_verifier_may_allow_itself_less_time_than_the_caller_does() -> None:
    class Hasty(Obeys):
        @property
        def time_limit(self) -> float:
            return 0.2

    [verdict] = verify_many(Hasty(), [(TASK, "sleep 60")], timeout=30)
    assert verdict.reason == "no verdict within 0.2 s"


def test_what_a_killed_worker_started_dies_with_it(tmp_path: Path) -> None:
    verify_many(Obeys(str(tmp_path)), [(TASK, "start")], timeout=0.5)
    assert wait_until_gone(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize(
    ("order", "why"), [("die 7", "exit code 7"), ("signal 11", "SIGSEGV"), ("signal 9", "SIGKILL")]
)
def test_a_worker_that_dies_twice_is_a_verifier_error(order: str, why: str) -> None:
    verdicts = verify_many(Obeys(), [(TASK, "echo a"), (TASK, order), (TASK, "echo b")])
    assert [verdict.reward for verdict in verdicts] == [1.0, None, 1.0]
    assert why in verdicts[1].reason


def test_an_item_whose_worker_died_once_is_tried_again(tmp_path: Path) -> None:
    [verdict] = verify_many(Obeys(str(tmp_path)), [(TASK, "die-once mark")])
    assert verdict.is_correct


@pytest.mark.parametrize("order", ["raise why", "exit", f"allocate {2 << 30}"])
def test_an_exception_is_a_verifier_error_and_costs_no_worker(order: str) -> None:
    with VerifierPool(Obeys(), workers=1) as pool:
        before, failed, after = pool.verify([(TASK, "pid"), (TASK, order), (TASK, "pid")])
    assert failed.is_error
    assert before.reason == after.reason


def test_a_users_mistake_is_raised_as_what_it_is() -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'rlvr\[logic\]'"):
        verify_many(Obeys(), [(TASK, "sleep 0.01"), (TASK, "missing")])
    assert verify_many(Obeys(), [(TASK, "echo a")])[0].is_correct


def test_many_threads_share_a_pool() -> None:
    results: dict[int, list[str | None]] = {}

    def grade(number: int) -> None:
        pairs = [(TASK, f"echo {number}-{i}") for i in range(30)]
        results[number] = [verdict.extracted for verdict in verify_many(Obeys(), pairs, workers=2)]

    threads = [threading.Thread(target=grade, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert results == {n: [f"{n}-{i}" for i in range(30)] for n in range(8)}


def test_a_pool_outlives_the_thread_that_started_it() -> None:
    with VerifierPool(Obeys(), workers=1) as pool:
        thread = threading.Thread(target=lambda: pool.verify([(TASK, "echo a")]))
        thread.start()
        thread.join()
        time.sleep(0.1)
        first, second = (pool.verify([(TASK, "pid")])[0].reason for _ in range(2))
    assert first == second


def test_small_batches_start_one_worker_as_long_as_it_keeps_answering(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rlvr.verifiers.pool_batch._STALL_SECONDS", 20.0)
    with VerifierPool(Obeys(), workers=8) as pool:
        pids = {verdict.reason for verdict in pool.verify([(TASK, "pid")] * 8)}
    assert len(pids) == 1


def test_slow_items_run_side_by_side() -> None:
    with VerifierPool(Obeys(), workers=8) as pool:
        pool.verify([(TASK, "echo a")])
        started = time.monotonic()
        pool.verify([(TASK, "sleep 0.5")] * 8)
    assert time.monotonic() - started < 3.0  # one after the other would take 4


def test_grading_inside_a_worker_stays_inside_it() -> None:
    outer, plain = verify_many(Obeys(), [(TASK, "nest"), (TASK, "pid")], workers=1)
    assert outer.reason == plain.reason
    assert outer.metrics == {"errors": True}


def test_on_done_hears_of_every_item_once() -> None:
    heard: list[tuple[int, str | None]] = []
    pairs = [(TASK, f"echo {i}") for i in range(20)]
    verify_many(Obeys(), pairs, on_done=lambda i, verdict: heard.append((i, verdict.extracted)))
    assert sorted(heard) == [(i, str(i)) for i in range(20)]


def test_an_exception_of_on_done_leaves_a_pool_that_works() -> None:
    def stop(index: int, verdict: Verdict) -> None:
        raise KeyboardInterrupt

    with VerifierPool(Obeys(), workers=2) as pool:
        with pytest.raises(KeyboardInterrupt):
            pool.verify([(TASK, "sleep 0.05")] * 4, on_done=stop)
        verdicts = pool.verify([(TASK, f"echo {i}") for i in range(4)])
    assert [verdict.extracted for verdict in verdicts] == ["0", "1", "2", "3"]


def test_a_pool_whose_nursery_was_killed_starts_another() -> None:
    with VerifierPool(Obeys(), workers=2) as pool:
        pool.verify([(TASK, "sleep 0.1")] * 4)
        kill_nursery(pool)
        time.sleep(0.1)
        assert pool.verify([(TASK, "echo b")])[0].extracted == "b"


def test_a_worker_dies_with_its_nursery_and_its_item_is_tried_again(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    verdicts: list[Verdict] = []
    with VerifierPool(Obeys(str(tmp_path)), workers=1) as pool:
        thread = threading.Thread(
            target=lambda: verdicts.extend(pool.verify([(TASK, "hang-once mark")]))
        )
        thread.start()
        pid = int(wait_for_text(mark, 1)[0])
        kill_nursery(pool)
        assert wait_until_gone(pid)
        thread.join(timeout=20)
    assert verdicts[0].is_correct


def kill_nursery(pool: VerifierPool) -> None:
    nursery = pool._processes._nursery
    assert nursery is not None
    nursery._process.send_signal(signal.SIGKILL)
    nursery._process.wait()


def wait_for_text(path: Path, words: int) -> list[str]:
    """The words of a file that another process writes, once there are enough."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found = path.read_text().split() if path.exists() else []
        if len(found) >= words:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{path} was not written")


def test_a_verifier_that_cannot_be_sent_is_a_users_mistake() -> None:
    @dataclass(frozen=True)
    class Holds(Obeys):
        lock: object = dataclasses.field(default_factory=threading.Lock)

    with pytest.raises(ConfigError, match="'obeys' cannot be sent to a worker process"):
        verify_many(Holds(), [(TASK, "echo a")])


@pytest.mark.parametrize(
    ("workers", "timeout"), [(0, 1.0), (1000, 1.0), (1, 0.0), (1, float("nan"))]
)
def test_limits_that_make_no_sense_are_refused(workers: int, timeout: float) -> None:
    with pytest.raises(ConfigError, match="expected"):
        verify_many(Obeys(), [(TASK, "echo a")], workers=workers, timeout=timeout)


def test_no_items_need_no_process() -> None:
    assert verify_many(Obeys(), []) == []


def test_a_script_needs_no_main_guard_and_prints_only_what_it_prints(tmp_path: Path) -> None:
    done = run_script(
        """
        import rlvr

        FACTOR = 2

        @rlvr.verifier("doubled")
        async def doubled(completion: str, answer: int) -> float:
            print("noise")
            return float(int(completion) == FACTOR * answer)

        task = rlvr.Task(id="1", prompt="", answer=21)
        verdicts = rlvr.verify_many(rlvr.load_verifier("doubled"), [(task, "42"), (task, "41")])
        print([verdict.reward for verdict in verdicts])
        """,
        tmp_path,
    )
    assert done.stdout == "[1.0, 0.0]\n", done.stderr
    assert done.stderr.count("noise") == 2


def test_a_verifier_of_a_local_file_travels_by_value(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "import rlvr\nHELP = {'a': 1.0}\n"
        "@rlvr.verifier('mine_by_value')\n"
        "def mine(completion: str) -> float:\n    return HELP.get(completion, 0.0)\n"
    )
    verifier = rlvr.load_verifier(f"{path}:mine")
    path.unlink()
    verdicts = verify_many(verifier, [(TASK, "a"), (TASK, "b")])
    assert [verdict.reward for verdict in verdicts] == [1.0, 0.0]


def test_no_process_is_left_when_the_caller_is_killed(tmp_path: Path) -> None:
    script = """
        import os, time
        import rlvr

        @rlvr.verifier("slow")
        def slow(completion: str) -> float:
            open(completion, "w").write(f"{os.getpid()} {os.getppid()}")
            time.sleep(60)

        task = rlvr.Task(id="1", prompt="")
        rlvr.verify_many(rlvr.load_verifier("slow"), [(task, "pids")], timeout=50)
    """
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(script))
    process = subprocess.Popen([sys.executable, str(path)], cwd=tmp_path)
    pids = [int(word) for word in wait_for_text(tmp_path / "pids", 2)]
    process.kill()
    process.wait()
    assert all(wait_until_gone(pid) for pid in pids)


def test_a_nursery_leaves_though_a_forked_copy_of_the_caller_holds_its_socket(
    tmp_path: Path,
) -> None:
    script = """
        import os, time
        import rlvr
        from rlvr.verifiers.pool import VerifierPool

        @rlvr.verifier("parent")
        def parent(completion: str) -> rlvr.Verdict:
            return rlvr.Verdict.correct(f"{os.getpid()} {os.getppid()}")

        task = rlvr.Task(id="1", prompt="")
        pool = VerifierPool(rlvr.load_verifier("parent"))
        [verdict] = pool.verify([(task, "x")])
        forked = os.fork()
        if forked:
            open("pids", "w").write(f"{forked} {verdict.reason}")
        time.sleep(30)
    """
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(script))
    process = subprocess.Popen([sys.executable, str(path)], cwd=tmp_path)
    forked, *pids = map(int, wait_for_text(tmp_path / "pids", 3))
    process.kill()
    process.wait()
    gone = [wait_until_gone(pid) for pid in pids]
    os.kill(forked, signal.SIGKILL)
    assert gone == [True, True]


def test_a_forked_copy_of_the_caller_has_a_pool_of_its_own(tmp_path: Path) -> None:
    done = run_script(
        """
        import os
        import rlvr
        from rlvr.verifiers.pool import VerifierPool

        @rlvr.verifier("pid")
        def pid(completion: str) -> rlvr.Verdict:
            return rlvr.Verdict.correct(str(os.getpid()))

        pairs = [(rlvr.Task(id="1", prompt=""), "x")]
        verifier = rlvr.load_verifier("pid")
        pool = VerifierPool(verifier, workers=1)
        first = {rlvr.verify_many(verifier, pairs)[0].reason, pool.verify(pairs)[0].reason}
        child = os.fork()
        mine = {rlvr.verify_many(verifier, pairs)[0].reason, pool.verify(pairs)[0].reason}
        if child == 0:
            os._exit(1 if mine & first else 0)
        print(os.waitpid(child, 0)[1], mine == first)
        """,
        tmp_path,
    )
    assert done.stdout == "0 True\n", done.stderr


def test_equal_completions_of_a_task_are_graded_once(tmp_path: Path) -> None:
    """Groups are full of them; another task with the same text is graded by itself."""
    log = tmp_path / "graded"

    def count(completion: str, answer: str) -> bool:
        with log.open("a") as file:
            file.write(completion + "\n")
        return completion == answer

    verifier = FunctionVerifier("count", count, {})
    first = Task(id="1", prompt="", answer="a")
    second = Task(id="2", prompt="", answer="b")
    pairs = [(first, "a"), (first, "b"), (first, "a"), (second, "a"), (first, "a")]
    seen: dict[int, bool] = {}
    verdicts = verify_many(
        verifier, pairs, workers=2, on_done=lambda i, verdict: seen.update({i: verdict.is_correct})
    )
    expected = [True, False, True, False, True]
    assert [verdict.is_correct for verdict in verdicts] == expected
    assert [seen[i] for i in range(len(pairs))] == expected
    assert sorted(log.read_text().split()) == ["a", "a", "b"]
    assert verdicts[2].seconds == verdicts[4].seconds == 0.0
