"""`pxeboot serve` with images that nbdkit serves. No machine boots."""

import http.client
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pxeboot.cli.status import UnixConnection
from pxeboot.image import store
from tests.support.cpio_reader import unpack
from tests.support.segment import Host, Segment, lacking, requires
from tests.support.served import IP, MAC, SERVER, Daemon, Prepared, get_lease, make_grub
from tests.support.served import http as fetch
from tests.support.waiting import until

pytestmark = pytest.mark.net
needs_nbdkit = requires("nbdkit", "nbdinfo", "nbdcopy", "curl", "busybox")

OURS, NBDKITS = 10809, 10810


@pytest.fixture(scope="module")
def grub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GRUB's images, made once."""
    if not all(map(shutil.which, ("grub-mknetdir", "ip"))) or os.geteuid() != 0:
        lacking("needs root, ip and grub-mknetdir")
    return make_grub(tmp_path_factory.mktemp("grub"))


@pytest.fixture
def segment() -> Iterator[Segment]:
    with Segment(client_address="10.77.0.50/24") as segment:
        yield segment


def prepare(folder: Path, grub: Path, **nbd: Any) -> Prepared:
    """Prepare a farm whose machine m1 reads its root by NBD, from nbdkit."""
    return Prepared(
        folder,
        grub,
        images={"node": {"path": str(folder / "images/node"), "engine": "nbdkit"}},
        pools=[
            {
                "name": "workers",
                "image": "node",
                "root": "nbd",
                "cluster": "prod",
                "nodes": [{"name": "m1", "macs": [MAC], "ip": IP}],
            }
        ],
        nbd=nbd,
    )


def told(prepared: Prepared) -> Any:
    """Return what GET /v1/nbdkit says."""
    connection = UnixConnection(prepared.control)
    try:
        connection.request("GET", "/v1/nbdkit")
        return json.loads(connection.getresponse().read())
    except http.client.HTTPException:
        return {}
    finally:
        connection.close()


def ready(prepared: Prepared, but: int | None = None) -> Any:
    """Wait until an nbdkit serves that is not the process `but`; return what GET /v1/nbdkit says."""
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        state = told(prepared)
        if state.get("serves") and state["interfaces"][0]["pid"] != but:
            return state
        time.sleep(0.05)
    raise TimeoutError(state)


def environment(node: Host, prepared: Prepared) -> dict[str, str]:
    """Return what m1 is told of its root."""
    status, archive = fetch(node, f"images/{prepared.image.image_id}/01-{MAC.replace(':', '-')}/node.cpio")
    assert status == 200
    text = unpack(archive)["pxeboot/env"].data.decode()
    return {key: value.strip("'\"") for key, _, value in (line.partition("=") for line in text.splitlines())}


def copied(node: Host, folder: Path, port: int, export: str) -> bytes:
    """Return an export, as nbdcopy gets it."""
    got = folder / f"got-{port}"
    node.run("nbdcopy", f"nbd://{SERVER}:{port}/{export}", str(got))
    return got.read_bytes()


@needs_nbdkit
def test_a_machine_is_sent_to_nbdkit_and_gets_every_byte_there_as_it_does_from_us(
    grub: Path, tmp_path: Path, segment: Segment
) -> None:
    prepared = prepare(tmp_path, grub, access="known", nbdkit={"filters": ["readahead", "cache"]})
    daemon = Daemon(segment.server, tmp_path, "-c", str(prepared.configuration))
    node = segment.host(mac=MAC)
    assert get_lease(node) == IP
    state = ready(prepared)
    assert (state["wanted"], state["absent"], state["port"]) == (["node"], None, NBDKITS)
    told_env = environment(node, prepared)
    assert told_env["NBD_PORT"] == str(NBDKITS)
    squashfs = (prepared.image.folder / store.SQUASHFS).read_bytes()
    for port in (NBDKITS, OURS):
        assert copied(node, tmp_path, port, told_env["NBD_EXPORT"]) == squashfs

    refused = segment.client.run("nbdinfo", f"nbd://{SERVER}:{NBDKITS}/node", check=False)
    assert refused.returncode != 0  # its address is nobody's that we know
    assert told(prepared)["counters"]["refused"] >= 1
    assert daemon.stop() < 30
    assert "Traceback" not in daemon.log


