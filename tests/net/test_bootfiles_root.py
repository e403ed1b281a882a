"""What may be fetched, with other processes that move it about: races, and versions that change under a download."""

import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from pxeboot.bootfiles.root import Root
from pxeboot.image.store import StoredImage
from tests.support.fake_image import add_image, noise
from tests.support.segment import Segment, requires
from tests.support.serve_tree import Ports, serving
from tests.support.served import SERVER, Daemon, Prepared, make_grub

pytestmark = pytest.mark.net

OPENS = 20_000
PATIENCE_S = 180.0
SIZE = 24 << 20

SWAPPER = """
import ctypes, os, sys
here, link = (os.fsencode(name) for name in sys.argv[1:])
renameat2 = ctypes.CDLL(None).renameat2
print("swapping", flush=True)
while True:
    assert renameat2(-100, here, -100, link, 2) == 0  # RENAME_EXCHANGE: one of the two is there at every moment
"""


@contextmanager
def swapping(here: Path, link: Path) -> Iterator[None]:
    """Let another process exchange `here` and `link`, as fast as it can, for as long as the block runs."""
    argv = [sys.executable, "-c", SWAPPER, str(here), str(link)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
            assert process.poll() is None
        finally:
            process.kill()


@pytest.mark.parametrize("what", ["file", "folder", "folder in the middle", "a FIFO", "a device"])
def test_a_process_that_swaps_in_a_link_never_gets_a_secret_out(tmp_path: Path, what: str) -> None:
    served, outside = tmp_path / "served", tmp_path / "outside"
    for folder in (served, outside):
        (folder / "a/b").mkdir(parents=True)
    (served / "a/b/file").write_bytes(b"public")
    (outside / "a/b/file").write_bytes(b"secret")
    part = {"folder": "a/b", "folder in the middle": "a"}.get(what, "a/b/file")
    other = served / "other"
    if what == "a FIFO":
        os.mkfifo(other)
    elif what == "a device":
        os.mknod(other, 0o20666, os.makedev(1, 5))  # /dev/zero
    else:
        other.symlink_to(outside / part)
    root, seen, opens = Root(served), dict.fromkeys((b"public", None), 0), 0
    deadline = time.monotonic() + PATIENCE_S
    with swapping(served / part, other):
        while opens < OPENS or not all(seen.values()):
            assert time.monotonic() < deadline, (opens, seen)
            opens += 1
            found = root.open("a/b/file")
            data = None if found is None else found.pread(100, 0)
            if found is not None:
                found.close()
            seen[data] = seen.get(data, 0) + 1
    assert seen.keys() == {b"public", None}, seen
    assert len(os.listdir("/proc/self/fd")) < 100


@pytest.fixture
def image(tmp_path: Path) -> StoredImage:
    return add_image(tmp_path / "images", size_bytes=SIZE)


@pytest.fixture
def ports(tmp_path: Path, image: StoredImage) -> Iterator[Ports]:
    """Servers of a farm with one image, `node`, and static files."""
    (tmp_path / "tftp/rpi").mkdir(parents=True)
    (tmp_path / "tftp/rpi/start4.elf").write_bytes(noise("rpi", 3_000_000))
    (tmp_path / "tftp/link").symlink_to("/etc/passwd")
    (tmp_path / "state/boot").mkdir(parents=True)
    farm = {
        "server": {"state": "state", "files": "tftp"},
        "images": {"node": {"path": "images/node"}},
    }
    (tmp_path / "farm.yaml").write_text(yaml.safe_dump(farm))
    with serving(tmp_path / "farm.yaml", tmp_path / "log") as ports:
        yield ports


def point_to(store: Path, name: str, other: str) -> None:
    """Make `name` mean the image that `other` means."""
    new = store / ".new-link"
    new.symlink_to(os.readlink(store / other))
    new.rename(store / name)


def curl(*argv: str, check: bool = True) -> bytes:
    """Return what curl got."""
    done = subprocess.run(["curl", "-sS", "--max-time", "180", *argv], capture_output=True, check=False)
    assert not check or not done.returncode, done.stderr
    return done.stdout


class Reader:
    """A client of HTTP that reads when it is told to."""

    def __init__(self, port: int, name: str, *headers: str) -> None:
        self._sock = socket.socket()
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        self._sock.settimeout(PATIENCE_S)
        self._sock.connect(("127.0.0.1", port))
        lines = [f"GET /{name} HTTP/1.1", "Host: x", "Connection: close", *headers]
        self._sock.sendall("\r\n".join([*lines, "", ""]).encode())
        self._file = self._sock.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        fields = iter(self._file.readline, b"\r\n")
        self.headers = dict(line.decode().rstrip("\r\n").split(": ", 1) for line in fields)

    def read(self, length: int = -1) -> bytes:
        """Return so many bytes of the body, or all that is left."""
        data = self._file.read(length)
        if length < 0:
            self._file.close()
            self._sock.close()
        return data


@requires("curl")
def test_every_name_gives_the_same_bytes_by_tftp_and_http(ports: Ports, image: StoredImage) -> None:
    for which in ("node", image.image_id):
        for file in ("vmlinuz", "SHA256SUMS", "root.squashfs.sha256"):
            by_http = curl(f"http://127.0.0.1:{ports.http}/images/{which}/{file}")
            assert by_http == curl(f"tftp://127.0.0.1:{ports.tftp}/images/{which}/{file}"), file
            assert by_http, file
    listed = curl(f"http://127.0.0.1:{ports.http}/images/node/root.squashfs.sha256")
    squashfs = curl(f"http://127.0.0.1:{ports.http}/images/node/root.squashfs")
    assert listed == f"{hashlib.sha256(squashfs).hexdigest()}  root.squashfs\n".encode()
    for scheme, port in (("http", ports.http), ("tftp", ports.tftp)):
        assert curl(f"{scheme}://127.0.0.1:{port}/rpi/start4.elf") == noise("rpi", 3_000_000)


@requires("curl")
def test_only_what_is_named_by_its_digest_may_be_kept_for_ever(ports: Ports, image: StoredImage) -> None:
    for name, caching, etag in (
        (f"images/{image.image_id}/vmlinuz", "public, max-age=31536000, immutable", image.sums["vmlinuz"]),
        (f"images/{image.image_id}/vmlinuz.sha256", "public, max-age=31536000, immutable", None),
        ("images/node/vmlinuz", "no-cache", image.sums["vmlinuz"]),
        ("images/node/vmlinuz.sha256", "private, no-cache", None),
        ("rpi/start4.elf", "no-cache", None),
    ):
        answer = Reader(ports.http, name)
        assert (answer.status, answer.headers["Cache-Control"]) == (200, caching), name
        assert etag is None or answer.headers["ETag"] == f'"{etag}"'
        answer.read()


def test_a_name_that_is_switched_mid_download_is_finished_and_resumed_as_what_it_was(
    ports: Ports, image: StoredImage, tmp_path: Path
) -> None:
    old, new = noise("root.squashfs one", SIZE), noise("root.squashfs two", SIZE)
    add_image(tmp_path / "images", "other", "two", SIZE)  # so that the switch takes no time
    slow = Reader(ports.http, "images/node/root.squashfs")
    etag = slow.headers["ETag"]
    begun = slow.read(1 << 20)
    point_to(tmp_path / "images", "node", "other")
    assert begun + slow.read() == old, "the file that was opened is sent to its end"

    half = f"Range: bytes={SIZE // 2}-"
    resumed = Reader(ports.http, "images/node/root.squashfs", half, f"If-Range: {etag}")
    assert resumed.status == 200
    assert resumed.headers["ETag"] != etag
    assert resumed.read() == new, "all of the new one, and no mixture"
    assert Reader(ports.http, "images/node/root.squashfs", half, f"If-Match: {etag}").status == 412

    kept = Reader(ports.http, f"images/{image.image_id}/root.squashfs", half, f"If-Range: {etag}")
    assert (kept.status, kept.read()) == (206, old[SIZE // 2 :])
    again = Reader(ports.http, "images/node/root.squashfs", half, f"If-Range: {resumed.headers['ETag']}")
    assert (again.status, again.read()) == (206, new[SIZE // 2 :])


@requires("curl")
def test_a_name_that_is_switched_mid_transfer_is_sent_by_tftp_as_what_it_was(
    ports: Ports, image: StoredImage, tmp_path: Path
) -> None:
    url = f"tftp://127.0.0.1:{ports.tftp}/images/node/root.squashfs"
    add_image(tmp_path / "images", "other", "two", SIZE)  # so that the switch takes no time
    argv = ["curl", "-sS", "--tftp-blksize", "1428", "--limit-rate", "8M", url]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        begun = client.stdout.read(1 << 16)
        point_to(tmp_path / "images", "node", "other")
        assert client.poll() is None, "it is not over yet"
        assert begun + client.stdout.read() == noise("root.squashfs one", SIZE)
        assert client.wait(PATIENCE_S) == 0
    assert curl("--tftp-blksize", "1428", url) == noise("root.squashfs two", SIZE)


CLIMBING = [
    "../secret", "..%2fsecret", "%2e%2e/secret", "%252e%252e/secret", "..%5csecret", "..\\secret",
    "%c0%ae%c0%ae/secret",
    "rpi/../../secret", "/etc/passwd", "//etc/passwd", "link", "rpi/", "rpi", "images/", "images/node/",
    "images/node/modules/00-squashfs.ko", "images/node/../../secret", "images/../farm.yaml", "farm.yaml", "state/lock",
    "secret%00", "rpi/start4.elf%00", "rpi/start4.elf/", ".hidden", "images/by-sha256/vmlinuz", "%ff", "a" * 5000,
]  # fmt: skip


@requires("curl")
def test_no_name_leads_out_by_either_server(ports: Ports, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "tftp2"):
        folder.mkdir(exist_ok=True)
        (folder / "secret").write_bytes(b"secret")
    (tmp_path / "tftp/.hidden").write_bytes(b"secret")
    for name in [*CLIMBING, "../tftp2/secret"]:
        code = curl("--path-as-is", "-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{ports.http}/{name}")
        assert code in (b"400", b"404", b"414"), name
        if len(name) < 400:
            assert curl("--path-as-is", f"tftp://127.0.0.1:{ports.tftp}/{name}", check=False) == b"", name


@requires("curl", "busybox", "grub-mknetdir")
def test_the_daemon_serves_static_files_and_says_when_there_are_none(tmp_path: Path) -> None:
    files = tmp_path / "static"
    settings = {"interfaces": ["eth1"], "state": str(tmp_path / "state"), "files": str(files)}
    prepared = Prepared(
        tmp_path, make_grub(tmp_path / "grub"), server=settings | {"control": str(tmp_path / "c.sock")}
    )
    with Segment(client_address="10.77.0.50/24") as segment:
        daemon = Daemon(segment.server, tmp_path, "-c", str(prepared.configuration))
        assert f"server.files: {files} is not there; machines find nothing in it" in daemon.log
        (files / "6c5a1b2d").mkdir(parents=True)
        (files / "6c5a1b2d/start4.elf").write_bytes(b"of one Pi")
        (files / "autoexec.ipxe").write_bytes(b"#!ipxe\n")
        (files / "lts.conf").write_bytes(b"static")
        stranger = segment.client
        for url in (f"http://{SERVER}", f"tftp://{SERVER}"):
            for name, said in (("6c5a1b2d/start4.elf", "of one Pi"), ("autoexec.ipxe", "#!ipxe\n"), ("lts.conf", "")):
                done = stranger.run("curl", "-sf", f"{url}/{name}", check=False)
                assert done.stdout == said, (url, name)
        daemon.stop()
        assert "Traceback" not in daemon.log
