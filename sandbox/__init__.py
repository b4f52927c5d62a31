"""Running code that is not trusted. See `rlvr.sandbox.local` and `docs/sandbox.md`."""

from rlvr.sandbox.limits import Limits, RunResult, RunStatus
from rlvr.sandbox.local import LocalSandbox
from rlvr.sandbox.session import CallFailed, Session

__all__ = ["CallFailed", "Limits", "LocalSandbox", "RunResult", "RunStatus", "Session"]
