"""Clients behind address translation, with the kernel's own in the middle (T-03, scenario 26).

    server eth1 10.77.0.1 ── br0 ── eth0 10.77.0.254 router eth9 192.168.9.1 ── eth0 192.168.9.N machines

The router translates: masquerade, as a container bridge or an access router does, and a virtual address 10.96.0.69 for
the server, as a Kubernetes Service has. It lets in what belongs to an exchange that began inside, and nothing else.
"""

import random
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.net.test_tftp_clients import command
from tests.support.segment import Host, Segment, requires
from tests.support.tftp_server import Peer, Server, running
from tftp import wire

pytestmark = pytest.mark.net

SERVER = "10.77.0.1"
SERVICE = "10.96.0.69"
FILE = random.Random(3).randbytes(300_000)
CLIENTS = ["curl-1428", "atftp", "atftp-windows", "tftp-hpa", "busybox"]
PROGRAMS = ("tftp", "atftp", "curl", "busybox", "ip", "nft")

MASQUERADE = """
table ip nat {
chain leaving {
type nat hook postrouting priority srcnat; policy accept;
oifname "eth0" masquerade
}
chain arriving {
type nat hook prerouting priority dstnat; policy accept;
ip daddr 10.96.0.69 udp dport 69 dnat to 10.77.0.1:69
}
}
table ip filter {
chain through {
type filter hook forward priority filter; policy drop;
iifname "eth9" accept
ct state established accept
}
}
"""


class Inside:
    """The machines behind the router."""

    def __init__(self, segment: Segment, count: int) -> None:
        self.router = segment.host(address="10.77.0.254/24")
        self.router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.router.run("nft", "-f", "-", text_in=MASQUERADE)
        self.router.run("ip", "link", "add", "eth9", "type", "bridge")
        self.router.run("ip", "address", "add", "192.168.9.1/24", "dev", "eth9")
        self.router.run("ip", "link", "set", "eth9", "up")
        self.machines = [self._machine(segment, number) for number in range(2, 2 + count)]

    def _machine(self, segment: Segment, number: int) -> Host:
        host = segment.host(interface="unused")
        host.run("ip", "link", "delete", "unused")
        port = f"port{number}"
        self.router.run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
        self.router.run("ip", "link", "set", port, "master", "eth9", "up")
        host.run("ip", "address", "add", f"192.168.9.{number}/24", "dev", "eth0")
        host.run("ip", "link", "set", "eth0", "up")
        host.run("ip", "route", "add", "default", "via", "192.168.9.1")
        return host


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tftp"
    folder.mkdir()
    (folder / "core.efi").write_bytes(FILE)
    return folder


@pytest.fixture
def segment() -> Iterator[Segment]:
    with Segment(client_address="10.77.0.2/24") as segment:
        yield segment


@pytest.fixture
def single(segment: Segment, folder: Path) -> Iterator[Server]:
    with running(folder, folder.parent / "log", segment.server.popen, 69, "single_port=1") as server:
        yield server


def asked(client: str, to: Path, address: str) -> list[str]:
    """The command line of `client`, with the server under another address."""
    return [word.replace(SERVER, address) for word in command(client, "core.efi", to)]


@requires(*PROGRAMS)
def test_no_port_but_the_one_that_was_asked_reaches_a_client_behind_translation(
    segment: Segment, folder: Path, tmp_path: Path
) -> None:
    """What single-port mode is for: without it, this is what one sees."""
    inside = Inside(segment, 1)
    with running(folder, tmp_path / "log", segment.server.popen, 69):
        for address in (SERVER, SERVICE):
            got = tmp_path / "got"
            argv = ["curl", "-sS", "-m", "3", "-o", str(got), f"tftp://{address}/core.efi"]
            assert inside.machines[0].run(*argv, check=False).returncode
            assert not got.exists() or not got.read_bytes()


@requires(*PROGRAMS)
@pytest.mark.parametrize("address", [SERVER, SERVICE])
def test_every_client_behind_translation_gets_its_file(
    segment: Segment, single: Server, tmp_path: Path, address: str
) -> None:
    machine = Inside(segment, 1).machines[0]
    for client in CLIENTS:
        got = tmp_path / client
        done = machine.run(*asked(client, got, address), check=False)
        assert done.returncode == 0, (client, done.stdout, done.stderr)
        assert got.read_bytes() == FILE, client
    single.finished(len(CLIENTS))
    counters = single.stop()
    assert counters["complete"] == counters["requests"] == len(CLIENTS)
    assert counters["descriptors"] == 0


