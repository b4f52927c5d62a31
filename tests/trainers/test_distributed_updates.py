"""One update is the same for one process and for two, whether they share weights or not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from update_program import CASES, run
from warmed import Warmed

from rlvr.distributed import ALONE


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The norm of the difference, relative to that of what is expected."""
    return ((found - expected).norm() / expected.norm().clamp(min=1e-12)).item()


@pytest.fixture(scope="module")
def of_one() -> dict[str, dict[str, torch.Tensor]]:
    """What one process comes to, by case."""
    torch.set_num_threads(1)
    return {case: run(case, ALONE) for case in CASES}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["data_parallel", "fsdp"])
def test_two_processes_make_the_update_of_one(
    warmed: Warmed, tmp_path: Path, mode: str, of_one: dict[str, dict[str, torch.Tensor]]
) -> None:
    """`one_sequence`: one of the two has nothing to train on, and takes part all the same."""
    ended = warmed.run("update_program:main", mode, str(tmp_path), processes=2)
    assert ended.codes == [0, 0], ended.output
    for case in CASES:
        # Products are rounded to bfloat16 by micro-batch, and two processes make other ones.
        limit = 2e-2 if case == "bfloat16" else 1e-6
        assert_equal(load_file(tmp_path / f"{case}.safetensors"), of_one[case], case, limit)


@pytest.mark.slow
def test_layers_that_are_compiled_are_sharded_too(warmed: Warmed, tmp_path: Path) -> None:
    ended = warmed.run("update_program:compiled", "fsdp", str(tmp_path), processes=2)
    assert ended.codes == [0, 0], ended.output
    found = load_file(tmp_path / "compiled.safetensors")
    assert_equal(found, run("not compiled", ALONE), "compiled", 1e-6)


def assert_equal(
    found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], case: str, limit: float
) -> None:
    """Gradients and metrics of two updates, and the critic's weights after them."""
    assert found.keys() == expected.keys()
    # All gradients of a step as one vector; they are clipped, so that the norm over all of them is
    # part of what is compared.
    steps = sorted({name.split(" ")[0] for name in expected if name.endswith(".grad")})
    for step in steps:
        names = [n for n in expected if n.endswith(".grad") and n.startswith(f"{step} ")]
        flat = [torch.cat([side[n].flatten() for n in names]) for side in (found, expected)]
        assert flat[1].norm().item() == pytest.approx(0.05, rel=1e-3), "clipping is at work"
        assert difference(*flat) < limit, (case, step)
    critic = [name for name in expected if name.startswith("critic ")]
    has_critic = case.startswith("critic")
    assert bool(critic) == any(step.startswith("critic") for step in steps) == has_critic
    if critic:
        flat = [torch.cat([side[n].flatten() for n in critic]) for side in (found, expected)]
        assert difference(*flat) < limit, case
    for name in expected:
        if name.startswith("metric."):
            value, right = found[name].item(), expected[name].item()
            assert value == pytest.approx(right, rel=limit, abs=limit / 10), (case, name)
