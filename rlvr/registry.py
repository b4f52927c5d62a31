"""One registry for everything that plugs in. Standard library only.

A name is found, in this order: registered in this process (by decorator), built in (a table of
`"module:attribute"` strings, imported on first use), or announced by an installed package through
an entry point. `path/to/file.py:attribute` names something in a local file.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from rlvr.errors import ConfigError, UnknownNameError, UserError, nearest

T = TypeVar("T", bound=Callable[..., Any])


class Registry(Generic[T]):
    """Names of one kind of thing, each with the factory that makes it.

    Args:
        kind: what is registered, in the singular, for messages ("verifier").
        group: the entry-point group that packages announce themselves in ("rlvr.verifiers").
        builtins: what this package ships: name -> `"module:attribute"`.
    """

    def __init__(self, kind: str, group: str, builtins: Mapping[str, str]) -> None:
        self.kind = kind
        self.group = group
        self._builtins = dict(builtins)
        self._factories: dict[str, T] = {}

    def register(self, name: str, factory: T) -> T:
        """Make `name` stand for `factory`, in this process.

        Raises:
            ConfigError: the name is taken by something else.
        """
        known = self._factories.get(name)
        if known is not None and not _same_definition(known, factory):
            raise ConfigError(
                f"{self.kind} {name!r} is registered already, by {_where(known)}: "
                "choose another name"
            )
        self._factories[name] = factory
        return factory

    def names(self) -> list[str]:
        """Every name that can be loaded, sorted."""
        return sorted({*self._factories, *self._builtins, *self._announced()})

    def get(self, name: str) -> T:
        """The factory of `name`, or of `file.py:attribute`.

        Raises:
            UnknownNameError: nothing has that name; the message gives the nearest ones.
            UserError: a local file or an installed plug-in could not be imported.
        """
        if name in self._factories:
            return self._factories[name]
        if ".py:" in name:
            return self._from_file(name)
        if name in self._builtins:
            loaded: T = _import_attribute(self._builtins[name])
            return self.register(name, self._factories.get(name, loaded))
        announced = self._announced()
        if name in announced:
            return self.register(name, self._from_entry_point(announced[name]))
        raise UnknownNameError(f"no {self.kind} is named {name!r}{nearest(name, self.names())}")

    def create(self, name: str, options: Mapping[str, Any] | None = None) -> Any:
        """Call the factory of `name` with `options`, after checking them against its signature.

        Raises:
            UnknownNameError: nothing has that name.
            ConfigError: an option is unknown or a needed one is missing.
        """
        factory = self.get(name)
        options = dict(options or {})
        check_options(factory, options, f"{self.kind} {name!r}")
        return factory(**options)

    def describe(self, name: str) -> str:
        """The first line of what `name` says of itself."""
        doc = inspect.getdoc(self.get(name)) or ""
        return doc.strip().splitlines()[0] if doc.strip() else ""

    def _announced(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    def _from_entry_point(self, point: EntryPoint) -> T:
        try:
            loaded: T = point.load()
        except Exception as error:
            raise UserError(
                f"{self.kind} {point.name!r} is announced by an installed package as "
                f"{point.value!r}, which does not import: {type(error).__name__}: {error}"
            ) from error
        # A decorated function registers itself under its own name when its module is imported.
        return self._factories.get(point.name, loaded)

    def _from_file(self, reference: str) -> T:
        path_text, _, attribute = reference.rpartition(":")
        module = import_file(path_text)
        if hasattr(module, attribute):
            found: T = getattr(module, attribute)
            for factory in self._factories.values():
                if factory is found or getattr(factory, "__wrapped__", None) is found:
                    return factory
            return found
        if attribute in self._factories:
            return self._factories[attribute]
        public = [name for name in vars(module) if not name.startswith("_")]
        raise UnknownNameError(
            f"{path_text} defines no {self.kind} {attribute!r}{nearest(attribute, public)}"
        )


def check_options(factory: Callable[..., Any], options: Mapping[str, Any], what: str) -> None:
    """Refuse options that `factory` does not take, naming the nearest one that it does.

    Args:
        factory: what the options are for.
        options: keyword arguments.
        what: how to name the thing in a message, such as `"verifier 'math'"`.

    Raises:
        ConfigError: an option is unknown, or one without a default is missing.
    """
    signature = getattr(factory, "option_signature", None) or inspect.signature(factory)
    parameters = signature.parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    known = [
        p.name for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    for option in options:
        if option not in known and not takes_any:
            hint = nearest(option, known) if known else "; it takes none"
            raise ConfigError(f"{what} has no option {option!r}{hint}")
    for parameter in parameters.values():
        needed = parameter.default is parameter.empty and parameter.name in known
        if needed and parameter.name not in options:
            raise ConfigError(f"{what} needs the option {parameter.name!r}")


def import_file(path_text: str) -> ModuleType:
    """Import a local Python file, once a process, under a name of its own.

    Raises:
        UserError: the file is missing or does not import.
    """
    path = Path(path_text).expanduser().resolve()
    if not path.is_file():
        raise UserError(f"no file {path_text!r}: expected path/to/file.py:name")
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    name = f"rlvr_local_{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UserError(f"{path_text} does not import: {type(error).__name__}: {error}") from error
    return module


def _import_attribute(reference: str) -> Any:
    module_name, _, attribute = reference.partition(":")
    return getattr(importlib.import_module(module_name), attribute)


def _where(factory: Callable[..., Any]) -> str:
    return f"{getattr(factory, '__module__', '?')}.{getattr(factory, '__qualname__', '?')}"


def _same_definition(first: Callable[..., Any], second: Callable[..., Any]) -> bool:
    """Whether a second registration is the first one again (a notebook cell run twice)."""
    return first is second or _where(first) == _where(second)


verifiers: Registry[Any] = Registry(
    "verifier",
    "rlvr.verifiers",
    {
        "choice": "rlvr.verifiers.text:choice",
        "code": "rlvr.verifiers.code_languages:CodeVerifier",
        "countdown": "rlvr.verifiers.countdown:countdown",
        "exact": "rlvr.verifiers.text:exact",
        "format": "rlvr.verifiers.format:format_verifier",
        "knights_knaves": "rlvr.verifiers.knights_knaves:knights_knaves",
        "math": "rlvr.verifiers.math:MathVerifier",
        "python_code": "rlvr.verifiers.python_code:PythonCodeVerifier",
        "regex": "rlvr.verifiers.text:regex",
        "reward_model": "rlvr.verifiers.reward_model:RewardModelVerifier",
        "weighted": "rlvr.verifiers.weighted:WeightedVerifier",
    },
)
environments: Registry[Any] = Registry(
    "environment",
    "rlvr.environments",
    {
        "arithmetic": "rlvr.environments.arithmetic:arithmetic",
        "countdown": "rlvr.environments.countdown:countdown",
        "gsm8k": "rlvr.environments.gsm8k:gsm8k",
        "humaneval": "rlvr.environments.humaneval:humaneval",
        "knights_knaves": "rlvr.environments.knights_knaves:knights_knaves",
        "math": "rlvr.environments.math:math",
        "mbpp": "rlvr.environments.mbpp:mbpp",
        "program_synthesis": "rlvr.environments.program_synthesis:program_synthesis",
    },
)
samplers: Registry[Any] = Registry(
    "sampler",
    "rlvr.samplers",
    {
        "hf": "rlvr.samplers.hf:HFSampler",
        "openai": "rlvr.samplers.openai:OpenAISampler",
        "scripted": "rlvr.samplers.scripted:ScriptedSampler",
        "vllm": "rlvr.samplers.vllm:VLLMSampler",
    },
)
sandboxes: Registry[Any] = Registry(
    "sandbox",
    "rlvr.sandboxes",
    {
        "local": "rlvr.sandbox.local:LocalSandbox",
        "docker": "rlvr.sandbox.docker:DockerSandbox",
        "remote": "rlvr.sandbox.remote:RemoteSandbox",
    },
)
objectives: Registry[Any] = Registry(
    "objective",
    "rlvr.objectives",
    {
        "advantage/gdpo": "rlvr.objectives.advantages_several:gdpo",
        "advantage/gpg": "rlvr.objectives.advantages:gpg",
        "advantage/group": "rlvr.objectives.advantages:group",
        "advantage/leave-one-out": "rlvr.objectives.advantages:leave_one_out",
        "advantage/max-gap": "rlvr.objectives.advantages_pass_at_k:max_gap",
        "advantage/maxrl": "rlvr.objectives.advantages:maxrl",
        "advantage/opo": "rlvr.objectives.advantages:opo",
        "advantage/pass-at-k": "rlvr.objectives.advantages_pass_at_k:pass_at_k",
        "advantage/pass-at-k-group": "rlvr.objectives.advantages_pass_at_k:pass_at_k_group",
        "advantage/reinforce": "rlvr.objectives.advantages:reinforce",
        "advantage/reinforce++": "rlvr.objectives.advantages:reinforce_plus_plus",
        "advantage/reinforce++-baseline": (
            "rlvr.objectives.advantages:reinforce_plus_plus_baseline"
        ),
        "advantage/remax": "rlvr.objectives.advantages:remax",
        "aggregation/seq-mean-token-mean": "rlvr.objectives.aggregation:seq_mean_token_mean",
        "aggregation/seq-mean-token-sum": "rlvr.objectives.aggregation:seq_mean_token_sum",
        "aggregation/seq-mean-token-sum-norm": (
            "rlvr.objectives.aggregation:seq_mean_token_sum_norm"
        ),
        "aggregation/token-mean": "rlvr.objectives.aggregation:token_mean",
        "aggregation/token-sum": "rlvr.objectives.aggregation:token_sum",
        "dpo/hinge": "rlvr.objectives.preference:hinge",
        "dpo/ipo": "rlvr.objectives.preference:ipo",
        "dpo/sigmoid": "rlvr.objectives.preference:sigmoid",
        "kl/abs": "rlvr.objectives.kl:absolute",
        "kl/abs+": "rlvr.objectives.kl:absolute_plus",
        "kl/k1": "rlvr.objectives.kl:k1",
        "kl/k1+": "rlvr.objectives.kl:k1_plus",
        "kl/k2": "rlvr.objectives.kl:k2",
        "kl/k3": "rlvr.objectives.kl:k3",
        "kl/k3+": "rlvr.objectives.kl:k3_plus",
        "policy/cispo": "rlvr.objectives.policy_soft:cispo",
        "policy/clip": "rlvr.objectives.policy:clip",
        "policy/clip-cov": "rlvr.objectives.policy_covariance:clip_cov",
        "policy/dro": "rlvr.objectives.policy_plain:dro",
        "policy/dppo-kl": "rlvr.objectives.policy_mask:dppo_kl",
        "policy/dppo-tv": "rlvr.objectives.policy_mask:dppo_tv",
        "policy/gmpo": "rlvr.objectives.policy_sequence:gmpo",
        "policy/gspo": "rlvr.objectives.policy_sequence:gspo",
        "policy/gspo-token": "rlvr.objectives.policy_sequence:gspo_token",
        "policy/importance": "rlvr.objectives.policy_plain:importance",
        "policy/kl-cov": "rlvr.objectives.policy_covariance:kl_cov",
        "policy/reinforce": "rlvr.objectives.policy_plain:reinforce",
        "policy/rloo": "rlvr.objectives.policy_sequence:rloo",
        "policy/sapo": "rlvr.objectives.policy_soft:sapo",
        "policy/vespo": "rlvr.objectives.policy_soft:vespo",
        "reward/bradley-terry": "rlvr.objectives.reward:bradley_terry_loss",
        "shaping/clip": "rlvr.objectives.shaping:clip",
        "shaping/cosine-length": "rlvr.objectives.shaping:cosine_length",
        "shaping/kimi-length": "rlvr.objectives.shaping:kimi_length",
        "shaping/scale": "rlvr.objectives.shaping:scale",
        "shaping/soft-overlong": "rlvr.objectives.shaping:soft_overlong",
        "shaping/target-length": "rlvr.objectives.shaping:target_length",
        "supervised/cross-entropy": "rlvr.objectives.supervised:cross_entropy",
        "token-advantage/gae": "rlvr.objectives.values:generalized_advantages",
        "token-advantage/returns": "rlvr.objectives.values:discounted_returns",
        "token-selection/clip-cov": "rlvr.objectives.token_selection:clip_cov",
        "token-selection/kl-cov": "rlvr.objectives.token_selection:kl_cov",
        "token-selection/top-entropy": "rlvr.objectives.token_selection:top_entropy",
    },
)
