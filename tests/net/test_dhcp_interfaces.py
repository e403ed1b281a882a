"""Interfaces that come, go, change address or are several at once, under the whole daemon with real clients."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from dhcp import wire
from dhcp.options import MessageType
from tests.support.dhcp_clients import message
from tests.support.segment import Host, Segment, lacking, requires
from tests.support.served import UDHCPC, Daemon, Prepared, make_grub
from tests.support.wires import add_vlan, bring_up, second_wire

pytestmark = pytest.mark.net

PROMPT_S = 12.0
"""How soon we are to serve what appeared or changed: at once, and a busy machine may stand still for a while. Who
hears nothing of the kernel and only looks every 15 s (`pxeboot.links.LOOK_ANYWAY_S`) is too late in most tests."""
SUBNETS = [
    {"subnet": "10.77.0.0/24", "pool": "10.77.0.200-10.77.0.220", "unknown": "workers"},
    {"subnet": "10.78.0.0/24", "pool": "10.78.0.200-10.78.0.220", "unknown": "workers"},
]
SAID = '#!/bin/sh\n[ "$1" = bound ] && echo "ip=$ip server=$serverid next=$siaddr"\n'
HOLD = """\
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.bind(("0.0.0.0", 67))
print("bound", flush=True)
sys.stdin.read()
"""

ASK = """\
import json, socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
sock.bind(("0.0.0.0", 68))
sock.settimeout(60)
*_, last = asks = [bytes.fromhex(ask) for ask in json.loads(sys.argv[2])]
for ask in asks:
    sock.sendto(ask, (sys.argv[1], 67))
answers = [b""]
while answers[-1][4:8] != last[4:8]:
    answers.append(sock.recv(4096))
print(json.dumps([answer.hex() for answer in answers[1:]]))
"""
"""Sends messages, and tells what came until the last was answered: who is answered in vain before has no answer."""


@pytest.fixture(scope="module")
def grub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GRUB's images, made once."""
    if not all(map(shutil.which, ("grub-mknetdir", "ip"))) or os.geteuid() != 0:
        lacking("needs root, ip and grub-mknetdir")
    return make_grub(tmp_path_factory.mktemp("grub"))


