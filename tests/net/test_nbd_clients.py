"""Real NBD clients against the real transport."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbd import wire
from tests.support.nbd_server import RawClient, Server, running
from tests.support.segment import lacking, requires

pytestmark = pytest.mark.net

SIZE = 24 << 20


def run(*argv: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True, errors="replace", timeout=60, check=False)
    assert not (check and done.returncode), f"{argv}: {done.stdout}{done.stderr}"
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "exports"
    folder.mkdir()
    (folder / "node").write_bytes(random.Random(2).randbytes(SIZE))
    (folder / "odd").write_bytes(b"x" * 5001)
    (folder / "default").symlink_to("node")
    return folder


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with running(folder) as server:
        yield server


@requires("nbdinfo")
def test_nbdinfo_learns_what_the_kernel_needs(server: Server) -> None:
    export = json.loads(run("nbdinfo", "--json", server.uri()).stdout)["exports"][0]
    assert export["export-size"] == SIZE
    assert (export["is_read_only"], export["can_flush"], export["can_multi_conn"]) == (True, True, True)
    sizes = [export[f"block_size_{kind}"] for kind in ("minimum", "preferred", "maximum")]
    assert sizes == [1, 4096, 32 << 20]
    server.stop()
    assert any("NBD export 'node' opened, 25 MB" in line for line in server.output)


@requires("nbdinfo")
def test_nbdinfo_lists_the_exports(server: Server) -> None:
    listed = json.loads(run("nbdinfo", "--list", "--json", server.uri("")).stdout)["exports"]
    assert [export["export-name"] for export in listed] == ["default", "node", "odd"]


@requires("nbdinfo")
@pytest.mark.parametrize("name", ["", "node", "/node"])
def test_an_export_is_found(server: Server, name: str) -> None:
    assert run("nbdinfo", "--size", server.uri(name)).stdout.strip() == str(SIZE)


@requires("nbdinfo")
def test_an_unknown_export_is_refused_and_logged(server: Server) -> None:
    assert "No such file" in run("nbdinfo", server.uri("other"), check=False).stderr
    assert "WARNING:nbd.transport:nbd 127.0.0.1 asked for 'other': no such export" in server.log


@requires("nbd-client")
def test_nbd_client_lists_the_exports(server: Server) -> None:
    listed = run("nbd-client", "-l", "127.0.0.1", str(server.port)).stdout
    assert "\nnode\n" in listed


@requires("nbdcopy")
@pytest.mark.parametrize("options", [["--connections=1"], ["--connections=4"], ["--request-size=8388608"]])
@pytest.mark.parametrize("cold", [False, True])
def test_nbdcopy_gets_every_byte(server: Server, tmp_path: Path, options: list[str], cold: bool) -> None:
    if cold:
        evict(server.folder / "node")
    run("nbdcopy", *options, server.uri(), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (server.folder / "node").read_bytes()


def evict(path: Path) -> None:
    """Take a file out of the page cache, so that reads have to wait for the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@requires("nbdcopy")
