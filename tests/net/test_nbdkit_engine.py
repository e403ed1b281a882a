"""nbdkit as a child of ours, asked by other people's clients."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from pxeboot.image import store
from tests.support.certificates import Authority
from tests.support.fake_image import add_image
from tests.support.nbdkit_server import NbdkitServer, running
from tests.support.segment import requires
from tests.support.waiting import until

pytestmark = [pytest.mark.net]
needs_nbdkit = requires("nbdkit", "nbdinfo", "nbdcopy")

SIZE = 3_000_001
PADDED = 3_002_368
Start = Callable[..., NbdkitServer]


def run(*argv: str | Path, check: bool = True, within_s: float = 120) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True, errors="replace", timeout=within_s)
    assert not (check and done.returncode), f"{argv}: {done.stdout}{done.stderr}"
    return done


@pytest.fixture
def images(tmp_path: Path) -> Path:
    add_image(tmp_path / "images", "node", "one", SIZE)
    add_image(tmp_path / "images", "other", "two", SIZE)
    return tmp_path / "images"


@pytest.fixture
def start(tmp_path: Path, images: Path) -> Iterator[Start]:
    """Starts a server for the images, with settings of `nbd`."""
    with ExitStack() as running_ones:

        def start(nbd: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None) -> NbdkitServer:
            farm: dict[str, Any] = {
                "images": {name: {"path": str(images / name), "engine": "nbdkit"} for name in ("node", "other")},
                "nbd": {"default": "node", **(nbd or {})},
            }
            return running_ones.enter_context(running(tmp_path, farm, environment))

        yield start


def content(image: Path) -> bytes:
    return (image / store.SQUASHFS).read_bytes() + bytes(PADDED - SIZE)


def is_alive(pid: int) -> bool:
    """Whether a process is there, and not only waits to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@needs_nbdkit
@pytest.mark.parametrize("connections", [1, 4])
def test_every_byte_of_an_image_comes_through_nbdkit(
    tmp_path: Path, images: Path, start: Start, connections: int
) -> None:
    server = start()
    server.ready()
    got = tmp_path / "got"
    run("nbdcopy", f"--connections={connections}", server.uri("node"), got)
    assert got.read_bytes() == content(images / "node")
    told = "NBD export 'node' opened through nbdkit, 3 MB"
    until(lambda: any(told in event for event in server.events), "it is told")


@needs_nbdkit
def test_nbdinfo_learns_what_our_own_engine_says(start: Start) -> None:
    server = start()
    server.ready()
    (export,) = json.loads(run("nbdinfo", "--json", server.uri()).stdout)["exports"]
    assert export["export-size"] == PADDED
    flags = ("is_read_only", "can_multi_conn", "can_cache", "is_rotational")
    assert [export[flag] for flag in flags] == [True, True, True, False]
    sizes = [export[f"block_size_{kind}"] for kind in ("minimum", "preferred", "maximum")]
    assert sizes == [1, 4096, 32 << 20]
    assert "image node" in export["description"]


@needs_nbdkit
def test_exports_are_listed_and_found_by_name_by_digest_and_by_default(images: Path, start: Start) -> None:
    server = start()
    server.ready()
    listed = json.loads(run("nbdinfo", "--list", "--json", server.uri("")).stdout)["exports"]
    assert [export["export-name"] for export in listed] == ["node", "other"]
    digest = store.open_image(images / "other").image_id
    for name, said in (("", "image node "), ("node", "image node "), ("/node", "image node "), (digest, digest[:12])):
        assert said in run("nbdinfo", server.uri(name)).stdout
    refused = run("nbdinfo", server.uri("../../etc/passwd"), check=False)
    assert refused.returncode != 0
    server.wait(lambda state: state["open"] == 0 and state["readers"] == 0)
    server.wait(lambda state: state["counters"].get("refused", 0) >= 1)
    assert server.logged("NBD export '../../etc/passwd': there is no such image")


@needs_nbdkit
def test_nobody_who_is_unknown_gets_an_export_where_access_is_for_known_ones(start: Start) -> None:
    server = start({"access": "known"})
    server.ready()
    assert run("nbdinfo", server.uri(), check=False).returncode != 0
    assert server.logged("127.0.0.1: NBD export 'node': its address is no machine's of ours")
    assert "nbdkit says" not in server.log  # it was told once


@needs_nbdkit
def test_filters_work_with_their_parameters(tmp_path: Path, images: Path, start: Start) -> None:
    filters = {"filters": ["readahead", "offset"], "parameters": {"offset": "4096", "range": "8192"}}
    server = start({"nbdkit": filters})
    server.ready()
    got = tmp_path / "got"
    run("nbdcopy", server.uri("node"), got)
    assert got.read_bytes() == content(images / "node")[4096:12288]


@needs_nbdkit
def test_a_disk_stays_what_it_was_when_its_name_moves_on(tmp_path: Path, images: Path, start: Start) -> None:
    server = start()
    server.ready()
    before = content(images / "node")
    script = f"import os,sys; h.connect_uri('{server.uri()}'); print('open', flush=True); sys.stdin.readline(); "
    script += "print(h.pread(4096, 8192).hex())"
    argv = ["/usr/bin/python3", "-P", "-c", f"import nbd; h = nbd.NBD(); {script}"]
    client = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
    assert client.stdout is not None
    assert client.stdout.readline() == "open\n"
    server.wait(lambda state: state["open"] == state["readers"] == 1)
    add_image(images, "node", "three", SIZE)
    told, _ = client.communicate("\n", 120)
    assert bytes.fromhex(told) == before[8192 : 8192 + 4096]
    server.wait(lambda state: state["open"] == 0 and state["readers"] == 0)
    got = tmp_path / "got"
    run("nbdcopy", server.uri("node"), got)
    assert got.read_bytes() == content(images / "node") != before


