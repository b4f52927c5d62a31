"""Points of a program at which it kills itself with SIGKILL.

A point is `TARGET@n > TARGET#n > ... > +SECONDS`, each part being armed once the one before it was
reached. `package.module:Class.name@n` is reached when that is entered for the nth time,
`package.module:Class.name#n` when it is entered with a first argument (after `self`) of n or more:
the step of that number, wherever a resumed run begins. `+SECONDS` is reached by waiting. Reaching
the last part kills.
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import threading
from typing import Any


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str) -> None:
    """Let this process kill itself at a point."""
    first, _, rest = point.partition(" > ")

    def reached() -> None:
        kill_self() if not rest else arm(rest)

    if first.startswith("+"):
        timer = threading.Timer(float(first), reached)
        timer.daemon = True
        timer.start()
        return
    target, kind, number = re.split("([@#])", first)
    owner, name = find(target)
    plain = getattr(owner, name)
    entered, left = 0, True

    def watched(*args: Any, **kwargs: Any) -> Any:
        nonlocal entered, left
        entered += 1
        if left and (entered if kind == "@" else args[1]) >= int(number):
            left = False
            reached()
        return plain(*args, **kwargs)

    setattr(owner, name, watched)


def find(target: str) -> tuple[Any, str]:
    """`package.module:Class.name` as (the class, "name")."""
    module, _, path = target.partition(":")
    *outer, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in outer:
        owner = getattr(owner, part)
    return owner, name


def targets(point: str) -> list[str]:
    """What the parts of a point name."""
    parts = point.split(" > ")
    return [re.split("[@#]", part)[0] for part in parts if not part.startswith("+")]
