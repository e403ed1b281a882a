"""dhcp.journal and dhcp.store: what was acknowledged is there after a crash."""

import asyncio
import errno
import os
from ipaddress import IPv4Address
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhcp import journal, store
from dhcp.journal import HEADER, Journal, JournalError
from dhcp.leases import Lease, State
from dhcp.store import LeaseStore

MAC = "02:00:00:00:00:0a"


def lease(n: int, expires: int = 1_790_000_000, state: State = State.BOUND) -> Lease:
    return Lease(IPv4Address(f"10.77.0.{n}"), MAC, expires, state)


def reopened(path: Path) -> tuple[set[Lease], int]:
    again = Journal(path)
    again.close()
    return set(again.leases), again.skipped


any_lease = st.builds(
    Lease,
    address=st.integers(0, 2**32 - 1).map(IPv4Address),
    mac=st.binary(min_size=1, max_size=16).map(lambda value: value.hex(":")),
    expires=st.integers(-(2**40), 2**40),
    state=st.sampled_from(State),
)


@given(any_lease)
def test_a_line_is_read_back(record: Lease) -> None:
    assert journal.decode(journal.encode(record)) == record


@given(st.binary(max_size=100))
def test_any_line_is_read_or_skipped(line: bytes) -> None:
    journal.decode(line)
    checked = b"%s %08x\n" % (line, crc32(line))
    record = journal.decode(checked)
    assert record is None or journal.decode(journal.encode(record)) == record


@given(any_lease, st.data())
def test_a_line_that_lost_or_changed_a_byte_is_no_line(record: Lease, data: st.DataObject) -> None:
    line = bytearray(journal.encode(record))
    at = data.draw(st.integers(0, len(line) - 1))
    if data.draw(st.booleans()):
        del line[at]
    else:
        line[at] ^= data.draw(st.integers(1, 255))
    assert journal.decode(bytes(line)) is None


@pytest.mark.parametrize("text", ["10.0.0 m bound 1", "10.0.0.1 m lost 1", "10.0.0.1 m bound x", "10.0.0.1 m bound"])
def test_a_line_with_a_right_sum_and_a_wrong_word_is_no_line(text: str) -> None:
    assert journal.decode(b"%s %08x\n" % (text.encode(), crc32(text.encode()))) is None


def test_the_newest_line_of_an_address_wins(tmp_path: Path) -> None:
    book = Journal(tmp_path / "made" / "leases")
    book.append([lease(1), lease(2)])
    book.append([lease(1, 1_800_000_000), lease(2, state=State.RELEASED)])
    assert book.holds(lease(1, 1_800_000_000))
    assert not book.holds(lease(1))
    book.close()
    assert reopened(book.path) == ({lease(1, 1_800_000_000), lease(2, state=State.RELEASED)}, 0)
    assert book.path.stat().st_mode & 0o777 == 0o640


def test_a_file_cut_at_any_byte_keeps_every_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    book = Journal(path)
    book.append([lease(1), lease(2)])
    book.append([lease(1, 1_800_000_000), lease(3)])
    book.close()
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        records = [journal.decode(line) for line in whole[:size].splitlines(keepends=True)[1:] if line.endswith(b"\n")]
        expected = {record.address: record for record in records if record is not None}
        torn = not whole[:size].endswith(b"\n") and size > 0
        assert reopened(path) == (set(expected.values()), torn)
        again = Journal(path)
        again.append([lease(9)])
        again.close()
        assert reopened(path)[0] == set(expected.values()) | {lease(9)}


def test_lines_that_are_spoiled_are_skipped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    lines = [journal.encode(lease(n)) for n in range(1, 31)]
    lines[3] = b"\0" * 40 + b"\n"
    lines[7] = lines[7].replace(b"bound", b"found")
    lines[9] = b"x" * 10_000_000 + b"\n"
    path.write_bytes(HEADER + b"".join(lines))
    assert reopened(path) == ({lease(n) for n in range(1, 31) if n not in (4, 8, 10)}, 3)
    assert reopened(path)[1] == 0, "the file was written anew without them"


def test_a_file_that_is_mostly_unreadable_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    spoiled = HEADER + journal.encode(lease(1)) + b"garbage\n" * 20
    path.write_bytes(spoiled)
    for _ in range(2):  # the lock is given back too
        with pytest.raises(JournalError, match="20 of 21 lines are unreadable"):
            Journal(path)
    assert path.read_bytes() == spoiled


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    path.write_bytes(b"pxeboot leases 2\n")
    with pytest.raises(JournalError, match="not a lease file of this version"):
        Journal(path)