@needs_nbdkit
def test_nbdkit_that_was_killed_is_back_and_a_server_that_was_killed_can_start_at_once(
    grub: Path, tmp_path: Path, segment: Segment
) -> None:
    prepared = prepare(tmp_path, grub)
    daemon = Daemon(segment.server, tmp_path, "-c", str(prepared.configuration))
    first = ready(prepared)["interfaces"][0]["pid"]
    os.kill(first, signal.SIGKILL)
    state = ready(prepared, but=first)
    assert state["interfaces"][0]["starts"] == 2
    client = segment.client
    assert client.run("nbdinfo", "--size", f"nbd://{SERVER}:{NBDKITS}/node").stdout.strip() == "73728"
    daemon.process.kill()
    daemon.process.wait()
    time.sleep(1.5)
    again = Daemon(segment.server, tmp_path, "-c", str(prepared.configuration))
    ready(prepared, but=state["interfaces"][0]["pid"])
    assert client.run("nbdinfo", "--size", f"nbd://{SERVER}:{NBDKITS}/node").stdout.strip() == "73728"
    again.stop()


@needs_nbdkit
def test_nbdkit_ends_with_the_interface_that_it_served(grub: Path, tmp_path: Path, segment: Segment) -> None:
    prepared = prepare(tmp_path, grub)
    daemon = Daemon(segment.server, tmp_path, "-c", str(prepared.configuration))
    (interface,) = ready(prepared)["interfaces"]
    assert interface["name"] == "eth1"
    segment.server.run("ip", "link", "delete", "eth1")
    until(lambda: not Path(f"/proc/{interface['pid']}").exists(), "nbdkit has ended")
    until(lambda: told(prepared).get("interfaces") == [], "it is told of no more")
    assert not told(prepared)["serves"]
    daemon.stop()
    assert "Traceback" not in daemon.log


@needs_nbdkit
def test_while_nbdkit_does_not_start_machines_are_sent_to_us(grub: Path, tmp_path: Path, segment: Segment) -> None:
    prepared = prepare(tmp_path, grub, nbdkit={"parameters": {"nosuch": "1"}})
    daemon = Daemon(segment.server, tmp_path, "-c", str(prepared.configuration))
    node = segment.host(mac=MAC)
    assert get_lease(node) == IP
    told_env = environment(node, prepared)
    assert told_env["NBD_PORT"] == str(OURS)
    assert copied(node, tmp_path, OURS, told_env["NBD_EXPORT"])
    until(lambda: "takes the parameter 'nosuch'" in daemon.log, "it is told why")
    assert not told(prepared)["serves"]
    daemon.stop()


@requires("nbdcopy", "curl", "busybox")
def test_where_there_is_no_nbdkit_one_line_says_so_and_we_serve_its_images(
    grub: Path, tmp_path: Path, segment: Segment
) -> None:
    prepared = prepare(tmp_path, grub)
    daemon = Daemon(
        segment.server, tmp_path, "-c", str(prepared.configuration), before=("/usr/bin/env", "PATH=/nonexistent")
    )
    node = segment.host(mac=MAC)
    assert get_lease(node) == IP
    said = "nbdkit cannot serve node, so pxeboot does, without its filters: it is not installed"
    until(lambda: said in daemon.log, "it is told")
    assert daemon.log.count(said) == 1
    assert told(prepared)["absent"] == "it is not installed; apt-get install nbdkit nbdkit-plugin-python"
    told_env = environment(node, prepared)
    assert told_env["NBD_PORT"] == str(OURS)
    assert copied(node, tmp_path, OURS, told_env["NBD_EXPORT"])
    assert node.run("nbdinfo", f"nbd://{SERVER}:{NBDKITS}/node", check=False).returncode != 0
    daemon.stop()
