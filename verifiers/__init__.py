"""Verifiers: what an answer is worth. See `rlvr.verifiers.base` for how to write one."""

from rlvr.verifiers.base import FunctionVerifier, Verifier, as_verdict, verifier

__all__ = ["FunctionVerifier", "Verifier", "as_verdict", "verifier"]
