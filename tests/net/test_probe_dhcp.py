"""`pxeboot probe dhcp` on an interface without an address, against our daemon, dnsmasq and Kea."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.dnsmasq import Dnsmasq
from tests.support.segment import Host, Segment, requires
from tests.support.served import IP, MAC, Daemon, Prepared, make_grub, status, status_json

pytestmark = pytest.mark.net

OTHER = "10.77.0.2"
FULL = ("--dhcp-range=10.77.0.50,10.77.0.60,1h", "--dhcp-boot=pxelinux.0", "--dhcp-option=3,10.77.0.9")
PROXY = ("--dhcp-range=10.77.0.0,proxy", "--pxe-service=X86-64_EFI,Boot,grubx64.efi")


@pytest.fixture
def segment() -> Iterator[Segment]:
    with Segment() as segment:
        yield segment


def probe(host: Host, *argv: str, timeout_s: float = 1.5) -> tuple[int, Any]:
    """Return the exit status and what --json says; the text, if `argv` has --text."""
    form = () if "--text" in argv else ("--json",)
    said = host.run(
        *(sys.executable, "-m", "pxeboot", "probe", "dhcp", "--timeout", str(timeout_s), *form),
        *(word for word in argv if word != "--text"),
        check=False,
        env={**os.environ, "COLUMNS": "150", "NO_COLOR": "1"},
    )
    assert said.returncode in (0, 1), said.stderr
    assert not said.stderr
    return said.returncode, json.loads(said.stdout) if form else said.stdout


@requires("dnsmasq", "grub-mknetdir")
def test_our_server_alone_boots_a_machine_and_a_second_one_is_named_beside_it(
    segment: Segment, tmp_path: Path
) -> None:
    prepared = Prepared(tmp_path, make_grub(tmp_path / "grub"))
    daemon = Daemon(segment.server, tmp_path, "-c", str(prepared.configuration))
    for kind, arch in (("pxe", "bios"), ("pxe", "x64"), ("http", "x64"), ("ipxe", "x64"), ("plain", "x64")):
        code, said = probe(segment.client, "--mac", MAC, "--class", kind, "--arch", arch, timeout_s=0.7)
        assert (code, said["problems"]) == (0, []), (kind, arch)
        (answer,) = said["answers"]
        assert (answer["server_id"], answer["mac"], answer["address"]) == ("10.77.0.1", segment.server.mac, IP)
        assert answer["delay_ms"] < 1000
        assert bool(answer["boot_file"]) == (kind != "plain")
    code, said = probe(segment.client, "--arch", "bios", "--request")
    assert (code, said["taken"]["message_type"]) == (0, "ACK")
    assert said["taken"]["address"].startswith("10.77.0.2")
    leases = (tmp_path / "state/leases").read_text()
    assert said["mac"] in leases
    with Dnsmasq(segment.host(address=f"{OTHER}/24"), tmp_path, *FULL):
        code, said = probe(segment.client, "--mac", MAC)
        assert code == 1
        assert {answer["server_id"] for answer in said["answers"]} == {"10.77.0.1", OTHER}
        assert said["answers"][said["boot_from"]]["server_id"] == "10.77.0.1", "UEFI prefers what is marked PXEClient"
        addresses, boots = said["problems"]
        assert addresses.startswith("2 servers offer different addresses: ")
        assert boots.startswith("2 servers say what to boot, and disagree: ")
        assert f"'pxelinux.0' from {OTHER} by {OTHER} (" in boots
        code, text = probe(segment.client, "--mac", MAC, "--text")
        assert code == 1
        assert "wrong: 2 servers offer different addresses" in text
        assert f"The machine takes {IP}, and boots 'grub/x86_64-efi/core.efi' from 10.77.0.1." in text
    daemon.stop()


@requires("dnsmasq", "busybox", "grub-mknetdir")
def test_beside_our_proxy_a_plain_dhcp_server_is_expected_and_each_answers_once(
    segment: Segment, tmp_path: Path
) -> None:
    subnet = {"subnet": "10.77.0.0/24", "proxy": True, "unknown": "workers"}
    prepared = Prepared(tmp_path, make_grub(tmp_path / "grub"), dhcp={"subnets": [subnet]})
    daemon = Daemon(segment.server, tmp_path, "-c", str(prepared.configuration))
    with Dnsmasq(segment.host(address=f"{OTHER}/24"), tmp_path, FULL[0]):
        code, said = probe(segment.client, "--request", "--mac", MAC)
        assert (code, said["problems"]) == (0, [])
        assert sorted(answer["server_id"] for answer in said["answers"]) == ["10.77.0.1", OTHER]
        assert said["answers"][said["address_from"]]["server_id"] == OTHER
        assert said["answers"][said["boot_from"]]["server_id"] == "10.77.0.1"
        (other,) = status_json(prepared.control)["others"]
        assert (other["server_id"], other["standing"]) == (OTHER, "expected")
        assert other["address"]["machine"] == "m1"
        assert "another DHCP server" not in status(prepared.control).stdout + daemon.log
    with Dnsmasq(segment.host(address="10.77.0.3/24"), tmp_path, *PROXY):
        code, said = probe(segment.client, "--mac", MAC)
        assert code == 1
        others = {other["server_id"]: other for other in status_json(prepared.control)["others"]}
        assert (others["10.77.0.3"]["standing"], others["10.77.0.3"]["proxy"]) == ("conflict", True)
        assert "another DHCP server: 10.77.0.3" in status(prepared.control).stdout
    daemon.stop()


@requires("dnsmasq")
def test_an_address_of_one_server_and_a_boot_file_of_a_proxy_are_no_conflict(segment: Segment, tmp_path: Path) -> None:
    gives = segment.host(address=f"{OTHER}/24")
    proxy = segment.host(address="10.77.0.3/24")
    with Dnsmasq(gives, tmp_path, FULL[0]) as server:
        code, said = probe(segment.client)
        assert (code, said["problems"]) == (1, ["nobody says what to boot by PXE"])
        with Dnsmasq(proxy, tmp_path, *PROXY):
            code, said = probe(segment.client)
            assert (code, said["problems"]) == (0, [])
            by_id = {answer["server_id"]: answer for answer in said["answers"]}
            assert (by_id[OTHER]["proxy"], by_id["10.77.0.3"]["proxy"]) == (False, True)
            assert by_id["10.77.0.3"]["mac"] == proxy.mac
            assert said["answers"][said["address_from"]] == by_id[OTHER]
            assert said["answers"][said["boot_from"]] == by_id["10.77.0.3"]
        assert "DHCPREQUEST" not in server.log, "nothing was taken"
        assert "DHCPRELEASE" not in server.log


@requires("dnsmasq")
@pytest.mark.parametrize("arch", ["bios", "x64"], ids=["answered-by-unicast-to-a-made-up-mac", "by-broadcast"])
def test_an_address_that_was_taken_is_given_back(segment: Segment, tmp_path: Path, arch: str) -> None:
    with Dnsmasq(segment.host(address=f"{OTHER}/24"), tmp_path, *FULL) as server:
        code, said = probe(segment.client, "--arch", arch, "--request", "--mac", "02-00-00-00-00-77")
        assert (code, said["problems"]) == (0, [])
        assert said["taken"]["address"] == said["answers"][0]["address"]
        deadline = time.monotonic() + 3
        while "DHCPRELEASE" not in server.log and time.monotonic() < deadline:
            time.sleep(0.05)
        assert f"DHCPRELEASE(eth0) {said['taken']['address']} 02:00:00:00:00:77" in server.log
        assert not (tmp_path / f"dnsmasq-{server.namespace}.leases").read_text().strip()


def test_a_silent_network_is_1_and_it_says_so_and_a_dead_interface_is_named(segment: Segment) -> None:
    code, text = probe(segment.client, "--text", timeout_s=0.5)
    assert code == 1
    wrong, remedy = text.splitlines()[-2:]
    assert wrong == "wrong: nobody answered within 0.5 s"
    assert remedy.startswith("→ is `pxeboot serve` running, on an interface of this network?")
    segment.client.run("ip", "link", "set", "eth0", "down")
    walk = segment.client.run(sys.executable, "-m", "pxeboot", "probe", "--interface", "eth0", check=False)
    assert (walk.returncode, walk.stderr) == (1, "")
    assert "→ ip link set eth0 up" in walk.stdout
    assert walk.stdout.endswith("Nothing was tried: see link.\n")
    argv = (sys.executable, "-m", "pxeboot", "probe", "dhcp")
    said = segment.client.run(*argv, "--interface", "eth0", check=False)
    assert (said.returncode, said.stderr) == (1, "pxeboot probe: cannot ask on eth0: it is down\n")
    said = segment.client.run(*argv, check=False)
    assert said.returncode == 2
    assert "which --interface? no Ethernet interface is up; there is eth0" in said.stderr
    bare = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
    said = segment.client.run(*bare, *argv, "--interface", "eth0", check=False)
    assert said.stderr == "pxeboot probe: cannot ask on eth0: not permitted; it needs root, or CAP_NET_RAW\n"


@requires("dnsmasq")
def test_a_discover_that_was_lost_is_repeated_as_firmware_does(segment: Segment, tmp_path: Path) -> None:
    with Dnsmasq(segment.host(address=f"{OTHER}/24"), tmp_path, *FULL):
        segment.lose(100, 67)
        process = segment.client.popen(
            *(sys.executable, "-m", "pxeboot", "probe", "dhcp", "--json", "--timeout", "7"), stdout=subprocess.PIPE
        )
        deadline = time.monotonic() + 5
        while not segment.lost() and time.monotonic() < deadline:
            time.sleep(0.05)
        segment.lose(0)
        said = json.loads(process.communicate()[0])
    assert process.returncode == 0
    assert said["answers"][0]["delay_ms"] < 1000, "since it asked last"


@requires("kea-dhcp4")
def test_keas_offer_is_listed(segment: Segment, tmp_path: Path) -> None:
    host = segment.host(address=f"{OTHER}/24")
    configuration = {
        "interfaces-config": {"interfaces": ["eth0"]},
        "lease-database": {"type": "memfile", "persist": False},
        "valid-lifetime": 1234,
        "next-server": OTHER,
        "boot-file-name": "kea.efi",
        "subnet4": [{"subnet": "10.77.0.0/24", "pools": [{"pool": "10.77.0.50 - 10.77.0.60"}]}],
    }
    (tmp_path / "kea.json").write_text(json.dumps({"Dhcp4": configuration}))
    log = (tmp_path / "kea.log").open("w")
    env = {**os.environ, "KEA_PIDFILE_DIR": str(tmp_path), "KEA_LOCKFILE_DIR": "none"}
    with log:
        host.popen("kea-dhcp4", "-c", str(tmp_path / "kea.json"), stdout=log, stderr=subprocess.STDOUT, env=env)
    deadline = time.monotonic() + 10
    while "DHCP4_STARTED" not in (tmp_path / "kea.log").read_text():
        assert time.monotonic() < deadline, (tmp_path / "kea.log").read_text()
        time.sleep(0.1)
    code, said = probe(segment.client)
    assert (code, said["problems"]) == (0, [])
    (answer,) = said["answers"]
    assert (answer["server_id"], answer["mac"], answer["lease_s"]) == (OTHER, host.mac, 1234)
    assert (answer["boot_file"], answer["next_server"]) == ("kea.efi", OTHER)
