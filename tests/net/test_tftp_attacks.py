"""What a hostile network costs: some packets, and no machine its boot (reference/tftp.md section 4)."""

import os
import random
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.segment import Segment, requires
from tests.support.tftp_server import Peer, Server, running
from tftp import wire

pytestmark = pytest.mark.net

FILE = random.Random(5).randbytes(1_000_000)
LARGE = random.Random(6).randbytes(4_000_000)
SERVER = "10.77.0.1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tftp"
    folder.mkdir()
    (folder / "core.efi").write_bytes(FILE)
    (folder / "large").write_bytes(LARGE)
    (folder / "grub.cfg").write_bytes(b"one\n")
    return folder


@pytest.fixture(params=["", "single_port=1"], ids=["ports", "single-port"])
def server(request: pytest.FixtureRequest, folder: Path) -> Iterator[Server]:
    settings = [request.param] if request.param else []
    with running(folder, folder.parent / "log", subprocess.Popen, 0, *settings) as server:
        yield server


FLOOD = """
import socket, struct, sys, time
server, count = sys.argv[1], int(sys.argv[2])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("0.0.0.0", 5000))
sock.setblocking(False)
requests = [b"\\0\\1" + name + b"\\0octet\\0tsize\\x000\\0blksize\\x001468\\0windowsize\\x0064\\0"
            for name in (b"large", b"made")]
answers = 0
for number in range(count):
    source = struct.pack("=i4s4s", 0, struct.pack("!I", 0x0A580000 + 256 + number), bytes(4))
    sock.sendmsg([requests[number % 2]], [(socket.IPPROTO_IP, 8, source)], 0, (server, 69))
    if number % 20 == 0:
        time.sleep(0.01)
    while True:
        try:
            sock.recv(2000)
        except BlockingIOError:
            break
        answers += 1
print(answers)
"""


def resident_kib(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])


