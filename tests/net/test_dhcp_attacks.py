"""The whole daemon under attack from its own segment (A-01 to A-12): hostile frames, made-up machines, storms."""

import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from dhcp import journal
from dhcp.leases import State
from dhcp.options import MessageType
from pxeboot.image.store import SQUASHFS
from tests.net.test_tftp_faults import mounted
from tests.support.dhcp_clients import message, recorded
from tests.support.segment import Segment, lacking, requires
from tests.support.served import MAC, SERVER, Daemon, Prepared, get_lease, http, make_grub, node, status_json
from tests.support.waiting import until

pytestmark = pytest.mark.net

MADE_UP = 100_000
POOL = 1000
SUBNET = {"subnet": "10.77.0.0/16", "pool": "10.77.8.0-10.77.11.231", "unknown": "workers"}
OTHER = "02:00:00:00:00:98"
HOSTILE_XID = 0xBAD

AGAINST = """\
import json, select, socket, sys, time
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("eth0", 0))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
udp.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
udp.bind(("0.0.0.0", 68))
honest, rounds = json.loads(sys.stdin.read())
honest, took, others = bytes.fromhex(honest), [], []
for n, frames in enumerate(rounds):
    for frame in frames:
        raw.send(bytes.fromhex(frame))
    xid = (n + 1).to_bytes(4, "big")
    began = time.monotonic()
    udp.sendto(honest[:4] + xid + honest[8:], ("255.255.255.255", 67))
    while (left := began + 5 - time.monotonic()) > 0:
        if not select.select([udp], [], [], left)[0]:
            break
        data = udp.recv(4096)
        if data[4:8] == xid:
            break
        if data[4:8] == bytes.fromhex("00000bad"):
            others.append(n)
    took.append(time.monotonic() - began)
print(json.dumps([took, others]))
"""
"""Sends the frames of a round, then an honest DHCPDISCOVER; tells how long its answer took, and which rounds' frames
were answered."""


@dataclass
class Attacked:
    """A daemon, the segment that it serves, and where its files are."""

    daemon: Daemon
    segment: Segment
    leases: Path
    control: Path

    def against(self, rounds: list[list[str]]) -> tuple[list[float], set[int]]:
        """Send each round's frames and an honest message after it."""
        honest = recorded("D-OVMF-PXE", MAC, flags=0x8000).encode().hex()
        text = json.dumps([honest, rounds])
        took, answered = json.loads(
            self.segment.client.run(sys.executable, "-c", AGAINST, text_in=text, timeout=900).stdout
        )
        return took, set(answered)

    def memory_kb(self) -> int:
        """How much memory the daemon has in use."""
        status = Path(f"/proc/{self.daemon.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", status)
        assert found
        return int(found[1])

    def stored(self) -> dict[IPv4Address, tuple[str, State]]:
        """What the lease file says."""
        found = journal.read(self.leases.read_bytes(), self.leases)
        return {lease.address: (lease.mac, lease.state) for lease in found.leases}


@pytest.fixture(scope="module")
def grub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GRUB's images, made once."""
    if not all(map(shutil.which, ("grub-mknetdir", "ip"))) or os.geteuid() != 0:
        lacking("needs root, ip and grub-mknetdir")
    return make_grub(tmp_path_factory.mktemp("grub"))


@pytest.fixture
def prepared(grub: Path, tmp_path: Path) -> Prepared:
    """Everything for a daemon with a pool of a thousand addresses."""
    return Prepared(tmp_path, grub, dhcp={"subnets": [SUBNET], "probe": False})


@pytest.fixture
def attacked(prepared: Prepared, tmp_path: Path) -> Iterator[Attacked]:
    """That daemon."""
    with Segment("10.77.0.1/16") as segment:
        daemon = Daemon(segment.server, tmp_path, "-c", str(prepared.configuration))
        [leases] = [path for path in (tmp_path / "state").rglob("*leases*") if path.suffix != ".lock"]
        yield Attacked(daemon, segment, leases, prepared.control)
        assert daemon.process.poll() is None, daemon.log
        daemon.stop()
        log = daemon.log
        assert "Traceback" not in log
        assert len(log.splitlines()) < 200, "what anybody can cause is said once a minute"


