"""A policy that cannot be loaded is one clear mistake; the character tokenizer loses nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rlvr.errors import UserError
from rlvr.policy import encode_prompt, load_policy, make_policy, save_policy


@pytest.mark.parametrize("size", [0, 4, 3000])
def test_weights_that_were_cut_short_are_a_users_error(
    tiny_policy_folder: Path, tmp_path: Path, size: int
) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(tiny_policy_folder, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    with pytest.raises(UserError, match="cannot load the policy"):
        load_policy(str(folder))


@pytest.mark.slow
def test_a_hub_that_nobody_reaches_is_said_in_one_line_and_at_once() -> None:
    """The Hub's own library retries each file for half a minute, with a message for each try."""
    code = "from rlvr.policy import load_policy; load_policy('someone/somewhat')"
    end = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "cannot load the policy 'someone/somewhat'" in end.stderr.splitlines()[-1]
    assert "Retry" not in end.stderr


@pytest.mark.parametrize("alphabet", [None, "0123456789+= \n"])
def test_saving_keeps_white_space_and_ids(tmp_path: Path, alphabet: str | None) -> None:
    policy = make_policy(alphabet=alphabet, hidden_size=16, layers=1, heads=2)
    save_policy(policy, tmp_path)
    loaded = load_policy(str(tmp_path))
    text = "  12 +\n3=\n"
    ids = encode_prompt(policy.tokenizer, text)
    assert encode_prompt(loaded.tokenizer, text) == ids
    assert loaded.tokenizer.decode(ids) == text