@requires(*PROGRAMS)
def test_many_machines_behind_one_address_load_at_once(segment: Segment, single: Server, tmp_path: Path) -> None:
    inside = Inside(segment, 4)
    with ExitStack() as cleanup:
        processes = []
        for number, machine in enumerate(inside.machines):
            for client in ("curl-1428", "busybox", "atftp-windows"):
                log = cleanup.enter_context((tmp_path / f"{client}{number}.log").open("w"))
                argv = asked(client, tmp_path / f"{client}{number}", SERVICE)
                processes.append(machine.popen(*argv, stdout=log, stderr=log))
        assert [process.wait(300) for process in processes] == [0] * 12
    for number in range(4):
        for client in ("curl-1428", "busybox", "atftp-windows"):
            assert (tmp_path / f"{client}{number}").read_bytes() == FILE
    assert all("event 10.77.0.254 " in line for line in single.lines() if line.startswith("event "))
    single.finished(12)
    assert single.stop()["complete"] == 12


@requires(*PROGRAMS)
def test_who_is_not_behind_anything_is_served_as_well(segment: Segment, single: Server, tmp_path: Path) -> None:
    segment.server.run("ip", "address", "add", "10.77.0.9/24", "dev", segment.server.interface)
    for client in CLIENTS:
        for address in (SERVER, "10.77.0.9"):
            got = tmp_path / "got"
            got.unlink(missing_ok=True)
            segment.client.run(*asked(client, got, address))
            assert got.read_bytes() == FILE, client


# Packet by packet, over loopback.


@pytest.fixture
def local(folder: Path) -> Iterator[Server]:
    with running(folder, folder.parent / "log", subprocess.Popen, 0, "single_port=1") as server:
        yield server


def seen(server: Server) -> None:
    """Wait until the server has seen all that was sent to it before, by asking in vain for a file: a miss."""
    with Peer(server) as last:
        assert last.ask("nothing") == wire.Error(wire.ErrorCode.FILE_NOT_FOUND, "file not found")


def test_every_answer_leaves_from_the_port_and_the_address_that_were_asked(local: Server) -> None:
    for name in ("core.efi", "missing", "../x"):
        with Peer(local, "127.0.0.7") as peer:
            assert peer.ask(name) is not None
            assert peer.tid == ("127.0.0.7", local.port)


def test_transfers_at_one_port_are_told_apart_by_their_clients(local: Server) -> None:
    with Peer(local) as first, Peer(local) as second:
        assert first.ask("core.efi", blksize=1024) == wire.OptionAck({"blksize": "1024"})
        assert second.ask("core.efi") == wire.Data(1, FILE[:512])
        assert first.acknowledge(0) == wire.Data(1, FILE[:1024])
        assert second.acknowledge(1) == wire.Data(2, FILE[512:1024])
        assert first.acknowledge(1) == wire.Data(2, FILE[1024:2048])
        first.tell(wire.Error(0, "enough"))
        assert second.acknowledge(2) == wire.Data(3, FILE[1024:1536])
        assert first.acknowledge(2, 0.5) is None  # its transfer is over
        seen(local)
    counters = local.stop()
    assert (counters["aborted"], counters["strays"], counters["descriptors"]) == (1, 1, 1)


def test_a_client_that_asks_anew_from_its_port_gets_a_new_transfer(local: Server, folder: Path) -> None:
    (folder / "other").write_bytes(b"other")
    with Peer(local) as peer:
        assert peer.ask("core.efi") == wire.Data(1, FILE[:512])
        assert peer.ask("other") == wire.Data(1, b"other")
        peer.tell(wire.Ack(1))
        assert local.said("got 'other'")
        assert peer.acknowledge(1, 0.5) is None
        seen(local)
    counters = local.stop()
    assert counters.pop("bytes") == 5 or counters["resent"]  # when this process was away
    del counters["resent"]
    assert counters == {"complete": 1, "requests": 3, "strays": 1, "misses": 1, "descriptors": 0}


def test_what_belongs_to_no_transfer_is_never_answered(local: Server) -> None:
    with Peer(local) as peer:
        for stray in (b"\0\4\0\1", b"\0\3\0\1x", b"\0\5\0\1x\0", b"\0\6a\0b\0", b"\0\4\0\0", b"\0\4", b""):
            peer.sock.sendto(stray, peer.well_known)
        assert peer.hear(0.5) is None
        seen(local)
    assert local.stop() == {"malformed": 2, "strays": 5, "misses": 1, "requests": 1, "descriptors": 0}


def test_a_client_that_sends_nonsense_within_its_transfer_disturbs_nothing(local: Server) -> None:
    with Peer(local) as peer:
        assert peer.ask("core.efi") == wire.Data(1, FILE[:512])
        for nonsense in (b"", b"\0", b"\0\4", b"\xff" * 100, b"\0\6blksize\x008\0", b"\0\3\0\1x"):
            peer.sock.sendto(nonsense, peer.well_known)
        assert peer.acknowledge(1) == wire.Data(2, FILE[512:1024])
