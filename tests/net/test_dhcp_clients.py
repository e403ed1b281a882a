"""Real DHCP clients, a relay and a crash against the real transport."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from dhcp import journal, wire
from dhcp.leases import Lease
from tests.support.dhcp_clients import FARM, KNOWN, SECOND, STRANGER, recorded
from tests.support.segment import Host, Segment, requires

pytestmark = pytest.mark.net

NOWHERE = IPv4Address("10.9.9.9")
PATIENCE_S = 90.0
UDHCPC = ["busybox", "udhcpc", "-f", "-n", "-q", "-i", "eth0", "-s", "/bin/true", "-T", "2", "-t"]
"""Obtain a lease and end; then comes how often it tries, and two seconds are between."""
PATIENTLY = "30"


class Serving:
    """`tests.support.serve_dhcp` in the segment's server."""

    def __init__(self, segment: Segment, folder: Path, leases: Path | None = None) -> None:
        self.host = segment.server
        self.log = folder / "log"
        self.leases = leases or folder / "leases"
        self._farm = folder / "farm.json"
        self._farm.write_text(json.dumps(FARM))
        self.process = self.start()

    def start(self) -> "subprocess.Popen[str]":
        """Start, and wait until it serves."""
        self.log.unlink(missing_ok=True)
        with self.log.open("w") as log:
            self.process = self.host.popen(*self.argv(), stdout=log, stderr=subprocess.STDOUT)
        self.wait_for("dhcp serves")
        return self.process

    def argv(self, interface: str = "eth1") -> list[str]:
        """The command."""
        return [sys.executable, "-m", "tests.support.serve_dhcp", interface, str(self._farm), str(self.leases)]

    def wait_for(self, text: str) -> str:
        """Return the log once it contains `text`."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            log = self.log.read_text()
            if text in log:
                return log
            time.sleep(0.05)
        pytest.fail(f"no {text!r} in:\n{self.log.read_text()}")


@pytest.fixture
def segment() -> Iterator[Segment]:
    with Segment() as segment:
        yield segment


@pytest.fixture
def serving(segment: Segment, tmp_path: Path) -> Serving:
    return Serving(segment, tmp_path)


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def udhcpc(host: Host, *more: str) -> str:
    """Return the address that busybox udhcpc obtains."""
    done = host.run(*UDHCPC, PATIENTLY, *more)
    found = re.search(r"lease of ([0-9.]+) obtained", done.stdout + done.stderr)
    assert found, done.stdout + done.stderr
    return found[1]


@requires("busybox")
@pytest.mark.parametrize("flag", [(), ("-B",)], ids=["by-link-address", "by-broadcast"])
def test_udhcpc_gets_the_address_of_its_machine(segment: Segment, serving: Serving, flag: tuple[str, ...]) -> None:
    assert udhcpc(segment.host(mac=KNOWN), *flag) == "10.77.0.10"
    assert udhcpc(segment.host(mac=SECOND), *flag) == "10.77.0.10", "whichever card asks"
    log = serving.wait_for(f"{SECOND} has 10.77.0.10")
    assert " discover " not in log, "a running system that asks begins no boot"
    assert " address " not in log, "nor is it a step of one"
    assert "Traceback" not in log


@requires("busybox", "nft")
def test_an_answer_by_broadcast_does_not_pass_where_the_kernel_drops_it(segment: Segment, serving: Serving) -> None:
    """What UDP sends is dropped here in its way out, as it is where the table of neighbours is full."""
    rules = ["table inet full {", "chain out {", "type filter hook output priority 0; policy accept;"]
    segment.server.run("nft", "-f", "-", text_in="\n".join([*rules, "udp dport 68 drop", "}", "}", ""]))
    assert udhcpc(segment.host(mac=KNOWN), "-B") == "10.77.0.10"


@requires("busybox")
def test_udhcpc_of_an_unknown_machine_gets_and_keeps_one_of_the_pool(segment: Segment, serving: Serving) -> None:
    first = udhcpc(segment.client)
    assert IPv4Address(first) in map(IPv4Address, range(int(IPv4Address("10.77.0.8")), int(IPv4Address("10.77.0.16"))))
    assert first != "10.77.0.10"
    assert udhcpc(segment.client, "-x", "0x3d:ff00112233") == first, "another client identifier is the same machine"


@requires("dhclient", "busybox")
def test_dhclient_gets_renews_and_releases(segment: Segment, serving: Serving, tmp_path: Path) -> None:
    script = tmp_path / "script"
    # The least of a dhclient-script: the address, and what came with it.
    script.write_text(
        "#!/bin/sh\n"
        'case $reason in BOUND|RENEW|REBOOT) ip address replace "$new_ip_address/24" dev eth0;; esac\n'
        f'echo "$reason $new_ip_address $new_routers $new_domain_name $new_host_name" >> {tmp_path}/said\n'
    )
    script.chmod(0o755)
    host = segment.host(mac=KNOWN)
    files = ["-sf", str(script), "-lf", str(tmp_path / "dhclient.leases"), "-pf", str(tmp_path / "pid")]
    host.run("dhclient", "-1", "-v", *files, "eth0")
    assert "BOUND 10.77.0.10 10.77.0.254 farm.example n1" in (tmp_path / "said").read_text()
    pid = tmp_path / "pid"
    wait_until(
        lambda: pid.exists() and pid.read_text().endswith("\n"), "the one in the background has written its pid"
    )
    first = int(pid.read_text())
    host.run("dhclient", "-x", *files, "eth0")
    wait_until(lambda: first not in host.pids(), "it has ended")
    host.run("dhclient", "-1", "-v", *files, "eth0")  # INIT-REBOOT: it remembers its lease
    assert "REBOOT 10.77.0.10" in (tmp_path / "said").read_text()
    host.run("dhclient", "-r", *files, "eth0")
    assert "Traceback" not in serving.wait_for("DHCPRELEASE")


@requires("busybox")
def test_a_running_udhcpc_renews_and_releases_by_unicast(segment: Segment, serving: Serving, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('#!/bin/sh\n[ "$1" = bound ] && ip address add "$ip/24" dev eth0\necho "$1 $ip"\n')
    script.chmod(0o755)
    client = segment.client
    with (tmp_path / "said").open("w") as said:
        process = client.popen("busybox", "udhcpc", "-f", "-i", "eth0", "-s", str(script), stdout=said)
    wait_until(lambda: re.search("bound .*\n", (tmp_path / "said").read_text()) is not None, "it is bound")
    os.kill(process.pid, signal.SIGUSR1)  # renew now
    wait_until(lambda: re.search("renew .*\n", (tmp_path / "said").read_text()) is not None, "it is renewed")
    bound, renewed = re.findall(r"(?:bound|renew) ([0-9.]+)", (tmp_path / "said").read_text())
    assert bound == renewed
    serving.wait_for(f"ciaddr {bound} yiaddr {bound}")
    os.kill(process.pid, signal.SIGUSR2)  # release
    serving.wait_for("DHCPRELEASE")
    wait_until(lambda: f"{bound} {client.mac} released" in serving.leases.read_text(), "it is released")
    assert udhcpc(client) == bound


@requires("busybox")
def test_a_lease_survives_a_kill(segment: Segment, serving: Serving) -> None:
    hosts = [segment.host(mac=f"02:00:00:00:01:0{n}") for n in range(3)]
    held = [udhcpc(host) for host in hosts]
    serving.process.kill()
    serving.process.wait()
    lines = serving.leases.read_text()
    assert all(f"{address} {host.mac} bound" in lines for address, host in zip(held, hosts, strict=True))
    serving.start()
    assert udhcpc(segment.host(mac=STRANGER)) not in held
    assert [udhcpc(host) for host in hosts] == held


@requires("busybox")
def test_machines_that_come_together_get_an_address_each(segment: Segment, serving: Serving) -> None:
    hosts = [segment.host(mac=f"02:00:00:00:02:0{n}") for n in range(6)]
    clients = [host.popen(*UDHCPC, PATIENTLY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for host in hosts]
    said = [client.communicate(timeout=PATIENCE_S)[0] for client in clients]
    found = [re.search(r"lease of ([0-9.]+) obtained", text) for text in said]
    assert len({match[1] for match in found if match}) == 6, said


@requires("busybox")
def test_an_exchange_survives_a_lossy_wire(segment: Segment, serving: Serving) -> None:
    segment.lose(0, 67, 68, every=3)
    assert udhcpc(segment.host(mac=KNOWN)) == "10.77.0.10"


RELAY = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 67))
sock.settimeout(60)
sock.sendto(bytes.fromhex(sys.argv[2]), ("10.77.0.1", 67))
data, source = sock.recvfrom(4096)
print(source[0], source[1], data.hex())
"""


