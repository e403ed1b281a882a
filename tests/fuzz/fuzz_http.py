"""Requests grown by what code they reach, against the real HTTP server in this process and the pure parts of it.

    python -m tests.fuzz.fuzz_http [SECONDS [INPUT]]

The first byte of an input chooses the target in `TARGETS`. A request is sent in pieces, and twice at once, the second
time when the short way may know the file: those answers have to be the same, each of them well formed, none of them
500, and nothing an error in the log; every sixteenth time the server also has to close the connection within its
deadlines. What fails ends the run with a code that is not 0, and is left in .build/fuzz. With INPUT, a file, only that
is run.
"""

import asyncio
import logging
import os
import re
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import atheris

with atheris.instrument_imports(include=["httpimage"]):
    from httpimage import conditional, connection, dates, names, ranges, reports, shortcut
    from httpimage.transport import application, open_socket, serve

from tests.fuzz.running import FOLDER, run
from tests.net.test_httpimage_attacks import AMBIGUOUS, PLAIN
from tests.support.serve_httpimage import Folder, stage_of

LONGEST = 4096
HANGS_S = 5.0
STATUSES = {100, 200, 204, 206, 304, 400, 403, 404, 405, 408, 412, 413, 414, 415, 416, 417, 431, 501, 503, 505}
FILE = bytes(range(256)) * 16
SHORT_S = 0.05
"""The server's deadlines, made short."""

SILENCE_S = 0.008
"""How long the server may say nothing before a client leaves."""

_DATE = re.compile(rb"\r\nDate: [^\r]*")
_BOUNDARY = re.compile(rb"[0-9a-f]{32}")
_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [A-Za-z][A-Za-z -]*\r\n((?:[A-Za-z-]+: [\x20-\x7e]+\r\n)*)\r\n")


class Errors(logging.Handler):
    """Collects what must not be logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep errors and tracebacks; a warning is fine."""
        if record.levelno >= logging.ERROR or record.exc_info:
            self.lines.append(self.format(record))


class Server:
    """The server, and clients in the same loop."""

    def __init__(self) -> None:
        connection.HEADER_S = connection.IDLE_S = connection.LINGER_S = reports.REPORT_S = SHORT_S
        self.errors = Errors()
        logging.getLogger().addHandler(self.errors)
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        folder = FOLDER / "served"
        (folder / "images").mkdir(parents=True, exist_ok=True)
        for name in ("ten", "second", "vmlinuz", "images/root.squashfs"):
            (folder / name).write_bytes(FILE)
            os.utime(folder / name, (784111777, 784111777))
        app = application(Folder(folder), lambda _: None, stage_of, lambda peer, stage, text: stage == "system")
        sock = open_socket("127.0.0.1", 0)
        self._address = sock.getsockname()
        self._serving = self._loop.create_task(serve(sock, app))
        self._run(asyncio.sleep(0.2))  # a file that is younger has a tag that nothing will have again

    def _run(self, work: Coroutine[Any, Any, bytes | None]) -> bytes:
        assert not self._serving.done(), self._serving
        return self._loop.run_until_complete(work) or b""

    def answers(self, sent: bytes, step: int, *, to_the_end: bool) -> bytes:
        """Return what is answered to `sent`, in pieces of `step` bytes; wait for the end, or for silence."""
        return self._run(self._exchange(sent, step, to_the_end))

    async def _exchange(self, sent: bytes, step: int, to_the_end: bool) -> bytes:
        reader, writer = await asyncio.open_connection(*self._address)
        got = b""
        try:
            for begin in range(0, len(sent), step):
                writer.write(sent[begin : begin + step])
                await asyncio.sleep(0)
            async with asyncio.timeout(HANGS_S if to_the_end else SILENCE_S):
                while piece := await reader.read(1 << 20):
                    got += piece
        except TimeoutError:
            if to_the_end:
                raise AssertionError(f"the server hangs; it said {got!r}") from None
        except ConnectionError:
            pass  # closed while we sent
        finally:
            writer.transport.abort()
        return got


SERVER = Server()


def requests(data: bytes) -> None:
    """A stream of bytes as a client sends it, whole or in pieces."""
    step, to_the_end, sent = 1 + data[0] ** 2 // 16, data[1] % 16 == 0, data[2:]
    heads(SERVER.answers(sent, step, to_the_end=to_the_end))
    first, second = (heads(SERVER.answers(sent, len(sent) or 1, to_the_end=to_the_end)) for _ in range(2))
    for one, other in zip(first, second, strict=False):
        assert one == other, (one, other)
    assert not SERVER.errors.lines, SERVER.errors.lines


