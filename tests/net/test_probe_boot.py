"""`pxeboot probe boot` against our daemon, where all is well and where something on the way is not."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.dnsmasq import Dnsmasq
from tests.support.segment import Host, Segment, requires
from tests.support.served import IP, MAC, Daemon, Prepared, make_grub, status_json

pytestmark = pytest.mark.net

BEHIND = "10.78.0.1"
SUBNETS = [
    {"subnet": "10.77.0.0/24", "pool": "10.77.0.200-10.77.0.220", "unknown": "workers"},
    {"subnet": "10.78.0.0/24", "pool": "10.78.0.200-10.78.0.220", "unknown": "workers", "routers": [BEHIND]},
]
EVERYTHING = ["link", "DHCP offer", "DHCP lease", "TFTP", "HTTP", "GRUB's menu", "kernel", "node.cpio", "initrd.img",
              "root image", "speed", "NBD", "reports", "release"]  # fmt: skip


@dataclass
class Farm:
    """A segment with a daemon for the tests of this module."""

    segment: Segment
    prepared: Prepared
    daemon: Daemon


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    folder = tmp_path_factory.mktemp("probe")
    with Segment() as segment:
        # A switch never sees many packets as one.
        segment.server.run("ip", "link", "set", "dev", "eth1", "gso_max_segs", "1")
        segment.server.run("ip", "route", "add", "10.78.0.0/24", "via", "10.77.0.3")
        prepared = Prepared(folder, make_grub(folder / "grub"), size_bytes=303_104, dhcp={"subnets": SUBNETS})
        daemon = Daemon(segment.server, folder, "-c", str(prepared.configuration))
        yield Farm(segment, prepared, daemon)
        daemon.stop()


@contextmanager
def rules(host: Host, family: str, hook: str, *lines: str) -> Iterator[None]:
    """Have these rules of nftables on `host` meanwhile."""
    chain = f"type filter hook {hook} priority 0; policy accept;"
    text = "\n".join([f"table {family} way {{", "chain way {", chain, *lines, "}", "}", ""])
    host.run("nft", "-f", "-", text_in=text)
    try:
        yield
    finally:
        host.run("nft", "delete", "table", family, "way")


def ask(host: Host, *argv: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    return host.run(sys.executable, "-m", "pxeboot", "probe", "boot", "--timeout", "0.7", *argv, check=False, env=env)


def probe(host: Host, *argv: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the steps by name, and of those that are wrong what is, in one text."""
    said = ask(host, "--json", *argv)
    assert said.returncode in (0, 1), said.stderr
    steps = {step["step"]: step for step in json.loads(said.stdout)["steps"]}
    wrong = {
        name: " ".join(f"{problem['what']} {problem['remedy']}" for problem in step["problems"])
        for name, step in steps.items()
        if step["result"] == "wrong"
    }
    assert said.returncode == bool(wrong)
    return steps, wrong


def left_behind(host: Host) -> str:
    """What a probe changed and did not change back."""
    addresses = host.run("ip", "-4", "-brief", "address", "show", "dev", host.interface).stdout
    return addresses + host.run("ip", "rule", "show").stdout


@requires("grub-mknetdir", "nft")
@pytest.mark.parametrize(("arch", "loader"), [("uefi-x64", "TFTP"), ("bios", "TFTP"), ("uefi-x64-http", "HTTP boot")])
def test_where_all_is_well_every_step_is_fine_and_nothing_is_left_behind(farm: Farm, arch: str, loader: str) -> None:
    before = left_behind(farm.segment.client)
    steps, wrong = probe(farm.segment.client, "--arch", arch)
    assert not wrong
    assert [*steps] == [loader if step == "TFTP" else step for step in EVERYTHING]
    assert {step["result"] for step in steps.values()} == {"fine"}
    assert left_behind(farm.segment.client) == before
    assert "303,104 bytes" in steps["NBD"]["detail"]
    assert "join/" not in farm.daemon.log
    dhcp = status_json(farm.prepared.control)["dhcp"]
    assert sum(pool["used"] for pool in dhcp["pools"]) == 0


