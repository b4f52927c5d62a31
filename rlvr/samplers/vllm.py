"""The `vllm` sampler: vLLM in this process, on a GPU or a CPU, with renewable weights.

Its log-probabilities are those of the tempered, truncated distribution that a token was drawn from.
New weights go through a folder in memory and vLLM's own `reload_weights`: on a CPU the engine keeps
packed copies of the weights only, so that they cannot be overwritten in place.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedConfig

from rlvr.compute import compute_dtype
from rlvr.errors import ConfigError, SamplerError, UserError
from rlvr.policy import DTYPES, Policy, save_policy, save_weights
from rlvr.samplers.requests import (
    Ids,
    check_request,
    check_source,
    encode_prompts,
    end_token_ids,
    make_completion,
)
from rlvr.samplers.vllm_engine import (
    contained,
    reload_weights,
    start_engine,
    stop_engine,
    without_compiler,
)
from rlvr.types import Completion, FinishReason, Prompt, SamplingParams

_MEMORY_FOLDER = Path("/dev/shm")


class VLLMSampler:
    """vLLM in this process, on a GPU or a CPU; takes over new weights after every update.

    Args:
        policy: a live policy, whose weights are copied; or
        model: a folder or a Hub name to load.
        dtype: of a loaded model: float32, bfloat16 or float16; where not given, that of its files.
        max_model_len: the longest prompt and completion together, in tokens; the policy's own limit
            where not given.
        gpu_memory_utilization: on a GPU, the part of its memory for weights and cache; the
            trainer needs the rest.
        cpu_cache_gib: on a CPU, GiB of memory for the key/value cache.

    Raises:
        ConfigError: both or neither of `policy` and `model`, or another option is wrong.
        MissingExtraError: vLLM is not installed.
        UserError: the model cannot be loaded.
        SamplerError: vLLM does not start.
    """

    name = "vllm"

    def __init__(
        self,
        *,
        policy: Policy | None = None,
        model: str | None = None,
        dtype: str | None = None,
        max_model_len: int | None = None,
        gpu_memory_utilization: float = 0.4,
        cpu_cache_gib: float = 1.0,
    ) -> None:
        check_source(self.name, policy, model, dtype=dtype)
        if dtype is not None and dtype not in DTYPES:
            raise ConfigError(f"unknown dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
        if not 0 < gpu_memory_utilization <= 1:
            raise ConfigError(
                f"gpu_memory_utilization is {gpu_memory_utilization}: expected above 0, at most 1"
            )
        if not cpu_cache_gib > 0:
            raise ConfigError(f"cpu_cache_gib is {cpu_cache_gib}: expected above 0")
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._engine: Any = None
        if policy is not None:
            self._folder = _weight_folder()
            model = self._folder.name
            save_policy(policy, model)
        assert model is not None
        config, generation_config = _read_configs(model)
        self._tokenizer = policy.tokenizer if policy else AutoTokenizer.from_pretrained(model)
        self._end_ids = end_token_ids(self._tokenizer, config, generation_config)
        try:
            self._engine = start_engine(
                model=model,
                dtype=dtype or engine_dtype(policy, config),
                max_model_len=max_model_len,
                logprobs_mode="processed_logprobs",
                generation_config="vllm",  # this sampler's parameters, not the model's defaults
                gpu_memory_utilization=gpu_memory_utilization,
                cpu_cache_bytes=int(cpu_cache_gib * 2**30),
            )
        except BaseException:
            self.close()
            raise
        self._context = int(self._engine.model_config.max_model_len)

    def sample(
        self, prompts: Sequence[Prompt], params: SamplingParams, *, seeds: Sequence[int]
    ) -> list[Completion]:
        """One completion for each prompt, in order.

        Raises:
            ConfigError: a sampling parameter is out of its range.
            DataError: a prompt is empty or leaves no room for an answer.
            SamplerError: the engine failed, or was closed.
        """
        from vllm import TokensPrompt

        check_request(prompts, params, seeds)
        if params.temperature > 2:
            raise ConfigError(
                f"sampling: temperature is {params.temperature}, and vLLM takes at most 2"
            )
        engine = self._running()
        encoded = encode_prompts(self._tokenizer, prompts, self._context)
        if not encoded:
            return []
        requests = [TokensPrompt(prompt_token_ids=list(ids)) for ids in encoded]
        settings = [
            self._settings(ids, params, seed) for ids, seed in zip(encoded, seeds, strict=True)
        ]
        with contained(), without_compiler():
            # What earlier calls left in the prefix cache would change the last bits of this one.
            engine.reset_prefix_cache()
            try:
                outputs = engine.generate(requests, settings, use_tqdm=False)
            except Exception as error:
                self.close()  # it would go on with the requests of this call in the next one
                raise SamplerError(
                    f"vLLM failed and was stopped: {type(error).__name__}: {error}"
                ) from error
        return [
            self._completion(ids, output.outputs[0], params)
            for ids, output in zip(encoded, outputs, strict=True)
        ]

    def _settings(self, prompt: Ids, params: SamplingParams, seed: int) -> Any:
        from vllm import SamplingParams as EngineParams

        return EngineParams(
            max_tokens=min(params.max_new_tokens, self._context - len(prompt)),
            temperature=params.temperature,
            top_p=params.top_p,
            top_k=params.top_k,
            stop=list(params.stop),
            stop_token_ids=sorted(self._end_ids),
            seed=seed & 0x7FFFFFFFFFFFFFFF,
            logprobs=0,  # of the drawn token only
            detokenize=bool(params.stop),
        )

    def _completion(self, prompt: Ids, output: Any, params: SamplingParams) -> Completion:
        if output.finish_reason not in ("stop", "length"):
            raise SamplerError(f"vLLM gave a completion up: {output.finish_reason}")
        token_ids = tuple(output.token_ids)
        return make_completion(
            self._tokenizer,
            prompt,
            token_ids,
            tuple(
                float(position[token].logprob)
                for token, position in zip(token_ids, output.logprobs, strict=True)
            ),
            FinishReason(output.finish_reason),
            stop=params.stop,
            end_ids=self._end_ids,
        )

    def update_weights(self, model: Any) -> None:
        """Take over the weights of `model` (a `transformers` model of the same architecture).

        LoRA matrices come merged into them.

        Raises:
            SamplerError: the engine did not take them, or was closed.
        """
        engine = self._running()
        with _weight_folder() as folder:
            save_weights(model, folder)
            try:
                with contained():
                    reload_weights(engine, folder)
            except Exception as error:
                raise SamplerError(
                    f"vLLM did not take the new weights: {type(error).__name__}: {error}"
                ) from error

    def close(self) -> None:
        """Stop the engine and free its memory."""
        if self._engine is not None:
            stop_engine(self._engine)
            self._engine = None
            gc.collect()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _running(self) -> Any:
        if self._engine is None:
            raise SamplerError("this vllm sampler was closed")
        return self._engine


def _weight_folder() -> tempfile.TemporaryDirectory[str]:
    """A temporary folder, in memory where the system has such a place."""
    parent = _MEMORY_FOLDER if _MEMORY_FOLDER.is_dir() else None
    return tempfile.TemporaryDirectory(prefix="rlvr-weights-", dir=parent)


def _read_configs(model: str) -> tuple[PreTrainedConfig, GenerationConfig | None]:
    try:
        config = AutoConfig.from_pretrained(model)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"cannot load the policy {model!r}: {reason}") from error
    try:
        return config, GenerationConfig.from_pretrained(model)
    except OSError:  # optional: a model need not have generation defaults
        return config, None


def engine_dtype(policy: Policy | None, config: Any) -> str:
    """What an engine computes in: what the policy does, whose weights may be wider, or its files'.

    Args:
        policy: that is trained; `None` where a model was loaded.
        config: of the model's files.
    """
    chosen = getattr(config, "dtype", None) if policy is None else compute_dtype(policy.model)
    return str(chosen or "float32").removeprefix("torch.")
