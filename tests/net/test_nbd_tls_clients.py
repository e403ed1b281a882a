"""TLS for NBD with other people's clients, and with those that break its rules (N-30 to N-35, A-45)."""

import random
import shutil
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbd import wire
from nbd.wire import Opt, Rep
from tests.support.certificates import Authority
from tests.support.nbd_commands import has_libnbd, libnbd, run
from tests.support.nbd_server import RawClient, Server, running
from tests.support.segment import lacking, requires
from tests.support.waiting import quick

pytestmark = pytest.mark.net

SIZE = 6 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nbd") / "exports"
    folder.mkdir()
    (folder / "node").write_bytes(random.Random(5).randbytes(SIZE))
    (folder / "secret").write_bytes(random.Random(6).randbytes(SIZE))
    return folder


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("ca"))
    authority.sign("server")
    return authority


@pytest.fixture(scope="module")
def creds(authority: Authority) -> Path:
    """A folder with the names that GnuTLS clients look for: whom they trust, and nothing of their own."""
    return folder_of(authority, "creds")


def folder_of(authority: Authority, name: str, client: str = "") -> Path:
    folder = authority.folder / name
    folder.mkdir()
    shutil.copy(authority.certificate, folder / "ca-cert.pem")
    if client:
        certificate, key = authority.sign(client)
        shutil.copy(certificate, folder / "client-cert.pem")
        shutil.copy(key, folder / "client-key.pem")
    return folder


def serving(folder: Path, authority: Authority, mode: str, *client_ca: Path) -> Iterator[Server]:
    with running(
        folder, [mode, authority.folder / "server.pem", authority.folder / "server.key", *client_ca]
    ) as server:
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log


@pytest.fixture(scope="module")
def required(folder: Path, authority: Authority) -> Iterator[Server]:
    yield from serving(folder, authority, "required")


@pytest.fixture(scope="module")
def offered(folder: Path, authority: Authority) -> Iterator[Server]:
    yield from serving(folder, authority, "offered")


@pytest.fixture(scope="module", params=["required", "offered"])
def server(request: pytest.FixtureRequest) -> Server:
    chosen: Server = request.getfixturevalue(request.param)
    return chosen


def uri(server: Server, creds: Path, name: str = "secret") -> str:
    return f"nbds://127.0.0.1:{server.port}/{name}?tls-certificates={creds}"