@requires("grub-mknetdir")
def test_a_person_sees_a_table_and_the_server_no_machine(farm: Farm) -> None:
    done = ask(farm.segment.client, "--mac", MAC, "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert "A machine would boot." in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    argv = ("-m", "pxeboot", "probe", "dhcp", "--json", "--timeout", "0.7")
    for more in ((), ("--mac", MAC), ("--class", "ipxe"), ("--arch", "bios", "--request")):
        farm.segment.client.run(sys.executable, *argv, *more)
    assert status_json(farm.prepared.control)["machines"] == [], "neither stuck, nor on its way"
    assert f"`pxeboot probe` plays {MAC}: UEFI x64 (PXEClient), asks for an address" in farm.daemon.log
    assert f"`pxeboot probe` plays {MAC}: it has {IP}, boots 'grub/x86_64-efi/" in farm.daemon.log


@requires("grub-mknetdir", "nft")
def test_a_port_that_is_refused_is_told_from_one_that_is_dropped(farm: Farm) -> None:
    lines = ("tcp dport 80 reject with tcp reset", "tcp dport 10809 drop")
    with rules(farm.segment.server, "inet", "input", *lines):
        steps, wrong = probe(farm.segment.client)
    assert [*wrong] == ["HTTP", "NBD"]
    assert wrong["HTTP"].startswith("TCP port 80 of 10.77.0.1 (HTTP) refuses: nothing listens there, or a firewall")
    assert wrong["NBD"].startswith("TCP port 10809 of 10.77.0.1 (NBD) does not answer: a firewall drops it")
    assert steps["release"]["result"] == "fine"


@requires("grub-mknetdir", "nft")
def test_a_firewall_that_knows_port_69_alone_is_recognised(farm: Farm) -> None:
    with rules(farm.segment.server, "inet", "input", "udp dport 1024-65535 drop", "tcp dport 80 drop"):
        _, wrong = probe(farm.segment.client)
    assert [*wrong] == ["TFTP", "HTTP"]
    assert "A firewall lets only port 69 through" in wrong["TFTP"]
    assert wrong["HTTP"].startswith("TCP port 80 of 10.77.0.1 (HTTP) does not answer: a firewall drops it")


@requires("grub-mknetdir", "nft")
def test_a_narrow_path_that_does_not_say_so_is_measured(farm: Farm) -> None:
    with rules(farm.segment.bridge, "bridge", "forward", "ip length > 1280 counter drop"):
        steps, wrong = probe(farm.segment.client)
    assert [*wrong] == ["TFTP", "kernel"]
    assert "Something on the way drops packets of 1500 bytes" in wrong["TFTP"]
    assert "small answers arrive and large ones do not" in wrong["kernel"]
    assert "above some 1280 bytes" in wrong["kernel"]
    assert steps["root image"]["result"] == "skipped"


@requires("grub-mknetdir", "dnsmasq")
def test_another_dhcp_server_is_named(farm: Farm, tmp_path: Path) -> None:
    other = farm.segment.host(address="10.77.0.2/24")
    with Dnsmasq(other, tmp_path, "--dhcp-range=10.77.0.50,10.77.0.60,1h", "--dhcp-boot=pxelinux.0"):
        _, wrong = probe(farm.segment.client)
    assert [*wrong] == ["DHCP offer"]
    assert f"10.77.0.2 ({other.mac})" in wrong["DHCP offer"]
    assert "only one may answer" in wrong["DHCP offer"]


@requires("grub-mknetdir")
def test_who_has_the_machines_address_already_is_named(farm: Farm) -> None:
    squatter = farm.segment.host(address=f"{IP}/24")
    steps, wrong = probe(farm.segment.client, "--mac", MAC, "--yes")
    squatter.run("ip", "address", "flush", "dev", squatter.interface)
    assert f"{IP} is used by {squatter.mac} already" in wrong["DHCP lease"]
    assert [*steps] == ["link", "DHCP offer", "DHCP lease"], "it may be another card of that machine, which runs"


@requires("grub-mknetdir")
def test_a_machine_that_runs_keeps_its_address(farm: Farm) -> None:
    running = farm.segment.host(address=f"{IP}/24", mac=MAC)
    steps, wrong = probe(farm.segment.client, "--mac", MAC, "--yes")
    argv = ("-m", "pxeboot", "probe", "dhcp", "--json", "--timeout", "0.7", "--request", "--mac", MAC)
    asked = json.loads(farm.segment.client.run(sys.executable, *argv, check=False).stdout)
    running.run("ip", "link", "set", "dev", running.interface, "down")
    assert [*steps] == ["link", "DHCP offer", "DHCP lease"], "nothing is taken, and nothing released"
    what = f"{IP} is used by {MAC}, the machine that is played: it runs, so its address is not taken"
    assert what in wrong["DHCP lease"]
    assert asked["taken"] is None
    assert what in asked["problems"][0]


@requires("grub-mknetdir", "dnsmasq", "nft")
def test_behind_a_relay_all_is_well_and_masquerading_is_found(farm: Farm, tmp_path: Path) -> None:
    with Segment(f"{BEHIND}/24") as far:
        router = far.server
        farm.segment.bridge.run(
            *("ip", "link", "add", "port-r", "type", "veth", "peer", "name", "eth2", "netns", router.namespace)
        )
        farm.segment.bridge.run("ip", "link", "set", "dev", "port-r", "master", "br0", "up")
        router.run("ip", "address", "add", "10.77.0.3/24", "dev", "eth2")
        router.run("ip", "link", "set", "dev", "eth2", "up")
        router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        with Dnsmasq(router, tmp_path, f"--dhcp-relay={BEHIND},10.77.0.1"):
            steps, wrong = probe(far.client)
            assert not wrong
            assert steps["DHCP offer"]["notes"] == [f"it came through the relay {BEHIND}"]
            text = "table ip nat { chain post { type nat hook postrouting priority 100; oifname eth2 masquerade; }; }"
            router.run("nft", "-f", "-", text_in=text + "\n")
            _, wrong = probe(far.client)
    assert "the server sees us as 10.77.0.3, and DHCP gave us 10.78.0.2" in wrong["HTTP"]
    assert "TFTP" in wrong


@requires("grub-mknetdir")
def test_on_the_server_itself_it_says_so_and_tries_what_can_be_tried(farm: Farm) -> None:
    server = farm.segment.server
    done = ask(server, "--json", "--interface", "eth1")
    said = json.loads(done.stdout)
    assert (done.returncode, said["problems"]) == (2, [])
    results = {step["step"]: step["result"] for step in said["steps"]}
    assert results == {"link": "fine", "DHCP offer": "skipped", "TFTP": "fine", "HTTP": "fine", "NBD": "fine"}
    assert f"pxeboot serve (pid {farm.daemon.process.pid}) serves eth1, and a host does not" in said["not_from_here"]
    text = ask(server).stdout
    assert "This is the server itself" in text
    assert "would not boot" not in text
    only = server.run(sys.executable, "-m", "pxeboot", "probe", "dhcp", "--timeout", "0.5", check=False)
    assert only.returncode == 2
    assert "  pxeboot probe          on another machine of this network" in only.stdout
    assert "wrong:" not in only.stdout


@requires("grub-mknetdir", "nft")
def test_a_probe_that_is_ended_gives_everything_back(farm: Farm) -> None:
    client = farm.segment.client
    before = left_behind(client)
    with rules(farm.segment.server, "inet", "input", "udp dport 69 drop"):
        process = client.popen(sys.executable, "-m", "pxeboot", "probe", "--timeout", "0.7", stdout=subprocess.DEVNULL)
        while "from 10.77.0." not in left_behind(client):
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        process.wait(timeout=20)
    assert left_behind(client) == before


@requires("grub-mknetdir", "dnsmasq")
def test_the_boot_file_of_somebody_elses_boot_server_is_fetched_and_nothing_is_taken_without_one(
    tmp_path: Path,
) -> None:
    no_boot = {"subnets": [{"subnet": "10.77.0.0/24", "pool": "10.77.0.200-10.77.0.220"}]}
    (tmp_path / "tftp").mkdir()
    (tmp_path / "tftp/grubx64.efi").write_bytes(bytes(9000))
    with Segment() as segment:
        prepared = Prepared(tmp_path / "farm", make_grub(tmp_path / "grub"), dhcp=no_boot)
        daemon = Daemon(segment.server, tmp_path / "farm", "-c", str(prepared.configuration))
        steps, wrong = probe(segment.client)
        assert [*steps] == ["link", "DHCP offer"]
        assert "nobody says what to boot by PXE" in wrong["DHCP offer"]
        assert "`unknown: POOL`" in wrong["DHCP offer"]
        other = segment.host(address="10.77.0.2/24")
        boots = ("--dhcp-range=10.77.0.0,proxy", "--pxe-service=X86-64_EFI,Boot,grubx64.efi", "--enable-tftp")
        with Dnsmasq(other, tmp_path, *boots, f"--tftp-root={tmp_path}/tftp"):
            steps, wrong = probe(segment.client)
        assert not wrong, daemon.log
        assert [*steps] == ["link", "DHCP offer", "DHCP lease", "boot server", "TFTP", "GRUB", "release"]
        assert "UDP port 4011 of 10.77.0.2 says 'grubx64.efi'" in steps["boot server"]["detail"]
        assert "9,000 bytes" in steps["TFTP"]["detail"]
        assert steps["GRUB"]["result"] == "skipped"
        daemon.stop()
