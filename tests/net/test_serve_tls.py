"""`pxeboot serve` and `pxeboot check` with HTTP over TLS in the farm's file."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.segment import Segment, lacking, requires
from tests.support.served import SERVER, Daemon, Prepared, get_lease, http, make_grub, serve
from tests.support.waiting import until

pytestmark = pytest.mark.net

BLOCK = """\
import socket, time
with socket.create_server(("0.0.0.0", 443)):
    print("bound", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def grub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GRUB's images, made once."""
    if not all(map(shutil.which, ("grub-mknetdir", "ip"))) or os.geteuid() != 0:
        lacking("needs root, ip and grub-mknetdir")
    return make_grub(tmp_path_factory.mktemp("grub"))


@pytest.fixture
def segment() -> Iterator[Segment]:
    with Segment(f"{SERVER}/24") as wire:
        yield wire


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def prepared(tmp_path: Path, grub: Path, authority: Authority) -> Prepared:
    certificate, key = authority.sign("tls")
    files = {"certificate": str(certificate), "key": str(key), "client_ca": str(authority.certificate)}
    return Prepared(tmp_path, grub, http={"tls": files})


def pxeboot(*argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pxeboot", *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@requires("curl", "busybox")
def test_a_machine_fetches_the_same_by_https(segment: Segment, prepared: Prepared, authority: Authority) -> None:
    daemon = Daemon(segment.server, prepared.folder, "-c", str(prepared.configuration))
    try:
        get_lease(segment.client)
        name = f"images/{prepared.image.image_id}/vmlinuz"
        pair = authority.sign("client")
        options = ("--cacert", str(authority.certificate), "--cert", str(pair[0]), "--key", str(pair[1]))
        command = segment.client.argv("curl", "-sS", "-w", "%{http_code}", f"https://{SERVER}/{name}")
        done = subprocess.run([*command, *options], capture_output=True, check=False, timeout=90)
        code, body = http(segment.client, name)
        assert (code, done.stdout) == (200, body + b"200"), done.stderr
        done = subprocess.run([*command, *options[:2]], capture_output=True, check=False, timeout=90)
        assert done.returncode != 0
        until(lambda: "no handshake: it showed no certificate" in daemon.log, "why it failed is told")
        until(lambda: " got " in daemon.log, "what was fetched is told")
    finally:
        assert daemon.stop() < 60  # only what hangs takes so long


@requires("busybox")
def test_a_port_that_is_taken_is_named(segment: Segment, prepared: Prepared) -> None:
    other = segment.server.popen(sys.executable, "-c", BLOCK, stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == "bound\n"
    said = serve(segment.server, "-c", str(prepared.configuration))
    assert said.returncode == 1
    assert "HTTP cannot listen on 0.0.0.0:443 on eth1: the port is taken" in said.stderr


def test_a_key_of_another_certificate_is_refused_by_serve_and_check(segment: Segment, prepared: Prepared) -> None:
    assert pxeboot("check", str(prepared.configuration)).returncode == 0
    key = prepared.folder / "tls.key"
    key.write_bytes((prepared.folder / "ca.key").read_bytes())
    text = f"http.tls.key: '{key}' is not the key of the first certificate in '{prepared.folder}/tls.pem'"
    said = serve(segment.server, "-c", str(prepared.configuration))
    assert (said.returncode, said.stderr.splitlines()[-1]) == (1, f"pxeboot serve: {text}")
    said = pxeboot("check", str(prepared.configuration))
    line = 1 + prepared.configuration.read_text().partition("    key: ")[0].count("\n")
    assert (said.returncode, said.stderr) == (1, f"{prepared.configuration}:{line}:1: {text}\n")
