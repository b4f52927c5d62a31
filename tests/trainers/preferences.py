"""An easy preference that tiny models can learn, and configurations for it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from rlvr.trainers.config import RunConfig, parse_config


def rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Pairs of which the chosen completion says `good` and the rejected one `evil`."""
    draw = random.Random(seed)
    made = []
    for index in range(count):
        noise = ["".join(draw.choices("0123456789", k=draw.randint(1, 9))) for _ in range(3)]
        made.append(
            {
                "id": f"q{index}",
                "prompt": f"{index} {noise[0]}?",
                "chosen": f"{noise[1]} good",
                "rejected": f"{noise[2]} evil",
            }
        )
    return made


def write(path: Path, made: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    return str(path)


def config(algorithm: str, data: str, output: Path, **changes: Any) -> RunConfig:
    """A run of seconds."""
    return parse_config(settings(algorithm, data, output, **changes), "test")


def settings(algorithm: str, data: str, output: Path, **changes: Any) -> dict[str, Any]:
    return {
        "algorithm": algorithm,
        "output": str(output),
        "policy": "new",
        "new_policy": {"hidden_size": 16, "layers": 1, "heads": 2, "max_length": 64},
        "data": data,
        "held_out": {"count": 20, "every": 5},
        "batch_size": 16,
        "steps": 10,
        "optimizer": {"lr": 1e-2, "warmup_steps": 6},
        "checkpoint": {"every": 4},
        **({"completion_column": "chosen"} if algorithm == "sft" else {}),
        **changes,
    }
