"""nbd.pump: where threads run."""

import os
import threading
from collections.abc import Callable, Iterator

import pytest

from nbd.pump import Desk, Pump


@pytest.fixture
def pump() -> Iterator[Pump]:
    pump = Pump()
    yield pump
    pump.close()


def in_a_thread(what: Callable[[], None]) -> None:
    """Do it in a thread of its own, so that nobody else is moved."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            what()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def test_threads_of_several_clients_share_a_processor_and_that_of_one_client_is_anywhere(pump: Pump) -> None:
    everywhere = os.sched_getaffinity(0)

    def run() -> None:
        desk = Desk(pump)
        for stays, expected in (1, everywhere), (2, {max(everywhere)}), (60, {max(everywhere)}), (1, everywhere):
            pump.stays = stays
            desk.settle()
            assert os.sched_getaffinity(0) == expected

    in_a_thread(run)
    assert os.sched_getaffinity(0) == everywhere


def test_only_a_change_asks_the_kernel_and_where_that_may_not_be_asked_all_goes_on(
    pump: Pump, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(pid: int, processors: set[int]) -> None:
        asked.append(processors)
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    desk = Desk(pump)
    for stays in 1, 1, 2, 3, 2, 1, 1:
        pump.stays = stays
        desk.settle()
    assert asked == [pump.together, pump.anywhere]
