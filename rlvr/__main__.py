"""`python -m rlvr`, and so `torchrun --nproc-per-node 2 -m rlvr train CONFIG.yaml`."""

import atexit
import os
import sys

_code = 1


def _end_without_teardown() -> None:
    """End a process of several here, with the interpreter whole.

    gloo's threads outlive `destroy_process_group`. One that frees its last tensor while the
    interpreter is being taken down aborts the process (pytorch/pytorch#179291), and a run that had
    done all its work would be reported as failed.
    """
    distributed = sys.modules.get("rlvr.distributed")
    if distributed is not None and distributed.launched():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_code)


if __name__ == "__main__":
    # The first to be registered is called last: what else ends the run at exit has done so.
    atexit.register(_end_without_teardown)
    from rlvr.cli.main import main

    try:
        _code = main()
    except SystemExit as ended:
        _code = ended.code if isinstance(ended.code, int) else 1
        raise
    sys.exit(_code)
