"""A farm that was imported from dnsmasq's configuration answers machines as dnsmasq itself does."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.load import load
from tests.support.dnsmasq import Dnsmasq
from tests.support.segment import Host, Segment, requires
from tests.support.served import Daemon

pytestmark = pytest.mark.net

LISTED, CARD, STRANGER = "52:54:00:12:34:56", "52:54:00:12:34:57", "52:54:00:99:00:01"
CONFIGURATION = f"""
interface=eth0
domain=farm.example.org
dhcp-range=set:lab,10.77.0.50,10.77.0.60,255.255.255.0,12h
dhcp-option=option:router,10.77.0.254
dhcp-option=6,10.77.0.53,10.77.0.54
dhcp-option=tag:gpu,option:mtu,9000
dhcp-option=option:ntp-server,10.77.0.7
dhcp-option=121,10.96.0.0/12,10.77.0.3
dhcp-option-force=224,"hall 4"
dhcp-match=set:efi64,option:client-arch,7
dhcp-match=set:efi64,option:client-arch,9
dhcp-match=set:ipxe,175
dhcp-boot=tag:!ipxe,undionly.kpxe,,10.77.0.1
dhcp-boot=tag:efi64,tag:!ipxe,ipxe.efi,,10.77.0.1
dhcp-boot=tag:ipxe,http://10.77.0.1/boot.ipxe,,10.77.0.1
dhcp-host={LISTED},{CARD},set:gpu,m1,10.77.0.10
dhcp-host=52:54:00:00:00:03,m3,10.77.0.13,45m
"""
CLIENTS = [
    (LISTED, "uefi-x64", "pxe"),
    (CARD, "bios", "pxe"),
    (LISTED, "uefi-x64", "ipxe"),
    ("52:54:00:00:00:03", "9", "pxe"),
    (STRANGER, "bios", "pxe"),
]
"""MAC, firmware, kind."""
SAME = ("address", "boot_file", "next_server", "lease_s", "routers", "subnet_mask")
SCRIPT = """#!/bin/sh
[ "$1" = bound ] || exit 0
for name in ip subnet router dns domain ntpsrv mtu staticroutes opt224 lease; do
    eval echo "$name=\\$$name"
done >{to}
"""
"""What an operating system is told, as busybox hands it on."""


def asked(host: Host, mac: str, arch: str, kind: str) -> dict[str, Any]:
    """What firmware is offered. It asks again, as firmware does, when a busy machine had no answer in time."""
    for _ in range(10):
        said = host.run(
            *(sys.executable, "-m", "pxeboot", "probe", "dhcp", "--json", "--timeout", "0.7"),
            *("--mac", mac, "--arch", arch, "--class", kind),
            check=False,
            env={**os.environ, "NO_COLOR": "1"},
        )
        answers = json.loads(said.stdout)["answers"]
        if answers:
            break
    assert len(answers) == 1, (mac, arch, said.stdout, said.stderr)
    return {key: answers[0][key] for key in SAME}


def told(host: Host, mac: str, folder: Path) -> dict[str, str]:
    """What the operating system of a machine is told."""
    script, out = folder / "told.sh", folder / "told"
    script.write_text(SCRIPT.format(to=out))
    script.chmod(0o755)
    host.run("ip", "link", "set", host.interface, "address", mac)
    wanted = [word for code in ("6", "15", "26", "42", "121", "224") for word in ("-O", code)]
    host.run(
        "busybox", "udhcpc", "-f", "-q", "-n", "-t", "10", "-i", host.interface, "-s", str(script), *wanted, timeout=60
    )
    return dict(line.split("=", 1) for line in out.read_text().splitlines())


@pytest.fixture
def segment() -> Iterator[Segment]:
    with Segment() as segment:
        yield segment


@requires("dnsmasq", "busybox")
def test_what_was_imported_answers_as_dnsmasq_does(segment: Segment, tmp_path: Path) -> None:
    theirs_file, farm_file = tmp_path / "dnsmasq.conf", tmp_path / "farm.yaml"
    theirs_file.write_text(CONFIGURATION.replace("eth0", segment.server.interface))
    with Dnsmasq(segment.server, tmp_path, f"--conf-file={theirs_file}"):
        theirs = [asked(segment.client, *client) for client in CLIENTS]
        systems = [told(segment.client, mac, tmp_path) for mac in (LISTED, STRANGER)]
    imported = segment.server.run(
        *(sys.executable, "-m", "pxeboot", "import", "dnsmasq", str(theirs_file), "-o", str(farm_file)), check=False
    )
    assert (imported.returncode, imported.stderr.count("did not come along")) == (0, 0), imported.stderr
    said = farm_file.read_text()
    where = f"state: {tmp_path}/state, control: {tmp_path}/control.sock"
    farm_file.write_text(said.replace("server: {", f"server: {{{where}, "))
    assert load(farm_file).server.interfaces == (segment.server.interface,)
    daemon = Daemon(segment.server, tmp_path, "-c", str(farm_file))
    ours = [asked(segment.client, *client) for client in CLIENTS]
    our_systems = [told(segment.client, mac, tmp_path) for mac in (LISTED, STRANGER)]
    daemon.stop()
    # Which address of the pool a stranger gets is each server's own affair.
    for answer in (theirs[-1], ours[-1]):
        assert 50 <= int(answer.pop("address").rpartition(".")[2]) <= 60
    for system in (systems[-1], our_systems[-1]):
        assert 50 <= int(system.pop("ip").rpartition(".")[2]) <= 60
    # A client with option 121 ignores option 3 (RFC 3442), so our routes have the default route among them.
    for system in our_systems:
        system["staticroutes"] = system["staticroutes"].removesuffix(" 0.0.0.0/0 10.77.0.254")
    assert ours == theirs
    assert our_systems == systems
    assert (systems[0]["mtu"], systems[1]["mtu"], systems[0]["opt224"]) == ("9000", "", b"hall 4".hex())
