"""dhcp.journal: what was acknowledged is there after a crash."""

import errno
import itertools
import os
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import get_args
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhcp import journal
from dhcp.disk import Files
from dhcp.journal import HEADER, Journal, JournalError
from dhcp.leases import NEVER, Lease, State
from tests.support.crash_disk import CrashDisk, Killed, Left

MAC = "02:00:00:00:00:0a"


def lease(n: int, expires: int = 1_790_000_000, state: State = State.BOUND, client: str = MAC) -> Lease:
    return Lease(IPv4Address(0x0A4D0000 + n), client, expires, state, MAC)


def reopened(path: Path) -> tuple[set[Lease], int, bool]:
    again = Journal(path)
    again.close()
    return set(again.leases), again.skipped, again.torn


any_mac = st.binary(min_size=1, max_size=16).map(lambda value: value.hex(":"))
any_lease = st.builds(
    Lease,
    address=st.integers(0, 2**32 - 1).map(IPv4Address),
    client=any_mac | st.binary(max_size=600).map(lambda value: f"id:{value.hex()}"),
    expires=st.integers(-(2**40), 2**40) | st.just(NEVER),
    state=st.sampled_from(State),
    mac=any_mac,
)


@given(any_lease)
def test_a_line_is_read_back(record: Lease) -> None:
    line = journal.encode(record)
    assert journal.decode(line) == record
    assert (line.count(b"\n"), line.isascii()) == (1, True)


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (lease(99, 1_790_000_000), b"10.77.0.99 02:00:00:00:00:0a bound 1790000000 ed8c3395\n"),
        (lease(99, 0, State.RELEASED), b"10.77.0.99 02:00:00:00:00:0a released 0 75348f84\n"),
        (lease(98, NEVER, client="id:01ff"), b"10.77.0.98 id:01ff bound never 02:00:00:00:00:0a b4dea2a1\n"),
    ],
)
def test_a_line_is_what_a_person_can_read(record: Lease, text: bytes) -> None:
    assert journal.encode(record) == text


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


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0 m bound 1",
        "10.0.0.256 m bound 1",
        "10.0.0.01 m bound 1",
        "10.0.0.1 m lost 1",
        "10.0.0.1 m bound x",
        "10.0.0.1 m bound",
        "10.0.0.1 m bound 1 m m",
    ],
)
def test_a_line_with_a_right_sum_and_a_wrong_word_is_no_line(text: str) -> None:
    assert journal.decode(b"%s %08x\n" % (text.encode(), crc32(text.encode()))) is None


def test_the_newest_line_of_an_address_wins(tmp_path: Path) -> None:
    book = Journal(tmp_path / "made" / "leases")
    book.append([lease(1), lease(2)])
    book.append([lease(1, 1_800_000_000), lease(2, state=State.RELEASED)])
    assert book.holds(int(lease(1).address), journal.encode(lease(1, 1_800_000_000)))
    assert not book.holds(int(lease(1).address), journal.encode(lease(1)))
    book.close()
    assert reopened(book.path) == ({lease(1, 1_800_000_000), lease(2, state=State.RELEASED)}, 0, False)
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
        assert reopened(path) == (set(expected.values()), 0, torn)
        again = Journal(path)
        again.append([lease(9)])
        again.close()
        assert reopened(path) == (set(expected.values()) | {lease(9)}, 0, False)


def test_version_1_is_read_and_becomes_version_2_when_the_file_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    path.write_bytes(b"pxeboot leases 1\n" + journal.encode(lease(1)) + b"10.77.0.2 02:")
    book = Journal(path)
    assert (set(book.leases), book.torn) == ({lease(1)}, True)
    book.append([lease(2, NEVER)])
    while book.tidy():
        pass
    book.append([lease(3)])
    book.close()
    assert path.read_bytes() == HEADER + b"".join(journal.encode(lease(n, e)) for n, e in
                                                  ((1, 1_790_000_000), (2, NEVER), (3, 1_790_000_000)))  # fmt: skip


SPOILED = {
    "nuls": b"\0" * 40 + b"\n",
    "another word": journal.encode(lease(8)).replace(b"bound", b"found"),
    "10 MB in one line": b"x" * 10_000_000 + b"\n",
    "empty": b"\n",
    "another file": b"\x7fELF\x02\x01\x01\xff\r\xfe\n",
    "cut and glued": journal.encode(lease(9))[:20] + journal.encode(lease(10)),
}


