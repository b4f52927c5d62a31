"""The algorithms of policy gradient runs as presets, each with its source.

A preset is laid beneath a file's own values, so that every part of it can be set otherwise.
"""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # Shao et al. 2024 (DeepSeekMath), without the reference model.
    "grpo": {},
    # Yu et al. 2025 (DAPO): clip-higher, dynamic sampling, token-level loss, overlong shaping.
    "dapo": {
        "objective": {"clip_high": 0.28, "aggregation": "token-mean"},
        "rollout": {"dynamic_sampling": True, "mask_truncated": True},
    },
    # Liu et al. 2025 (Dr. GRPO): no division by the standard deviation nor by the length.
    "dr_grpo": {"objective": {"scale": "none", "aggregation": "seq-mean-token-sum-norm"}},
    # Ahmadian et al. 2024 (RLOO).
    "rloo": {"objective": {"advantage": "leave_one_out", "aggregation": "seq-mean-token-sum"}},
}
