"""The real transport over loopback, one packet at a time: what clients do that no ordinary client lets us see."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from config.content import Content, Made
from config.events import Stage
from pxeboot.bootfiles.root import Root
from tests.support.segment import Segment, requires
from tests.support.tftp_server import REPOSITORY, Peer, Server, running
from tftp import transport, wire
from tftp.helpers import Helpers, Limits
from tftp.session import Session
from tftp.transport import open_socket, serve

pytestmark = pytest.mark.net

LOADER = bytes(range(256)) * 40  # 10240 bytes
EDK2_PROBE = bytes.fromhex(  # fixture T-EDK2
    "00 01 62 6f 6f 74 78 36 34 2e 65 66 69 00 6f 63 74 65 74 00 74 73 69 7a 65 00 30 00 62 6c 6b 73 69 7a 65 00 "
    "31 34 36 38 00 77 69 6e 64 6f 77 73 69 7a 65 00 34 00"
)
EDK2_ABORT = bytes.fromhex(  # fixture T-ABORT
    "00 05 00 08 55 73 65 72 20 61 62 6f 72 74 65 64 20 74 68 65 20 74 72 61 6e 73 66 65 72 00"
)
EDK2_READ = bytes.fromhex(  # fixture T-EDK2-2
    "00 01 62 6f 6f 74 78 36 34 2e 65 66 69 00 6f 63 74 65 74 00 62 6c 6b 73 69 7a 65 00 31 34 36 38 00 "
    "77 69 6e 64 6f 77 73 69 7a 65 00 34 00"
)
MISSING = wire.Error(wire.ErrorCode.FILE_NOT_FOUND, "file not found")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tftp"
    (folder / "grub").mkdir(parents=True)
    (folder / "bootx64.efi").write_bytes(LOADER)
    (folder / "grub" / "grub.cfg").write_bytes(b"one\ntwo\n")
    (folder / "command.lst").write_bytes(b"")
    (tmp_path / "secret").write_bytes(b"secret")
    return folder


def counted(server: Server) -> dict[str, int]:
    """End a server, and return what it has counted, but for blocks that it sent again when this process was away."""
    counters = server.stop()
    if counters.pop("resent"):
        counters["bytes"] = min(counters["bytes"], len(LOADER))
    return counters


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with running(folder, folder.parent / "log") as server:
        yield server


def test_a_file_arrives_and_its_arrival_is_told(server: Server) -> None:
    with Peer(server) as peer:
        assert peer.fetch("bootx64.efi", blksize=1024) == LOADER
    assert server.said("INFO tftp 127.0.0.1 got 'bootx64.efi': 10240 bytes in ")
    assert server.said("event 127.0.0.1 loader 'bootx64.efi': 10240 bytes in ")
    assert counted(server) == {"complete": 1, "requests": 1, "bytes": 10240, "descriptors": 0}


def test_edk2_asks_for_the_size_and_then_reads_by_windows(server: Server) -> None:
    with Peer(server) as peer:
        assert peer.say(EDK2_PROBE) == wire.OptionAck({"tsize": "10240", "blksize": "1468", "windowsize": "4"})
        assert peer.tid is not None
        peer.sock.sendto(EDK2_ABORT, peer.tid)
        assert peer.hear(0.3) is None
    with Peer(server) as peer:
        assert peer.say(EDK2_READ) == wire.OptionAck({"blksize": "1468", "windowsize": "4"})
        content, block = b"", 0
        peer.tell(wire.Ack(0))
        while len(content) < len(LOADER):
            for _ in range(min(4, 7 - block)):
                answer = peer.hear()
                while isinstance(answer, wire.Data) and answer.block <= block:  # a copy, when this process was away
                    answer = peer.hear()
                block += 1
                assert isinstance(answer, wire.Data)
                assert answer.block == block
                content += answer.data
            peer.tell(wire.Ack(block))
        assert content == LOADER
    assert server.said("DEBUG tftp 127.0.0.1 took nothing of 'bootx64.efi'")
    assert server.said("INFO tftp 127.0.0.1 got 'bootx64.efi'")
    assert not any(line.startswith(("WARNING", "ERROR")) for line in server.lines())
    assert counted(server) == {"complete": 1, "declined": 1, "requests": 2, "bytes": 10240, "descriptors": 0}


def test_the_first_answer_is_one_packet_whatever_window_is_asked(server: Server) -> None:
    with Peer(server) as peer:
        assert isinstance(peer.ask("bootx64.efi", blksize=8, windowsize=65535), wire.OptionAck)
        assert peer.hear(0.3) is None


def test_names_of_firmware_and_of_grub_mean_the_same_file(server: Server) -> None:
    for name in (b"grub/grub.cfg", b"/grub/grub.cfg", b"//grub//grub.cfg", b"\\grub\\grub.cfg", b"grub/grub.cfg\xff"):
        with Peer(server) as peer:
            assert peer.ask(name) == wire.Data(1, b"one\ntwo\n")
            peer.tell(wire.Ack(1))


def test_an_empty_file_is_one_empty_block(server: Server) -> None:
    with Peer(server) as peer:
        assert peer.ask("command.lst", tsize=0) == wire.OptionAck({"tsize": "0"})
        assert peer.acknowledge(0) == wire.Data(1, b"")


def test_netascii_converts_and_offers_no_size(server: Server) -> None:
    with Peer(server) as peer:
        assert peer.ask("grub/grub.cfg", "NetASCII", tsize=0) == wire.Data(1, b"one\r\ntwo\r\n")
        peer.tell(wire.Ack(1))


def test_content_made_for_the_asker_is_served_as_a_file_is(server: Server) -> None:
    with Peer(server) as peer:
        assert peer.ask("who") == wire.Data(1, b"127.0.0.1\n")


def test_what_is_not_served_is_not_found(server: Server, folder: Path) -> None:
    (folder / "link").symlink_to("bootx64.efi")
    (folder / "linked").symlink_to(folder.parent)
    (folder / ".hidden").write_bytes(b"x")
    os.mkfifo(folder / "fifo")
    names = [b"missing", b"grub", b"grub/", b"link", b"linked/secret", b"fifo", b".hidden", b"/etc/passwd", b"a\nb"]
    for name in [*names, b"%2e%2e/secret", b"n" * 512, b"\xc0\xae"]:
        with Peer(server) as peer:
            assert peer.ask(name) == MISSING
    assert server.stop() == {"misses": 12, "requests": 12, "descriptors": 0}


def test_a_name_that_leads_out_learns_nothing_about_what_is_there(server: Server) -> None:
    for name in ("../secret", "../nothing", "..\\secret", "grub/../../secret", "/../../etc/passwd"):
        with Peer(server) as peer:
            assert peer.ask(name) == wire.Error(wire.ErrorCode.ACCESS_VIOLATION, "access violation")
    assert server.said("WARNING tftp 127.0.0.1 asked for '../secret': outside the root")


def test_requests_that_cannot_be_granted_are_told_so(server: Server, folder: Path) -> None:
    before = sorted(path.name for path in folder.iterdir())
    for datagram, code in (
        (b"\0\1bootx64.efi\0octet", 4),
        (b"\0\1bootx64.efi\0", 4),
        (b"\0\1bootx64.efi", 4),
        (b"\0\1\0octet\0", 4),
        (b"\0\1", 4),
        (b"\0\1bootx64.efi\0mail\0", 4),
        (b"\0\2bootx64.efi\0octet\0", 2),
        (b"\0\2new\0octet\0tsize\x0010\0", 2),
    ):
        with Peer(server) as peer:
            answer = peer.say(datagram)
        assert isinstance(answer, wire.Error)
        assert answer.code == code
        assert len(answer.message) <= 64
        assert str(folder) not in answer.message
    assert sorted(path.name for path in folder.iterdir()) == before
    assert (folder / "bootx64.efi").read_bytes() == LOADER


def test_strays_at_the_well_known_port_are_never_answered(server: Server) -> None:
    strays = [b"\0", b"\0\0", b"\0\0\0\1", b"\0\x09\0\1", b"\0\4\0\1", b"\0\3\0\1x", b"\0\5\0\1x\0", b"\0\6a\0b\0"]
    with Peer(server) as peer:
        for stray in [*strays, b"", b"\0\1" + b"x" * 9000]:
            peer.sock.sendto(stray, peer.well_known)
        assert peer.hear(0.5) is None
        assert peer.ask("missing") == MISSING  # so that all before was seen
    assert server.stop() == {"malformed": 6, "strays": 4, "misses": 1, "requests": 1, "descriptors": 0}


def test_a_request_to_a_broadcast_address_is_ignored(server: Server) -> None:
    with Peer(server, "127.255.255.255") as peer:
        assert peer.say(wire.ReadRequest(b"bootx64.efi").encode(), 0.5) is None
    with Peer(server) as peer:
        assert peer.ask("missing") == MISSING  # so that all before was seen
    assert server.stop() == {"broadcasts": 1, "misses": 1, "requests": 1, "descriptors": 0}


def test_the_answer_comes_from_the_address_that_was_asked(server: Server) -> None:
    for name in ("bootx64.efi", "missing", "../x"):
        with Peer(server, "127.0.0.7") as peer:
            peer.ask(name)
            assert peer.tid is not None
            assert peer.tid[0] == "127.0.0.7"
            assert peer.tid[1] != server.port


def test_each_transfer_has_a_port_of_its_own(server: Server) -> None:
    with Peer(server) as first, Peer(server) as second:
        first.ask("bootx64.efi")
        second.ask("bootx64.efi")
        assert first.tid != second.tid


def test_the_same_request_twice_is_one_transfer(server: Server) -> None:
    with Peer(server) as peer:
        request = wire.ReadRequest(b"bootx64.efi", "octet", {"blksize": "1024"}).encode()
        peer.sock.sendto(request, peer.well_known)
        peer.sock.sendto(request, peer.well_known)
        assert peer.hear() == wire.OptionAck({"blksize": "1024"})
        assert peer.hear(0.3) is None
        assert peer.acknowledge(0) == wire.Data(1, LOADER[:1024])
    assert server.stop()["duplicates"] == 1


def test_a_client_that_begins_again_from_the_same_port_gets_a_new_transfer(server: Server) -> None:
    with Peer(server) as peer:
        assert peer.ask("bootx64.efi") == wire.Data(1, LOADER[:512])
        first = peer.tid
        assert peer.ask("grub/grub.cfg") == wire.Data(1, b"one\ntwo\n")
        assert peer.tid != first
        peer.tell(wire.Ack(1))
    assert server.said("got 'grub/grub.cfg'")
    assert server.stop()["descriptors"] == 0


def test_a_stranger_is_turned_away_and_the_transfer_goes_on(server: Server) -> None:
    with Peer(server) as peer, Peer(server) as stranger:
        assert peer.ask("bootx64.efi") == wire.Data(1, LOADER[:512])
        stranger.tid = peer.tid
        stranger.tell(wire.Ack(1))
        assert stranger.hear() == wire.Error(wire.ErrorCode.UNKNOWN_TRANSFER_ID, "unknown transfer id")
        stranger.tell(wire.Error(0, "go away"))
        assert stranger.hear(0.3) is None  # never an ERROR for an ERROR
        assert peer.acknowledge(1) == wire.Data(2, LOADER[512:1024])


def test_a_repeated_ack_draws_no_second_block(server: Server) -> None:
    with Peer(server) as peer:
        peer.ask("bootx64.efi")
        assert peer.acknowledge(1) == wire.Data(2, LOADER[512:1024])
        for _ in range(3):
            peer.tell(wire.Ack(1))
        assert peer.acknowledge(2) == wire.Data(3, LOADER[1024:1536])


def test_an_unanswered_block_is_sent_again(server: Server) -> None:
    with Peer(server) as peer:
        peer.ask("bootx64.efi", blksize=1024)
        first = peer.acknowledge(0)
        assert peer.hear(copies=True) == first


def test_a_forged_address_gets_five_small_packets_and_is_forgotten(server: Server) -> None:
    with Peer(server) as peer:
        answers = [peer.ask("bootx64.efi", timeout=1, blksize=65464, windowsize=64)]
        while len(answers) < 5 and (answer := peer.hear(copies=True)) is not None:
            answers.append(answer)
        assert peer.hear(3, copies=True) is None
        assert answers == [wire.OptionAck({"timeout": "1", "blksize": "65464", "windowsize": "2"})] * 5
    assert server.said("DEBUG tftp 127.0.0.1 took nothing of 'bootx64.efi': the client never answered")
    assert server.stop() == {"requests": 1, "unanswered": 1, "bytes": 0, "resent": 0, "descriptors": 0}


def test_a_client_that_asks_for_too_much_at_once_is_told_and_what_runs_goes_on(server: Server) -> None:
    peers = [Peer(server) for _ in range(25)]
    for peer in peers[:20]:
        peer.ask("bootx64.efi", blksize=1024)
        assert peer.acknowledge(0) == wire.Data(1, LOADER[:1024])
    busy = wire.Error(wire.ErrorCode.NOT_DEFINED, "busy, try again")
    assert [peer.ask("bootx64.efi", blksize=1024) for peer in peers[20:]] == [busy] * 5
    answer = peers[0].acknowledge(1)
    while answer == wire.Data(1, LOADER[:1024]):  # sent again while the others asked
        answer = peers[0].hear()
    assert answer == wire.Data(2, LOADER[1024:2048])
    for peer in peers[:20]:
        peer.tell(wire.Error(0, "enough"))
    assert Peer(server).fetch("bootx64.efi") == LOADER
    for peer in peers:
        peer.sock.close()
    counters = server.stop()
    assert (counters["busy"], counters["descriptors"]) == (5, 0)


def test_a_truncated_file_is_an_error_to_the_client(server: Server, folder: Path) -> None:
    with Peer(server) as peer:
        assert isinstance(peer.ask("bootx64.efi", tsize=0), wire.OptionAck)  # nothing of it was read ahead yet
        os.truncate(folder / "bootx64.efi", 700)
        assert isinstance(peer.acknowledge(0), wire.Data)
        answer = peer.acknowledge(1)
        assert answer == wire.Error(wire.ErrorCode.NOT_DEFINED, "the file cannot be read")
    assert server.said("ERROR tftp 127.0.0.1: reading its file failed")
    assert server.stop()["descriptors"] == 0


def test_a_file_that_is_replaced_goes_on_as_it_was(server: Server, folder: Path) -> None:
    with Peer(server) as peer:
        assert peer.ask("bootx64.efi") == wire.Data(1, LOADER[:512])
        (folder / "new").write_bytes(b"other")
        os.rename(folder / "new", folder / "bootx64.efi")
        assert peer.acknowledge(1) == wire.Data(2, LOADER[512:1024])


def test_the_settings_of_the_farm_are_the_most_that_is_granted(folder: Path) -> None:
    with (
        running(folder, folder.parent / "log", subprocess.Popen, 0, "blksize=1024", "windowsize=8") as server,
        Peer(server) as peer,
    ):
        answer = peer.ask("bootx64.efi", blksize=1468, windowsize=64)
        assert answer == wire.OptionAck({"blksize": "1024", "windowsize": "8"})
        assert peer.acknowledge(0) == wire.Data(1, LOADER[:1024])


@pytest.mark.parametrize("rollover", [0, 1])
def test_the_block_after_65535_is_called_as_the_farm_says(folder: Path, rollover: int) -> None:
    content = LOADER * 60  # 76,800 blocks of 8 bytes
    (folder / "kernel").write_bytes(content)
    with (
        running(folder, folder.parent / "log", subprocess.Popen, 0, f"rollover={rollover}") as server,
        Peer(server) as peer,
    ):
        peer.ask("kernel", blksize=8, windowsize=64)
        peer.tell(wire.Ack(0))
        got, number, blocks = bytearray(), 0, 0
        while len(got) % 8 == 0 and (answer := peer.hear()) is not None:
            following = number + 1 if number < 65535 else rollover
            assert isinstance(answer, wire.Data)
            if answer.block != following:
                continue  # a copy, because this machine is busy
            number, blocks = following, blocks + 1
            got += answer.data
            if blocks % 64 == 0 or not answer.data:
                peer.tell(wire.Ack(number))
            if not answer.data:
                break
        assert bytes(got) == content
        assert number == (76_801 - 65_536 if rollover == 0 else 76_801 - 65_535)
        assert server.said("got 'kernel'")


def test_each_of_many_misses_is_answered(server: Server) -> None:
    for number in range(100):
        with Peer(server) as peer:
            assert peer.ask(f"grub.cfg-01-52-54-00-12-34-{number:02x}") == MISSING
    assert server.stop() == {"misses": 100, "requests": 100, "descriptors": 0}


def test_a_taken_port_is_named() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match=r"UDP port \d+ of 127\.0\.0\.1: another program has it"):
            open_socket("127.0.0.1", port=other.getsockname()[1])


def test_an_interface_that_is_not_there_is_named() -> None:
    with pytest.raises(OSError, match=r"UDP port 69 of 0\.0\.0\.0 at eth77: No such device"):
        open_socket(interface="eth77")


@requires("setpriv", "ip")
def test_a_missing_privilege_is_named() -> None:
    script = (
        "from tftp.transport import open_socket\n"
        "try: open_socket('127.0.0.1', port=69)\n"
        "except PermissionError as error: print(error)"
    )
    without = ("setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service")
    with Segment() as segment:  # a namespace begins with the usual limit of 1024, whatever the host has
        done = segment.server.run(
            "sh", "-c", f'cd {REPOSITORY} && exec {" ".join(without)} {sys.executable} -c "{script}"'
        )
    assert "UDP port 69 of 127.0.0.1: not permitted" in done.stdout


def test_a_cancelled_server_leaves_no_descriptor_and_no_task(folder: Path) -> None:
    async def scenario() -> None:
        root = Root(folder)

        async def lookup(name: str, peer: IPv4Address) -> Content | None:
            return await asyncio.to_thread(root.open, name)

        def stage_of(name: str) -> Stage | None:
            return None

        await asyncio.to_thread(int)  # the thread pool's own descriptors, if any, exist from here on
        before = len(os.listdir("/proc/self/fd"))
        with open_socket("127.0.0.1", port=0) as sock:
            tasks = asyncio.all_tasks()
            serving = asyncio.create_task(serve(sock, lookup, lambda event: None, stage_of))
            await asyncio.sleep(0)
            clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(5)]
            for number, client in enumerate(clients):
                mode = "netascii" if number % 2 else "octet"
                request = wire.ReadRequest(b"bootx64.efi", mode, {"blksize": "512"})
                client.setblocking(False)
                client.sendto(request.encode(), sock.getsockname())
                assert await asyncio.get_running_loop().sock_recv(client, 600)
            assert len(os.listdir("/proc/self/fd")) >= before + 1 + 5 * 3
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving
            for client in clients:
                client.close()
        assert len(os.listdir("/proc/self/fd")) == before
        assert asyncio.all_tasks() == tasks

    asyncio.run(asyncio.wait_for(scenario(), 90))


def test_a_bug_in_the_lookup_costs_one_request(folder: Path) -> None:
    async def scenario() -> None:
        async def lookup(name: str, peer: IPv4Address) -> Content | None:
            if name == "bug":
                raise ZeroDivisionError
            if name == "disk":
                raise OSError(24, "Too many open files")
            if name == "hangs":  # as the daemon's does, of static files on a disk for which many wait already
                raise TimeoutError("a disk hangs")
            return Made(name, b"fine", etag="")

        loop = asyncio.get_running_loop()
        with open_socket("127.0.0.1", port=0) as sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            serving = asyncio.create_task(serve(sock, lookup, lambda event: None, lambda name: None))
            await asyncio.sleep(0)
            client.setblocking(False)
            error = b"\0\5\0\0server error\0"
            hangs = b"\0\5\0\0busy, try again\0"
            for name, answer in ((b"bug", error), (b"disk", error), (b"hangs", hangs), (b"f", b"\0\3\0\1fine")):
                client.sendto(wire.ReadRequest(name).encode(), sock.getsockname())
                assert await loop.sock_recv(client, 600) == answer
            serving.cancel()

    asyncio.run(asyncio.wait_for(scenario(), 90))


def test_a_transfer_that_cannot_be_started_gives_back_what_it_has(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: Session) -> None:
        raise OSError(28, "No space left on device")  # as epoll says where the user watches too much

    async def scenario() -> None:
        root = Root(folder)

        async def lookup(name: str, peer: IPv4Address) -> Content | None:
            return root.open(name)

        loop = asyncio.get_running_loop()
        with open_socket("127.0.0.1", port=0) as sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            serving = asyncio.create_task(serve(sock, lookup, lambda event: None, lambda name: None))
            client.setblocking(False)
            await asyncio.sleep(0)
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(3):
                client.sendto(wire.ReadRequest(b"bootx64.efi").encode(), sock.getsockname())
                assert await loop.sock_recv(client, 600) == b"\0\5\0\0server error\0"
            assert len(os.listdir("/proc/self/fd")) == before
            serving.cancel()

    monkeypatch.setattr(Session, "start", start)
    asyncio.run(asyncio.wait_for(scenario(), 90))


def test_what_the_process_may_open_is_divided_by_three_and_by_its_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transfer that is carried has its socket, its file, and a socket for strangers."""

    async def lookup(name: str, peer: IPv4Address) -> Content | None:
        return None

    async def scenario() -> None:
        with open_socket("127.0.0.1", port=0) as sock:
            server = transport.Server(sock, lookup, lambda event: None, lambda name: None)
            alone = server.at_most
            server.share(4)
            shared = server.at_most
            server.close()
        assert (alone, shared) == (100, 25)

    monkeypatch.setattr("resource.getrlimit", lambda _: (1200, 1200))
    asyncio.run(scenario())


def test_the_helpers_of_several_servers_outlive_each(folder: Path) -> None:
    async def scenario() -> None:
        root = Root(folder)

        async def lookup(name: str, peer: IPv4Address) -> Content | None:
            return root.open(name)

        helpers = Helpers(Limits())
        loop = asyncio.get_running_loop()
        with (
            open_socket("127.0.0.1", port=0) as one,
            open_socket("127.0.0.1", port=0) as other,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        ):
            client.setblocking(False)
            servers = [
                transport.Server(sock, lookup, lambda event: None, lambda name: None, helpers=helpers)
                for sock in (one, other)
            ]
            for sock, server in zip((one, other), servers, strict=True):
                client.sendto(wire.ReadRequest(b"grub/grub.cfg", "netascii").encode(), sock.getsockname())
                assert await loop.sock_recv(client, 600) == b"\0\3\0\1one\r\ntwo\r\n"  # converted by a helper
                server.close()
        helpers.close()

    asyncio.run(asyncio.wait_for(scenario(), 90))
