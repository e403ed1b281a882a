"""Real NBD clients write to machines' disks."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nbd import wire
from tests.support.nbd_server import RawClient, Server
from tests.support.segment import lacking, requires
from tests.support.waiting import until

pytestmark = pytest.mark.net

SIZE = 16 << 20
MIB = 1 << 20
READ_77 = "read -P 0x77 0 64k"

Serve = Callable[..., Server]


def run(*argv: str | Path, check: bool = True) -> str:
    command = [*map(str, argv)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=300, check=False)
    assert not (check and done.returncode), f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def qemu_io(server: Server, *commands: str, name: str = "node/m1") -> str:
    """Carry out commands of qemu-io; it says when a pattern is not what was to be read."""
    said = run("qemu-io", "-f", "raw", *(word for one in commands for word in ("-c", one)), server.uri(name))
    assert "failed" not in said, said
    return said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    content = bytearray(random.Random(2).randbytes(SIZE))
    content[8 * MIB : 10 * MIB] = bytes(2 * MIB)
    with (folder / "root").open("wb") as file:
        file.write(content[: 8 * MIB])
        file.seek(10 * MIB)
        file.write(content[10 * MIB :])
    return folder


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    servers: list[Server] = []

    def start(*rules: str) -> Server:
        servers.append(Server(folder, rules, "serve_disks"))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(params=["memory", "file"])
def server(serve: Serve, request: pytest.FixtureRequest) -> Server:
    return serve(f"where={request.param}", "limit_mib=12")


@requires("nbdinfo")
def test_nbdinfo_says_that_it_can_be_written_by_several_connections(server: Server) -> None:
    export = json.loads(run("nbdinfo", "--json", server.uri("node/m1")))["exports"][0]
    assert export["export-size"] == SIZE
    can = ("can_flush", "can_fua", "can_trim", "can_zero", "can_multi_conn")
    assert {name: export[name] for name in ("is_read_only", *can)} == {
        "is_read_only": False,
        **dict.fromkeys(can, True),
    }


@requires("qemu-io")
def test_what_qemu_writes_is_read_again_on_every_connection(server: Server, folder: Path) -> None:
    image = (folder / "root").read_bytes()
    qemu_io(
        server,
        "write -P 0xaa 0 1M",
        "write -P 0xbb 4097 3333",
        "write -f -P 0xcc 2M 64k",
        "write -z 3M 1M",
        "write -z -u 100k 100k",
        "discard 2M 8k",
        "flush",
        "read -P 0xbb 4097 3333",
        "read -P 0xaa 0 4097",
    )
    qemu_io(
        server,
        "read -P 0xaa 7430 90k",
        "read -P 0 100k 100k",
        "read -P 0xcc 2056k 56k",
        "read -P 0 3M 1M",
        "write -P 0x11 8M 1M",
        "read -P 0x11 8M 1M",
    )
    assert (folder / "root").read_bytes() == image, "the image below stays what it is"


@requires("qemu-io")
def test_a_disk_that_is_full_says_so_and_goes_on(server: Server) -> None:
    said = run(
        "qemu-io", "-f", "raw", "-c", "write -P 1 0 12M", "-c", "write 12M 4k", server.uri("node/m1"), check=False
    )
    assert "No space left" in said
    qemu_io(server, "read -P 1 0 12M", "write -P 2 1M 1M", "discard 0 1M", "write -P 3 12M 1M", "read -P 3 12M 1M")


@requires("nbdcopy", "qemu-img")
@pytest.mark.parametrize("options", [["--connections=1"], ["--connections=4"], ["--request-size=8388608"]])
def test_nbdcopy_writes_a_whole_disk_and_reads_it_back(serve: Serve, tmp_path: Path, options: list[str]) -> None:
    server = serve("limit_mib=16")
    content = bytearray(random.Random(9).randbytes(SIZE))
    content[MIB : 5 * MIB] = bytes(4 * MIB)
    (tmp_path / "new").write_bytes(content)
    run("nbdcopy", "--flush", *options, tmp_path / "new", server.uri("node/m1"))
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", server.uri("node/m1"), tmp_path / "new")
    run("nbdcopy", *options, server.uri("node/m1"), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content


@requires("qemu-img", "qemu-io")
def test_qemu_img_map_shows_the_holes_of_the_image_and_of_what_was_zeroed(server: Server) -> None:
    qemu_io(server, "write -z -u 1M 1M", "write -P 1 9M 64k", "discard 3M 64k")
    shown = json.loads(run("qemu-img", "map", "--output=json", "-f", "raw", server.uri("node/m1")))
    assert [(one["start"], one["length"]) for one in shown if one["zero"]] == [
        (MIB, MIB),
        (3 * MIB, 64 << 10),
        (8 * MIB, MIB),
        (9 * MIB + (64 << 10), MIB - (64 << 10)),
    ]
    assert sum(one["length"] for one in shown) == SIZE


@requires("fio")
def test_fio_verifies_what_it_wrote_at_random(server: Server) -> None:
    options = ["--ioengine=nbd", f"--uri={server.uri('node/m1')}", "--rw=randrw", "--bsrange=512-32k", "--iodepth=16"]
    more = [
        "--size=8M",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--randseed=7",
        "--fsync=64",
        "--minimal",
        "--verify_state_save=0",
    ]
    said = run("fio", "--name=verify", *options, *more)
    line = next(line for line in said.splitlines() if line.startswith("3;"))
    assert line.split(";")[4] == "0", said


@contextmanager
def talking(server: Server) -> Iterator[subprocess.Popen[str]]:
    """Run qemu-io, which takes commands and connects again to m1's disk when its connection ends."""
    address = {"type": "inet", "host": "127.0.0.1", "port": str(server.port)}
    nbd = {"driver": "nbd", "reconnect-delay": 120, "export": "node/m1", "server": address}
    disk = "json:" + json.dumps({"driver": "raw", "file": nbd})
    with subprocess.Popen(
        ["qemu-io", disk], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as client:
        try:
            yield client
        finally:
            client.kill()


@requires("qemu-io")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("flushed", [True, False])
def test_what_was_answered_is_there_after_a_restart_of_the_server(serve: Serve, number: int, flushed: bool) -> None:
    server = serve("where=file", "keep=boot")
    with talking(server) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(f"write {'-f' if flushed else ''} -P 0x5a 1000 1M\n")
        assert "wrote 1048576/1048576" in client.stdout.readline()
        server.stop(number)
        client.stdin.write("write -P 0x5b 4M 64k\nread -P 0x5a 1000 1M\n")
        server.start()
        output, _ = client.communicate("read -P 0x5b 4M 64k\nquit\n", timeout=120)
    assert "failed" not in output
    assert "read 1048576/1048576 bytes at offset 1000" in output
    assert "read 65536/65536 bytes at offset 4194304" in output
    qemu_io(server, "read -P 0x5a 1000 1M", "read -P 0x5b 4M 64k")


@requires("qemu-io")
@pytest.mark.parametrize(("keep", "there"), [("connection", False), ("boot", True), ("always", True)])
def test_a_machine_that_comes_back_finds_what_its_rules_keep(serve: Serve, keep: str, there: bool) -> None:
    server = serve("where=file", f"keep={keep}")
    qemu_io(server, "write -P 0x77 0 64k", "flush")
    deadline = time.monotonic() + 60
    found = True
    while found and not there and time.monotonic() < deadline:  # until the end of the connection was noticed
        found = "failed" not in run("qemu-io", "-f", "raw", "-c", READ_77, server.uri("node/m1"), check=False)
    assert found is there
    if there:
        qemu_io(server, READ_77)
    qemu_io(server, "read 0 64k", name="node/m2")


@requires("qemu-io")
@pytest.mark.parametrize("where", ["memory", "file"])
def test_a_machine_that_boots_begins_anew_and_its_old_connection_gets_errors(
    serve: Serve, folder: Path, where: str
) -> None:
    server = serve(f"where={where}")
    with RawClient(server).go("node/boots") as old:
        old.request(wire.Cmd.WRITE, 1, 0, 4096)
        old.send(b"x" * 4096)
        assert old.reply() == wire.SimpleReply(1)
        os.kill(server.pid, signal.SIGUSR1)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            old.request(wire.Cmd.READ, 2, 0, 4096)
            reply = old.reply()
            if reply.error:
                break
            old.receive(4096)
        assert reply == wire.SimpleReply(2, wire.Errno.EIO)
        with RawClient(server).go("node/boots") as new:
            new.request(wire.Cmd.READ, 3, 0, 4096)
            assert new.reply() == wire.SimpleReply(3)
            assert new.receive(4096) == (folder / "root").read_bytes()[:4096]


@contextmanager
def fuse(server: Server, at: Path) -> Iterator[Path]:
    """Show the disk of m1 as a file."""
    at.write_bytes(b"")
    process = subprocess.Popen(["nbdfuse", str(at), server.uri("node/m1")])
    try:
        until(lambda: at.stat().st_size == SIZE, "the disk is mounted")
        yield at
    finally:
        subprocess.run(["umount", str(at)], check=False)
        try:
            process.wait(30)  # which it does by itself, unless a request of its kernel is lost
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@requires("nbdfuse", "mke2fs", "e2fsck", "debugfs", "umount")
@pytest.mark.parametrize("where", ["memory", "file"])
def test_a_file_system_made_and_filled_on_it_is_sound(serve: Serve, tmp_path: Path, where: str) -> None:
    if not Path("/dev/fuse").exists():
        lacking("no /dev/fuse")
    server = serve(f"where={where}")
    (tmp_path / "file").write_bytes(random.Random(4).randbytes(3 * MIB))
    with fuse(server, tmp_path / "disk") as disk:
        run("mke2fs", "-q", "-F", "-t", "ext4", disk)
        run("debugfs", "-w", "-R", f"write {tmp_path / 'file'} file", disk)
        run("e2fsck", "-f", "-n", disk)
    with fuse(server, tmp_path / "again") as disk:
        run("e2fsck", "-f", "-n", disk)
        run("debugfs", "-R", f"dump file {tmp_path / 'back'}", disk)
    assert (tmp_path / "back").read_bytes() == (tmp_path / "file").read_bytes()
