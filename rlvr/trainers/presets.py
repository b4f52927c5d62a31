"""The algorithms of policy gradient runs as presets, each with its source.

A preset is laid beneath a file's own values, so that every part of it can be set otherwise. No
preset has a reference model: `objective.kl_coefficient` above 0 adds one.
"""

from __future__ import annotations

from typing import Any

from rlvr.config import merge

DAPO: dict[str, Any] = {
    "objective": {
        "clip_high": 0.28,
        "aggregation": "token-mean",
        "mini_batches": 16,
    },
    "rollout": {"group_size": 16, "dynamic_sampling": True, "overlong_buffer": 0.2},
}
"""Yu et al. 2025, arXiv:2503.14476, section 4.1, and the authors' recipe in verl: clip-higher,
token-level loss, dynamic sampling, soft overlong punishment over the last fifth (4,096 of 20,480
tokens), 16 completions a prompt, 16 updates a batch. The paper's batch of 512 prompts and its
overlong filtering (`rollout.mask_truncated`; not in the recipe) are left to the file."""

PRESETS: dict[str, dict[str, Any]] = {
    # Shao et al. 2024 (DeepSeekMath), arXiv:2402.03300, without the reference model.
    "grpo": {},
    "dapo": DAPO,
    # Liu et al. 2025 (Dr. GRPO), arXiv:2503.20783: no division by the standard deviation nor by
    # the length.
    "dr_grpo": {"objective": {"scale": "none", "aggregation": "seq-mean-token-sum-norm"}},
    # Ahmadian et al. 2024, arXiv:2402.14740: leave-one-out advantages.
    "rloo": {"objective": {"advantage": "leave-one-out", "aggregation": "seq-mean-token-sum"}},
    # Williams 1992: the reward itself, without a baseline or a ratio.
    "reinforce": {
        "objective": {
            "loss": "reinforce",
            "advantage": "reinforce",
            "aggregation": "seq-mean-token-sum",
        }
    },
    # Hu et al. 2025, arXiv:2501.03262: returns of tokens, KL in the reward, normalised over the
    # batch; the critic-free PPO.
    "reinforce_pp": {
        "objective": {
            "advantage": "returns",
            "aggregation": "token-mean",
            "kl_in": "reward",
            "kl_estimator": "k1",
        },
        "rollout": {"group_size": 1},
    },
    # The same paper: the group's mean as baseline, normalised over the batch; KL by k2.
    "reinforce_pp_baseline": {
        "objective": {
            "advantage": "reinforce++-baseline",
            "aggregation": "token-mean",
            "kl_estimator": "k2",
        }
    },
    # Li et al. 2023, arXiv:2310.10505: the reward of the greedy rollout is the baseline.
    "remax": {
        "objective": {
            "loss": "reinforce",
            "advantage": "remax",
            "aggregation": "seq-mean-token-sum",
        },
        "rollout": {"group_size": 1},
    },
    # Hao et al. 2025, arXiv:2505.23585: exactly on-policy, the length-weighted baseline.
    "opo": {
        "objective": {
            "loss": "reinforce",
            "advantage": "opo",
            "aggregation": "seq-mean-token-sum-norm",
        }
    },
    # Chu et al. 2025, arXiv:2504.02546: no ratio, no clip, scaled for groups without a signal.
    "gpg": {"objective": {"loss": "reinforce", "advantage": "gpg", "aggregation": "token-mean"}},
    # Schulman et al. 2017, arXiv:1707.06347, with GAE (arXiv:1506.02438) and a critic.
    "ppo": {
        "objective": {
            "advantage": {"name": "gae", "gamma": 1.0, "lam": 0.95},
            "aggregation": "token-mean",
            "kl_in": "reward",
            "kl_estimator": "k1",
            "epochs": 2,
        },
        "critic": {},
        "rollout": {"group_size": 1},
    },
    # Zheng et al. 2025, arXiv:2507.18071: the ratio of whole sequences; four mini-batches a batch
    # (section 5.1).
    "gspo": {"objective": {"loss": "gspo", "mini_batches": 4}},
    # MiniMax 2025 (M1), arXiv:2506.13585: the clipped ratio as a weight without a gradient, 16
    # updates a batch (section 3.1).
    "cispo": {"objective": {"loss": "cispo", "aggregation": "token-mean", "mini_batches": 16}},
    # Gao et al. 2025, arXiv:2511.20347: a soft gate in place of the clip.
    "sapo": {"objective": {"loss": "sapo"}},
    # Zhao et al. 2025, arXiv:2507.20673: the geometric mean of the ratios of a sequence.
    "gmpo": {"objective": {"loss": "gmpo"}},
    # arXiv:2602.10693: a gamma-shaped weight of the product of the ratios of a sequence.
    "vespo": {"objective": {"loss": "vespo", "aggregation": "token-mean"}},
    # arXiv:2602.04879: mask by the divergence from the old policy, not by the ratio.
    "dppo": {"objective": {"loss": "dppo-tv", "aggregation": "token-mean"}},
    "dppo_kl": {"objective": {"loss": "dppo-kl", "aggregation": "token-mean"}},
    # Cui et al. 2025, arXiv:2505.22617: restraint for the tokens of the largest covariance.
    "clip_cov": {"objective": {"loss": "clip-cov", "aggregation": "token-mean"}},
    "kl_cov": {"objective": {"loss": "kl-cov", "aggregation": "token-mean"}},
    # Liu et al. 2026, arXiv:2601.05242: several rewards, normalised one by one, then summed. Needs
    # `reward.weights`.
    "gdpo": {"objective": {"advantage": "gdpo"}},
    # Wang et al. 2025, arXiv:2506.01939: DAPO on the fifth of the tokens that were least certain.
    "top_entropy": merge(
        DAPO, {"objective": {"token_selection": {"name": "top-entropy", "share": 0.2}}}
    ),
    # Chen et al. 2025, arXiv:2508.10751: the group is worth its best k.
    "pass_at_k": {"objective": {"advantage": {"name": "pass-at-k-group", "k": 4}}},
}
