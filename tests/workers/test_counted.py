"""What is counted of a network's passes, with a clock that the test moves."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from prometheus_client import Counter

from shared.errors import OutOfMemory
from shared.figures import Figures
from workers.counted import Busy, Counted

PICTURE = torch.zeros(3, 4, 4, dtype=torch.uint8)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def seconds_of(counter: Counter) -> float:
    return float(next(iter(counter.collect())).samples[0].value)


def test_passes_that_overlap_keep_a_device_busy_once() -> None:
    clock, counter = Clock(), Counter("busy", "", registry=None)
    busy = Busy(counter, clock)
    with busy:
        clock.now += 2
        with busy:
            clock.now += 3
        clock.now += 1
    clock.now += 10
    with busy:
        clock.now += 4
    assert seconds_of(counter) == pytest.approx(10)


def test_threads_that_come_and_go_leave_it_idle() -> None:
    clock, counter = Clock(), Counter("busy", "", registry=None)
    busy, gate = Busy(counter, clock), threading.Barrier(8)

    def work(_: int) -> None:
        gate.wait(30)
        for _ in range(200):
            with busy:
                pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    with busy:
        clock.now += 1
    assert seconds_of(counter) == pytest.approx(1)


def test_a_pass_is_counted_with_its_fill() -> None:
    figures = Figures()
    counted = Counted(lambda pictures: [1] * len(pictures), "skin", 8, figures, Busy(figures.busy_seconds))
    assert counted([PICTURE] * 6) == [1] * 6
    values = figures.values()
    assert values['medq_microbatch_pictures_total{"head": "skin"}'] == 6
    assert values['medq_microbatch_fill_sum{"head": "skin"}'] == 0.75
    assert values['medq_forward_seconds_count{"head": "skin"}'] == 1
    assert values["medq_device_busy_seconds_total{}"] > 0


def test_a_pass_that_fails_is_none_and_leaves_the_device_idle() -> None:
    def fails(pictures: list[torch.Tensor]) -> list[int]:
        raise OutOfMemory()

    figures = Figures()
    clock = Clock()
    busy = Busy(figures.busy_seconds, clock)
    with pytest.raises(OutOfMemory):
        Counted(fails, "skin", 8, figures, busy)([PICTURE])
    assert figures.values()['medq_forward_seconds_count{"head": "skin"}'] == 0
    with busy:
        clock.now += 5
    assert figures.values()["medq_device_busy_seconds_total{}"] == 5
