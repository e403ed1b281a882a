"""Real NBD clients against the real transport."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nbd import wire
from tests.support.nbd_commands import run
from tests.support.nbd_server import RawClient, Server, running
from tests.support.segment import lacking, requires
from tests.support.waiting import quick, until

pytestmark = pytest.mark.net

SIZE = 24 << 20


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
def test_an_unknown_export_is_refused(server: Server) -> None:
    assert "No such file" in run("nbdinfo", server.uri("other"), check=False).stderr


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


@requires("nbdinfo")
def test_nbdinfo_is_told_what_can_be_done(server: Server) -> None:
    """Exit code 0 is yes, 2 is no."""
    yes = ("--is=read-only", "--can=connect", "--can=multi-conn", "--can=cache", "--can=flush", "--can=df")
    no = ("--can=write", "--can=trim", "--can=zero", "--can=fua", "--can=fast-zero", "--is=tls", "--is=rotational")
    answers = {question: run("nbdinfo", question, server.uri(), check=False).returncode for question in (*yes, *no)}
    assert answers == dict.fromkeys(yes, 0) | dict.fromkeys(no, 2)


def sparse(path: Path) -> list[tuple[int, int, int]]:
    """Make a file of data, hole and data; return (offset, length, flags) of each."""
    with path.open("wb") as file:
        file.write(b"d" * (1 << 20))
        file.seek(7 << 20)
        file.write(b"e" * (1 << 20))
    return [(0, 1 << 20, 0), (1 << 20, 6 << 20, 3), (7 << 20, 1 << 20, 0)]


@requires("nbdinfo")
def test_nbdinfo_maps_a_sparse_file(server: Server) -> None:
    extents = sparse(server.folder / "sparse")
    listed = json.loads(run("nbdinfo", "--map", "--json", server.uri("sparse")).stdout)
    assert [(extent["offset"], extent["length"], extent["type"]) for extent in listed] == extents


@requires("qemu-img")
def test_qemu_maps_a_sparse_file(server: Server) -> None:
    extents = sparse(server.folder / "sparse")
    listed = json.loads(run("qemu-img", "map", "-f", "raw", "--output=json", server.uri("sparse")).stdout)
    assert [(extent["start"], extent["length"], 3 * extent["zero"]) for extent in listed] == extents
    told = json.loads(run("qemu-img", "info", "-f", "raw", "--output=json", server.uri("sparse")).stdout)
    assert told["virtual-size"] == 8 << 20


@requires("nbdcopy")
def test_nbdcopy_leaves_out_the_holes_of_a_sparse_file(server: Server, tmp_path: Path) -> None:
    sparse(server.folder / "sparse")
    run("nbdcopy", "--connections=4", server.uri("sparse"), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (server.folder / "sparse").read_bytes()
    assert (tmp_path / "copy").stat().st_blocks * 512 < 3 << 20


@requires("fio")
@pytest.mark.parametrize(
    "reads",
    [
        pytest.param(("--rw=randread", "--bs=4k", "--iodepth=32"), id="4-KiB"),
        pytest.param(("--rw=randread", "--bs=4k", "--iodepth=8", "--numjobs=4"), id="4-jobs"),
        pytest.param(("--rw=read", "--bs=256k", "--iodepth=8", "--verify_interval=4k"), id="256-KiB"),
    ],
)
def test_fio_reads_what_fio_wrote(server: Server, tmp_path: Path, reads: tuple[str, ...]) -> None:
    file = server.folder / "fio"
    common = ("--name=blocks", "--size=8M", "--verify=crc32c", "--minimal", f"--aux-path={tmp_path}")
    writes = ("--ioengine=psync", f"--filename={file}", "--rw=write", "--bs=4k", "--do_verify=0")
    run("fio", *common, *writes, "--verify_state_save=0")
    run("fio", *common, *reads, "--ioengine=nbd", f"--uri={server.uri('fio')}", "--verify_state_save=0")
    with file.open("r+b") as broken:  # so that one sees that fio would have noticed
        broken.seek(4_000_000)
        broken.write(b"other")
    done = run("fio", *common, *reads, "--ioengine=nbd", f"--uri={server.uri('fio')}", check=False)
    assert "verify failed" in done.stdout + done.stderr


@contextmanager
def fused(server: Server, name: str, at: Path) -> Iterator[Path]:
    """An export as a file."""
    if not Path("/dev/fuse").exists():
        lacking("no /dev/fuse")
    at.write_bytes(b"")
    size = (server.folder / name).stat().st_size
    process = subprocess.Popen(["nbdfuse", "-r", str(at), server.uri(name)], stdin=subprocess.DEVNULL)
    try:
        until(lambda: at.stat().st_size >= size, "the export is mounted")
        yield at
    finally:
        subprocess.run(["umount", str(at)], check=False)
        try:
            process.wait(30)  # which it does by itself, unless a request of its kernel is lost
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@requires("nbdfuse", "umount")
def test_nbdfuse_shows_the_image_as_a_file(server: Server, tmp_path: Path) -> None:
    with fused(server, "node", tmp_path / "mounted") as file:
        assert file.read_bytes() == (server.folder / "node").read_bytes()


@requires("nbdfuse", "umount", "mount", "mksquashfs")
def test_the_kernel_reads_every_file_of_a_squashfs(server: Server, tmp_path: Path) -> None:
    """Its own driver, on a loop device: what a machine with an NBD root does, where there is no nbd.ko."""
    source, root = tmp_path / "source", tmp_path / "root"
    (source / "etc").mkdir(parents=True)
    (source / "etc" / "words").write_text("".join(f"{n}\n" for n in range(300_000)))
    (source / "random").write_bytes(random.Random(3).randbytes(3 << 20))
    (source / "zeros").write_bytes(bytes(5 << 20))
    (source / "link").symlink_to("etc/words")
    for n in range(300):
        (source / "etc" / f"small-{n}").write_bytes(b"%d" % n * n)
    run("mksquashfs", source, server.folder / "root", "-noappend", "-quiet", "-no-progress")
    root.mkdir()
    with fused(server, "root", tmp_path / "mounted") as file:
        if run("mount", "-o", "loop,ro", "-t", "squashfs", file, root, check=False).returncode:
            lacking("no loop device, or no squashfs in this kernel")
        try:
            run("diff", "-r", "--no-dereference", source, root)
        finally:
            run("umount", root)


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
    assert server.logged("the image was changed in place")
    assert server.log.count("the image was changed in place") == 1


@requires("nbdinfo", "qemu-io")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_client_goes_on_after_the_server_was_restarted(server: Server, number: int) -> None:
    image = json.dumps(
        {
            "driver": "raw",
            "file": {
                "driver": "nbd",
                "reconnect-delay": 120,
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
        output, _ = client.communicate("quit\n", timeout=120)
    assert "read 4096/4096 bytes at offset 8192" in output


def test_the_bytes_of_nbd_client_as_it_attaches_a_root(server: Server) -> None:
    """nbd-client 3.24, up to where the kernel takes over: flags 0x3, GO without information requests."""
    with RawClient(server) as client:
        assert client.receive(18) == b"NBDMAGICIHAVEOPT\0\3"
        client.send(bytes.fromhex("00000003 49484156454f5054 00000007 0000000a 00000004 6e6f6465 0000"))
        begin = bytes.fromhex("0003e889045565a9 00000007 00000003 0000000c 0000")
        assert client.receive(32) == begin + SIZE.to_bytes(8, "big") + bytes.fromhex("0507")
        assert client.receive(20) == bytes.fromhex("0003e889045565a9 00000007 00000001 00000000")
        client.send(bytes.fromhex("25609513 0000 0000 1122334455667788 0000000000000400 00000400"))
        assert client.receive(16) == bytes.fromhex("67446698 00000000 1122334455667788")
        assert client.receive(1024) == (server.folder / "node").read_bytes()[1024:2048]


def test_n_02_small_replies_are_not_held_back(server: Server) -> None:
    """TCP_NODELAY, asked of the server's own end of a connection."""
    with RawClient(server).go():
        ends = [end for end in server.sockets() if end.getsockname()[1] == server.port]
        try:
            connected = [end for end in ends if not end.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)]
            assert [end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for end in connected] == [1]
        finally:
            for end in ends:
                end.close()


