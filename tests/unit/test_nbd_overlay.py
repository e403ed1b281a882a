"""Machines' disks: what is read is what was written last, and each is kept for as long as its rules say."""

import ctypes
import errno
import os
import random
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.content import OpenFile
from config.exports import Writable
from nbd import overlay_files, overlay_folder
from nbd.overlay import Damaged, DiskExport, OverlayError, Overlays
from nbd.overlay_disk import BLOCK

BLOCKS = 300  # more than a limit of 1 MiB lets change
SIZE = BLOCKS * BLOCK
CONTENT = random.Random(5).randbytes(SIZE - 1000)
PADDED = CONTENT + bytes(1000)


class Farm:
    """One machine, its image, and the server that has its disk."""

    def __init__(self, folder: Path, where: str) -> None:
        self.folder = folder / "overlays"
        self.where = where
        self.image = folder / "image"
        self.image.write_bytes(CONTENT)
        self.overlays = Overlays(self.folder)
        self.open: list[DiskExport] = []
        self.former: list[Overlays] = []

    def base(self) -> OpenFile:
        fd = os.open(self.image, os.O_RDONLY)
        return OpenFile("image", fd, os.fstat(fd).st_size, "x", None)

    def attach(self, keep: str = "boot", image_id: str = "a", **more: object) -> DiskExport:
        rules = Writable.model_validate({"where": self.where, "keep": keep, "limit_mib": 1, **more})
        export = self.overlays.attach("m1", image_id, self.base(), rules, "node/m1")
        self.open.append(export)
        return export

    def detach(self) -> None:
        """Close every connection, and wait until what follows is done."""
        for export in self.open:
            export.close()
        self.open.clear()
        for thread in threading.enumerate():
            if thread.name == "nbd overlay":
                thread.join(10)

    def restart(self) -> None:
        """Have another server in place of this one, whose memory is no more."""
        self.detach()
        self.former.append(self.overlays)
        self.overlays = Overlays(self.folder)

    def files(self) -> list[str]:
        return sorted(os.listdir(self.folder)) if self.folder.exists() else []


@pytest.fixture(params=["memory", "file"])
def farm(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Farm]:
    farm = Farm(tmp_path, request.param)
    before = len(os.listdir("/proc/self/fd"))
    yield farm
    farm.detach()
    for overlays in (*farm.former, farm.overlays):
        overlays.forget("m1")
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Farm]:
    farm = Farm(tmp_path, "file")
    yield farm
    farm.detach()


def read(export: DiskExport, offset: int = 0, length: int = SIZE) -> bytes:
    into = bytearray(b"\xee" * length)
    export.read(memoryview(into), offset)
    warm = bytearray(b"\xee" * length)
    if export.read_warm(memoryview(warm), offset):
        assert warm == into
    return bytes(into)


def write(export: DiskExport, data: bytes, offset: int = 0) -> None:
    export.write(memoryview(data), offset, fua=False)


offsets = st.integers(0, SIZE - 1) | st.integers(0, BLOCKS - 1).map(lambda number: number * BLOCK)
lengths = st.integers(1, 3 * BLOCK) | st.integers(1, 200).map(lambda number: number * BLOCK)
kinds = st.sampled_from(["write", "write", "zero", "fill", "trim", "flush", "attach", "restart", "extents"])
steps = st.lists(st.tuples(kinds, offsets, lengths, st.booleans()), max_size=30)