def test_two_processes_cannot_have_one_file(tmp_path: Path) -> None:
    book = Journal(tmp_path / "leases")
    with pytest.raises(JournalError, match="another process keeps its leases here"):
        Journal(tmp_path / "leases")
    book.close()
    Journal(tmp_path / "leases").close()


def test_the_file_stays_small_however_often_leases_are_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fdatasync", lambda fd: None)
    book = Journal(tmp_path / "leases")
    for time in range(6000):
        book.append([lease(time % 3, 1_790_000_000 + time)])
    assert len(book.path.read_bytes().splitlines()) < 1100
    book.close()
    assert reopened(book.path)[0] == {lease(n % 3, 1_790_000_000 + n) for n in (5997, 5998, 5999)}


@pytest.mark.parametrize("call", ["write", "fdatasync"])
@pytest.mark.parametrize("partial", [0, 20])
def test_a_failed_write_stores_nothing_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, partial: int
) -> None:
    book = Journal(tmp_path / "leases")
    book.append([lease(1)])
    write = os.write

    def fail(fd: int, data: bytes = b"") -> int:
        if partial and data:
            write(fd, data[:partial])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, call, fail)
        with pytest.raises(OSError, match="No space left"):
            book.append([lease(2)])
    assert not book.holds(lease(2))
    book.append([lease(3)])
    book.close()
    assert reopened(book.path) == ({lease(1), lease(3)}, 0)


def test_leases_that_come_together_share_one_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = []
    fdatasync = os.fdatasync

    def counted(fd: int) -> None:
        syncs.append(fd)
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", counted)

    async def run() -> None:
        leases = LeaseStore.open(tmp_path / "leases")
        loop = asyncio.get_running_loop()
        answers: list[asyncio.Future[BaseException | None]] = []
        for n in range(50):
            answers.append(loop.create_future())
            leases.put(lease(n), answers[-1].set_result)
            assert not answers[-1].done()
        assert await asyncio.gather(*answers) == [None] * 50
        again: list[BaseException | None] = []
        leases.put(lease(7), again.append)
        assert again == [None], "what is stored needs no other write"
        leases.close()

    asyncio.run(run())
    assert len(syncs) == 2, "the first lease goes at once, the others wait for it together"
    assert reopened(tmp_path / "leases")[0] == {lease(n) for n in range(50)}


def test_a_repeated_lease_waits_for_the_write_that_is_under_way(tmp_path: Path) -> None:
    async def run() -> None:
        leases = LeaseStore.open(tmp_path / "leases")
        order: list[str] = []
        done = asyncio.get_running_loop().create_future()
        leases.put(lease(1), lambda error: order.append("first"))
        leases.put(lease(1), lambda error: order.append("repeated"))
        leases.put(lease(1, state=State.RELEASED), lambda error: order.append("released"))
        leases.put(lease(1), done.set_result)
        assert order == []
        await done
        assert order == ["first", "repeated", "released"]
        leases.close()

    asyncio.run(run())
    assert reopened(tmp_path / "leases")[0] == {lease(1)}, "the newest record wins"


def test_too_many_requests_for_a_slow_disk_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST_WAITING", 2)

    async def run() -> None:
        leases = LeaseStore.open(tmp_path / "leases")
        answers = [asyncio.get_running_loop().create_future() for _ in range(3)]
        for n, answer in enumerate(answers):
            leases.put(lease(n), answer.set_result)
        kinds = [type(error) for error in await asyncio.gather(*answers)]
        assert kinds == [type(None), type(None), store.StoreBusy]
        assert set(leases.leases) == {lease(0), lease(1)}
        leases.close()

    asyncio.run(run())


def test_what_was_left_out_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "leases").write_bytes(HEADER + journal.encode(lease(1)) + b"10.77.0.2 02:")
    LeaseStore.open(tmp_path / "leases").close()
    assert "left out 1 unreadable lines" in caplog.text


def test_a_disk_that_fails_is_told_to_who_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async def put(leases: LeaseStore, record: Lease) -> BaseException | None:
        answer: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        leases.put(record, answer.set_result)
        return await answer

    async def run() -> None:
        leases = LeaseStore.open(tmp_path / "leases")
        with monkeypatch.context() as broken:
            broken.setattr(os, "fdatasync", fail)
            assert str(await put(leases, lease(1))) == "[Errno 5] Input/output error"
        assert await put(leases, lease(1)) is None
        leases.replace((lease(2),)).result()
        leases.close()

    asyncio.run(run())
    assert reopened(tmp_path / "leases")[0] == {lease(2)}
