"""Where nbdkit's plugin asks: a unix socket, for our own children only.

A question and its answer are each a line of JSON. With the answer to "open" comes the open file itself, so nbdkit
needs to know no path and have no rights; the export stays open here until that connection ends, and counts as read
until then, as one of our own engine does.

    {"ask": "ready"}                                                    {}
    {"ask": "list", "peer": "10.0.0.7", "secure": false}                {"names": ["node"]}
    {"ask": "open", "name": "node", "peer": "10.0.0.7", "secure": ...}  {"size_bytes": ..., ...} and a descriptor
                                                                        or {"error": "in words"}
"""

import asyncio
import json
import logging
import socket
import struct
from collections import Counter
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Protocol

from config.events import Event, Report, Stage
from nbd.exports import Asked, Catalogue, Export, Refused
from pxeboot.seldom import Seldom

QUESTION_BYTES = 1 << 16
"""A question is never longer: a name has at most 4096 bytes."""
QUESTION_S = 5.0
AT_MOST = 8192
"""Connections at once; each is a client of nbdkit."""

log = logging.getLogger("pxeboot")


class Children(Protocol):
    """Who may ask."""

    def ours(self, pid: int) -> bool:
        """Return whether a process is one of them."""

    def ready(self, pid: int) -> None:
        """Take note that it serves from now on."""


class Door:
    """The socket at `path`, from `open` to the end of `run`."""

    def __init__(self, path: Path, catalogue: Catalogue, report: Report, children: Children) -> None:
        """Nothing is there yet."""
        self.path = path
        self._catalogue = catalogue
        self._report = report
        self._children = children
        self._seldom = Seldom()
        self._clients: set[asyncio.Task[None]] = set()
        self._open = 0
        self.counts: Counter[str] = Counter()

    @property
    def open_exports(self) -> int:
        """How many exports nbdkit has open now."""
        return self._open

    async def open(self) -> None:
        """Be there. Raises `OSError` if there can be no socket at `path`."""
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            await asyncio.to_thread(_bind, self._sock, self.path)
        except BaseException:
            self._sock.close()
            raise

    async def run(self) -> None:
        """Answer until cancelled, and be gone then. After `open`."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    link, _ = await loop.sock_accept(self._sock)
                except OSError as error:  # no descriptor is left
                    if self._seldom("accept"):
                        log.error("nbdkit cannot ask us: %s", error)
                    await asyncio.sleep(1)
                    continue
                self._take(link)
        finally:
            self._sock.close()
            for task in self._clients:
                task.cancel()
            await asyncio.gather(*self._clients, return_exceptions=True)
            with suppress(OSError):
                self.path.unlink()

    def _take(self, link: socket.socket) -> None:
        link.setblocking(False)
        if len(self._clients) >= AT_MOST:
            self.counts["turned away"] += 1
            link.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(link))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, link: socket.socket) -> None:
        with link:
            try:
                await self._talk(link)
            except (OSError, ValueError) as error:  # of which TimeoutError: a child that was ended, mostly
                self.counts["broken off"] += 1
                log.debug("nbdkit broke off: %s", error)
            except Exception:
                log.exception("a question of nbdkit")

    async def _talk(self, link: socket.socket) -> None:
        """Answer one question. Raises `OSError` and `ValueError` for a peer that is no plugin of ours."""
        loop = asyncio.get_running_loop()
        pid, _, _ = struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if not self._children.ours(pid):
            raise ConnectionError(f"process {pid} is no child of ours")
        async with asyncio.timeout(QUESTION_S):
            asked = await _question(link)
        match asked:
            case {"ask": "ready"}:
                self._children.ready(pid)
                await loop.sock_sendall(link, b"{}\n")
                await loop.sock_recv(link, 1)
            case {"ask": "list", "peer": str(peer), "secure": bool(secure)}:
                names = await self._catalogue.names(_address(peer), secure)
                await loop.sock_sendall(link, json.dumps({"names": list(names)}).encode() + b"\n")
            case {"ask": "open", "name": str(name), "peer": str(peer), "secure": bool(secure)}:
                await self._lend(link, Asked(name.lstrip("/"), _address(peer), secure))
            case _:
                raise ValueError("a question that no plugin of ours asks")

    async def _lend(self, link: socket.socket, asked: Asked) -> None:
        """Open an export for a client of nbdkit, and keep it open until that is gone."""
        loop = asyncio.get_running_loop()
        opening = loop.create_task(_opened(self._catalogue, asked))
        try:
            found = await asyncio.shield(opening)
        except asyncio.CancelledError:  # it may yet be opened, in a thread
            opening.add_done_callback(_close_late)
            raise
        if isinstance(found, str):
            self.counts["refused"] += 1
            await loop.sock_sendall(link, json.dumps({"error": found}).encode() + b"\n")
            return
        try:
            if found.fd is None or found.writable:
                self.counts["refused"] += 1
                text = "it is for pxeboot's own port: a disk that is written to"
                await loop.sock_sendall(link, json.dumps({"error": text}).encode() + b"\n")
                return
            told = {"size_bytes": found.size_bytes, "file_bytes": found.file_bytes, "description": found.description}
            # One line and one descriptor, into a socket that is empty: this does not block.
            socket.send_fds(link, [json.dumps(told).encode() + b"\n"], [found.fd])
            self.counts["opened"] += 1
            detail = f"NBD export {asked.name!r} opened through nbdkit, {found.size_bytes / 1e6:.0f} MB"
            self._report(Event(asked.peer, Stage.FETCH, detail))
            self._open += 1
            try:
                await loop.sock_recv(link, 1)
            finally:
                self._open -= 1
        finally:
            loop.run_in_executor(None, found.close)  # a disk may hang under it


async def _opened(catalogue: Catalogue, asked: Asked) -> Export | str:
    """Return the export, or in words why there is none."""
    try:
        found = await catalogue.open(asked)
    except OSError as error:
        return f"it cannot be opened: {error.strerror or error}"
    match found:
        case Refused.UNKNOWN:
            return "there is no such export"
        case Refused.POLICY:
            return "not for this client"
        case Refused.TLS_REQUIRED:
            return "with TLS only"
        case _:
            return found


def _close_late(opening: "asyncio.Task[Export | str]") -> None:
    if not opening.cancelled() and opening.exception() is None and not isinstance(found := opening.result(), str):
        found.close()


async def _question(link: socket.socket) -> Any:
    """Return a line of JSON. Raises `ValueError` and `OSError`."""
    loop = asyncio.get_running_loop()
    line = b""
    while not line.endswith(b"\n"):
        part = await loop.sock_recv(link, QUESTION_BYTES)
        if not part:
            raise ConnectionError("it hung up")
        line += part
        if len(line) > QUESTION_BYTES:
            raise ValueError("a question without an end")
    return json.loads(line)


def _address(peer: str) -> IPv4Address:
    """Return a client's address; 0.0.0.0, which nobody has, for one that nbdkit does not know."""
    return IPv4Address(peer or 0)


def _bind(sock: socket.socket, path: Path) -> None:
    """Listen at `path`, for our own user only. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # of a daemon that was killed: we have the lock of the state folder
    sock.bind(str(path))
    path.chmod(0o600)
    sock.listen(1024)
    sock.setblocking(False)