@requires("nbdcopy")
@pytest.mark.parametrize("options", [["--connections=1"], ["--connections=4"], ["--request-size=4194304"]])
def test_nbdcopy_gets_every_byte_through_tls(server: Server, creds: Path, tmp_path: Path, options: list[str]) -> None:
    run("nbdcopy", *options, uri(server, creds), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (server.folder / "secret").read_bytes()


@requires("nbdinfo")
def test_nbdinfo_sees_tls_and_the_exports_that_are_there_with_it(server: Server, creds: Path) -> None:
    assert run("nbdinfo", "--is=tls", uri(server, creds)).returncode == 0
    assert '"export-name": "secret"' in run("nbdinfo", "--list", "--json", uri(server, creds, "")).stdout


@requires("qemu-img")
def test_qemu_reads_through_tls(server: Server, creds: Path, tmp_path: Path) -> None:
    objects = ("--object", f"tls-creds-x509,id=tls0,endpoint=client,dir={creds}")
    source = f"driver=nbd,host=127.0.0.1,port={server.port},export=secret,tls-creds=tls0"
    run("qemu-img", "convert", *objects, "--image-opts", source, "-O", "raw", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (server.folder / "secret").read_bytes()


@requires("nbd-client")
def test_nbd_client_lists_through_tls(server: Server, authority: Authority) -> None:
    argv = ("nbd-client", "-l", "127.0.0.1", str(server.port), "-x", "-A", str(authority.certificate))
    assert "secret" in run(*argv).stdout


@requires("nbdinfo")
def test_without_tls_a_server_that_requires_it_tells_nothing(required: Server) -> None:
    for name in ("node", "secret", "unknown"):
        assert run("nbdinfo", required.uri(name), check=False).returncode
    assert "secret" not in run("nbdinfo", "--list", required.uri(""), check=False).stdout
    with RawClient(required).greet() as client:
        assert client.option(Opt.GO, wire.InfoRequest("node").encode())[-1].type == Rep.ERR_TLS_REQD
        assert client.option(Opt.LIST)[-1].type == Rep.ERR_TLS_REQD
        assert client.option(99)[-1].type == Rep.ERR_TLS_REQD


@requires("nbdinfo")
def test_without_tls_a_server_that_offers_it_serves_what_is_not_for_tls_only(offered: Server) -> None:
    assert run("nbdinfo", "--size", offered.uri("node")).stdout.strip() == str(SIZE)
    assert run("nbdinfo", "--size", offered.uri("secret"), check=False).returncode
    with RawClient(offered).greet() as client:
        assert client.option(Opt.GO, wire.InfoRequest("secret").encode())[-1].type == Rep.ERR_TLS_REQD
        assert client.option(Opt.GO, wire.InfoRequest("node").encode())[-1].type == Rep.ACK


@requires("nbdinfo")
def test_a_server_without_tls_says_so(folder: Path, creds: Path) -> None:
    with running(folder) as plain, RawClient(plain).greet() as client:
        assert client.option(Opt.STARTTLS)[-1].type in {Rep.ERR_UNSUP, Rep.ERR_POLICY}
        assert client.option(Opt.GO, wire.InfoRequest("node").encode())[-1].type == Rep.ACK
        assert run("nbdinfo", "--size", uri(plain, creds, "node"), check=False).returncode


class SecureClient(RawClient):
    """A client that speaks TLS, or will."""

    def secure(self, context: ssl.SSLContext) -> "SecureClient":
        """Make the handshake. Raises `ssl.SSLError`."""
        self.sock = context.wrap_socket(self.sock, server_hostname="127.0.0.1")
        return self

    def start_tls(self, context: ssl.SSLContext) -> "SecureClient":
        """Ask for TLS, and make the handshake. Raises `ssl.SSLError`."""
        assert self.greet().option(Opt.STARTTLS)[-1].type == Rep.ACK
        return self.secure(context)


def test_reads_through_tls_in_flight_are_all_answered(server: Server, authority: Authority) -> None:
    """More than fits any buffer, and nothing is received before all is sent."""
    content = (server.folder / "secret").read_bytes()
    with SecureClient(server).start_tls(authority.client()) as client:
        assert client.option(Opt.STARTTLS)[-1].type == Rep.ERR_INVALID
        assert client.option(Opt.GO, wire.InfoRequest("secret").encode())[-1].type == Rep.ACK
        client.send(*(wire.Request(wire.Cmd.READ, n, n * 4096, 8192).encode() for n in range(1000)))
        for _ in range(1000):
            reply = client.reply()
            assert client.receive(8192) == content[reply.cookie * 4096 :][:8192]
        client.request(wire.Cmd.READ, 1, 0, SIZE)
        assert client.reply() == wire.SimpleReply(1)
        assert client.receive(SIZE) == content
        client.request(wire.Cmd.DISC, 2)
        assert client.closed_by_server()


@pytest.mark.parametrize(
    ("version", "served"),
    [
        pytest.param(ssl.TLSVersion.TLSv1_1, False, marks=pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1")),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
def test_n_34_tls_1_2_and_later(offered: Server, authority: Authority, version: ssl.TLSVersion, served: bool) -> None:
    context = authority.client()
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    client = SecureClient(offered)
    try:
        client.start_tls(context)
        assert client.option(Opt.GO, wire.InfoRequest("secret").encode())[-1].type == Rep.ACK
    except ssl.SSLError:
        assert not served
    else:
        assert served
    finally:
        client.sock.close()


def test_n_33_plaintext_behind_starttls_is_not_answered_after_it(server: Server, authority: Authority) -> None:
    go = wire.InfoRequest("node").encode()
    with SecureClient(server).greet() as client:
        client.send(wire.OptionHeader(Opt.STARTTLS, 0).encode(), wire.OptionHeader(Opt.GO, len(go)).encode(), go)
        assert client.closed_by_server()
    with SecureClient(server).greet() as client:
        assert client.option(Opt.STARTTLS)[-1].type == Rep.ACK
        client.send(wire.OptionHeader(Opt.GO, len(go)).encode(), go)
        assert client.closed_by_server()


def test_a_certificate_that_the_client_does_not_know_ends_it_and_nobody_else(server: Server) -> None:
    stranger = ssl.create_default_context()
    client = SecureClient(server)
    with pytest.raises(ssl.SSLError):
        client.start_tls(stranger)
    client.sock.close()


def test_clients_that_stop_in_the_middle_of_a_handshake_hold_up_nobody(server: Server, authority: Authority) -> None:
    silent = [SecureClient(server).greet() for _ in range(40)]
    try:
        for client in silent:
            assert client.option(Opt.STARTTLS)[-1].type == Rep.ACK
            client.send(b"\x16\x03\x01")

        def served_s() -> float:
            started = time.monotonic()
            with SecureClient(server).start_tls(authority.client()) as client:
                assert client.option(Opt.GO, wire.InfoRequest("secret").encode())[-1].type == Rep.ACK
            return time.monotonic() - started

        assert quick(served_s, 5)
        assert all(client.closed_by_server() for client in silent)
    finally:
        for client in silent:
            client.sock.close()


def test_clients_need_a_certificate_where_one_is_asked_for(
    folder: Path, authority: Authority, creds: Path, tmp_path: Path
) -> None:
    theirs = Authority(tmp_path, "other")
    for server in serving(folder, authority, "required", authority.certificate):
        known = folder_of(authority, "known", "machine")
        if not has_libnbd():
            lacking("needs python3-libnbd")
        libnbd(
            "h.set_uri_allow_local_file(True)\nh.connect_uri(args[0])\nassert len(h.pread(4096, 0)) == 4096",
            uri(server, known),
        )
        stranger = authority.client(theirs.sign("stranger"))
        for context in (authority.client(), stranger):
            with SecureClient(server) as client:
                try:
                    client.start_tls(context)
                    assert client.option(Opt.LIST) == []
                except (ssl.SSLError, ConnectionError, EOFError):
                    continue
                raise AssertionError("it was let in")
        assert run("nbdinfo", uri(server, creds), check=False).returncode
