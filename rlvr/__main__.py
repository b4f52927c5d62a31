"""`python -m rlvr`, and so `torchrun --nproc-per-node 2 -m rlvr train CONFIG.yaml`."""

import sys

from rlvr.cli.main import main

sys.exit(main())