def heads(got: bytes) -> list[bytes]:
    """Return the answers without what differs each time; the last may lack a part of its body."""
    found = []
    while got:
        match = _HEAD.match(got)
        assert match, got
        assert int(match[1]) in STATUSES, got
        head = _BOUNDARY.sub(b"", _DATE.sub(b"", match[0]))
        fields = [line.partition(b": ") for line in match[2].split(b"\r\n")]
        length = [int(value) for name, _, value in fields if name == b"Content-Length"]
        assert len(length) == (int(match[1]) not in (100, 204, 304)), got
        got = got[match.end() :]
        if length and not got.startswith(b"HTTP/1.1 "):  # else it answers a HEAD
            got = got[length[0] :]
        found.append(
            b"refused" if int(match[1]) >= 400 and b"Connection: close" in head else head
        )  # how, depends on time
    return found


def targets(data: bytes) -> None:
    """Names, and whose they are."""
    text = data.decode("utf-8", "surrogateescape")
    for target in (text, "/" + text):
        name = names.relative_name(target)
        assert name is None or not {"", ".", ".."} & set(name.split("/"))
    names.host_is_valid([text], required=True)
    names.content_type(text)


def headers(data: bytes) -> None:
    """Range, If-Range, the preconditions and dates."""
    text = data.decode("latin-1")
    for size in (0, 1, 10, 2**33):
        match ranges.select(text, size):
            case ranges.Spans(spans):
                assert 0 < len(spans) <= ranges.MAX_RANGES
                assert all(0 <= span.first_pos <= span.last_pos < size for span in spans)
                assert sum(span.length for span in spans) <= size
            case _:
                pass
    parsed = dates.parse_date(text)
    if parsed is not None and parsed >= 0:
        assert dates.parse_date(dates.format_date(parsed)) == parsed
    validators = conditional.Validators("v1", 784111777)
    conditional.range_applies(text, validators, 784111778)
    first, second = text[: len(text) // 2], text[len(text) // 2 :]
    conditional.evaluate(conditional.Conditions(first, second, text, text), validators)


def short_way(data: bytes) -> None:
    """What the short way takes is one plain request, and nothing of it is left out."""
    asked = shortcut.understand(data)
    if asked is not None:
        assert shortcut.is_plain(data)
        assert data.startswith(f"GET {asked.target} HTTP/1.1\r\n".encode())
        assert data.count(b"\r\n\r\n") == 1
        assert names.relative_name(asked.target) is not None or "/." in asked.target or asked.target.endswith("/")


TARGETS: tuple[Callable[[bytes], None], ...] = (requests, requests, requests, targets, headers, short_way)


def once(data: bytes) -> None:
    """Run one input."""
    if len(data) > 3:
        target = TARGETS[data[0] % len(TARGETS)]
        try:
            target(data[1:])
        except Exception:
            print(f"failed in {target.__name__} with {data.hex()}", file=sys.stderr)
            raise


def seeds() -> list[bytes]:
    """Every request of the tests, and what machines send."""
    found = [case.values[0] for case in (*AMBIGUOUS, *PLAIN) if isinstance(case.values[0], bytes)]
    for target in ("/ten", "/images/root.squashfs", "/made/grub.cfg", "/secret/lts.conf", "//ten", "/../x", "/absent"):
        for method in ("GET", "HEAD"):
            start = f"{method} {target} HTTP/1.1\r\nHost: 192.0.2.1\r\n"
            found += [
                f"{start}{more}\r\n".encode()
                for more in (
                    "",
                    "Range: bytes=1-3\r\n",
                    "Range: bytes=0-0,5-6,-3\r\n",
                    'Range: bytes=5-\r\nIf-Range: "x"\r\n',
                    "If-None-Match: *\r\n",
                    'If-Match: W/"a", "b"\r\n',
                    "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
                    "Connection: close\r\n",
                    "Expect: 100-continue\r\n",
                    "User-Agent: GRUB 2.06\r\n\r\n",
                )
            ]
    found.append(b"POST /report/system HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    whole = [b"\0\xff" + bytes([n % 32]) + request for n, request in enumerate(found)]
    bytewise = [b"\0\0" + bytes([n % 32]) + request for n, request in enumerate(found)]
    return whole + bytewise + [b"\5" + request for request in found if b"Range" in request]


if __name__ == "__main__":
    run("corpus-http", once, seeds, LONGEST, timeout_s=20)