def test_a_relay_gets_its_option_back_for_a_network_that_is_elsewhere(segment: Segment, serving: Serving) -> None:
    relay = segment.host(address="10.77.0.250/24")
    relay.run("ip", "address", "add", "10.78.0.254/24", "dev", "eth0")
    segment.server.run("ip", "route", "add", "10.78.0.0/24", "dev", "eth1")
    information = bytes.fromhex("01046574683002065254000000019700")
    ask = recorded("D-OVMF-PXE", STRANGER, giaddr=IPv4Address("10.78.0.254"), hops=1, options={82: information})
    done = relay.run(sys.executable, "-c", RELAY, "10.78.0.254", ask.encode().hex())
    address, port, data = done.stdout.split()
    offer = wire.decode(bytes.fromhex(data))
    assert (address, port) == ("10.77.0.1", "67")
    assert str(offer.yiaddr).startswith("10.78.0.10")
    assert (offer.hops, offer.giaddr, offer.options[82]) == (0, ask.giaddr, information)
    assert list(offer.options)[-1] == 82


HOSTILE = """
import os, random, socket
random.seed(7)
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
head = bytes.fromhex("01010600") + bytes(24) + bytes.fromhex("020000000099") + bytes(202) + bytes.fromhex("63825363")
for n in range(2000):
    tail = random.randbytes(random.randrange(400))
    sock.sendto(random.choice([tail, head + tail, head + bytes([53, 1, random.randrange(12)]) + tail]),
                ("255.255.255.255", 67))
sock.sendto(head + bytes(8000), ("255.255.255.255", 67))
"""