class Model:
    """The disk as a bytearray, and which of its blocks take space."""

    def __init__(self) -> None:
        self.data = bytearray(PADDED)
        self.taken: set[int] = set()
        self.zero: set[int] = set()

    def touched(self, offset: int, length: int) -> set[int]:
        return set(range(offset // BLOCK, -(-(offset + length) // BLOCK)))

    def fits(self, blocks: set[int]) -> bool:
        return len(self.taken | blocks) <= (1 << 20) // BLOCK

    def write(self, offset: int, data: bytes) -> None:
        self.data[offset : offset + len(data)] = data
        self.taken |= self.touched(offset, len(data))
        self.zero -= self.touched(offset, len(data))

    def whole(self, offset: int, length: int) -> set[int]:
        return set(range(-(-offset // BLOCK), (offset + length) // BLOCK))

    def discard(self, blocks: set[int]) -> None:
        for number in blocks:
            self.data[number * BLOCK : (number + 1) * BLOCK] = bytes(BLOCK)
        self.taken -= blocks
        self.zero |= blocks


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(todo=steps)
def test_it_is_read_as_it_was_written(farm: Farm, todo: list[tuple[str, int, int, bool]]) -> None:
    farm.detach()
    farm.overlays.booting("m1")
    model, export = Model(), farm.attach()
    for serial, (kind, offset, length, fua) in enumerate(todo):
        length = min(length, SIZE - offset)
        blocks, whole = model.touched(offset, length), model.whole(offset, length)
        refused = None
        try:
            match kind:
                case "write":
                    data = random.Random(serial).randbytes(length)
                    export.write(memoryview(data), offset, fua=fua)
                    model.write(offset, data)
                case "fill":
                    export.write_zeroes(offset, length, no_hole=True, fua=fua)
                    model.write(offset, bytes(length))
                case "zero":
                    edges = blocks - whole - model.zero
                    if not model.fits(edges):
                        continue  # a part of it may be done
                    export.write_zeroes(offset, length, no_hole=False, fua=fua)
                    for number in edges:
                        start, end = max(offset, number * BLOCK), min(offset + length, (number + 1) * BLOCK)
                        model.write(start, bytes(end - start))
                    model.discard(whole)
                case "trim":
                    export.trim(offset, length, fua=fua)
                    model.discard(whole)
                case "flush":
                    export.flush()
                case "attach":
                    export = farm.attach()
                case "restart":
                    if farm.where == "file":
                        farm.restart()
                        export = farm.attach()
                case _:
                    check_extents(export, offset, length, bytes(model.data))
        except OSError as error:
            refused = error.errno
        assert refused == (None if kind not in ("write", "fill") or model.fits(blocks) else errno.ENOSPC)
        assert read(export, offset, length) == model.data[offset : offset + length]
        assert farm.overlays.machines()[0].changed_bytes == len(model.taken) * BLOCK
    assert read(export) == model.data


def check_extents(export: DiskExport, offset: int, length: int, data: bytes) -> None:
    """Whatever is said to be zero is; all of the range is told, if it is asked for again where it ended."""
    at = offset
    while at < offset + length:
        extents = export.extents(at, offset + length - at, 2)
        assert 1 <= len(extents) <= 2
        for extent in extents:
            assert extent.length > 0
            if extent.zero:
                assert not data[at : at + extent.length].strip(b"\0")
            at += extent.length
    assert at == offset + length


def test_all_connections_of_a_machine_have_one_disk(farm: Farm) -> None:
    one, other = farm.attach(), farm.attach()
    write(one, b"x" * 5000, 100)
    assert read(other, 0, 6000) == PADDED[:100] + b"x" * 5000 + PADDED[5100:6000]
    one.close()
    other.flush()
    assert read(other, 100, 5000) == b"x" * 5000
    assert [(kept.machine, kept.connections, kept.where) for kept in farm.overlays.machines()] == [
        ("m1", 1, farm.where)
    ]


def test_machines_have_a_disk_each(farm: Farm) -> None:
    mine = farm.attach()
    rules = Writable.model_validate({"where": farm.where})
    other = farm.overlays.attach("m2", "a", farm.base(), rules, "node/m2")
    write(mine, b"x" * 100)
    assert read(other, 0, 100) == PADDED[:100]
    other.close()
    farm.detach()
    farm.overlays.forget("m2")


def test_the_disk_is_full_at_its_limit_and_trim_makes_room(farm: Farm) -> None:
    export = farm.attach()
    write(export, b"x" * (1 << 20))
    with pytest.raises(OSError, match="may change 1 MiB") as caught:
        write(export, b"y" * 2 * BLOCK, (1 << 20) - BLOCK)
    assert caught.value.errno == errno.ENOSPC
    assert read(export, (1 << 20) - BLOCK, BLOCK) == b"x" * BLOCK, "nothing of it was written"
    write(export, b"z" * (1 << 20))
    export.trim(0, 4 * BLOCK, fua=False)
    write(export, b"y" * 4 * BLOCK, 1 << 20)
    with pytest.raises(OSError, match="may change 1 MiB"):
        export.write_zeroes(0, BLOCK, no_hole=True, fua=False)
    export.write_zeroes(0, BLOCK, no_hole=False, fua=False)


def test_what_is_trimmed_takes_no_space_on_the_disk(kept: Farm) -> None:
    export = kept.attach()
    write(export, b"x" * (1 << 20))
    export.flush()
    assert (kept.folder / "m1.disk").stat().st_blocks * 512 >= 1 << 20
    export.trim(0, 1 << 20, fua=True)
    assert (kept.folder / "m1.disk").stat().st_blocks == 0


@pytest.mark.parametrize(
    ("keep", "what", "there"),
    [
        ("connection", "detach", False),
        ("connection", "restart", False),
        ("boot", "detach", True),
        ("boot", "restart", True),
        ("boot", "boot", False),
        ("boot", "boot after restart", False),
        ("boot", "image", False),
        ("always", "detach", True),
        ("always", "restart", True),
        ("always", "boot", True),
        ("always", "boot after restart", True),
        ("always", "image", False),
        ("always", "image after boot after restart", False),
        ("always", "forget", False),
        ("always", "forget after restart", False),
    ],
)
def test_it_is_kept_as_long_as_its_rules_say(farm: Farm, keep: str, what: str, there: bool) -> None:
    write(farm.attach(keep), b"x" * 100)
    farm.detach()
    if "restart" in what:
        farm.restart()
        there = there and farm.where == "file"
    if "boot" in what:
        farm.overlays.booting("m1")
    if "forget" in what:
        farm.overlays.forget("m1")
    if farm.where == "memory" and what == "restart" and keep != "connection":
        return  # the next test
    export = farm.attach(keep, "b" if "image" in what else "a")
    assert (read(export, 0, 100) == b"x" * 100) is there
    assert read(export, 100, SIZE - 100) == PADDED[100:]


@pytest.mark.parametrize("keep", ["boot", "always"])
def test_what_was_lost_with_a_server_s_memory_is_not_followed_by_another_disk(farm: Farm, keep: str) -> None:
    farm.where = "memory"
    read(farm.attach(keep))
    farm.restart()
    write(farm.attach(keep), b"x")  # nothing had been written before, so nothing was lost
    farm.restart()
    for _ in range(2):
        with pytest.raises(OverlayError, match="m1 wrote was in the memory of a server that ended") as caught:
            farm.attach(keep)
        assert caught.value.errno == errno.EIO
    farm.overlays.booting("m1")
    assert read(farm.attach(keep)) == PADDED
    farm.detach()
    farm.overlays.forget("m1")
    assert farm.files() == []


def test_a_disk_that_ends_with_its_connections_leaves_no_file_even_if_we_are_killed(kept: Farm) -> None:
    export = kept.attach("connection")
    write(export, b"x" * 100)
    assert kept.files() == []
    assert read(export, 0, 100) == b"x" * 100


def test_a_machine_that_boots_leaves_its_old_connections_nothing(farm: Farm) -> None:
    old = farm.attach()
    write(old, b"x" * 100)
    farm.overlays.booting("m1")
    new = farm.attach()
    assert read(new) == PADDED
    assert new.intact()
    assert not old.intact()
    assert not old.read_warm(memoryview(bytearray(10)), 0)
    attempts: list[Callable[[], object]] = [
        lambda: read(old),
        lambda: write(old, b"y"),
        lambda: old.trim(0, BLOCK, fua=False),
        lambda: old.write_zeroes(0, BLOCK, no_hole=False, fua=False),
        lambda: old.extents(0, BLOCK, 10),
        old.flush,
    ]
    for attempt in attempts:
        with pytest.raises(OSError, match="booted again") as caught:
            attempt()
        assert caught.value.errno == errno.EIO
    assert read(new) == PADDED
    old.close()
    assert read(new) == PADDED


def test_a_disk_in_a_file_has_other_threads_than_the_images_on_the_same_disk(kept: Farm) -> None:
    """Who only reads an image does not wait for what others write, nor for a state folder that hangs."""
    first, base = kept.attach(), kept.base()
    assert first.device != base.device
    assert first.device == kept.attach().device
    base.close()
    kept.overlays.forget("m1")
    kept.where = "memory"
    assert kept.attach().device == base.device


class Meanwhile(Writable):
    """Rules in the middle of whose reading something happens."""

    def __getattribute__(self, name: str) -> object:
        if name == "limit_mib":
            happens.pop()()
        return super().__getattribute__(name)


happens: list[Callable[[], None]] = []


def test_who_connects_while_the_last_connection_ends_has_a_disk_that_works(farm: Farm) -> None:
    first = farm.attach(keep="connection")
    write(first, b"x" * BLOCK)
    happens.append(first.close)
    rules = Meanwhile.model_validate({"where": farm.where, "keep": "connection"})
    second = farm.overlays.attach("m1", "a", farm.base(), rules, "node/m1")
    farm.open.append(second)
    assert read(second, 0, BLOCK) == b"x" * BLOCK
    farm.detach()
    assert read(farm.attach(keep="connection")) == PADDED


def test_a_disk_is_let_go_of_later_when_there_is_no_thread_for_it(
    farm: Farm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(_: object) -> None:
        raise RuntimeError("can't start new thread")

    told: list[int] = []
    rules = Writable.model_validate({"where": farm.where})
    export = farm.overlays.attach("m1", "a", farm.base(), rules, "node/m1", lambda: told.append(1))
    write(export, b"x" * BLOCK)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        export.close()
    assert told == [1]
    assert "stays open: can't start new thread" in caplog.text
    assert read(farm.attach(), 0, BLOCK) == b"x" * BLOCK


def test_a_signal_does_not_make_zeroing_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    results = [errno.EINTR, errno.EINTR, 0]

    def fallocate(*_: int) -> int:
        number = results.pop(0)
        ctypes.set_errno(number)
        return -1 if number else 0

    monkeypatch.setattr(overlay_files, "_fallocate", lambda: fallocate)
    assert overlay_files.Files().punch(0, 0, BLOCK)
    assert not results


def test_closing_is_told_once(farm: Farm) -> None:
    told: list[int] = []
    export = farm.overlays.attach("m1", "a", farm.base(), Writable(), "node/m1", lambda: told.append(1))
    export.close()
    export.close()
    assert told == [1]


def test_its_rules_may_change_while_it_is_kept(kept: Farm) -> None:
    write(kept.attach("boot"), b"x" * 100)
    kept.detach()
    kept.attach("always", limit_mib=2)
    kept.restart()
    kept.overlays.booting("m1")
    assert read(kept.attach("always", limit_mib=2), 0, 100) == b"x" * 100
    assert kept.overlays.machines()[0].limit_bytes == 2 << 20


def test_its_rules_may_change_while_it_is_in_use(kept: Farm) -> None:
    write(kept.attach("boot"), b"x" * 100)
    kept.attach("always")
    kept.overlays.booting("m1")
    assert read(kept.attach("always"), 0, 100) == b"x" * 100
    kept.attach("connection")
    kept.restart()
    assert read(kept.attach("boot"), 0, 100) == PADDED[:100]


def test_an_image_that_cannot_be_looked_at_is_closed(farm: Farm) -> None:
    fd = os.open(farm.image, os.O_RDONLY)
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        farm.overlays.attach("m1", "a", OpenFile("image", fd, SIZE, "x", None), Writable(), "node/m1")


def test_nobody_else_can_read_what_a_machine_wrote(kept: Farm) -> None:
    old = os.umask(0)
    try:
        write(kept.attach(), b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE(kept.folder.stat().st_mode) == 0o700
    assert kept.files() == ["m1.disk", "m1.map"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept.folder.iterdir()} == {0o600}


def test_a_machine_s_name_stays_in_the_folder(kept: Farm) -> None:
    for name in ("../up", "..", "a/b", "x.map", ".hidden"):
        kept.overlays.attach(name, "a", kept.base(), Writable(where="file"), "node").close()
    kept.detach()
    assert sorted(one.machine for one in kept.overlays.machines()) == sorted(
        ["../up", "..", "a/b", "x.map", ".hidden"]
    )
    assert not (kept.folder.parent / "up.disk").exists()
    for name in ("../up", "..", "a/b", "x.map", ".hidden"):
        kept.overlays.forget(name)
    assert kept.files() == []


DAMAGES: list[tuple[str, Callable[[Path], None]]] = [
    ("map-empty", lambda folder: os.truncate(folder / "m1.map", 0)),
    ("map-foreign", lambda folder: os.replace(folder.parent / "image", folder / "m1.map")),
    ("map-cut", lambda folder: os.truncate(folder / "m1.map", 100)),
    ("map-head", lambda folder: flip(folder / "m1.map", 60)),
    ("map-record", lambda folder: flip(folder / "m1.map", -40)),
    ("disk-gone", lambda folder: (folder / "m1.disk").unlink()),
    ("disk-cut", lambda folder: os.truncate(folder / "m1.disk", 5000)),
]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [one[1] for one in DAMAGES], ids=[one[0] for one in DAMAGES])
def test_a_damaged_disk_is_refused_until_its_machine_boots_again(
    kept: Farm, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    export = kept.attach("always")
    write(export, b"x" * 100)
    write(export, b"y" * 100, 5 * BLOCK)
    export.flush()
    kept.detach()
    damage(kept.folder)
    kept.image.write_bytes(CONTENT)
    for _ in range(2):
        with pytest.raises(Damaged, match=r"m1\.(map|disk)"):
            kept.attach("always")
    kept.overlays.booting("m1")
    assert "m1" in caplog.text
    assert read(kept.attach("always")) == PADDED
    assert "m1.map.damaged" in kept.files()


def test_a_torn_record_at_the_end_is_as_if_it_had_not_been_written(kept: Farm) -> None:
    write(kept.attach(), b"x" * 100)
    kept.detach()
    with (kept.folder / "m1.map").open("ab") as file:
        file.write(b"torn")
    assert read(kept.attach(), 0, 100) == b"x" * 100


def test_a_folder_full_of_other_things_does_no_harm(kept: Farm) -> None:
    kept.folder.mkdir()
    (kept.folder / "notes.txt").write_text("x")
    (kept.folder / "foreign.map").write_text("x")
    (kept.folder / "m1.disk").write_bytes(b"x" * 100_000)  # left by one that was killed before it had a map
    assert read(kept.attach()) == PADDED
    assert [(one.machine, one.image_id) for one in kept.overlays.machines()] == [("foreign", ""), ("m1", "a")]


def test_another_process_that_has_the_disk_is_waited_for_and_then_told_of(
    kept: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = kept.attach()
    write(export, b"x" * 100)
    export.flush()
    kept.detach()
    lock = "import fcntl, sys; file = open(sys.argv[1], 'r+'); fcntl.lockf(file, fcntl.LOCK_EX); print(1, flush=True)"
    monkeypatch.setattr(overlay_folder, "WAIT_S", 0.1)
    with subprocess.Popen(
        [sys.executable, "-c", f"{lock}; sys.stdin.read()", kept.folder / "m1.disk"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        other.stdout.readline()
        with pytest.raises(OverlayError, match="another process") as caught:
            kept.attach()
        assert caught.value.errno == errno.EBUSY
        monkeypatch.setattr(overlay_folder, "WAIT_S", 10)
        threading.Timer(0.1, other.stdin.close).start()
        assert read(kept.attach(), 0, 100) == b"x" * 100


KILLED = """
import os, sys
from pathlib import Path
from config.content import OpenFile
from config.exports import Writable
from nbd.overlay import Overlays

fd = os.open(sys.argv[2], os.O_RDONLY)
base = OpenFile("image", fd, os.fstat(fd).st_size, "x", None)
export = Overlays(Path(sys.argv[1])).attach("m1", "a", base, Writable(where="file", limit_mib=1), "node/m1")
for number in range(10**9):
    block = number * 7 % 200
    export.write(memoryview(number.to_bytes(8, "big") * 512), block * 4096, fua=number % 50 == 49)
    os.write(1, b"%d\\n" % number)
"""


@pytest.mark.parametrize("after", [1, 100, 1000])
def test_what_a_killed_server_had_answered_is_there_flushed_or_not(kept: Farm, after: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, kept.folder, kept.image],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent.parent.parent,
    ) as server:
        assert server.stdout is not None
        for _ in range(after):
            server.stdout.readline()
        server.kill()
        rest = [line for line in server.stdout.read().split(b"\n")[:-1] if line]
    answered = after + len(rest) - 1
    expected = {number * 7 % 200: number for number in range(answered + 1)}
    running = (answered + 1) * 7 % 200
    export = kept.attach()
    for block, number in expected.items():
        if block != running:
            assert read(export, block * BLOCK, BLOCK) == number.to_bytes(8, "big") * 512


def test_two_threads_write_and_read_at_once(farm: Farm) -> None:
    """Each has its own bytes of every block, so that each write is a part of a block that the other one writes too."""
    farm.attach()
    errors: list[BaseException] = []

    def work(part: int) -> None:
        try:
            export, chosen, mine = farm.attach(), random.Random(part), bytearray(PADDED)
            until = time.monotonic() + 0.5
            while time.monotonic() < until:
                block = chosen.randrange(100)
                at = block * BLOCK + part * 2048
                match chosen.randrange(4):
                    case 0:
                        export.flush()
                    case 1:
                        export.write_zeroes(at, 2048, no_hole=chosen.random() < 0.5, fua=False)
                        mine[at : at + 2048] = bytes(2048)
                    case _:
                        mine[at : at + 2048] = chosen.randbytes(2048)
                        write(export, bytes(mine[at : at + 2048]), at)
                assert read(export, at, 2048) == mine[at : at + 2048]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(part,)) for part in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
