"""The policy: a causal language model with its tokenizer, loaded, made from scratch, or saved.

Covers any `transformers` causal model by path or Hub name, and a tiny Qwen2 with a character
tokenizer for laptops and tests.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.utils import logging as hf_logging

from rlvr.adapters import has_lora, plain_state_dict, save_adapter
from rlvr.distributed import ALONE, World
from rlvr.encoding import encode_prompt
from rlvr.errors import ConfigError, UserError
from rlvr.sharding import is_sharded

__all__ = [
    "Policy",
    "character_tokenizer",
    "encode_prompt",
    "load_policy",
    "make_policy",
    "save_policy",
    "save_weights",
    "torch_dtype",
]

ADAPTER = "adapter"
"""The folder of the LoRA matrices beside the merged weights."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Policy:
    """A model and the tokenizer that goes with it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.model.parameters()).device
        return device

    def copy(self) -> Policy:
        """Weights and a tokenizer of its own, for use in another thread."""
        return copy.deepcopy(self)


hf_logging.disable_progress_bar()


def load_policy(path: str, *, dtype: str = "float32", device: str = "cpu") -> Policy:
    """Load a causal model and its tokenizer from a folder or from the Hub.

    Args:
        path: a local folder written by `save_pretrained`, or a Hub name.
        dtype: `float32`, `bfloat16` or `float16`.
        device: a torch device, such as `cpu` or `cuda`.

    Raises:
        UserError: it cannot be loaded; the message says where it was looked for and why.
    """
    is_path = path.startswith((".", "/", "~")) or path.count("/") > 1
    if is_path and not Path(path).expanduser().is_dir():
        raise UserError(f"cannot load the policy {path!r}: there is no such folder")
    cached = {"local_files_only": True} if not Path(path).is_dir() and not _answers(path) else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **cached)
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch_dtype(dtype), **cached)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(f"cannot load the policy {path!r}: {_first_line(error)}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return Policy(model.to(device).eval(), tokenizer)


def _answers(name: str) -> bool:
    """Whether the Hub says anything about a name, asked once: a download retries for minutes."""
    try:
        HfApi().model_info(name, timeout=10)
    except HfHubHTTPError:
        return True
    except Exception:  # whatever the HTTP library raises where nobody answers
        return False
    return True


def make_policy(
    *,
    alphabet: str | None = None,
    hidden_size: int = 128,
    layers: int = 4,
    heads: int = 4,
    max_length: int = 512,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
) -> Policy:
    """Make a Qwen2 with random weights and one token a character.

    Args:
        alphabet: the characters that the tokenizer knows (any other is dropped from a prompt);
            all bytes where not given.
        hidden_size: width; the feed-forward part is four times as wide.
        layers: how many.
        heads: attention heads; must divide `hidden_size`.
        max_length: the longest sequence in tokens.
        seed: of the weights.
        dtype: as in `load_policy`.
        device: as in `load_policy`.

    Raises:
        ConfigError: `heads` does not divide `hidden_size`.
    """
    if hidden_size % heads:
        raise ConfigError(f"hidden_size {hidden_size} is not a multiple of heads {heads}")
    tokenizer = character_tokenizer(alphabet, max_length)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=4 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
    return Policy(model.to(dtype=torch_dtype(dtype), device=device).eval(), tokenizer)


def character_tokenizer(alphabet: str | None, max_length: int) -> PreTrainedTokenizerBase:
    """A tokenizer with one token a byte (so one a character in ASCII), `<pad>` and `<eos>`.

    It is Qwen2's byte-level tokenizer without a merge, because that is the class that
    `AutoTokenizer` takes for a Qwen2 model, whatever class the files name.
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    if alphabet is None:
        symbols = sorted(ByteLevel.alphabet())
    else:
        byte_level = ByteLevel(add_prefix_space=False, use_regex=False)
        pieces = [piece for c in alphabet for piece, _ in byte_level.pre_tokenize_str(c)]
        symbols = sorted(set("".join(pieces)))
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<eos>", *symbols])}
    return Qwen2Tokenizer(
        vocab=vocabulary,
        merges=[],
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token=None,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )


def save_policy(policy: Policy, folder: str | Path, world: World = ALONE) -> None:
    """Write weights (`safetensors`), configuration and tokenizer, loadable by `transformers`.

    Every process calls; the main one writes. Sharded weights are gathered, and written whole.
    LoRA matrices are merged into the weights, and written by themselves in `adapter/`.
    """
    weights = None
    if is_sharded(policy.model):
        weights = plain_state_dict(policy.model, keep=world.is_main)
    if world.is_main:
        save_weights(policy.model, folder, weights)
        policy.tokenizer.save_pretrained(str(folder))
    if has_lora(policy.model):
        save_adapter(policy.model, Path(folder) / ADAPTER, world)


def save_weights(
    model: PreTrainedModel, folder: str | Path, weights: dict[str, Tensor] | None = None
) -> None:
    """Write weights and configuration, loadable by `transformers`; LoRA is merged into them.

    Args:
        model: whose weights they are.
        folder: where to.
        weights: in place of the model's own; where not given, sharded ones are gathered, which
            every process has to take part in.
    """
    if weights is None and (is_sharded(model) or has_lora(model)):
        weights = plain_state_dict(model)
    # Of several processes, transformers would let none but the first write, wherever it is to.
    model.should_save_on_this_rank = lambda is_main_process: is_main_process
    try:
        model.save_pretrained(folder, state_dict=weights, safe_serialization=True)
    finally:
        del model.should_save_on_this_rank


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype of that name.

    Raises:
        ConfigError: it is not one that policies come in.
    """
    if name not in DTYPES:
        raise ConfigError(f"unknown dtype {name!r}: expected one of {', '.join(DTYPES)}")
    return DTYPES[name]


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