@requires("busybox")
def test_nonsense_does_not_stop_it(segment: Segment, serving: Serving) -> None:
    segment.client.run("ip", "address", "add", "10.77.0.99/24", "dev", "eth0")
    segment.client.run(sys.executable, "-c", HOSTILE)
    assert udhcpc(segment.host(mac=KNOWN)) == "10.77.0.10"
    assert "Traceback" not in serving.log.read_text()


@requires("busybox")
def test_a_full_disk_gives_no_lease_that_would_be_lost(segment: Segment, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)], check=True)
    try:
        # A file that ends with its page, so that the next line needs another one.
        past = [journal.encode(Lease(IPv4Address(f"10.9.9.{n}"), STRANGER, 1_000_000_000)) for n in range(100, 160)]
        text = journal.HEADER + b"".join(past)
        rest = 4096 - len(text) - len(journal.encode(Lease(NOWHERE, "", 1)))
        (small / "leases").write_bytes(text + journal.encode(Lease(NOWHERE, "0" * rest, 1)))
        serving = Serving(segment, tmp_path, small / "leases")
        ballast = small / "ballast"
        assert serving.host.run("dd", "if=/dev/zero", f"of={ballast}", "bs=4k", check=False).returncode
        assert (small / "leases").stat().st_size == 4096
        assert "no lease" in segment.client.run(*UDHCPC, "2", check=False).stderr
        assert udhcpc(segment.host(mac=KNOWN)) == "10.77.0.10", "a known machine needs no disk"
        serving.wait_for("ERROR dhcp cannot store leases, so it gives none: [Errno 28] No space left on device")
        ballast.unlink()
        assert udhcpc(segment.client)
        segment.server.stop()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_what_prevents_serving_is_named(segment: Segment, serving: Serving) -> None:
    other = serving.host.run(*serving.argv(), check=False)
    assert "cannot serve DHCP: UDP port 67 on eth1: another program has it" in other.stdout + other.stderr
    other = serving.host.run(*serving.argv("eth9"), check=False)
    assert "cannot serve DHCP: there is no interface eth9" in other.stdout + other.stderr
    other = segment.client.run(*serving.argv("eth0"), check=False)
    assert "cannot serve DHCP: interface eth0 has no IPv4 address" in other.stdout + other.stderr
    unprivileged = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    code = "import dhcp.transport; dhcp.transport.open_sockets('eth1')"
    other = serving.host.run(*unprivileged, sys.executable, "-c", code, check=False)
    assert "UDP port 67 on eth1: not permitted; it needs root" in other.stderr


def test_it_stops_when_it_is_told(serving: Serving) -> None:
    serving.process.terminate()
    assert serving.process.wait(timeout=PATIENCE_S) == 0