@needs_nbdkit
@pytest.mark.parametrize("harm", ["shorter", "rewritten"])
def test_an_image_that_is_changed_in_place_is_an_io_error(images: Path, start: Start, harm: str) -> None:
    server = start()
    server.ready()
    path = (images / "node" / store.SQUASHFS).resolve()
    script = f"""
import nbd, os
h = nbd.NBD(); h.connect_uri({server.uri()!r})
h.pread(4096, 0)
os.chmod({str(path)!r}, 0o644)
if {harm!r} == "shorter":
    os.truncate({str(path)!r}, 10000)
else:
    with open({str(path)!r}, "r+b") as file: file.write(b"others")
try:
    h.pread(4096, 2000000)
except nbd.Error as error:
    print(error.errno)
"""
    assert run("/usr/bin/python3", "-P", "-c", script).stdout == "EIO\n"


@needs_nbdkit
def test_nbdkit_that_was_killed_is_back_and_whoever_came_meanwhile_waited(start: Start) -> None:
    server = start()
    first = server.ready()["pid"]
    os.kill(first, signal.SIGSTOP)  # nobody accepts now
    waiting = subprocess.Popen(["nbdinfo", "--size", server.uri()], stdout=subprocess.PIPE, text=True)
    time.sleep(0.3)
    os.kill(first, signal.SIGKILL)
    after = server.wait(lambda state: bool(state["serves"]) and state["pid"] != first)
    assert run("nbdinfo", "--size", server.uri()).stdout.strip() == str(PADDED)
    assert waiting.communicate(timeout=120)[0].strip() == str(PADDED)
    assert after["counters"]["started"] == 2, server.log
    assert server.logged("lo: nbdkit was ended by signal 9; started again in 0.2 s")


@needs_nbdkit
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nbdkit_ends_with_us_however_we_end(start: Start, number: int) -> None:
    server = start()
    child = server.ready()["pid"]
    with socket.create_connection(("127.0.0.1", server.port)) as silent:  # a client that it would wait for
        silent.recv(1)
        server.stop(number)
        until(lambda: not is_alive(child), "nbdkit ends")


@needs_nbdkit
def test_nbdkit_that_does_not_end_when_told_is_killed(start: Start) -> None:
    server = start()
    child = server.ready()["pid"]
    os.kill(child, signal.SIGSTOP)
    server.stop()
    assert not is_alive(child)


@needs_nbdkit
def test_what_nbdkit_cannot_start_with_is_told_and_tried_again_more_and_more_seldom(start: Start) -> None:
    server = start({"nbdkit": {"filters": ["offset"], "parameters": {"offset": "never"}}})
    state = server.wait(lambda state: state["counters"].get("ended", 0) >= 3)
    assert not state["serves"]
    assert server.logged("lo: nbdkit says 'nbdkit: error: ")
    for wait_s in ("0.2", "0.5", "1.0"):
        assert server.logged(f"lo: nbdkit ended with status 1; started again in {wait_s} s")


@needs_nbdkit
def test_a_parameter_that_no_filter_takes_is_named(start: Start) -> None:
    server = start({"nbdkit": {"parameters": {"nosuch": "1"}}})
    server.wait(lambda state: state["counters"].get("ended", 0) >= 1)
    assert server.logged("no filter of `nbd.nbdkit.filters` takes the parameter 'nosuch'")


@needs_nbdkit
def test_only_our_own_children_may_ask(tmp_path: Path, start: Start) -> None:
    server = start()
    server.ready()
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.settimeout(60)
        stranger.connect(str(tmp_path / "state/nbdkit.sock"))
        with suppress(ConnectionError):  # it may have hung up already
            stranger.sendall(b'{"ask": "list", "peer": "127.0.0.1", "secure": true}\n')
        with suppress(ConnectionError):
            assert stranger.recv(100) == b""
    server.wait(lambda state: state["counters"].get("broken off", 0) == 1)
    assert (tmp_path / "state/nbdkit.sock").stat().st_mode & 0o777 == 0o600


@needs_nbdkit
@pytest.mark.parametrize("mode", ["required", "offered"])
def test_tls_is_as_for_our_own_engine(tmp_path: Path, start: Start, mode: str) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.sign("server")
    server = start({"tls": {"certificate": str(certificate), "key": str(key), "mode": mode}})
    server.ready()
    folder = tmp_path / "client"
    folder.mkdir()
    (folder / "ca-cert.pem").symlink_to(authority.certificate)
    secure = run("nbdinfo", "--size", server.uri("node", f"?tls-certificates={folder}"))
    assert secure.stdout.strip() == str(PADDED)
    plain = run("nbdinfo", "--size", server.uri(), check=False)
    assert (plain.returncode == 0) == (mode == "offered")


@needs_nbdkit
def test_a_new_certificate_is_used_though_a_client_stays(tmp_path: Path, start: Start) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    certificate, key = old.sign("server")
    server = start({"tls": {"certificate": str(certificate), "key": str(key)}})
    server.ready()
    with socket.create_connection(("127.0.0.1", server.port)) as silent:
        silent.recv(1)
        for path, newer in zip((certificate, key), new.sign("server"), strict=True):
            newer.replace(path)
        server.wait(lambda state: state["counters"]["started"] >= 2 and bool(state["serves"]))
    folder = tmp_path / "client"
    folder.mkdir()
    (folder / "ca-cert.pem").symlink_to(new.certificate)
    said = run("nbdinfo", "--size", server.uri("node", f"?tls-certificates={folder}"))
    assert said.stdout.strip() == str(PADDED)
    assert server.logged("lo: nbdkit was ended for its new certificate; started again in 0.2 s")
