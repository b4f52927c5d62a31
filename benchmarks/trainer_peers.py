"""One side of `benchmarks/trainer.py`, in a process of its own that reads its request from stdin.

Needs torch and transformers, and trl where the request asks for it; it imports rlvr only for the
other side. Prints one line of JSON: seconds and processor seconds of each step, the peak of the
resident memory (on a GPU, of what torch allocated there), and what it was before the first step
(model and optimiser made, no gradient yet). What does not fit on a GPU is a result as well.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import threading
import time
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import is_flash_attn_2_available
from transformers.utils.import_utils import is_liger_kernel_available


def main() -> None:
    """Do what the request asks for."""
    request = json.load(sys.stdin)
    torch.set_num_threads(request["threads"])
    torch.manual_seed(0)
    side = {"trl": trl_steps, "rlvr": rlvr_steps}[request["side"]]
    try:
        found = side(request)
    except torch.OutOfMemoryError as error:
        found = {"out_of_memory": str(error).splitlines()[0]}
    print("RESULT " + json.dumps(found), flush=True)


def make_model(request: dict[str, Any], attention: str = "sdpa") -> PreTrainedModel:
    """The same random weights on both sides."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(**({"model_type": "qwen2"} | request["shape"]))
    with torch.device(request["device"]):
        return AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation=attention
        )


def finished(device: str) -> tuple[float, float]:
    """The time and the processor time, once the device has done what it was asked to."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


class DeviceMemory:
    """The most that torch has allocated on the GPU from now on, in bytes."""

    def __init__(self) -> None:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        self.start = torch.cuda.memory_allocated()

    def stop(self) -> dict[str, int]:
        """What it was at first, and at the most."""
        return {"before": self.start, "peak": torch.cuda.max_memory_allocated()}


class Memory:
    """The largest resident memory of this process from now on, in bytes, looked at every 5 ms."""

    def __init__(self) -> None:
        self.start = self.peak = resident()
        self._done = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self.peak = max(self.peak, resident())

    def stop(self) -> dict[str, int]:
        """What it was at first, and at the most."""
        self._done.set()
        # The kernel's own mark sees what the watch missed, but also what came before it.
        highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {"before": self.start, "peak": self.peak, "peak_ever": highest}


def resident() -> int:
    """Bytes of memory that this process holds."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def rlvr_steps(request: dict[str, Any]) -> dict[str, Any]:
    """Our update on the given rollouts, or the whole step where nothing is given."""
    from rlvr.batch import Batch, Example
    from rlvr.compute import checkpoint_activations, compute_in
    from rlvr.objectives.advantages import group_advantages
    from rlvr.policy import Policy
    from rlvr.samplers.decoding import Ending, decode_batch, inference
    from rlvr.trainers.config import parse_config
    from rlvr.trainers.policy_update import PolicyUpdate
    from rlvr.types import SamplingParams

    device = request["device"]
    if device == "cuda":  # as `rlvr train` does
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        torch.use_deterministic_algorithms(True, warn_only=True)
    model = make_model(request).eval()
    if request["checkpointing"]:
        checkpoint_activations(model)
    if request["bf16"]:
        compute_in(model, torch.bfloat16)
    config = parse_config(
        {
            "algorithm": "grpo",
            "output": "unused",
            "policy": "new",
            "environment": "arithmetic",
            "evaluation": None,
            "steps": 100,
            "micro_batch_tokens": request["micro_batch_tokens"],
            "objective": {"aggregation": "token-mean"},
            "sampling": {"max_new_tokens": request["new_tokens"]},
        },
        "benchmark",
    )
    learner = PolicyUpdate(config, policy=Policy(model, None), reference=None)
    rows = request["rows"]
    # GRPO's advantages, with the epsilon that TRL has.
    rewards = torch.tensor([row["reward"] for row in rows], dtype=torch.float64)
    groups = torch.arange(len(rows)) // request["group"]
    advantages = group_advantages(rewards, groups, eps=1e-4).tolist()
    params = SamplingParams(max_new_tokens=request["new_tokens"])
    memory = DeviceMemory() if device == "cuda" else Memory()
    seconds, processor, counts = [], [], []
    for step in range(request["steps"]):
        wall, busy = finished(device)
        if request["generate"]:
            ending = Ending(frozenset(), (), None, None)
            with inference(model):
                found = decode_batch(
                    model,
                    [tuple(row["prompt"]) for row in rows],
                    params,
                    [1000 * step + i for i in range(len(rows))],
                    ending,
                )
            made = [(d.token_ids, d.logprobs) for d in found]
        else:
            made = [(row["completion"], (-1.0,) * len(row["completion"])) for row in rows]
        batch = Batch.pack(
            [
                Example(
                    prompt_ids=tuple(row["prompt"]),
                    completion_ids=tuple(ids),
                    sampler_logprobs=tuple(logprobs),
                    advantage=advantage,
                )
                for row, (ids, logprobs), advantage in zip(rows, made, advantages, strict=True)
            ]
        )
        metrics = learner.update(batch, step)
        now = finished(device)
        seconds.append(now[0] - wall)
        processor.append(now[1] - busy)
        counts.append(batch.input_ids.numel())
    return {
        "seconds": seconds,
        "processor": processor,
        "tokens": counts,
        "grad_norm": metrics["grad_norm"],
        **memory.stop(),
    }


