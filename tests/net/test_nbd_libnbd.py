"""libnbd, the client library, against the real transport: what no command line tool asks for."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.nbd_commands import has_libnbd, libnbd
from tests.support.nbd_server import Server, running
from tests.support.segment import lacking

pytestmark = pytest.mark.net

SIZE = 48 << 20
DATA = 4 << 20
"""How much of the sparse file is data, at its start and at its end."""


@pytest.fixture(scope="module")
def content() -> bytes:
    pattern = b"".join(n.to_bytes(8, "big") for n in range(DATA // 8))
    return pattern + bytes(SIZE - 2 * DATA) + pattern[::-1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> Iterator[Server]:
    if not has_libnbd():
        lacking("needs python3-libnbd")
    folder = tmp_path_factory.mktemp("nbd") / "exports"
    folder.mkdir()
    with (folder / "node").open("wb") as file:
        file.write(content[:DATA])
        file.seek(SIZE - DATA)
        file.write(content[-DATA:])
    (folder / "other").write_bytes(bytes(8192))
    with running(folder) as server:
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log


@pytest.fixture
def script(server: Server, tmp_path: Path) -> Callable[[str], str]:
    """Runs a script that is given the export's URI and its content as a file."""
    return lambda text: libnbd(text, server.uri(), server.folder / "node")


CONNECTED = 'h.add_meta_context("base:allocation")\nh.connect_uri(args[0])\nwant = open(args[1], "rb").read()\n'
WITHOUT_CHUNKS = "h.set_request_structured_replies(False)\n"


def test_what_libnbd_negotiates(script: Callable[[str], str]) -> None:
    asked = (
        "print(h.get_structured_replies_negotiated(), h.can_df(), h.can_meta_context('base:allocation'), h.get_size(),"
    )
    asked += (
        " h.is_read_only(), h.can_multi_conn(), h.can_cache(), h.can_flush(), h.can_trim(), h.can_zero(), h.can_fua())"
    )
    said = script(CONNECTED + asked).split()
    assert said == ["True", "True", "True", str(SIZE), *["True"] * 4, *["False"] * 3]
    said = script(WITHOUT_CHUNKS + CONNECTED + asked).split()
    assert said == ["False", "False", "False", str(SIZE), *["True"] * 4, *["False"] * 3]


@pytest.mark.parametrize("before", ["", WITHOUT_CHUNKS], ids=["structured", "simple"])
@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 1), (511, 1026), (DATA - 4096, 8192), (SIZE - 1, 1), (3 << 20, 2 << 20), (0, 32 << 20), (16 << 20, 32 << 20)],
)
def test_a_read_gets_its_bytes(script: Callable[[str], str], before: str, offset: int, length: int) -> None:
    script(before + CONNECTED + f"assert h.pread({length}, {offset}) == want[{offset}:{offset + length}]")


CHUNKS = """
def read(length, offset, flags=0):
    found = []
    def chunk(data, at, status, error):
        found.append((at, len(data), status))
        assert bytes(data) == want[at : at + len(data)], at
    h.pread_structured(length, offset, chunk, flags)
    return sorted(found)
"""


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 512), (0, 65536), (DATA - 65536, 131072), (100, 3 << 20), (0, 32 << 20)]
)
def test_chunks_cover_a_read_once(script: Callable[[str], str], offset: int, length: int) -> None:
    script(f"""{CONNECTED}{CHUNKS}
at = {offset}
for start, size, status in read({length}, {offset}):
    assert start == at and size, (start, at)
    at += size
assert at == {offset + length}, at
""")


@pytest.mark.parametrize(("offset", "length"), [(0, 1), (DATA - 32768, 65536), (DATA - 4096, 1 << 20), (0, 32 << 20)])
def test_df_is_one_chunk_of_data(script: Callable[[str], str], offset: int, length: int) -> None:
    script(f"""{CONNECTED}{CHUNKS}
assert read({length}, {offset}, nbd.CMD_FLAG_DF) == [({offset}, {length}, nbd.READ_DATA)]
""")


STATUS = """
def status(length, offset, flags=0):
    found = []
    def extents(context, at, entries, error):
        assert (context, at) == ("base:allocation", offset)
        found.extend(zip(entries[::2], entries[1::2]))
    h.block_status(length, offset, extents, flags)
    return found
"""


