"""`pxeboot explain` says what a client then really gets from `pxeboot serve`."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.segment import Host, Segment, requires
from tests.support.served import MAC, Daemon, Prepared, get_lease, make_grub, node

pytestmark = pytest.mark.net

STRANGER = "02:00:00:00:00:99"
KINDS = (("pxe", "bios"), ("pxe", "x64"), ("http", "x64"), ("ipxe", "x64"), ("plain", "x64"))


@pytest.fixture
def segment() -> Iterator[Segment]:
    with Segment() as segment:
        yield segment


def said(host: Host, *argv: str) -> Any:
    """Return what a command of pxeboot says as JSON."""
    command = (sys.executable, "-m", "pxeboot", *argv, "--json")
    done = host.run(*command, check=False, env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


@requires("busybox", "grub-mknetdir")
def test_what_is_explained_is_what_a_client_gets(segment: Segment, tmp_path: Path) -> None:
    prepared = Prepared(tmp_path, make_grub(tmp_path / "grub"))
    farm = str(prepared.configuration)
    daemon = Daemon(segment.server, tmp_path, "-c", farm)
    for kind, arch in KINDS:
        for mac in (MAC, STRANGER):
            who = ("--class", kind, "--arch", arch)
            explained = said(segment.server, "explain", mac, "-c", farm, *who)
            answers: list[Any] = []
            for listen_s in ("0.7", "5", "20"):  # to the first that comes at all: this machine may be busy
                probe = ("probe", "dhcp", "--mac", mac, "--timeout", listen_s, *who)
                answers = answers or said(segment.client, *probe)["answers"]
            (real,) = answers
            answer = explained["answer"]
            options = {option["code"]: option for option in answer["options"]}
            assert explained["notes"][0] == "leases and intents: the running daemon's"
            assert explained["boots"], (kind, mac)
            assert answer["address"]["value"] == real["address"], (kind, mac)
            assert options[54]["value"] == real["server_id"]
            assert (67 in options) == bool(real["boot_file"])
            if 67 in options:
                assert bytes.fromhex(options[67]["raw"]).rstrip(b"\0").decode() == real["boot_file"]
            if kind != "plain":  # probe's plain client has another list of wishes
                assert answer["size_bytes"] == real["size_bytes"], (kind, mac)
    address = get_lease(segment.client)
    mine = said(segment.server, "explain", segment.client.mac, "-c", farm)["answer"]["address"]
    assert (mine["value"], mine["why"]) == (address, "pool: it has a lease of it")
    assert node(prepared.control, "m1", "boot=refuse").returncode == 0
    refused = said(segment.server, "explain", "m1", "-c", farm)
    assert (refused["boots"], refused["intent"]["boot"], refused["intent"]["origin"]) == (
        False, "refuse", "pxeboot node"
    )  # fmt: skip
    daemon.stop()
    after = said(segment.server, "explain", segment.client.mac, "-c", farm)
    assert after["answer"]["address"]["value"] == address
    assert "no daemon runs here" in after["notes"][0]
    assert said(segment.server, "explain", "m1", "-c", farm)["intent"]["boot"] == "refuse"
