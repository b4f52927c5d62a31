"""A reward model as a verifier: for what no program can check.

What a reward model scores is fixed here, for training (`rlvr.trainers.reward`) and for use: the
prompt's tokens, the completion's tokens and the end of sequence; the score is what
`AutoModelForSequenceClassification` says of that, read at the last token that is not padding.
Thinking is taken away before a completion is scored, as for every verifier.

The model runs on the CPU, in one thread, once a process. It judges with no ground truth, so a
policy that is trained on it long enough learns what the model overrates: keep a verifiable measure
beside it where there is one.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rlvr.encoding import encode_completion, encode_prompt
from rlvr.errors import ConfigError, UserError, VerifierError
from rlvr.types import Completion, Outcome, Task, Verdict
from rlvr.verifiers.base import Verifier

_SQUASHES = ("sigmoid", "none")


@dataclass(frozen=True, kw_only=True)
class RewardModelVerifier(Verifier):
    """The score of a reward model, such as `rlvr train` with `algorithm: reward` makes.

    Args:
        model: a folder or a Hub name of a sequence classification model with one label.
        squash: `sigmoid` makes the score a reward in (0, 1); `none` leaves it as it is.
        threshold: the reward from which a completion counts as `correct`; below it is `partial`
            where the reward is above 0, else `incorrect`. Where not given, the reward of a score
            of 0: a Bradley-Terry model fixes differences of scores only, so set it by data, or
            train with `objective.centre`.
    """

    model: str
    squash: str = "sigmoid"
    threshold: float | None = None

    name: ClassVar[str] = "reward_model"

    def __post_init__(self) -> None:
        if self.squash not in _SQUASHES:
            expected = " or ".join(_SQUASHES)
            raise ConfigError(f"squash is {self.squash!r}: expected {expected}")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise ConfigError(f"threshold is {self.threshold}: expected a finite number")
        _check_folder(self.model)

    def warm(self) -> None:
        """Load the model, so that the workers share it."""
        import torch

        # Workers are forked from here: a pool of threads would not survive that.
        torch.set_num_threads(1)
        load_reward_model(self.model)

    def judge(self, task: Task, completion: Completion) -> Verdict:
        """Score the completion."""
        import torch

        model, tokenizer = load_reward_model(self.model)
        ids = [
            *encode_prompt(tokenizer, task.prompt),
            *encode_completion(tokenizer, completion.text),
        ]
        most = getattr(model.config, "max_position_embeddings", None)
        if most is not None and len(ids) > most:
            raise VerifierError(f"{len(ids)} tokens: the reward model reads {most} at the most")
        with torch.no_grad():
            score = score_sequences(model, [ids]).item()
        if not math.isfinite(score):
            raise VerifierError(f"the reward model's score is {score}")
        return self._verdict(score)

    def _verdict(self, score: float) -> Verdict:
        reward = _sigmoid(score) if self.squash == "sigmoid" else score
        threshold = self.threshold
        if threshold is None:
            threshold = 0.5 if self.squash == "sigmoid" else 0.0
        below = Outcome.PARTIAL if reward > 0.0 else Outcome.INCORRECT
        return Verdict(
            reward=reward,
            outcome=Outcome.CORRECT if reward >= threshold else below,
            reason=f"score {score:.4g}, threshold {threshold:.4g} on the reward",
            metrics={"score": score},
        )


def score_sequences(model: Any, sequences: Sequence[Sequence[int]]) -> Any:
    """Scores of token sequences, padded on the right here.

    Args:
        model: a sequence classification model with one label and a `pad_token_id`; gradients flow
            unless the caller switched them off.
        sequences: `S` lists of token ids: prompt, completion, end of sequence.

    Returns:
        `[S]` float32 tensor on the model's device.
    """
    import torch

    width = max(len(ids) for ids in sequences)
    padding = model.config.pad_token_id
    rows = torch.tensor([[*ids, *[padding] * (width - len(ids))] for ids in sequences])
    mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in sequences])
    device = next(model.parameters()).device
    output = model(input_ids=rows.to(device), attention_mask=mask.to(device), use_cache=False)
    return output.logits[:, 0].float()


@functools.lru_cache(maxsize=4)
def load_reward_model(path: str) -> tuple[Any, Any]:
    """A reward model and its tokenizer, on the CPU in float32; once a process.

    Raises:
        UserError: it cannot be loaded, or it has not exactly one label.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    place = str(Path(path).expanduser()) if path.startswith("~") else path
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what does not fit is told below, in one line
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(place)
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            place, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"cannot load the reward model {path!r}: {reason}") from error
    finally:
        logging.set_verbosity(verbosity)
    if model.config.num_labels != 1 or loading["missing_keys"]:
        found = f"{model.config.num_labels} labels"
        if loading["missing_keys"]:
            found = f"no weights for {', '.join(sorted(loading['missing_keys'])[:3])}"
        raise UserError(f"{path!r} is no reward model: it has {found}, expected one label, trained")
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.eos_token_id
    return model.eval(), tokenizer


def _check_folder(path: str) -> None:
    """Refuse a local folder that is missing or holds another kind of model, before any work.

    Raises:
        UserError: it does.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        if path.startswith((".", "/", "~")) or path.count("/") != 1:
            raise UserError(f"cannot load the reward model {path!r}: there is no such folder")
        return
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        names = " ".join(config.get("architectures") or [])
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path!r} is no reward model: its config.json cannot be read") from error
    if "SequenceClassification" not in names:
        raise UserError(
            f"{path!r} is no reward model: it holds a {names or 'model of unknown kind'}, expected "
            "a sequence classification model (rlvr train with algorithm: reward makes one)"
        )


def _sigmoid(value: float) -> float:
    if value >= 0.0:
        return 1.0 / (1.0 + math.exp(-value))
    odds = math.exp(value) if value > -700.0 else 0.0
    return odds / (1.0 + odds)