def is_prompt(took: list[float]) -> bool:
    """Whether honest machines were answered in a second, but for one or two that a busy host kept waiting."""
    return sum(seconds >= 1 for seconds in took) <= max(1, len(took) // 20)


def frame(data: bytes, source: str = "0.0.0.0", **fields: Any) -> str:
    """A broadcast frame with a datagram, some fields of its headers other than they should be."""
    ip = {key: value for key, value in fields.items() if key in ("flags", "frag", "len", "chksum")}
    udp = {key.removeprefix("udp_"): value for key, value in fields.items() if key.startswith("udp_")}
    # A UDP checksum of 0 says that there is none.
    packet = IP(src=source, dst="255.255.255.255", **ip) / UDP(sport=68, dport=67, **udp) / Raw(data)
    return (b"\xff" * 6 + bytes.fromhex("020000000099") + b"\x08\x00" + bytes(packet)).hex()


def ask(kind: MessageType | None = MessageType.DHCPDISCOVER, mac: str = OTHER, **fields: Any) -> bytes:
    """A message whose answers are told from those to honest machines."""
    return message(kind, mac, xid=HOSTILE_XID, flags=0x8000, **fields).encode()


def changed(at: int, value: int) -> bytes:
    data = bytearray(ask())
    data[at] = value
    return bytes(data)


def address(text: str) -> IPv4Address:
    return IPv4Address(text)


SILENT = {
    "A-01 op 2": frame(changed(0, 2)),
    "A-01 op 7": frame(changed(0, 7)),
    "A-01 no cookie": frame(changed(236, 0)),
    "A-01 cut": frame(ask()[:200]),
    "A-01 empty": frame(b""),
    "A-01 no 53": frame(ask(None)),
    **{f"A-01 53 of {kind}": frame(ask(None, options={53: bytes.fromhex(kind)})) for kind in ("", "0101", "00", "63")},
    **{f"A-02 hlen {n}": frame(changed(2, n)) for n in (0, 17, 255)},
    **{
        f"A-02 chaddr {mac}": frame(ask(mac=mac))
        for mac in ("00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:09")
    },
    **{
        f"A-07 giaddr {giaddr}": frame(ask(giaddr=address(giaddr)))
        for giaddr in ("127.0.0.1", "224.0.0.1", "255.255.255.255", SERVER, "10.77.255.255", "192.0.2.1")
    },
    **{
        f"A-08 INFORM {ciaddr}": frame(ask(MessageType.DHCPINFORM, ciaddr=address(ciaddr)))
        for ciaddr in ("0.0.0.0", "224.0.0.9", "255.255.255.255", "127.0.0.1", "10.77.255.255", SERVER)
    },
    **{
        f"A-09 from {source}": frame(ask(), source)
        for source in (SERVER, "10.77.255.255", "255.255.255.255", "224.0.0.1", "127.0.0.1")
    },
    "A-09 UDP length": frame(ask(), udp_len=2000),
    "A-09 UDP checksum": frame(ask(), udp_chksum=0x1234),
    "A-09 IP checksum": frame(ask(), chksum=0x1234),
    "A-09 first fragment": frame(ask(), flags="MF"),
    "A-09 a later fragment": frame(ask(), frag=20),
    **{f"A-15 type {kind}": frame(ask(None, options={53: bytes((kind,))})) for kind in (9, 10, 11, 13)},
}
ODD = {
    "A-03 past the end": frame(ask()[:240] + bytes.fromhex("3501010cff") + b"short"),
    "A-03 pads": frame(ask()[:240] + bytes(1000) + bytes.fromhex("350101ff")),
    "A-03 lengths": frame(ask(options={50: b"\1", 51: b"", 55: b"", 57: b"\1\2\3", 61: b"\xff" * 255})),
    "A-04 names": frame(ask(options={12: b"a\n$(reboot)\0../..", 60: b"\x1b[2J\n", 81: b"\1\0\0" + b"\n" * 80})),
    "A-05": frame(
        ask(MessageType.DHCPREQUEST, ciaddr=address("192.0.2.9"), options={12: b"", 55: b"\xff"}), "192.0.2.9"
    ),
    "A-06 82": frame(ask(options={82: b"\1\xff" + b"x" * 253})),
    "A-06 82 of a relay": frame(ask(giaddr=address("10.77.0.99"), options={82: b"\5\4\x0a"})),
}


def test_after_each_hostile_frame_the_next_machine_is_answered_within_a_second(attacked: Attacked) -> None:
    rounds = {**SILENT, **ODD}
    took, answered = attacked.against([[each] for each in rounds.values()])
    names = list(rounds)
    late = [name for name, seconds in zip(names, took, strict=True) if seconds > 1]
    for _ in range(5):  # the machine that this runs on may have been busy
        if late:
            took, _ = attacked.against([[rounds[name]] for name in late])
            late = [name for name, seconds in zip(late, took, strict=True) if seconds > 1]
    assert not late
    assert {names[n] for n in answered} & set(SILENT) == set()


def test_made_up_machines_exhaust_the_pool_and_listed_ones_are_served_at_once(attacked: Attacked) -> None:
    rng = random.Random(11)
    before, after = frame(ask(), udp_chksum=0).split(OTHER.replace(":", ""))
    frames = [f"{before}02{rng.randbytes(5).hex()}{after}" for _ in range(MADE_UP)]
    rounds = [frames[n : n + 250] for n in range(0, len(frames), 250)]
    warm = 4 * POOL // 250
    first, answered = attacked.against(rounds[:warm])
    assert answered, "there were addresses at first"
    in_use = attacked.memory_kb()
    assert in_use > 10_000, "it is the daemon's"
    began = time.monotonic()
    took, answered = attacked.against(rounds[warm:])
    sent = MADE_UP - 250 * warm
    grown = attacked.memory_kb() - in_use
    rate = sent / (time.monotonic() - began)
    print(f"{sent} made-up machines, {rate:.0f} a second: {in_use} kB and {grown} more; answered in {max(took):.3f} s")
    assert is_prompt([*first, *took])
    assert grown < 1024 + 5120 * sent / 100_000
    assert "no address left in the pools of 10.77.0.0/16" in attacked.daemon.log
    refused = status_json(attacked.control)["dhcp"]["not_answered"]["POOL_EMPTY"]
    assert refused > 0.9 * sent, "they reached it, and did not overflow its socket"


@requires("busybox")
def test_what_others_forge_takes_no_lease_away(attacked: Attacked) -> None:
    client = attacked.segment.host(mac="02:00:00:00:00:77")
    held = IPv4Address(get_lease(client))
    own, listed = address(SERVER).packed, address("10.77.0.10")
    forged = [
        ask(MessageType.DHCPRELEASE, ciaddr=held, options={54: own}),
        ask(MessageType.DHCPRELEASE, ciaddr=held, options={54: own, 61: b"\1\2\0\0\0\0\x77"}),
        ask(MessageType.DHCPDECLINE, options={50: held.packed, 54: own}),
        ask(MessageType.DHCPDECLINE, MAC, options={50: listed.packed, 54: own}),
        ask(MessageType.DHCPRELEASE, ciaddr=listed, options={54: own}),
    ]
    took, _ = attacked.against([[frame(each) for each in forged]] * 5)
    assert is_prompt(took)
    assert attacked.stored() == {held: ("02:00:00:00:00:77", State.BOUND)}
    assert IPv4Address(get_lease(client)) == held
    assert get_lease(attacked.segment.host(mac=MAC)) == str(listed)


@requires("busybox")
def test_a_storm_of_requests_and_releases_writes_little_and_delays_nobody(attacked: Attacked) -> None:
    client = attacked.segment.host(mac=OTHER)
    held = IPv4Address(get_lease(client))
    cycle = [
        frame(ask(MessageType.DHCPRELEASE, ciaddr=held, options={54: address(SERVER).packed})),
        frame(ask(MessageType.DHCPREQUEST, options={50: held.packed})),
    ]
    took, _ = attacked.against([cycle * 20] * 150)
    assert is_prompt(took)
    assert statistics.median(took) < 0.5
    assert attacked.leases.stat().st_size < 200_000, "6,000 records of one address, most of them out of date"
    assert list(attacked.stored()) == [held]


CONNECT = """\
import socket, sys
held = []
for n in range(400):
    for port in (80, 10809):
        held.append(socket.socket())
        held[-1].setblocking(False)
        held[-1].connect_ex(("10.77.0.1", port))
print("connected", flush=True)
sys.stdin.read()
"""


def process_s(pid: int) -> float:
    """How long a process had a processor."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@requires("busybox", "curl")
def test_addresses_are_given_while_connections_take_every_descriptor(attacked: Attacked) -> None:
    """F-19, A-54: connections to HTTP and NBD; the limit is what is open already, and a few more."""
    client = attacked.segment.host(mac=OTHER)
    client.run("ip", "address", "replace", f"{get_lease(client)}/16", "dev", "eth0")
    pid = attacked.daemon.process.pid
    opened = max(int(name) for name in os.listdir(f"/proc/{pid}/fd")) + 1
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (opened + 8, hard))
    flood = client.popen(sys.executable, "-c", CONNECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert flood.stdout is not None
    assert flood.stdin is not None
    assert flood.stdout.readline() == "connected\n"
    until(lambda: len(os.listdir(f"/proc/{pid}/fd")) >= opened + 8, "there is no descriptor left")
    asking = socket.socket(socket.AF_UNIX)
    asking.connect(str(attacked.control))
    before = process_s(pid)
    time.sleep(1)
    assert process_s(pid) - before < 0.5, "it does not spin"
    took, _ = attacked.against([[]] * 50)
    assert is_prompt(took)
    print(f"answered in {statistics.median(took) * 1e3:.1f} ms, {max(took) * 1e3:.1f} ms at most")
    held = IPv4Address(get_lease(attacked.segment.host(mac="02:00:00:00:00:77")))
    assert attacked.stored()[held] == ("02:00:00:00:00:77", State.BOUND)
    flood.stdin.close()
    flood.wait()
    asking.close()
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
    until(lambda: http(client, "grub/grub.cfg")[0] == 200, "it serves files again")


@pytest.fixture
def hanging(prepared: Prepared, tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """The disk of the image's root, before there is a daemon: a process that can be stopped."""
    root = prepared.image.folder / SQUASHFS
    shutil.copy(root, tmp_path / "disk")
    with mounted(tmp_path / "disk", root) as disk:
        yield disk


@requires("busybox", "curl", "nbdfuse", "nbdkit", "umount")
def test_addresses_are_given_while_the_disk_of_the_images_hangs(
    hanging: "subprocess.Popen[bytes]", prepared: Prepared, attacked: Attacked
) -> None:
    """F-17: forty downloads of an image wait for its disk; leases, GRUB and a local boot need nothing of it."""
    clients = [attacked.segment.host(mac=mac) for mac in (MAC, "02:00:00:00:00:71", "02:00:00:00:00:72")]
    for client in clients:
        client.run("ip", "address", "replace", f"{get_lease(client)}/16", "dev", "eth0")
    listed, *others = clients
    assert node(prepared.control, "m1", "boot=local").returncode == 0
    root = f"images/{prepared.image.image_id}/{SQUASHFS}"
    assert http(others[0], root)[0] == 200
    hanging.send_signal(signal.SIGSTOP)
    try:
        url = f"http://{SERVER}/{root}"
        waiting = [client.popen("curl", "-s", "-o", "/dev/null", url) for client in others * 20]
        time.sleep(1)
        took, _ = attacked.against([[]] * 50)
        print(f"answered in {statistics.median(took) * 1e3:.1f} ms, {max(took) * 1e3:.1f} ms at most")
        assert is_prompt(took)
        assert statistics.median(took) < 0.1
        held = IPv4Address(get_lease(attacked.segment.host(mac="02:00:00:00:00:77")))
        assert attacked.stored()[held] == ("02:00:00:00:00:77", State.BOUND)
        assert http(listed, "grub/x86_64-efi/core.efi")[0] == 200
        assert b"intent/no-disk" in http(listed, "grub/grub.cfg")[1], "it goes on with its own disk"
        assert all(curl.poll() is None for curl in waiting), "the disk does not answer yet"
    finally:
        hanging.send_signal(signal.SIGCONT)
    assert [curl.wait(30) for curl in waiting] == [0] * 40


@requires("busybox", "curl", "nbdfuse", "nbdkit", "umount")
def test_a_daemon_ends_while_the_disk_of_the_images_hangs(
    hanging: "subprocess.Popen[bytes]", prepared: Prepared, tmp_path: Path
) -> None:
    """F-17, F-18: it cannot call back what waits for the disk."""
    with Segment("10.77.0.1/16") as segment:
        daemon = Daemon(segment.server, tmp_path, "-c", str(prepared.configuration))
        client = segment.host(mac=MAC)
        client.run("ip", "address", "replace", f"{get_lease(client)}/16", "dev", "eth0")
        hanging.send_signal(signal.SIGSTOP)
        try:
            url = f"http://{SERVER}/images/{prepared.image.image_id}/{SQUASHFS}"
            waiting = [client.popen("curl", "-s", "-o", "/dev/null", url) for _ in range(20)]
            time.sleep(1)
            began = time.monotonic()
            daemon.process.terminate()
            assert daemon.process.wait(30) == 0
            print(f"ended after {time.monotonic() - began:.1f} s")
        finally:
            hanging.send_signal(signal.SIGCONT)
            daemon.stop()
        assert all(curl.wait(30) for curl in waiting)
