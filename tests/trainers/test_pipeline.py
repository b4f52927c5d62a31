"""Overlap: the schedule is a function of the configuration, whatever the clock does."""

from __future__ import annotations

import random
import threading
import time

import pytest
import torch
from torch import nn

from rlvr.trainers.pipeline import Pipeline


class Toy:
    """A "policy" of one weight, a "sampler" with its own copy, and makers that take their time."""

    def __init__(self, ahead: int, last: int, jitter: random.Random | None = None) -> None:
        self.model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.model.weight)
        self.jitter = jitter
        self.sampler = -1.0
        self.updates = 0
        self.made: list[int] = []
        self.pipeline: Pipeline[tuple[int, int, float]] = Pipeline(
            self.make,
            hand_over=self.hand_over,
            model=self.model,
            version=lambda: self.updates,
            ahead=ahead,
            last=last,
        )

    def hand_over(self, model: nn.Module, version: int) -> None:
        self.sampler = model.weight.item()  # type: ignore[operator, union-attr]
        assert self.sampler == version

    def make(self, step: int, version: int) -> tuple[int, int, float]:
        before = self.sampler
        self.pause()
        assert self.sampler == before, "the weights changed while the batch was made"
        self.made.append(step)
        return step, version, before

    def train(self) -> None:
        self.pause()
        with torch.no_grad():
            self.model.weight += 1
        self.updates += 1

    def pause(self) -> None:
        if self.jitter is not None:
            time.sleep(self.jitter.uniform(0, 0.004))


@pytest.mark.parametrize("ahead", [0, 1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_a_batch_is_made_with_the_weights_of_so_many_steps_before(ahead: int, seed: int) -> None:
    toy = Toy(ahead, 15, random.Random(seed))
    for step in range(1, 16):
        version = max(0, step - 1 - ahead)
        assert toy.pipeline.take(step) == (step, version, float(version))
        toy.train()
    toy.pipeline.close()
    assert toy.made == list(range(1, 16)), "none is made twice, out of order, or past the last step"


@pytest.mark.parametrize("ahead", [0, 1, 3])
@pytest.mark.parametrize("stop", [1, 4, 9, 12])
def test_what_was_in_flight_goes_on_where_it_was(ahead: int, stop: int) -> None:
    first = Toy(ahead, 12, random.Random(stop))
    taken = []
    for step in range(1, stop + 1):
        taken.append(first.pipeline.take(step))
        first.train()
    ready = first.pipeline.drain()
    assert sorted(ready) == list(range(stop + 1, min(stop + ahead, 12) + 1))
    second = Toy(ahead, 12, random.Random(5))
    second.model.load_state_dict(first.model.state_dict())
    second.updates = first.updates
    second.pipeline.restore(ready)
    for step in range(stop + 1, 13):
        taken.append(second.pipeline.take(step))
        second.train()
    versions = [max(0, step - 1 - ahead) for step in range(1, 13)]
    expected = [(step, version, float(version)) for step, version in enumerate(versions, 1)]
    assert taken == expected
    assert first.made + second.made == list(range(1, 13))
    first.pipeline.close()
    second.pipeline.close()


def test_without_staleness_there_is_no_thread() -> None:
    toy = Toy(0, 3)
    before = threading.active_count()
    threads = set()
    toy.pause = lambda: threads.add(threading.get_ident())  # type: ignore[method-assign]
    toy.pipeline.take(1)
    assert threads == {threading.get_ident()}
    assert threading.active_count() == before


@pytest.mark.parametrize("ahead", [1, 2])
def test_a_failure_ahead_ends_the_run_with_its_own_error(ahead: int) -> None:
    toy = Toy(ahead, 9)
    plain = toy.pipeline._make

    def make(step: int, version: int) -> tuple[int, int, float]:
        if step == 3:
            raise ValueError("batch 3")
        return plain(step, version)

    toy.pipeline._make = make
    toy.pipeline.take(1)
    toy.pipeline.take(2)
    for wait in (toy.pipeline.drain, lambda: toy.pipeline.take(3), lambda: toy.pipeline.take(3)):
        with pytest.raises(ValueError, match="batch 3"):
            wait()
    assert toy.made == [1, 2]
    toy.pipeline.close()
