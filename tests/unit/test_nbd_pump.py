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


def test_where_a_thread_may_not_be_moved_all_goes_on(pump: Pump, monkeypatch: pytest.MonkeyPatch) -> None:
    everywhere = os.sched_getaffinity(0)
    asked = []

    def refuse(pid: int, processors: set[int]) -> None:
        asked.append(processors)
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    desk = Desk(pump)
    for stays in 1, 1, 2, 3, 2, 1, 1:
        pump.stays = stays
        desk.settle()
    assert asked == [{max(everywhere)}] * (len(everywhere) > 1)  # once, and where it is already it need not go


def test_a_thread_of_the_disk_is_where_the_others_are_and_stays_nowhere(pump: Pump) -> None:
    everywhere = os.sched_getaffinity(0)
    found = []

    def of_the_disk() -> None:
        for stays in 1, 2, 60, 0:
            pump.stays = stays
            pump.settle()
            found.append(os.sched_getaffinity(0))

    def run() -> None:
        pump.stays = 2
        Desk(pump).settle()
        in_a_thread(of_the_disk)

    in_a_thread(run)
    assert found == [everywhere, {max(everywhere)}, {max(everywhere)}, everywhere]


def test_processors_that_come_and_go_are_heeded(pump: Pump, monkeypatch: pytest.MonkeyPatch) -> None:
    have, asked = {3, 5}, []
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: have if pid == os.getpid() else set())
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, processors: asked.append(processors))
    desk = Desk(pump)
    for processors, stays in ({3, 5}, 2), ({3}, 1), ({3, 4}, 2), ({2, 4, 9}, 1):
        have, pump.stays = processors, stays
        desk.settle()
    assert asked == [{5}, {3}, {4}, {2, 4, 9}]
