"""dhcp.store: leases that arrive together share one sync, and a disk that fails costs nothing else."""

import asyncio
import errno
import itertools
import os
import threading
import time
from collections.abc import Callable, Coroutine
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from dhcp import journal, store
from dhcp.clock import SteadyClock
from dhcp.journal import HEADER, Journal
from dhcp.leases import NEVER, Lease, State
from dhcp.store import LeaseStore
from tests.support.crash_disk import CrashDisk

MAC = "02:00:00:00:00:0a"

Answer = BaseException | None
Test = Callable[[LeaseStore], Coroutine[Any, Any, None]]


def lease(n: int, expires: int = 1_790_000_000, state: State = State.BOUND) -> Lease:
    return Lease(IPv4Address(0x0A4D0000 + n), MAC, expires, state)


def reopened(path: Path) -> set[Lease]:
    again = Journal(path)
    again.close()
    return set(again.leases)


async def put(leases: LeaseStore, record: Lease) -> Answer:
    answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    leases.put(record, answer.set_result)
    return await answer


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds, the loop going round meanwhile."""
    for _ in range(1_000_000):
        if holds():
            return
        await asyncio.sleep(0)
    pytest.fail("it never did")


def let_pass(time_s: float) -> None:
    """Keep the loop from doing anything for so long."""
    time.sleep(time_s)


def on_a_loop(leases: LeaseStore, test: Test) -> None:
    async def run() -> None:
        try:
            await test(leases)
        finally:
            leases.close()

    asyncio.run(run())


class SlowDisk(CrashDisk):
    """Its syncs take until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.answer = threading.Event()
        self.answer.set()

    def sync(self, fd: int) -> None:
        self.asked.set()
        self.answer.wait(10)
        super().sync(fd)


@pytest.fixture
def disk() -> SlowDisk:
    return SlowDisk()


@pytest.fixture
def leases(tmp_path: Path, disk: SlowDisk, monkeypatch: pytest.MonkeyPatch) -> LeaseStore:
    monkeypatch.setattr(store, "RETRY_S", 0.01)
    return LeaseStore(Journal(tmp_path / "leases", disk), SteadyClock())


def on(disk: CrashDisk) -> set[Lease]:
    """What a reader finds on the disk."""
    [data] = [bytes(node.data) for path, node in disk.names.items() if path.name == "leases"]
    return set(journal.read(data, Path("leases")).leases)


@pytest.mark.parametrize(("first", "batches"), [(store._SEVERAL - 1, 3), (store._SEVERAL, 2)])
def test_behind_a_batch_of_several_more_gather_for_a_moment(
    leases: LeaseStore, disk: SlowDisk, monkeypatch: pytest.MonkeyPatch, first: int, batches: int
) -> None:
    before = disk.done.count("sync")
    monkeypatch.setattr(store, "_GATHER_S", 1.0)

    async def test(leases: LeaseStore) -> None:
        began = time.monotonic()
        assert await asyncio.gather(*(put(leases, lease(n)) for n in range(first))) == [None] * first
        second = asyncio.create_task(put(leases, lease(10)))
        await asyncio.sleep(0.4)
        leases.flush()
        assert second.done() is (batches == 3)
        assert await put(leases, lease(11)) is None
        assert await second is None
        assert (time.monotonic() - began >= 1.0) is (batches == 2)
        assert await put(leases, lease(12)) is None

    on_a_loop(leases, test)
    assert disk.done.count("sync") - before == batches + 1
    assert on(disk) == {lease(n) for n in (*range(first), 10, 11, 12)}


