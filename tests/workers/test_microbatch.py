"""The microbatcher, without a network: lists in, lists out."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import OutOfMemory, ServiceUnavailable
from shared.steps import Step, kept
from workers.microbatch import RANKS, Microbatcher


class Device:
    """Records every microbatch; while `busy`, it holds the first one."""

    def __init__(self, fails: Callable[[list[int]], Exception | None] = lambda items: None) -> None:
        self.seen: list[list[int]] = []
        self.free = threading.Event()
        self.free.set()
        self.started = threading.Event()
        self._fails = fails

    def __call__(self, items: list[int]) -> list[int]:
        self.seen.append(list(items))
        self.started.set()
        self.free.wait(60)
        if error := self._fails(items):
            raise error
        return [item * 10 for item in items]


@contextmanager
def batching(device: Device, largest: int = 8, *, bisect: bool = True) -> Iterator[Microbatcher[int, int]]:
    batcher = Microbatcher[int, int](device, largest=largest, name="test", bisect=bisect)
    try:
        yield batcher
    finally:
        device.free.set()
        batcher.close()


def hold(device: Device, batcher: Microbatcher[int, int]) -> None:
    """Make the device busy with item 0."""
    device.free.clear()
    batcher.submit(0)
    assert device.started.wait(60)


def test_an_idle_device_runs_a_lone_item_at_once() -> None:
    device = Device()
    with batching(device) as batcher:
        assert batcher.submit(7).result(60) == 70
    assert device.seen == [[7]]


def test_what_arrives_while_the_device_is_busy_collects_up_to_the_largest() -> None:
    device = Device()
    with batching(device, largest=4) as batcher:
        hold(device, batcher)
        futures = [batcher.submit(number) for number in range(1, 7)]
        device.free.set()
        assert [future.result(60) for future in futures] == [10, 20, 30, 40, 50, 60]
    assert device.seen == [[0], [1, 2, 3, 4], [5, 6]]


def test_whoever_keeps_steps_is_told_of_each_pass_once() -> None:
    device, mine, others = Device(), list[Step](), list[Step]()
    batcher = Microbatcher[int, int](device, largest=4, name="test", step="forward tiny")
    hold(device, batcher)
    with kept(mine):
        tiles = [batcher.submit(number) for number in (1, 2)]
    with kept(others):
        other = batcher.submit(3)
    batcher.submit(4)
    device.free.set()
    assert [future.result(60) for future in (*tiles, other)] == [10, 20, 30]
    batcher.close()
    (one,) = mine
    assert others == [one]
    assert (one.name, one.attributes) == ("forward tiny", {"medq.microbatch": 4})
    assert one.began_ns <= one.ended_ns


def test_interactive_goes_before_bulk_before_explanations() -> None:
    device = Device()
    with batching(device, largest=2) as batcher:
        hold(device, batcher)
        last = [batcher.submit(1, RANKS["explain"]), batcher.submit(2, RANKS["bulk"])]
        batcher.submit(3, RANKS["interactive"])
        device.free.set()
        [future.result(60) for future in last]
    assert device.seen == [[0], [3, 2], [1]]


def test_several_threads_run_as_many_microbatches_at_once() -> None:
    both = threading.Barrier(2, timeout=30)

    def run(items: list[int]) -> list[int]:
        both.wait()  # for ever, if one thread ran them
        return items

    batcher = Microbatcher[int, int](run, largest=1, name="test", threads=2)
    futures = [batcher.submit(number) for number in (1, 2)]
    assert [future.result(30) for future in futures] == [1, 2]
    batcher.close()


def test_one_bad_item_fails_alone() -> None:
    device = Device(lambda items: ValueError("bad") if 3 in items else None)
    with batching(device) as batcher:
        hold(device, batcher)
        futures = {number: batcher.submit(number) for number in range(1, 8)}
        device.free.set()
        with pytest.raises(ValueError, match="bad"):
            futures.pop(3).result(60)
        assert {number: future.result(60) for number, future in futures.items()} == {
            number: number * 10 for number in futures
        }


def test_without_bisection_all_share_the_failure_and_run_once() -> None:
    device = Device(lambda items: ValueError("down") if 3 in items else None)
    with batching(device, bisect=False) as batcher:
        hold(device, batcher)
        futures = [batcher.submit(number) for number in (2, 3)]
        device.free.set()
        for future in futures:
            with pytest.raises(ValueError, match="down"):
                future.result(60)
    assert device.seen == [[0], [2, 3]]


def test_out_of_memory_halves_the_microbatch_for_good_and_loses_nothing() -> None:
    device = Device(lambda items: OutOfMemory() if len(items) > 2 else None)
    with batching(device, largest=8) as batcher:
        hold(device, batcher)
        futures = [batcher.submit(number) for number in range(1, 9)]
        device.free.set()
        assert [future.result(60) for future in futures] == [number * 10 for number in range(1, 9)]
        assert batcher.largest == 2


def test_out_of_memory_for_a_single_item_is_its_own() -> None:
    device = Device(lambda items: OutOfMemory())
    with batching(device) as batcher, pytest.raises(OutOfMemory):
        batcher.submit(1).result(60)


def test_closing_runs_what_was_handed_in_and_refuses_the_rest() -> None:
    device = Device()
    with batching(device) as batcher:
        hold(device, batcher)
        waiting = batcher.submit(5)
        closer = threading.Thread(target=batcher.close)
        closer.start()
        device.free.set()
        closer.join(60)
        assert waiting.result(0) == 50
        with pytest.raises(ServiceUnavailable):
            batcher.submit(6)


@settings(max_examples=30, deadline=None)
@given(
    items=st.lists(st.tuples(st.integers(0, 99), st.sampled_from(sorted(RANKS.values()))), max_size=40),
    bad=st.sets(st.integers(0, 99), max_size=5),
    largest=st.integers(1, 9),
)
def test_every_item_gets_its_own_result_or_its_own_failure(
    items: list[tuple[int, int]], bad: set[int], largest: int
) -> None:
    device = Device(lambda batch: ValueError("bad") if bad.intersection(batch) else None)
    with batching(device, largest) as batcher:
        futures = [(number, batcher.submit(number, rank)) for number, rank in items]
        for number, future in futures:
            if number in bad:
                assert isinstance(future.exception(10), ValueError)
            else:
                assert future.result(60) == number * 10
    assert all(len(batch) <= largest for batch in device.seen)