@requires("ip", "curl")
@pytest.mark.parametrize("settings", [(), ("single_port=1",)], ids=["ports", "single-port"])
def test_ten_thousand_requests_of_nobody_keep_no_machine_from_its_file(
    folder: Path, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    """Each from another forged address, and never answered (A-25). Half of them have 512 KiB made for them."""
    with (
        Segment(client_address="10.77.0.2/24") as segment,
        running(folder, tmp_path / "log", segment.server.popen, 69, *settings) as server,
    ):
        # Not a peer of ours but many: the whole of 10.88.0.0/16 is this one machine.
        forger = segment.host(address="10.77.0.3/24")
        forger.run("ip", "route", "add", "local", "10.88.0.0/16", "dev", "lo")
        segment.server.run("ip", "route", "add", "10.88.0.0/16", "via", "10.77.0.3")
        before = resident_kib(server.process.pid)
        url = f"tftp://{SERVER}/"
        started = segment.client.popen("curl", "-sS", "-o", str(tmp_path / "large"), url + "large")
        with (tmp_path / "answers").open("w") as answers:
            flood = forger.popen(sys.executable, "-c", FLOOD, SERVER, "10000", stdout=answers)
        took: list[float] = []
        while flood.poll() is None or len(took) < 3:
            begun = time.monotonic()
            done = segment.client.run("curl", "-sS", "-m", "240", url + "grub.cfg", timeout=300)
            assert done.stdout == "one\n"
            took.append(time.monotonic() - begun)
        assert flood.wait(300) == 0
        assert started.wait(300) == 0
        assert (tmp_path / "large").read_bytes() == LARGE
        grown = resident_kib(server.process.pid) - before
        print(f"{len(took)} files meanwhile, in {max(took):.3f} s at most; {grown} KiB more;", end=" ")
        print((tmp_path / "answers").read_text().strip(), "answers to 10000 forged requests")
        assert grown < (64 + 64) * 1024  # what was made, and all else
        server.finished(len(took) + 1)
        counters = server.stop()
        assert counters["displaced"] > 1000
        assert counters["descriptors"] <= 2 * 4096 + 16  # the carriers have some, too
        assert counters["complete"] == len(took) + 1


def test_a_full_table_is_told_and_what_runs_ends_well(folder: Path, tmp_path: Path) -> None:
    with (
        running(folder, tmp_path / "log", subprocess.Popen, 0, "limits.transfers=4") as server,
        ExitStack() as cleanup,
    ):
        peers = [cleanup.enter_context(Peer(server)) for _ in range(4)]
        for peer in peers:
            peer.ask("grub.cfg", tsize=0)
            assert peer.acknowledge(0) == wire.Data(1, b"one\n")
        with Peer(server) as late:
            assert late.ask("grub.cfg") == wire.Error(wire.ErrorCode.NOT_DEFINED, "busy, try again")
        for number, peer in enumerate(peers, 1):
            peer.tell(wire.Ack(1))
            server.finished(number)
        with Peer(server) as late:
            assert late.fetch("grub.cfg") == b"one\n"
        server.finished(5)
        counters = server.stop()
        assert (counters["complete"], counters["busy"], counters["descriptors"]) == (5, 1, 0)


def test_a_request_above_its_address_share_takes_the_place_of_one_that_was_never_answered(server: Server) -> None:
    peers = [Peer(server) for _ in range(30)]
    answers = [peer.ask("core.efi", blksize=1024) for peer in peers]
    assert answers == [wire.OptionAck({"blksize": "1024"})] * 30
    assert peers[29].acknowledge(0) == wire.Data(1, FILE[:1024])
    assert peers[0].acknowledge(0, 0.5) is None
    for peer in peers:
        peer.sock.close()
    assert server.stop()["displaced"] == 10


def test_what_exists_outside_and_what_does_not_look_the_same(server: Server, folder: Path) -> None:
    (folder.parent / "secret").write_bytes(b"secret")
    (folder.parent / "tftp2").mkdir()  # a sibling whose name begins with ours
    (folder.parent / "tftp2" / "secret").write_bytes(b"secret")
    answers = set()
    for name in ("../secret", "../nothing", "../tftp2/secret", "..\\tftp2\\secret", "../tftp2/nothing"):
        with Peer(server) as peer:
            answers.add(peer.ask(name))
    assert answers == {wire.Error(wire.ErrorCode.ACCESS_VIOLATION, "access violation")}
    answers = set()
    for name in (f"{folder}/core.efi", f"{folder.parent}/secret", "/nothing", "%2e%2e/secret", "a" * 500):
        with Peer(server) as peer:
            answers.add(peer.ask(name))
    assert answers == {wire.Error(wire.ErrorCode.FILE_NOT_FOUND, "file not found")}


def test_only_regular_files_are_files(server: Server, folder: Path) -> None:
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")
    os.mknod(folder / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        for name in ("folder", "folder/", ".", "fifo", "zero", "socket", "folder/."):
            with Peer(server) as peer:
                answer = peer.ask(name)
            assert isinstance(answer, wire.Error), name
            assert answer.code in {wire.ErrorCode.FILE_NOT_FOUND, wire.ErrorCode.ACCESS_VIOLATION}


def test_a_link_that_is_swapped_in_again_and_again_never_leads_out(server: Server, folder: Path) -> None:
    (folder.parent / "secret").write_bytes(b"secret")
    (folder / "turn").write_bytes(b"honest")
    over = threading.Event()

    def swap() -> None:
        for number in range(1_000_000):
            if over.is_set():
                return
            new = folder / "new"
            if number % 2:
                new.symlink_to(folder.parent / "secret")
            else:
                new.write_bytes(b"honest")
            os.replace(new, folder / "turn")

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        seen = set()
        for _ in range(300):
            with Peer(server) as peer:
                answer = peer.ask("turn")
                seen.add(answer.data if isinstance(answer, wire.Data) else type(answer).__name__)
                if isinstance(answer, wire.Data):
                    peer.tell(wire.Ack(1))
    finally:
        over.set()
        swapping.join()
    assert seen <= {b"honest", b"", "Error"}
    assert b"honest" in seen


def test_an_image_is_not_read_from_end_to_end_to_be_sent_as_text(server: Server, folder: Path) -> None:
    with (folder / "image").open("wb") as image:
        image.truncate(10 << 30)
    with Peer(server) as peer:
        answer = peer.ask("image", "netascii")
        assert answer == wire.Error(wire.ErrorCode.ILLEGAL_OPERATION, "too large for netascii")
        assert peer.ask("image", tsize=0) == wire.OptionAck({"tsize": str(10 << 30)})


def test_a_write_request_creates_and_changes_nothing(server: Server, folder: Path) -> None:
    (folder / "open").write_bytes(b"mine")
    (folder / "open").chmod(0o666)
    folder.chmod(0o777)
    before = sorted(path.name for path in folder.iterdir())
    for name in (b"open", b"new", b"../new"):
        with Peer(server) as peer:
            answer = peer.say(wire.WriteRequest(name, "octet", {"tsize": "4", "blksize": "1024"}).encode())
            assert answer == wire.Error(wire.ErrorCode.ACCESS_VIOLATION, "read only")
            peer.tell(wire.Data(1, b"evil"))
            assert peer.hear(0.2) is None
    assert sorted(path.name for path in folder.iterdir()) == before
    assert (folder / "open").read_bytes() == b"mine"


def test_a_guess_at_block_numbers_from_another_port_leaves_a_transfer_as_it_is(server: Server) -> None:
    with Peer(server) as peer, Peer(server) as stranger:
        assert peer.ask("core.efi", blksize=1024, windowsize=4) == wire.OptionAck(
            {"blksize": "1024", "windowsize": "4"}
        )
        stranger.tid = peer.tid
        for block in (0, 1, 4, 65535):
            stranger.tell(wire.Ack(block))
        assert peer.acknowledge(0) == wire.Data(1, FILE[:1024])
        assert [peer.hear() for _ in range(3)] == [
            wire.Data(block, FILE[1024 * (block - 1) : 1024 * block]) for block in (2, 3, 4)
        ]