@pytest.fixture
def start(segment: Segment, grub: Path, tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Start the daemon on interfaces of the segment's server."""
    daemons = []

    def start(*interfaces: str, **more: Any) -> Daemon:
        server = {
            "interfaces": [*interfaces],
            "state": str(tmp_path / "state"),
            "control": str(tmp_path / "control.sock"),
        }
        prepared = Prepared(tmp_path, grub, server=server, **({"dhcp": {"subnets": SUBNETS}} | more))
        daemons.append(Daemon(segment.server, tmp_path, "-c", str(prepared.configuration)))
        return daemons[-1]

    yield start
    for daemon in daemons:
        assert daemon.process.poll() is None, daemon.log
        daemon.stop()
        assert "Traceback" not in daemon.log, daemon.log


def ask(host: Host, folder: Path, interface: str = "eth0") -> dict[str, str]:
    """Let udhcpc get a lease; return its address, option 54 and siaddr by `ip`, `server` and `next`."""
    script = folder / "said.sh"
    script.write_text(SAID)
    script.chmod(0o755)
    argv = ["busybox", "udhcpc", "-f", "-n", "-q", "-t", "60", "-T", "1", "-i", interface, "-s", str(script)]
    done = host.run(*argv, check=False)
    found = re.search(r"ip=(\S*) server=(\S*) next=(\S*)", done.stdout)
    assert found, done.stdout + done.stderr
    return dict(zip(("ip", "server", "next"), found.groups(), strict=True))


def wait_for(daemon: Daemon, text: str, *, times: int = 1, within_s: float = PROMPT_S) -> None:
    """Wait until the log has `text` so often."""
    deadline = time.monotonic() + within_s
    while daemon.log.count(text) < times:
        assert time.monotonic() < deadline, f"no {text!r} in:\n{daemon.log}"
        time.sleep(0.02)


def cpu_s(daemon: Daemon) -> float:
    """The processor time that the daemon has used."""
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def fetch(host: Host, *argv: str) -> str:
    """Return what curl fetches."""
    return host.run("curl", "-s", "-f", "-m", "60", *argv).stdout


@requires("busybox", "curl")
def test_it_starts_before_its_interface_exists_and_serves_it_when_it_does(
    segment: Segment, start: Callable[..., Daemon], tmp_path: Path
) -> None:
    daemon = start("eth2")
    assert "READY=1" in daemon.first_word
    assert daemon.log.count("waiting for eth2: there is no such interface") == 1
    assert "on no interface yet" in daemon.log
    client = second_wire(segment)
    wait_for(daemon, "waiting for eth2: it has no IPv4 address")
    segment.server.run("ip", "address", "add", "10.78.0.1/24", "dev", "eth2")
    wait_for(daemon, "waiting for eth2: it is down")
    segment.server.run("ip", "link", "set", "eth2", "up")
    wait_for(daemon, "dhcp serves 10.78.0.1 on eth2")
    said = ask(client, tmp_path)
    assert said["ip"].startswith("10.78.0.2")
    assert (said["server"], said["next"]) == ("10.78.0.1", "10.78.0.1")
    client.run("ip", "address", "add", f"{said['ip']}/24", "dev", "eth0")
    assert "10.78.0.1" in fetch(client, "http://10.78.0.1/grub/grub.cfg")
    assert "10.78.0.1" in fetch(client, "--tftp-blksize", "1428", "tftp://10.78.0.1/grub/grub.cfg")


@requires("busybox", "curl")
def test_an_interface_that_is_deleted_and_made_again_is_served_again_and_no_other_notices(
    segment: Segment, start: Callable[..., Daemon], tmp_path: Path
) -> None:
    client = second_wire(segment)
    bring_up(segment.server, "eth2", "10.78.0.1/24")
    daemon = start("eth1", "eth2")
    assert "on eth1, eth2" in daemon.log
    assert ask(client, tmp_path)["ip"].startswith("10.78.0.2")
    other = segment.client
    address = ask(other, tmp_path)["ip"]
    other.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
    slow = other.popen(
        *("curl", "-s", "-f", "--limit-rate", "10k", "http://10.77.0.1/grub/x86_64-efi/core.efi"),
        *("--max-filesize", "10000000", "-r", "0-49999"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    for times in (1, 2):
        segment.server.run("ip", "link", "delete", "eth2")
        wait_for(daemon, "eth2 is gone", times=times)
        second_wire(segment, client=client)
        bring_up(segment.server, "eth2", "10.78.0.1/24")
        wait_for(daemon, "dhcp serves 10.78.0.1 on eth2", times=times + 1)
        assert ask(client, tmp_path)["ip"].startswith("10.78.0.2")
    slow.communicate(timeout=90)
    assert slow.returncode == 0, "the other interface's download went on"


@requires("busybox")
def test_an_interface_that_is_renamed_is_left_and_found_again(
    segment: Segment, start: Callable[..., Daemon], tmp_path: Path
) -> None:
    client = second_wire(segment)
    bring_up(segment.server, "eth2", "10.78.0.1/24")
    daemon = start("eth2")
    segment.server.run("ip", "link", "set", "eth2", "down")
    segment.server.run("ip", "link", "set", "eth2", "name", "other")
    wait_for(daemon, "eth2 is gone")
    segment.server.run("ip", "link", "set", "other", "name", "eth2")
    segment.server.run("ip", "link", "set", "eth2", "up")
    wait_for(daemon, "dhcp serves 10.78.0.1 on eth2", times=2)
    assert ask(client, tmp_path)["server"] == "10.78.0.1"
    segment.server.run("ip", "link", "set", "eth2", "down")
    segment.server.run("ip", "link", "set", "eth2", "name", "other")
    wait_for(daemon, "eth2 is gone", times=2)
    segment.server.run("ip", "link", "set", "other", "up")
    assert "no lease" in client.run(*UDHCPC[:6], "2", "-T", "1", "-i", "eth0", check=False).stderr


@requires("busybox")
def test_an_interface_that_is_renamed_before_anybody_looks_is_served_under_its_new_name(
    segment: Segment, start: Callable[..., Daemon], tmp_path: Path
) -> None:
    """Its ports are ours until the old sockets are closed, which the new name cannot wait for."""
    client = second_wire(segment)
    bring_up(segment.server, "eth2", "10.78.0.1/24")
    daemon = start("eth*", "lan*")
    wait_for(daemon, "dhcp serves 10.78.0.1 on eth2")
    client.run("ip", "link", "set", "eth0", "down")  # or a carrier that comes later is another reason to look
    time.sleep(0.5)
    at_once = "link set eth2 down\nlink set eth2 name lan2\nlink set lan2 up\n"
    segment.server.run("ip", "-batch", "-", text_in=at_once)
    wait_for(daemon, "dhcp serves 10.78.0.1 on lan2")
    client.run("ip", "link", "set", "eth0", "up")
    assert ask(client, tmp_path)["server"] == "10.78.0.1"


@requires("busybox")
def test_an_interface_that_is_down_costs_nothing_and_comes_back(
    segment: Segment, start: Callable[..., Daemon], tmp_path: Path
) -> None:
    daemon = start("eth1")
    first = ask(segment.client, tmp_path)
    segment.server.run("ip", "link", "set", "eth1", "down")
    wait_for(daemon, "waiting for eth1: it is down")
    before = cpu_s(daemon)
    time.sleep(1.5)
    assert cpu_s(daemon) - before < 0.3
    segment.server.run("ip", "link", "set", "eth1", "up")
    assert ask(segment.client, tmp_path) == first
    segment.bridge.run("ip", "link", "set", "port-s", "down")
    segment.bridge.run("ip", "link", "set", "port-s", "up")
    assert ask(segment.client, tmp_path) == first
    assert "eth1 is gone" not in daemon.log


@requires("busybox", "curl")
def test_an_address_that_changes_is_told_to_machines_at_once(
    segment: Segment, start: Callable[..., Daemon], tmp_path: Path
) -> None:
    daemon = start("eth1")
    client = segment.client
    assert ask(client, tmp_path)["server"] == "10.77.0.1"
    segment.server.run("ip", "address", "add", "10.77.0.9/24", "dev", "eth1")
    segment.server.run("ip", "address", "delete", "10.77.0.1/24", "dev", "eth1")
    # The kernel takes the secondary addresses of a network away with its primary one.
    segment.server.run("ip", "address", "replace", "10.77.0.9/24", "dev", "eth1")
    wait_for(daemon, "dhcp serves 10.77.0.9 on eth1")
    said = ask(client, tmp_path)
    assert (said["server"], said["next"]) == ("10.77.0.9", "10.77.0.9")
    client.run("ip", "address", "add", f"{said['ip']}/24", "dev", "eth0")
    assert "10.77.0.9" in fetch(client, "http://10.77.0.9/grub/grub.cfg")
    segment.server.run("ip", "address", "flush", "dev", "eth1")
    wait_for(daemon, "waiting for eth1: it has no IPv4 address")
    segment.server.run("ip", "address", "add", "10.77.0.7/24", "dev", "eth1")
    wait_for(daemon, "dhcp serves 10.77.0.7 on eth1")
    assert ask(client, tmp_path)["server"] == "10.77.0.7"


class Machine:
    """One that asks what each client asks in its life, from a host that may have its address."""

    def __init__(self, host: Host, mac: str) -> None:
        self.host, self.mac = host, mac
        self._xid = 0

    def asks(
        self,
        kind: MessageType,
        *,
        ciaddr: IPv4Address = wire.NO_ADDRESS,
        requested: IPv4Address | None = None,
        server: str | None = None,
    ) -> wire.Message:
        """Return a message; options 50 and 54 as given."""
        self._xid += 1
        named = {50: requested, 54: server and IPv4Address(server)}
        options = {code: value.packed for code, value in named.items() if value}
        flags = 0 if int(ciaddr) else 0x8000
        return message(kind, self.mac, xid=self._xid, flags=flags, ciaddr=ciaddr, options=options)

    def told(self, *asks: wire.Message, to: str = "255.255.255.255") -> tuple[MessageType, IPv4Address, str]:
        """Return the answer to the last, its address and option 54; none of the others may have one."""
        said = self.host.run(sys.executable, "-c", ASK, to, json.dumps([ask.encode().hex() for ask in asks])).stdout
        [answer] = map(wire.decode, map(bytes.fromhex, json.loads(said)))
        return MessageType(answer.options[53][0]), answer.yiaddr, str(IPv4Address(answer.options[54]))


def test_who_has_a_lease_or_an_offer_of_the_old_address_is_answered_from_the_new_one(
    segment: Segment, start: Callable[..., Daemon]
) -> None:
    """RFC 2131 section 4.3.2: who chooses a server that is no more goes on to ask everybody; a lease goes on."""
    daemon = start("eth1")
    old, new = "10.77.0.1", "10.77.0.9"
    holder, chooser = (Machine(segment.client, f"02:00:00:00:00:0{n}") for n in (1, 2))
    discover, request = MessageType.DHCPDISCOVER, MessageType.DHCPREQUEST
    offer, ack, nak = MessageType.DHCPOFFER, MessageType.DHCPACK, MessageType.DHCPNAK
    _, held, _ = holder.told(holder.asks(discover))
    assert holder.told(holder.asks(request, requested=held, server=old)) == (ack, held, old)
    offered = chooser.told(chooser.asks(discover))
    assert (offered[0], offered[2]) == (offer, old)
    segment.server.run("ip", "address", "flush", "dev", "eth1")
    segment.server.run("ip", "address", "add", f"{new}/24", "brd", "+", "dev", "eth1")
    wait_for(daemon, f"dhcp serves {new} on eth1")
    segment.client.run("ip", "address", "add", f"{held}/24", "dev", "eth0")
    assert holder.told(holder.asks(request, ciaddr=held), to=new) == (ack, held, new), "renewing"
    assert holder.told(holder.asks(request, ciaddr=held)) == (ack, held, new), "rebinding"
    # Some clients name their server then, too, which they must not.
    for to in (new, "255.255.255.255"):
        assert holder.told(holder.asks(request, ciaddr=held, server=old), to=to) == (ack, held, new)
    stray = chooser.asks(request, ciaddr=held)
    assert chooser.told(stray) == (nak, wire.NO_ADDRESS, new), "rebinding what is another's"
    chosen = chooser.asks(request, requested=offered[1], server=old)
    again = chooser.told(chosen, chooser.asks(discover))
    assert (again[0], again[2]) == (offer, new), "no word to who chose the old one, until he begins again"
    assert chooser.told(chooser.asks(request, requested=again[1], server=new)) == (ack, again[1], new)


@requires("busybox")
def test_two_interfaces_have_their_own_networks_and_addresses(
    segment: Segment, start: Callable[..., Daemon], tmp_path: Path
) -> None:
    second = second_wire(segment)
    bring_up(segment.server, "eth2", "10.78.0.1/24")
    start("eth1", "eth2")
    one, two = ask(segment.client, tmp_path), ask(second, tmp_path)
    assert one["ip"].startswith("10.77.0.2")
    assert two["ip"].startswith("10.78.0.2")
    assert (one["server"], one["next"]) == ("10.77.0.1", "10.77.0.1")
    assert (two["server"], two["next"]) == ("10.78.0.1", "10.78.0.1")


@requires("busybox")
def test_an_interface_that_is_not_served_gets_no_answer(
    segment: Segment, start: Callable[..., Daemon], tmp_path: Path
) -> None:
    second = second_wire(segment)
    bring_up(segment.server, "eth2", "10.78.0.1/24")
    start("eth1")
    assert "no lease" in second.run(*UDHCPC[:6], "2", "-T", "1", "-i", "eth0", check=False).stderr
    assert ask(segment.client, tmp_path)["ip"]


@requires("busybox")
def test_a_vlan_is_an_interface_of_its_own(segment: Segment, start: Callable[..., Daemon], tmp_path: Path) -> None:
    vlan = add_vlan(segment.server, "eth1", 100, tmp_path)
    bring_up(segment.server, vlan, "10.78.0.1/24")
    daemon = start("eth1", vlan)
    assert f"on eth1, {vlan}" in daemon.log
    inside = add_vlan(segment.client, "eth0", 100, tmp_path)
    tagged, plain = ask(segment.client, tmp_path, inside), ask(segment.client, tmp_path)
    assert (tagged["ip"][:9], tagged["server"]) == ("10.78.0.2", "10.78.0.1")
    assert (plain["ip"][:9], plain["server"]) == ("10.77.0.2", "10.77.0.1")


@requires("busybox")
def test_a_bridge_is_served_through_its_ports(segment: Segment, start: Callable[..., Daemon], tmp_path: Path) -> None:
    one, two = second_wire(segment, "port1"), second_wire(segment, "port2")
    server = segment.server
    server.run("ip", "link", "add", "br7", "type", "bridge", "stp_state", "0", "forward_delay", "0")
    for port in ("port1", "port2"):
        server.run("ip", "link", "set", port, "master", "br7", "up")
    bring_up(server, "br7", "10.78.0.1/24")
    daemon = start("br7", "port1")
    assert "waiting for port1: it has no IPv4 address" in daemon.log
    said = [ask(host, tmp_path) for host in (one, two)]
    assert {s["server"] for s in said} == {"10.78.0.1"}
    assert len({s["ip"] for s in said}) == 2


@requires("busybox")
def test_a_pattern_stands_for_interfaces_that_appear_later(
    segment: Segment, start: Callable[..., Daemon], tmp_path: Path
) -> None:
    daemon = start("eth*", "lan*")
    assert "waiting for lan*: no interface with an IPv4 address has such a name" in daemon.log
    second = second_wire(segment, "eth77")
    bring_up(segment.server, "eth77", "10.78.0.1/24")
    wait_for(daemon, "dhcp serves 10.78.0.1 on eth77")
    assert ask(second, tmp_path)["server"] == "10.78.0.1"
    assert ask(segment.client, tmp_path)["server"] == "10.77.0.1"


@requires("busybox")
def test_a_port_that_is_taken_when_an_interface_comes_back_is_tried_again(
    segment: Segment, start: Callable[..., Daemon], tmp_path: Path
) -> None:
    daemon = start("eth2")
    other = segment.server.popen(
        sys.executable, "-c", HOLD, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert other.stdout is not None
    assert other.stdin is not None
    assert other.stdout.readline() == "bound\n"
    client = second_wire(segment)
    bring_up(segment.server, "eth2", "10.78.0.1/24")
    wait_for(
        daemon, "eth2 cannot be served, and is tried again: cannot serve DHCP: UDP port 67 on eth2: another program"
    )
    other.stdin.close()
    other.wait(60)
    wait_for(daemon, "dhcp serves 10.78.0.1 on eth2", within_s=60)
    assert ask(client, tmp_path)["server"] == "10.78.0.1"


@requires("busybox")
def test_with_netlink_forbidden_it_looks_every_second(
    segment: Segment, start: Callable[..., Daemon], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A module of this name is found first, and lets pyroute2's import fail as a missing or broken one would.
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/pyroute2.py").write_text("raise OSError(97, 'Address family not supported by protocol')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    daemon = start("eth2")
    wait_for(daemon, "no netlink, so interfaces are looked at every second: [Errno 97]")
    client = second_wire(segment)
    bring_up(segment.server, "eth2", "10.78.0.1/24")
    wait_for(daemon, "dhcp serves 10.78.0.1 on eth2")
    assert ask(client, tmp_path)["server"] == "10.78.0.1"
