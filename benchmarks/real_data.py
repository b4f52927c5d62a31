"""Verdicts on real data: labelled GSM8K solutions, MATH-500, HumanEval with forgeries, MBPP.

    RLVR_DATA=FOLDER python benchmarks/real_data.py [--workers 2]

Runs the commands that a user would, prints each with what came of it, and exits with 1 where a
figure is not the one expected. MBPP's own code is run by plain CPython too, outside any sandbox: it
is trusted.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FORGERIES = {
    "pass": "    pass\n",
    "__eq__ always true": (
        "    class Always:\n"
        "        def __eq__(self, other): return True\n"
        "        def __ne__(self, other): return False\n"
        "        def __bool__(self): return True\n"
        "        def __hash__(self): return 0\n"
        "    return Always()\n"
    ),
    "sys.exit(0)": "    import sys\n    sys.exit(0)\n",
    "os._exit(0)": "    import os\n    os._exit(0)\n",
    "raise SystemExit": "    raise SystemExit\n",
    "printed tokens": (
        '    print("passed", "ok", "True", "PASSED", "All tests passed", 1.0, sep="\\n")\n'
        '    print(\'{"passed": true, "result": "passed", "reward": 1.0}\')\n'
    ),
}


def main() -> int:
    """Run everything; 1 where a figure differs from the one expected."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2, help="verifier processes (default: 2)")
    workers = parser.parse_args().workers
    data = Path(os.environ.get("RLVR_DATA", ""))
    if not (data / "humaneval.jsonl.gz").is_file():
        parser.error("RLVR_DATA must name the folder that holds humaneval.jsonl.gz and the others")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(data, Path(folder), workers)
        bench.gsm8k()
        bench.math500()
        bench.humaneval()
        bench.mbpp()
    print(f"{bench.wrong} figures differ from those expected")
    return 1 if bench.wrong else 0


class Bench:
    """The four measurements, and how many of their figures were not as expected."""

    def __init__(self, data: Path, folder: Path, workers: int) -> None:
        self.data, self.folder, self.workers, self.wrong = data, folder, workers, 0

    def gsm8k(self) -> None:
        """Each verdict against the label that the data set gives."""
        rows = list(read(self.data / "gsm8k_labelled_solutions.jsonl"))
        verdicts = self.verify("math", self.data / "gsm8k_labelled_solutions.jsonl")
        agree = sum(
            (verdict["reward"] == 1.0) == row["label"]
            for row, verdict in zip(rows, verdicts, strict=True)
        )
        self.expect("GSM8K labels that the verdict agrees with", agree, len(rows))

    def math500(self) -> None:
        """MATH-500's own solutions against its answers."""
        rows = [
            {"completion": row["solution"], "answer": row["answer"]}
            for row in read(self.data / "math500.jsonl")
        ]
        verdicts = self.verify("math", self.write("math500.jsonl", rows))
        paid = sum(verdict["reward"] == 1.0 for verdict in verdicts)
        self.expect("MATH-500 solutions that are paid", paid, len(rows))

    def humaneval(self) -> None:
        """The canonical solutions, and each forgery in place of all of them."""
        source = self.data / "humaneval.jsonl.gz"
        tasks = list(read(source))
        canonical = [
            {"task_id": row["task_id"], "completion": row["canonical_solution"]} for row in tasks
        ]
        self.expect("HumanEval: canonical", self.eval("humaneval", source, canonical), len(tasks))
        for name, body in FORGERIES.items():
            forged = [{"task_id": row["task_id"], "completion": body} for row in tasks]
            self.expect(f"HumanEval: {name}", self.eval("humaneval", source, forged), 0)

    def mbpp(self) -> None:
        """The rows' own code, here and under plain CPython."""
        source = self.data / "mbpp.jsonl"
        tasks = list(read(source))
        failing = [row["task_id"] for row in tasks if not passes_in_plain_python(row)]
        print(f"MBPP: rows whose own code plain CPython does not pass: {failing or 'none'}")
        own = [{"task_id": f"Mbpp/{row['task_id']}", "completion": row["code"]} for row in tasks]
        solved = self.eval("mbpp", source, own, "--split", "all")
        self.expect("MBPP: own code", solved, len(tasks))

    def verify(self, verifier: str, rows: Path) -> list[dict[str, Any]]:
        """The output rows of `rlvr verify`."""
        output = self.folder / "verdicts.jsonl"
        self.rlvr("verify", verifier, "--input", str(rows), "--output", str(output))
        return list(read(output))

    def eval(self, environment: str, data: Path, rows: Any, *more: str) -> int:
        """How many tasks `rlvr eval --completions` finds solved; verifier errors count as wrong."""
        output = Path(tempfile.mkdtemp(dir=self.folder))
        completions = self.write("completions.jsonl", rows)
        self.rlvr(
            "eval", environment, "--completions", str(completions), "--data", str(data),
            "--output", str(output), *more,
        )  # fmt: skip
        summary = json.loads((output / "summary.json").read_text())
        if summary["verifier_errors"]:
            self.expect(f"{environment}: verifier errors", summary["verifier_errors"], 0)
        return int(summary["outcomes"].get("correct", 0))

    def rlvr(self, *arguments: str) -> None:
        """Run one command, shown as a user would type it."""
        limits = ["--workers", str(self.workers), "--timeout", "60"]
        shown = " ".join(str(argument) for argument in (*arguments, *limits))
        print("$ rlvr " + shown.replace(str(self.folder), "TMP").replace(str(self.data), "DATA"))
        command = [sys.executable, "-m", "rlvr.cli.main", *arguments, *limits]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)

    def write(self, name: str, rows: Iterable[dict[str, Any]]) -> Path:
        """A JSONL file of these rows."""
        path = self.folder / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def expect(self, what: str, found: int, expected: int) -> None:
        """Print a figure."""
        self.wrong += found != expected
        note = "" if found == expected else "   <-- differs"
        print(f"{what}: {found} (expected {expected}){note}", flush=True)


def passes_in_plain_python(row: dict[str, Any]) -> bool:
    """Whether a row's own code passes its own asserts in a fresh interpreter."""
    program = "\n".join([row["code"], row["test_setup_code"], *row["test_list"]])
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", program], capture_output=True, timeout=120
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def read(path: Path) -> Iterable[dict[str, Any]]:
    """The rows of a JSONL file."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    yield from (json.loads(line) for line in text.split("\n") if line)


if __name__ == "__main__":
    sys.exit(main())
