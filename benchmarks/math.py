"""The math verifier beside Math-Verify: `python benchmarks/math.py --help` (see `math_measure`).

This file has the name of a module of the standard library. Where a script of this folder imports
`math`, it finds this file first, so it puts the real module in its own place.
"""

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

_FOLDER = __file__.rpartition("/")[0]
_ELSEWHERE = [path for path in sys.path if path != _FOLDER and path not in ("", ".")]


def _use_the_real_math() -> None:
    spec = PathFinder.find_spec("math", _ELSEWHERE)
    if spec is None or spec.loader is None:  # built into the interpreter: nothing shadows it
        return
    sys.modules["math"] = real = module_from_spec(spec)
    spec.loader.exec_module(real)


_use_the_real_math()

if __name__ == "__main__":
    from math_measure import main

    main()