def test_a_disk_that_fails_while_more_gather_is_left_alone(
    leases: LeaseStore, disk: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_GATHER_S", 0.2)
    monkeypatch.setattr(store, "RETRY_S", 1.0)

    async def test(leases: LeaseStore) -> None:
        await asyncio.gather(*(put(leases, lease(n)) for n in range(store._SEVERAL)))
        disk.fail("rename", errno.EIO)
        with pytest.raises(OSError, match="Input/output"):
            await asyncio.wrap_future(leases.replace((lease(1, 200),)))
        disk.works()
        tried = len(disk.done)
        await asyncio.sleep(0.5)
        assert len(disk.done) == tried
        await asyncio.sleep(1)
        assert leases.degraded is None

    on_a_loop(leases, test)
    assert on(disk) == {lease(1, 200)}


def test_leases_that_come_together_share_one_sync(leases: LeaseStore, disk: SlowDisk) -> None:
    before = disk.done.count("sync")

    async def test(leases: LeaseStore) -> None:
        loop = asyncio.get_running_loop()
        answers: list[asyncio.Future[Answer]] = []
        for n in range(50):
            answers.append(loop.create_future())
            leases.put(lease(n), answers[-1].set_result)
            assert not answers[-1].done()
        assert await asyncio.gather(*answers) == [None] * 50
        again: list[Answer] = []
        leases.put(lease(7), again.append)
        assert again == [None], "what is stored needs no other write"

    on_a_loop(leases, test)
    assert disk.done.count("sync") - before == 1
    assert on(disk) == {lease(n) for n in range(50)}


def test_nobody_is_told_before_the_disk_has_answered(leases: LeaseStore, disk: SlowDisk) -> None:
    async def test(leases: LeaseStore) -> None:
        disk.asked.clear()
        disk.answer.clear()
        order: list[str] = []
        leases.put(lease(1), lambda error: order.append("first"))
        await asyncio.to_thread(disk.asked.wait, 5)
        leases.put(lease(1), lambda error: order.append("repeated"))
        leases.put(lease(1, state=State.RELEASED), lambda error: order.append("released"))
        done = asyncio.get_running_loop().create_future()
        leases.put(lease(1), done.set_result)
        assert disk.done[-1] == "write"
        assert order == []
        disk.answer.set()
        assert await done is None
        assert order == ["first", "repeated", "released"]

    on_a_loop(leases, test)
    assert on(disk) == {lease(1)}, "the newest record wins"


def test_what_was_stored_before_is_not_what_will_be_once_another_record_is_on_its_way(
    leases: LeaseStore, disk: SlowDisk
) -> None:
    async def test(leases: LeaseStore) -> None:
        assert await put(leases, lease(1)) is None
        disk.asked.clear()
        disk.answer.clear()
        leases.put(lease(1, state=State.RELEASED), lambda error: None)
        await asyncio.to_thread(disk.asked.wait, 5)
        again = asyncio.create_task(put(leases, lease(1)))
        await asyncio.sleep(0)
        assert not again.done()
        disk.answer.set()
        assert await again is None
        assert on(disk) == {lease(1)}

    on_a_loop(leases, test)


def test_a_lease_that_was_refused_is_on_disk_once_it_works_though_nobody_asks_again(
    leases: LeaseStore, disk: SlowDisk
) -> None:
    """On the loop it is a lease, and the address is nobody else's: after a restart it should not be, either."""

    async def test(leases: LeaseStore) -> None:
        disk.fail("write", errno.ENOSPC)
        assert isinstance(await put(leases, lease(1)), OSError)
        disk.works()
        await eventually(lambda: leases.degraded is None)
        assert on(disk) == {lease(1)}

    on_a_loop(leases, test)


def test_too_many_requests_for_a_slow_disk_are_refused(
    leases: LeaseStore, disk: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MOST_WAITING", 2)

    async def test(leases: LeaseStore) -> None:
        answers = [asyncio.get_running_loop().create_future() for _ in range(3)]
        for n, answer in enumerate(answers):
            leases.put(lease(n), answer.set_result)
        kinds = [type(error) for error in await asyncio.gather(*answers)]
        assert kinds == [type(None), type(None), store.StoreBusy]
        assert await put(leases, lease(3)) is None

    on_a_loop(leases, test)
    assert on(disk) == {lease(0), lease(1), lease(3)}


def test_a_disk_that_does_not_answer_is_told_of(
    leases: LeaseStore, disk: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(leases: LeaseStore) -> None:
        assert leases.degraded is None
        disk.asked.clear()
        disk.answer.clear()
        waiting = asyncio.create_task(put(leases, lease(1)))
        await asyncio.to_thread(disk.asked.wait, 5)
        assert leases.degraded is None
        monkeypatch.setattr(store, "SLOW_S", 0.0)
        assert leases.degraded is not None
        assert "has not answered for 0 s" in leases.degraded
        disk.answer.set()
        assert await waiting is None
        assert leases.degraded is None

    on_a_loop(leases, test)


@pytest.mark.parametrize("operation", ["write", "sync"])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_lease_that_could_not_be_stored_is_not_acknowledged_and_the_disk_is_tried_again(
    tmp_path: Path, leases: LeaseStore, disk: SlowDisk, operation: str, error: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(leases: LeaseStore) -> None:
        assert await put(leases, lease(1)) is None
        disk.fail(operation, error)
        for n in (2, 3, 2):
            answer = await put(leases, lease(n))
            assert isinstance(answer, OSError)
            assert answer.errno == error
        assert leases.degraded == f"leases cannot be stored in {tmp_path / 'leases'}: {answer}"
        disk.works()
        await eventually(lambda: leases.degraded is None)  # nobody asks for anything meanwhile
        assert "dhcp stores leases again" in caplog.text
        assert await put(leases, lease(4)) is None

    on_a_loop(leases, test)
    assert on(disk) == {lease(n) for n in (1, 2, 3, 4)}


def test_while_the_disk_is_left_alone_requests_are_refused_at_once(
    leases: LeaseStore, disk: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "RETRY_S", 100.0)

    async def test(leases: LeaseStore) -> None:
        disk.fail("write", errno.ENOSPC)
        await put(leases, lease(0))
        tried = disk.done.count("write")
        answers: list[Answer] = []
        for n in range(3000):
            leases.put(lease(n), answers.append)
        assert len(answers) == 3000
        assert all(isinstance(answer, OSError) for answer in answers)
        assert disk.done.count("write") == tried

    on_a_loop(leases, test)


def test_all_leases_at_once_take_the_place_of_those_that_wait(leases: LeaseStore, disk: SlowDisk) -> None:
    async def test(leases: LeaseStore) -> None:
        disk.asked.clear()
        disk.answer.clear()
        loop = asyncio.get_running_loop()
        writing, waiting = loop.create_future(), loop.create_future()
        leases.put(lease(1, 100), writing.set_result)
        await asyncio.to_thread(disk.asked.wait, 5)
        leases.put(lease(2, 100), waiting.set_result)
        moved = leases.replace((lease(1, 200), lease(2, 200), lease(3, NEVER)))
        disk.answer.set()
        assert (await writing, await waiting) == (None, None)
        await asyncio.wrap_future(moved)

    on_a_loop(leases, test)
    assert on(disk) == {lease(1, 200), lease(2, 200), lease(3, NEVER)}


def test_times_that_could_not_be_moved_on_disk_are_moved_when_it_works(leases: LeaseStore, disk: SlowDisk) -> None:
    async def test(leases: LeaseStore) -> None:
        assert await put(leases, lease(1, 100)) is None
        disk.fail("create", errno.ENOSPC)
        with pytest.raises(OSError, match="No space"):
            await asyncio.wrap_future(leases.replace((lease(1, 200),)))
        await eventually(lambda: leases.degraded is not None)
        assert on(disk) == {lease(1, 100)}
        disk.works()
        await eventually(lambda: leases.degraded is None)

    on_a_loop(leases, test)
    assert on(disk) == {lease(1, 200)}


def test_a_long_queue_of_answers_leaves_the_loop_to_others(leases: LeaseStore) -> None:
    async def test(leases: LeaseStore) -> None:
        order: list[int | None] = []
        for n in range(1000):
            leases.put(lease(n), lambda error, n=n: order.append(n))  # type: ignore[misc]
        await eventually(lambda: bool(order))
        while len(order) < 1000:
            order.append(None)
            await asyncio.sleep(0)
        assert [n for n in order if n is not None] == sorted(n for n in order if n is not None)
        gaps = [i for i, n in enumerate(order) if n is None]
        assert max(b - a for a, b in itertools.pairwise(gaps)) < 200

    on_a_loop(leases, test)


def test_the_file_is_written_anew_between_leases(
    leases: LeaseStore, disk: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_FEW_LINES", 10)
    monkeypatch.setattr(journal, "_STEP", 3)

    async def test(leases: LeaseStore) -> None:
        for time_s in range(100):
            for n in range(20):
                leases.put(lease(n, time_s), lambda error: None)
            assert await put(leases, lease(20, time_s)) is None
            assert lease(20, time_s) in on(disk)

    on_a_loop(leases, test)
    assert on(disk) == {lease(n, 99) for n in range(21)}
    assert "rename" in disk.done


def test_what_was_left_out_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "leases").write_bytes(HEADER + b"nonsense\n" + journal.encode(lease(1)) + b"10.77.0.2 02:")
    LeaseStore.open(tmp_path / "leases").close()
    assert "left out 1 unreadable lines" in caplog.text
    assert "the last line was cut short" in caplog.text
    assert len(caplog.records) == 2


def test_what_was_put_last_is_on_disk_when_it_was_closed(tmp_path: Path) -> None:
    async def test(leases: LeaseStore) -> None:
        answers: list[Answer] = []
        leases.put(lease(1), answers.append)
        await asyncio.sleep(0)  # the batch is under way

    on_a_loop(LeaseStore.open(tmp_path / "leases"), test)
    assert reopened(tmp_path / "leases") == {lease(1)}
    assert sorted(os.listdir(tmp_path)) == ["leases", "leases.lock"]


def test_the_thread_tells_early_of_a_lease_that_is_alone_and_on_disk(leases: LeaseStore, disk: SlowDisk) -> None:
    said: list[tuple[str, set[Lease], str]] = []

    def told(what: str) -> Callable[..., None]:
        return lambda *_: said.append((what, on(disk), threading.current_thread().name))

    async def test(leases: LeaseStore) -> None:
        leases.put(lease(1), told("then"), told("early"))
        leases.flush()
        await eventually(lambda: len(said) == 2)
        for n in (2, 3):  # together: a wake-up for all of them is cheaper than one each
            leases.put(lease(n), told("then"), told("early"))
        await eventually(lambda: len(said) == 4)

    on_a_loop(leases, test)
    loop = threading.current_thread().name
    assert [(what, thread) for what, _, thread in said] == [
        ("early", "leases"), ("then", loop), ("then", loop), ("then", loop)
    ]  # fmt: skip
    assert said[0][1] == {lease(1)}


def test_nobody_is_told_early_of_a_lease_that_the_disk_lost(leases: LeaseStore, disk: SlowDisk) -> None:
    early: list[bool] = []
    answers: list[Answer] = []

    async def test(leases: LeaseStore) -> None:
        disk.fail("sync", errno.EIO)
        leases.put(lease(1), answers.append, lambda: early.append(True))
        await eventually(lambda: bool(answers))

    on_a_loop(leases, test)
    assert isinstance(answers[0], OSError)
    assert not early


def test_a_lease_that_comes_while_the_disk_is_tried_with_nothing_waits_for_its_own_write(
    leases: LeaseStore, disk: SlowDisk
) -> None:
    """An empty batch repairs the file after a replacement that failed; its end says nothing of a lease."""

    async def test(leases: LeaseStore) -> None:
        disk.fail("create", errno.ENOSPC)
        with pytest.raises(OSError, match="No space"):
            await asyncio.wrap_future(leases.replace(()))
        disk.works()
        disk.asked.clear()
        disk.answer.clear()
        await eventually(disk.asked.is_set)
        answers: list[Answer] = []
        leases.put(lease(1), answers.append)
        leases.flush()
        disk.fail("write", errno.EIO)  # the empty batch is past this
        disk.answer.set()
        await eventually(lambda: bool(answers))
        assert isinstance(answers[0], OSError)
        assert on(disk) == set()

    on_a_loop(leases, test)


def test_an_early_answer_that_was_refused_never_leaves(
    leases: LeaseStore, disk: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    early: list[str] = []
    monkeypatch.setattr(store, "RETRY_S", 0.2)

    async def test(leases: LeaseStore) -> None:
        disk.fail("create", errno.ENOSPC)
        with pytest.raises(OSError, match="No space"):
            await asyncio.wrap_future(leases.replace(()))
        await eventually(lambda: leases.degraded is not None)
        answers: list[Answer] = []
        leases.put(lease(1), answers.append, lambda: early.append("refused"))
        assert isinstance(answers[0], OSError)
        disk.works()
        let_pass(0.25)  # the disk may be tried again, and the timer did not get its turn yet
        leases.put(lease(1, state=State.DECLINED), answers.append, lambda: early.append("declined"))
        leases.flush()
        await eventually(lambda: len(answers) == 2)
        assert answers[1] is None

    on_a_loop(leases, test)
    assert early == ["declined"]
    assert on(disk) == {lease(1, state=State.DECLINED)}


def test_an_early_answer_does_not_leave_with_another_record(leases: LeaseStore, disk: SlowDisk) -> None:
    """A lease waits behind a batch that fails; while the disk is left alone another record takes its place."""
    early: list[str] = []

    async def test(leases: LeaseStore) -> None:
        disk.fail("write", errno.ENOSPC)
        disk.answer.clear()
        first, second = (asyncio.get_running_loop().create_future() for _ in range(2))
        leases.put(lease(1), first.set_result)
        await asyncio.sleep(0)
        leases.put(lease(1, 200), second.set_result, lambda: early.append("bound"))
        assert isinstance(await first, OSError)
        leases.put(lease(1, state=State.DECLINED), lambda error: None)
        disk.works()
        disk.answer.set()
        await second

    on_a_loop(leases, test)
    assert not early


def test_a_record_whose_write_failed_does_not_come_back_after_all_were_replaced(
    leases: LeaseStore, disk: SlowDisk
) -> None:
    """The clock was set while a write was under way that fails: the record with the old time is out of date."""

    async def test(leases: LeaseStore) -> None:
        disk.asked.clear()
        disk.answer.clear()
        answer = asyncio.get_running_loop().create_future()
        leases.put(lease(1, 100), answer.set_result)
        await asyncio.to_thread(disk.asked.wait, 5)
        moved = leases.replace((lease(1, 200),))
        failed = iter([OSError(errno.EIO, "lost")])

        def once(operation: str, number: int) -> None:
            if operation == "sync" and (error := next(failed, None)) is not None:
                raise error

        disk.before = once
        disk.answer.set()
        assert isinstance(await answer, OSError)
        await asyncio.wrap_future(moved)
        await eventually(lambda: leases.degraded is None)
        await asyncio.sleep(0.05)  # longer than the disk is left alone
        assert await put(leases, lease(2)) is None

    on_a_loop(leases, test)
    assert on(disk) == {lease(1, 200), lease(2)}