def test_an_odd_file_ends_in_zeros(server: Server, tmp_path: Path) -> None:
    run("nbdcopy", server.uri("odd"), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"x" * 5001 + bytes(8192 - 5001)


@requires("qemu-img", "qemu-io")
def test_qemu_reads_the_image(server: Server, tmp_path: Path) -> None:
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", server.uri(), server.folder / "node")
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", server.uri(), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (server.folder / "node").read_bytes()
    reads = [("-c", f"read {offset} {length}") for offset, length in ((0, 512), (1024, 1024), (SIZE - 4096, 4096))]
    answer = run("qemu-io", "-r", "-f", "raw", *(word for read in reads for word in read), server.uri()).stdout
    assert answer.count("ops;") == 3


@requires("qemu-io")
def test_nothing_can_be_written(server: Server) -> None:
    before = (server.folder / "node").read_bytes()
    run("qemu-io", "-f", "raw", "-c", "write 0 4096", server.uri(), check=False)
    with RawClient(server).go() as client:
        client.request(wire.Cmd.WRITE, 1, 0, 4096)
        client.send(bytes(4096))
        assert client.reply() == wire.SimpleReply(1, wire.Errno.EPERM)
    assert (server.folder / "node").read_bytes() == before


@requires("nbdfuse", "umount")
def test_nbdfuse_shows_the_image_as_a_file(server: Server, tmp_path: Path) -> None:
    if not Path("/dev/fuse").exists():
        lacking("no /dev/fuse")
    mounted = tmp_path / "mounted"
    mounted.write_bytes(b"")
    process = subprocess.Popen(["nbdfuse", "-r", str(mounted), server.uri()])
    try:
        deadline = time.monotonic() + 10
        while mounted.stat().st_size != SIZE and time.monotonic() < deadline:
            time.sleep(0.05)
        assert mounted.read_bytes() == (server.folder / "node").read_bytes()
    finally:
        subprocess.run(["umount", str(mounted)], check=False)
        process.wait(10)


def test_a_running_client_keeps_its_image_when_the_name_moves_on(server: Server) -> None:
    old = (server.folder / "node").read_bytes()
    with RawClient(server).go() as client:
        (server.folder / "new").write_bytes(bytes(8192))
        os.replace(server.folder / "new", server.folder / "node")
        client.request(wire.Cmd.READ, 1, SIZE - 4096, 4096)
        assert client.reply() == wire.SimpleReply(1)
        assert client.receive(4096) == old[-4096:]
        with RawClient(server).greet() as other:
            replies = other.option(wire.Opt.GO, wire.InfoRequest("node").encode())
            assert replies[0].data == wire.info_export(8192, wire.TransmissionFlag(0x507))


@pytest.mark.parametrize("change", ["truncated", "rewritten"])
def test_an_image_changed_in_place_is_an_io_error(server: Server, change: str) -> None:
    with RawClient(server).go() as client:
        client.request(wire.Cmd.READ, 1, SIZE - 4096, 4096)
        assert client.reply() == wire.SimpleReply(1)
        client.receive(4096)
        if change == "truncated":
            os.truncate(server.folder / "node", SIZE // 2)
        else:
            with (server.folder / "node").open("r+b") as file:
                file.write(b"other")
        for length in (4096, 4 << 20):
            client.request(wire.Cmd.READ, 2, SIZE - length, length)
            assert client.reply() == wire.SimpleReply(2, wire.Errno.EIO)
        client.request(wire.Cmd.FLUSH, 3)
        assert client.reply() == wire.SimpleReply(3)
    assert server.log.count("the image was changed in place") == 1


@requires("nbdinfo", "qemu-io")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_client_goes_on_after_the_server_was_restarted(server: Server, number: int) -> None:
    image = json.dumps(
        {
            "driver": "raw",
            "file": {
                "driver": "nbd",
                "reconnect-delay": 20,
                "export": "node",
                "server": {"type": "inet", "host": "127.0.0.1", "port": str(server.port)},
            },
        }
    )
    with subprocess.Popen(
        ["qemu-io", "-r", f"json:{image}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write("read 0 4096\n")
        assert "read 4096/4096" in client.stdout.readline()
        server.stop(number)
        client.stdin.write("read 8192 4096\n")
        server.start()
        assert run("nbdinfo", "--size", server.uri()).stdout.strip() == str(SIZE)
        output, _ = client.communicate("quit\n", timeout=30)
    assert "read 4096/4096 bytes at offset 8192" in output


def test_stopping_is_quick_with_clients_of_every_kind(server: Server) -> None:
    with RawClient(server), RawClient(server).greet(), RawClient(server).go() as idle, RawClient(server).go() as deaf:
        for cookie in range(200):
            deaf.request(wire.Cmd.READ, cookie, 0, 1 << 20)
        idle.request(wire.Cmd.READ, 1, 0, 4096)
        assert idle.reply() == wire.SimpleReply(1)
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 2
    assert "Traceback" not in server.log


def test_the_story_is_told_when_a_client_leaves(server: Server) -> None:
    with RawClient(server).go() as client:
        for cookie in range(3):
            client.request(wire.Cmd.READ, cookie, 0, 1 << 20)
            client.reply()
            client.receive(1 << 20)
        client.request(wire.Cmd.DISC, 9)
        assert client.closed_by_server()
    server.stop()
    assert "INFO:nbd.connection:nbd 127.0.0.1 left 'node': 3 reads, 3.0 MiB in 0 s" in server.log