def trl_steps(request: dict[str, Any]) -> dict[str, Any]:
    """TRL's own trainer and loop; its generation is replaced only where completions are given."""
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    device = request["device"]
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    else:  # several would be used at once
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    rows, shape = request["rows"], request["shape"]
    words = {f"t{i}": i for i in range(shape["vocab_size"])}
    from tokenizers.pre_tokenizers import WhitespaceSplit

    inner = Tokenizer(models.WordLevel(words, unk_token="t3"))
    inner.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="t0", eos_token="t1", padding_side="left"
    )
    group = request["group"]
    prompts = [" ".join(f"t{i}" for i in row["prompt"]) for row in rows[::group]]
    rewards = [row["reward"] for row in rows]
    order: list[float] = []

    def given(prompts: list[str], trainer: Any) -> dict[str, Any]:
        # Rows come as the sampler repeats them: each prompt `group` times, in order.
        known: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            known.setdefault(" ".join(f"t{i}" for i in row["prompt"]), []).append(row)
        taken = [known[prompt].pop(0) for prompt in prompts]
        order[:] = [row["reward"] for row in taken]
        return {
            "prompt_ids": [row["prompt"] for row in taken],
            "completion_ids": [row["completion"] for row in taken],
            "logprobs": None,
        }

    def reward(completions: list[str], **_: Any) -> list[float]:
        return order or rewards[: len(completions)]

    seconds: list[float] = []
    processor: list[float] = []

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            if not seconds:
                self.last = start

        def on_step_end(self, *_: Any, **__: Any) -> None:
            now = finished(device)
            seconds.append(now[0] - self.last[0])
            processor.append(now[1] - self.last[1])
            self.last = now

    count = len(rows)
    size = request["rows_at_a_time"]
    # The best that is installed: its own choices where neither is.
    on_gpu = device == "cuda"
    attention = "flash_attention_2" if on_gpu and is_flash_attn_2_available() else "sdpa"
    liger = on_gpu and is_liger_kernel_available()
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=make_model(request, attention),
            reward_funcs=reward,
            args=GRPOConfig(
                output_dir=folder,
                use_cpu=not on_gpu,
                use_liger_kernel=liger,
                bf16=bool(request["bf16"]),
                gradient_checkpointing=bool(request["checkpointing"]),
                per_device_train_batch_size=size,
                gradient_accumulation_steps=count // size,
                num_generations=group,
                max_completion_length=request["new_tokens"],
                loss_type="dapo",
                beta=0.0,
                epsilon=0.2,
                learning_rate=1e-6,
                lr_scheduler_type="constant",
                max_steps=request["steps"],
                save_strategy="no",
                report_to=[],
                logging_steps=1,
                disable_tqdm=True,
                shuffle_dataset=False,
                temperature=1.0,
                generation_kwargs={"min_new_tokens": request["new_tokens"], "top_k": 0},
                dataloader_pin_memory=False,
            ),
            train_dataset=Dataset.from_dict({"prompt": prompts}),
            processing_class=tokenizer,
            rollout_func=None if request["generate"] else given,
            callbacks=[Watch()],
        )
        memory = DeviceMemory() if on_gpu else Memory()
        start = finished(device)
        trainer.train()
        found = memory.stop()
    norms = [row["grad_norm"] for row in trainer.state.log_history if "grad_norm" in row]
    made = request["new_tokens"] if request["generate"] else None
    tokens = sum(len(row["prompt"]) + (made or len(row["completion"])) for row in rows)
    return {
        "seconds": seconds,
        "processor": processor,
        "tokens": [tokens] * request["steps"],
        "grad_norm": norms[-1],
        "settings": f" ({attention}{', liger' if liger else ''}, {size} rows at a time)",
        **found,
    }


if __name__ == "__main__":
    main()