def test_an_oldstyle_client_is_refused_cleanly(server: Server) -> None:
    """It takes the second eight bytes for the magic of oldstyle, which they are not; or it sends requests at once."""
    with RawClient(server) as client:
        assert client.receive(16) != b"NBDMAGIC" + bytes.fromhex("0000420281861253")
    with RawClient(server) as client:
        client.request(wire.Cmd.READ, 1, 0, 512)
        assert client.closed_by_server()
    assert run("nbdinfo", "--size", server.uri()).stdout.strip() == str(SIZE)
    assert "Traceback" not in server.log


@requires("nbd-client")
def test_nbd_client_without_go_is_served(server: Server) -> None:
    """`-g`: EXPORT_NAME. It gets as far as the device that this kernel does not have."""
    if Path("/dev/nbd0").exists():
        pytest.skip("it would attach /dev/nbd0")
    done = run("nbd-client", "-g", "-N", "node", "127.0.0.1", str(server.port), "/dev/nbd0", check=False)
    assert f"{SIZE >> 20}MB" in done.stdout + done.stderr


def test_stopping_is_quick_with_clients_of_every_kind(server: Server) -> None:
    def stopping_s() -> float:
        idle, deaf = RawClient(server).go(), RawClient(server).go()
        with RawClient(server), RawClient(server).greet(), idle, deaf:
            for cookie in range(200):
                deaf.request(wire.Cmd.READ, cookie, 0, 1 << 20)
            idle.request(wire.Cmd.READ, 1, 0, 4096)
            assert idle.reply() == wire.SimpleReply(1)
            started = time.monotonic()
            assert server.stop() == 0
            took_s = time.monotonic() - started
        server.start()
        return took_s

    assert quick(stopping_s, 2)
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
    assert re.search("INFO:nbd.connection:nbd 127.0.0.1 left 'node': 3 reads, 3.0 MiB in [0-9]+ s", server.log)