def test_block_status_tells_of_the_holes_of_a_sparse_file(script: Callable[[str], str]) -> None:
    script(f"""{CONNECTED}{STATUS}
assert status({SIZE}, 0) == [({DATA}, 0), ({SIZE - 2 * DATA}, 3), ({DATA}, 0)], status({SIZE}, 0)
assert status({SIZE}, 0, nbd.CMD_FLAG_REQ_ONE) == [({DATA}, 0)]
assert status(4096, {SIZE - 4096}) == [(4096, 0)]
assert status(4096, {2 * DATA}, nbd.CMD_FLAG_REQ_ONE) == [(4096, 3)]
""")


REFUSED = """
def refused(number, command, *args, **kwargs):
    try:
        command(*args, **kwargs)
    except nbd.Error as error:
        assert error.errnum == number, error
    else:
        raise AssertionError("was not refused")
    assert h.pread(512, 512) == want[512:1024]
h.set_strict_mode(0)
"""


@pytest.mark.parametrize("before", ["", WITHOUT_CHUNKS], ids=["structured", "simple"])
def test_what_is_wrong_is_refused_and_the_connection_goes_on(script: Callable[[str], str], before: str) -> None:
    script(f"""{before}{CONNECTED}{REFUSED}
refused(errno.EINVAL, h.pread, 512, {SIZE})
refused(errno.EINVAL, h.pread, 1024, {SIZE - 512})
refused(errno.EINVAL, h.pread, 1024, 2**63 - 512)
refused(errno.EINVAL, h.pread, 512, 0, 0x8000)
refused(errno.EINVAL, h.cache, 512, {SIZE})
refused(errno.EINVAL, h.cache, 512, 0, 0x4000)
refused(errno.EPERM, h.pwrite, b"x" * 512, 0)
refused(errno.EPERM, h.pwrite, b"x" * (1 << 20), 0)
refused(errno.EPERM, h.trim, 4096, 0)
refused(errno.EPERM, h.zero, 4096, 0)
h.flush()
h.cache({SIZE}, 0)
""")


@pytest.mark.parametrize("before", ["", WITHOUT_CHUNKS], ids=["structured", "simple"])
def test_reads_in_flight_are_all_answered(script: Callable[[str], str], before: str) -> None:
    script(f"""{before}{CONNECTED}
reads = [(n * 7919 * 512 % ({SIZE} - (1 << 20)), 512 * (n % 600 + 1)) for n in range(800)]
buffers = [nbd.Buffer(length) for _, length in reads]
waiting = [h.aio_pread(buffer, offset) for buffer, (offset, _) in zip(buffers, reads)]
while waiting:
    waiting = [cookie for cookie in waiting if not h.aio_command_completed(cookie)]
    if waiting:
        h.poll(-1)
for buffer, (offset, length) in zip(buffers, reads):
    assert bytes(buffer.to_bytearray()) == want[offset : offset + length], offset
h.shutdown()
""")


def test_options_can_be_haggled_over(server: Server) -> None:
    host, port = "127.0.0.1", str(server.port)
    libnbd(
        f"""
h.set_opt_mode(True)
h.set_request_structured_replies(True)
h.connect_tcp(args[0], args[1])
names = []
h.opt_list(lambda name, description: names.append(name))
assert names == ["node", "other"], names
h.set_export_name("unknown")
try:
    h.opt_info()
    raise SystemExit("an unknown export was found")
except nbd.Error as error:
    assert error.errnum == errno.ENOENT, error
h.set_export_name("other")
contexts = []
h.opt_list_meta_context(contexts.append)
assert contexts == ["base:allocation"], contexts
h.add_meta_context("base:allocation")
h.add_meta_context("x-other:thing")
h.opt_info()
assert h.get_size() == 8192
h.set_export_name("node")
h.opt_go()
assert h.get_size() == {SIZE}
assert h.can_meta_context("base:allocation") and not h.can_meta_context("x-other:thing")
h.shutdown()
""",
        host,
        port,
    )


def test_negotiation_can_be_aborted(server: Server) -> None:
    libnbd("h.set_opt_mode(True)\nh.connect_tcp(args[0], args[1])\nh.opt_abort()", "127.0.0.1", str(server.port))


def test_a_client_without_fixed_newstyle_gets_the_default_export_by_export_name(server: Server) -> None:
    """And the 124 zeroes, because it did not waive them."""
    (server.folder / "default").unlink(missing_ok=True)
    (server.folder / "default").symlink_to("node")
    try:
        libnbd(f"h.set_handshake_flags(0)\nh.connect_uri(args[0])\nassert h.get_size() == {SIZE}", server.uri(""))
    finally:
        (server.folder / "default").unlink()
