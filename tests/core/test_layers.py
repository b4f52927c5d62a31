"""Imports go downwards: each layer knows only those below it, and `import rlvr` stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LAYERS = {
    "types": 0,
    "errors": 0,
    "registry": 0,
    "protocols": 0,
    "sandbox": 1,
    "verifiers": 2,
    "environments": 3,
    "samplers": 4,
    "rollouts": 4,
    "rollout_table": 4,
    "objectives": 4,
    "batch": 4,
    "forward": 4,
    "packing": 4,
    "compute": 4,
    "memory": 4,
    "policy": 4,
    "adapters": 4,
    "checkpoints": 4,
    "checkpoints_optimizer": 4,
    "tracking": 4,
    "tracking_tools": 4,
    "distributed": 4,
    "sharding": 4,
    "sharing": 4,
    "trainers": 5,
    "evals": 5,
    "api": 6,
    "cli": 6,
    "conformance": 6,
    "__main__": 7,
}
HELPERS = {"background", "config", "encoding", "files", "progress", "seeds"}
"""Know nothing of rlvr but its errors; any layer above 0 may use them."""
# Samplers and rollouts know environments and verifiers by their protocols only.
FORBIDDEN = {(4, 1), (4, 2), (4, 3)}


def part_of(path: Path) -> str:
    """`rlvr/trainers/loop.py` and `verifiers/base.py` belong to `trainers` and `verifiers`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "rlvr" else parts[0]


def modules() -> list[Path]:
    folders = ("rlvr", "verifiers", "sandbox", "environments", "evals")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    real = [path for path in found if path.resolve() == path]
    return [path for path in real if part_of(path) != "__init__"]


def imported_parts(path: Path) -> set[str]:
    """Which parts of rlvr a module imports, anywhere in it; type-checking blocks included."""
    parts: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            base = node.module or ""
            names = [f"rlvr.{alias.name}" for alias in node.names] if base == "rlvr" else [base]
        else:
            continue
        for name in names:
            pieces = name.split(".")
            if (
                pieces[0] == "rlvr"
                and len(pieces) > 1
                and (pieces[1] in LAYERS or pieces[1] in HELPERS)
            ):
                parts.add(pieces[1])
    return parts


def test_every_module_belongs_to_a_layer() -> None:
    unknown = {part_of(path) for path in modules()} - set(LAYERS) - HELPERS
    assert not unknown, f"give these a layer: {sorted(unknown)}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downwards(path: Path) -> None:
    part = part_of(path)
    if part in HELPERS:
        assert imported_parts(path) <= {"errors", "types"} | HELPERS
        return
    layer = LAYERS[part]
    for other in imported_parts(path) - HELPERS - {part}:
        assert LAYERS[other] <= layer, f"{part} (L{layer}) imports {other} (L{LAYERS[other]})"
        assert (layer, LAYERS[other]) not in FORBIDDEN, f"{part} imports {other} by name"


@pytest.mark.parametrize("name", ["types", "errors", "registry", "protocols"])
def test_the_bottom_layer_needs_the_standard_library_only(name: str) -> None:
    allowed = sys.stdlib_module_names | {"rlvr"}
    tree = ast.parse((ROOT / "rlvr" / f"{name}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= allowed
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] in allowed


def test_importing_rlvr_loads_nothing_heavy() -> None:
    program = (
        "import sys, rlvr; heavy = {'torch', 'transformers', 'vllm', 'ray', 'docker', 'sympy', "
        "'datasets', 'numpy', 'pydantic'} & set(sys.modules); sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_command_line_parses_without_anything_heavy() -> None:
    program = (
        "import sys; from rlvr.cli.main import make_parser; make_parser().format_help(); "
        "heavy = {'torch', 'transformers', 'vllm', 'sympy', 'datasets'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
