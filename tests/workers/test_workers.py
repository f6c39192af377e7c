"""Workers: results in order, few items in hand, and an error where a process dies."""

import operator
import os
from collections.abc import Iterator

import pytest

from scanwise.errors import DataError, RunError
from scanwise.workers import OWN_PROCESS, open_workers
from scanwise.workers.ordering import AHEAD
from scanwise.workers.sharing import sharing_processes


def test_one_worker_is_this_process() -> None:
    for count in (None, 1):
        with open_workers(count=count) as workers:
            assert workers is OWN_PROCESS
            assert list(workers.map(os.path.basename, ["a/b", "c"])) == ["b", "c"]


def test_a_cluster_is_of_ray() -> None:
    with pytest.raises(DataError, match="--engine ray"):
        open_workers("local", 2, "127.0.0.1:6379")


@pytest.mark.extended
def test_processes_give_results_in_order_and_take_few_items_ahead() -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in range(20):
            taken.append(item)
            yield item

    with open_workers(count=2) as workers:
        results = workers.map(hex, items())
        assert next(results) == "0x0"
        assert len(taken) <= 2 * AHEAD + 1
        assert list(results) == [hex(item) for item in range(1, 20)]


@pytest.mark.extended
def test_processes_share_the_memory_of_the_machine_and_this_one_keeps_its_own() -> None:
    with open_workers(count=3) as workers:
        assert list(workers.map(operator.call, [sharing_processes] * 2)) == [3, 3]
    assert sharing_processes() == 1


@pytest.mark.extended
def test_the_death_of_a_process_is_said() -> None:
    with open_workers(count=2) as workers, pytest.raises(RunError, match="--workers"):
        list(workers.map(os._exit, [3, 3]))
