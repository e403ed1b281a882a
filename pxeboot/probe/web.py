"""Fetches by HTTP as a machine would, from a given address, and takes note of where it gets stuck."""

import errno
import http.client
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from pxeboot.probe.transfer import Address

CONNECT_S = 3.0
"""SYN goes out again after 1 and 3 s, so a loss or two are not taken for a firewall."""
SILENCE_S = 3.0


class Stuck(StrEnum):
    """What came of it in place of an answer."""

    REFUSED = "refused"
    """RST: nothing listens there, or a firewall says so."""
    DROPPED = "dropped"
    """Nobody answers: a firewall drops it, or nobody has the address."""
    UNREACHABLE = "unreachable"
    SILENT = "silent"
    """Connected, and then no answer."""
    STALLED = "stalled"
    """An answer that began and did not go on."""
    BROKEN = "broken"
    """Closed before its end, or no HTTP."""


@dataclass(frozen=True, slots=True)
class Got:
    """What came."""

    stuck: Stuck | None = None
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    """With small letters."""
    body: bytes = b""
    seconds: float = 0.0
    why: str = ""

    @property
    def length(self) -> int | None:
        """What Content-Length says."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isascii() and text.isdigit() else None


def connect(
    server: Address, source: str | None, mss: int | None = None, silence_s: float = SILENCE_S
) -> socket.socket:
    """Return a connection. With `mss`, segments that come have so many bytes at most. Raises `OSError`."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.settimeout(CONNECT_S)
        if mss is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss)
        if source is not None:
            sock.bind((source, 0))
        sock.connect(server)
        sock.settimeout(silence_s)
    except BaseException:
        sock.close()
        raise
    return sock


def why_not(error: OSError) -> Stuck:
    """Return what an error of `connect` says."""
    if isinstance(error, TimeoutError):
        return Stuck.DROPPED
    match error.errno:
        case errno.ECONNREFUSED:
            return Stuck.REFUSED
        case errno.EHOSTUNREACH | errno.ENETUNREACH:
            return Stuck.UNREACHABLE
        case errno.ETIMEDOUT:
            return Stuck.DROPPED
        case _:
            return Stuck.BROKEN


def fetch(
    server: Address,
    name: str,
    source: str | None = None,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    most: int = 1 << 20,
    mss: int | None = None,
    silence_s: float = SILENCE_S,
) -> Got:
    """Ask for /`name`, and read `most` bytes of the answer at most; give up after `silence_s` without any."""
    began = time.monotonic()
    try:
        sock = connect(server, source, mss, silence_s)
    except OSError as error:
        return Got(why_not(error), seconds=time.monotonic() - began, why=error.strerror or str(error))
    connection = http.client.HTTPConnection(server[0], server[1])
    connection.sock = sock
    got, status, fields, stuck, why = bytearray(), 0, dict[str, str](), None, ""
    try:
        connection.request(method, f"/{name}", body, dict(headers or {}))
        response = connection.getresponse()
        status = response.status
        fields = {key.lower(): value for key, value in response.getheaders()}
        while len(got) < most and (piece := response.read1(min(65536, most - len(got)))):
            got += piece
    except TimeoutError:
        stuck = Stuck.STALLED if status else Stuck.SILENT
    except (OSError, http.client.HTTPException) as error:
        stuck, why = Stuck.BROKEN, str(error) or repr(error)
    finally:
        connection.close()
    answer = Got(stuck, status, fields, bytes(got), time.monotonic() - began, why)
    if stuck is None and method != "HEAD" and len(got) < min(most, answer.length or 0):
        return replace(answer, stuck=Stuck.BROKEN, why=f"it closed after {len(got)} bytes of {answer.length}")
    return answer
