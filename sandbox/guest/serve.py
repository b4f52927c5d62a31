"""Role `session`: load the candidate's source once, then answer calls over two pipes.

The far side sends requests and gets exactly one reply for each; all are encoded values, but that a
request of plain values may come as `marshal` writes it, after an `m`: that is read without Python.

    ("call", target, args, kwargs)   ->  ("ok", value, arguments after the call if they changed)
    ("result", target, args, kwargs) ->  ("ok", value, None)
    ("get", target, name)            ->  ("ok", value, None)
    ("set", target, name, value)     ->  ("ok", None, None)
    ("value", name)                  ->  ("ok", value, None)
    any                              ->  ("raise", [type names, most special first], message)
                                         ("exit", type name, message)   SystemExit and its like
                                         ("refused", why)               the value cannot be carried

A target is a name of the loaded module or a `Reference`. This process runs foreign code, so
whatever it says is only data: a forged reply is a wrong answer.
"""

from __future__ import annotations

import marshal
import os
import sys
from collections.abc import Callable, Iterator
from types import CoroutineType, ModuleType
from typing import Any

from . import values  # noqa: TID251

_encode, _decode, _frames, _frame = values.encode, values.decode, values.frames, values.frame
MARSHALLED = b"m"
_loads = marshal.loads
_MUTABLE = (list, dict, set, bytearray)


def serve(requests: int, replies: int, module: ModuleType) -> int:
    """Load the source that the first frame holds, say what it defines, answer until the end."""
    incoming = _frames(lambda count: os.read(requests, count))
    candidate = _Candidate(replies)
    source = next(incoming, b"")
    if not candidate.load(source, module):
        return 1
    for body in incoming:
        candidate.answer(body)
    return 0


class _Candidate:
    def __init__(self, replies: int) -> None:
        self._replies = replies
        self._objects: list[Any] = []
        self._names: dict[str, Any] = {}

    def send(self, message: tuple[Any, ...]) -> None:
        try:
            body = _encode(message, self._refer)
        except values.Refused as error:
            body = _encode(("refused", str(error)[:500]))
        data = _frame(body)
        sent = os.write(self._replies, data)
        while sent < len(data):
            sent += os.write(self._replies, memoryview(data)[sent:])

    def load(self, source: bytes, module: ModuleType) -> bool:
        """Compile and run the source. The reply: `("loaded", definitions)` or a failure."""
        try:
            code = compile(source, "solution.py", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            self.send(("syntax", [type(error).__name__], str(error)[:500]))
            return False
        self._names = module.__dict__
        try:
            exec(code, module.__dict__)  # noqa: S102 - this is the sandbox
        except BaseException as error:
            self._failed(error)
            return False
        kinds = definitions(module.__dict__)
        self.send(("loaded", "\n".join([f"{name} {kind}" for name, kind in kinds])))
        return True

    def answer(self, body: bytes) -> None:
        if body[:1] == MARSHALLED:
            request = _loads(body[1:])
        else:
            request = _decode(body, lambda reference: self._objects[reference.number])
        operation, name, *rest = request
        target = name
        if isinstance(target, str):
            if target not in self._names:
                self.send(("raise", ["NameError"], f"name {target!r} is not defined"))
                return
            target = self._names[target]
        try:
            result = _OPERATIONS[operation](target, *rest)
        except BaseException as error:
            self._failed(error)
            return
        after = self._changed(body, request) if operation == "call" else None
        try:  # an iterator runs foreign code while it is encoded
            self.send(("ok", result, after))
        except BaseException as error:
            self._failed(error)

    def _changed(self, body: bytes, request: tuple[Any, ...]) -> Any:
        """The arguments after a call, where any of them was changed in place."""
        args, kwargs = request[2:]
        if not any(isinstance(value, _MUTABLE) for value in (*args, *kwargs.values())):
            return None
        try:
            unchanged = _encode(request, self._refer) == body
        except values.Refused:
            return None
        return None if unchanged else (args, kwargs)

    def _failed(self, error: BaseException) -> None:
        """Send what foreign code raised."""
        if issubclass(type(error), Exception):  # not `isinstance`: it may lie about its class
            names = [kind.__name__ for kind in type(error).__mro__]
            self.send(("raise", [str(n) for n in names[:20]], _message(error)))
        else:
            self.send(("exit", type(error).__name__, _message(error)))

    def _refer(self, value: Any) -> values.Reference | None:
        if len(self._objects) >= 100_000:
            return None
        for number in range(len(self._objects) - 1, max(-1, len(self._objects) - 64), -1):
            if self._objects[number] is value:
                break
        else:
            number = len(self._objects)
            self._objects.append(value)
        return values.Reference(number, str(type(value).__name__), callable(value))


def _call(target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    result = target(*args, **kwargs)
    if type(result) is CoroutineType:
        import asyncio

        return asyncio.run(result)
    return result


def _set(target: Any, name: str, value: Any) -> None:
    setattr(target, name, value)


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": _call,
    "result": _call,
    "get": getattr,
    "set": _set,
    "value": lambda target: target,
}


def announced(reply: bytes) -> dict[str, str]:
    """The kinds by name that a `loaded` reply holds; of nonsense, nothing."""
    try:
        _, text = values.decode(reply)
        lines = [line.split(" ", 1) for line in text.split("\n")] if type(text) is str else []
        return {line[0]: line[1] for line in lines if len(line) == 2}
    except (ValueError, TypeError):
        return {}


def definitions(names: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What the module defines, as `(name, kind)`; a kind may carry a detail after a colon."""
    for name, value in list(names.items())[:10_000]:
        if not isinstance(name, str) or not name.isidentifier():
            continue
        if name.startswith("__") and name.endswith("__"):
            continue
        if isinstance(value, ModuleType):
            yield name, "module:" + str(sys.modules.get(value.__name__) is value and value.__name__)
        elif isinstance(value, type) and issubclass(value, Exception):
            yield name, "exception:" + ",".join(kind.__name__ for kind in value.__mro__[1:])
        elif isinstance(value, type):
            yield name, "class"
        elif callable(value):
            yield name, "function"
        else:
            yield name, "value"


def _message(error: BaseException) -> str:
    try:
        return str(error)[:500]
    except BaseException:
        return ""