def test_lines_that_are_spoiled_are_skipped_and_counted_and_kept_for_a_look(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    good = [lease(n) for n in range(600)]
    lines = [journal.encode(record) for record in good]
    for n, spoiled in enumerate(SPOILED.values()):
        lines.insert(100 * n, spoiled)
    path.write_bytes(HEADER + b"".join(lines))
    before = path.read_bytes()
    book = Journal(path)
    assert set(book.leases) == set(good)
    assert book.skipped in (len(SPOILED), len(SPOILED) + 1), "a carriage return makes two of one"
    while book.tidy():
        pass
    book.close()
    assert reopened(path) == (set(good), 0, False), "the file was written anew without them"
    assert (tmp_path / "leases.damaged").read_bytes() == before


def test_of_100_000_lines_a_hundredth_that_is_garbage_costs_no_other_line(tmp_path: Path) -> None:
    lines = [journal.encode(lease(n)) for n in range(100_000)]
    lines[::100] = [b"\0" * len(line) for line in lines[::100]]  # each swallows the line after it
    (tmp_path / "leases").write_bytes(HEADER + b"".join(lines))
    found, skipped, _ = reopened(tmp_path / "leases")
    assert (len(found), skipped) == (98_000, 1000)


def test_times_that_are_far_off_are_read_as_they_are(tmp_path: Path) -> None:
    """What they may mean is decided where `now` is known: `dhcp.leases`."""
    book = Journal(tmp_path / "leases")
    book.append([lease(1, 2**40), lease(2, -1), lease(3, 0)])
    book.close()
    assert reopened(book.path) == ({lease(1, 2**40), lease(2, -1), lease(3, 0)}, 0, False)


def test_a_file_that_is_mostly_unreadable_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    spoiled = HEADER + journal.encode(lease(1)) + b"garbage\n" * 20
    path.write_bytes(spoiled)
    for _ in range(2):  # the lock is given back too
        with pytest.raises(JournalError, match="20 of 21 lines are unreadable"):
            Journal(path)
    assert path.read_bytes() == spoiled


@pytest.mark.parametrize("text", [b"pxeboot leases 3\n", b"lease 10.0.0.1 {\n", b"\0" * 4096])
def test_a_file_of_another_version_or_kind_is_refused_and_kept(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "leases"
    path.write_bytes(text)
    with pytest.raises(JournalError, match="not a lease file of this version"):
        Journal(path)
    assert path.read_bytes() == text


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
    for n in range(6000):
        book.append([lease(n % 3, 1_790_000_000 + n)])
        book.tidy()
    assert len(book.path.read_bytes().splitlines()) < 1100
    book.close()
    assert reopened(book.path)[0] == {lease(n % 3, 1_790_000_000 + n) for n in (5997, 5998, 5999)}
    assert sorted(os.listdir(tmp_path)) == ["leases", "leases.lock"]


class ClosingDisk(CrashDisk):
    """Tells when a file is closed, which lets go of the interpreter."""

    def __init__(self) -> None:
        super().__init__()
        self.closing: Callable[[], None] = lambda: None

    def close(self, fd: int) -> None:
        self.closing()
        super().close(fd)


def test_no_line_counts_as_stored_while_all_are_being_replaced(tmp_path: Path) -> None:
    """The loop asks at any moment, and acknowledges at once what is said to be on disk."""
    disk = ClosingDisk()
    book = Journal(tmp_path / "leases", disk)
    said: list[bool] = []
    disk.closing = lambda: said.append(book.holds(int(lease(1).address), journal.encode(lease(1))))
    book.replace([lease(1)])
    assert said == [False]
    assert book.holds(int(lease(1).address), journal.encode(lease(1)))


def test_a_file_that_somebody_removed_is_written_anew(tmp_path: Path) -> None:
    book = Journal(tmp_path / "leases")
    book.append([lease(1)])
    book.path.unlink()
    book.append([lease(2)])
    book.append([lease(3)])
    book.close()
    assert reopened(book.path)[0] == {lease(1), lease(2), lease(3)}


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
    assert not book.holds(int(lease(2).address), journal.encode(lease(2)))
    book.append([lease(3)])
    book.close()
    assert reopened(book.path) == ({lease(1), lease(3)}, 0, False)


@pytest.mark.parametrize("operation", ["create", "write", "sync", "rename", "sync_folder"])
@pytest.mark.parametrize("left", get_args(Left))
def test_what_fails_while_the_file_is_written_anew_costs_no_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, left: Left
) -> None:
    monkeypatch.setattr(journal, "_FEW_LINES", 0)
    disk = CrashDisk()
    book = Journal(tmp_path / "leases", disk)
    for time_s in range(4):
        book.append([lease(1, time_s)])
    disk.fail(operation, errno.EIO)
    while book.tidy():
        pass
    with pytest.raises(OSError, match="Input/output error"):
        book.replace([lease(1, 77)])
    assert not book.holds(int(lease(1).address), journal.encode(lease(1, 77)))
    found = Journal(tmp_path / "again", renamed(disk.after(left), tmp_path))
    assert set(found.leases) in ({lease(1, 3)}, {lease(1, 77)})
    disk.works()
    book.append([lease(2)])
    book.close()
    found.close()
    found = Journal(tmp_path / "again", renamed(disk.after(left), tmp_path))
    assert set(found.leases) == {lease(1, 77), lease(2)}, "what should have replaced all is made up for"
    found.close()


def renamed(disk: CrashDisk, folder: Path) -> CrashDisk:
    """The same disk, its lease file under another name (the first journal has the lock of `leases`)."""
    for suffix in ("", ".new"):
        node = disk.names.pop(folder / f"leases{suffix}", None)
        if node is not None:
            disk.names[folder / f"again{suffix}"] = node
    return disk


def test_a_file_in_which_nothing_is_out_of_date_is_not_written_anew(tmp_path: Path) -> None:
    disk = CrashDisk()
    book = Journal(tmp_path / "leases", disk)
    book.append(lease(n) for n in range(3000))
    assert not book.tidy()
    book.append(lease(n, 3) for n in range(3000))
    assert not book.tidy()
    book.append(lease(n, 4) for n in range(2000))
    assert book.tidy()
    book.close()


def history(disk: CrashDisk, path: Path, told: dict[IPv4Address, Lease], trying: dict[IPv4Address, Lease]) -> None:
    """Grant leases, several times over, with all that a lease file goes through. `told` is what was acknowledged."""

    def append(*records: Lease) -> None:
        trying.update((record.address, record) for record in records)
        book.append(records)
        told.update((record.address, record) for record in records)

    for turn in range(2):
        book = Journal(path, disk)
        for n in range(6):
            append(lease(n, 100 * turn + n), lease(9, 100 * turn + n))
            book.tidy()
        for n in range(20):
            append(lease(n % 8, 200 + 100 * turn + n))
            book.tidy()
            book.tidy()
        trying.update((address, lease(int(address) & 15, 1000 + turn)) for address in told)
        book.replace(list(trying.values()))
        told.update(trying)
        book.close()


@pytest.mark.parametrize("left", get_args(Left))
def test_killed_at_any_step_or_cut_from_power_every_acknowledged_lease_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: Left
) -> None:
    monkeypatch.setattr(journal, "_FEW_LINES", 3)
    monkeypatch.setattr(journal, "_STEP", 2)
    steps: set[str] = set()
    for number in itertools.count():
        disk = CrashDisk()
        disk.kill_at(number)
        told: dict[IPv4Address, Lease] = {}
        trying: dict[IPv4Address, Lease] = {}
        path = tmp_path / f"leases{number}"
        try:
            history(disk, path, told, trying)
        except Killed as killed:
            steps.add(str(killed))
        else:
            break
        path.with_name(path.name + ".lock").unlink()  # the kernel gives up a killed process's lock
        found = disk.after(left)
        again = Journal(path, found)
        records = {record.address: record for record in again.leases}
        assert again.skipped == 0
        for address, record in told.items():
            assert records[address] in (record, trying[address]), f"after operation {number}: {disk.done[-1]}"
        assert set(records) <= set(trying)
        again.append([lease(15)])
        assert journal.read(found.read(path), path).lines[int(lease(15).address)]
        again.close()
    assert steps == {"read", "unlink", "open", "write", "sync", "sync_folder", "create", "rename"}
    assert disk.done.count("rename") > 4


def test_the_real_files_behave_as_those_of_the_test(tmp_path: Path) -> None:
    real, fake = Files(), CrashDisk()
    for files in (real, fake):
        path, other = tmp_path / "a", tmp_path / "b"
        fd = files.open(path)
        files.write(fd, b"one two")
        files.truncate(fd, 3)
        files.write(fd, b" 2")
        files.sync(fd)
        assert files.read(path) == b"one 2"
        files.link(path, other)
        files.link(path, other)
        assert files.inode(path) == files.inode(other) != 0
        new = files.create(path.with_name("c"), path)
        files.write(new, b"new")
        files.rename(path.with_name("c"), path)
        files.sync_folder(tmp_path)
        assert (files.read(path), files.read(other), files.inode(tmp_path / "c")) == (b"new", b"one 2", 0)
        files.unlink(other)
        files.unlink(other)
        assert files.read(other) == b""
        files.close(fd)
        files.close(new)
