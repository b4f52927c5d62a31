"""What tests of whole runs share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from warmed import Warmed


@pytest.fixture(scope="session")
def warmed() -> Iterator[Warmed]:
    """Makes calls in processes that need import nothing."""
    with Warmed() as one:
        yield one
