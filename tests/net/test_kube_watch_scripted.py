"""Watches of a server that says byte for byte what a test has written down: what no stand-in does by itself."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from pxeboot.kube.api import Api
from pxeboot.kube.cache import Change
from pxeboot.kube.nodes import Node, decode_node
from pxeboot.kube.paths import NODES
from pxeboot.kube.watching import Watch

pytestmark = pytest.mark.net

WATCH_S = 1
Say = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Scripted:
    """Answers every list with the Nodes that there are, and each watch with what is next in `watches`."""

    def __init__(self, *watches: Say) -> None:
        self.version = 10
        self.names = ["m1"]
        self.lists = 0
        self.began_at: list[str] = []
        """The resourceVersion that each watch began at."""
        self._watches = list(watches)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, which serves one request."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            query = parse_qs(urlsplit(head.split()[1]).query)
            if "watch" in query:
                self.began_at.append(query["resourceVersion"][0])
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
                await (self._watches.pop(0) if self._watches else silent)(writer)
            else:
                self.lists += 1
                items = [{"metadata": metadata(name, self.version)} for name in self.names]
                body = json.dumps({"items": items, "metadata": {"resourceVersion": str(self.version)}}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


def metadata(name: str, version: int) -> dict[str, str]:
    return {"name": name, "uid": f"u-{name}", "resourceVersion": str(version)}


def event(kind: str, version: int, name: str = "") -> bytes:
    return json.dumps({"type": kind, "object": {"metadata": metadata(name, version)}}).encode() + b"\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n" % len(data) + data + b"\r\n"


GONE = json.dumps({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}).encode() + b"\n"


async def silent(writer: asyncio.StreamWriter) -> None:
    """Say nothing, until whoever watches goes."""
    await asyncio.sleep(3600)


def saying(*events: bytes, then: Say | None = None) -> Say:
    async def say(writer: asyncio.StreamWriter) -> None:
        for each in events:
            writer.write(chunk(each))
        await writer.drain()
        if then is None:  # the server ends it when its time is over
            await asyncio.sleep(WATCH_S)
            writer.write(chunk(b""))
        else:
            await then(writer)

    return say


async def close_half(writer: asyncio.StreamWriter) -> None:
    """End our direction in the middle of an event; the other stays open, and nothing more is read from it."""
    whole = event("ADDED", 12, "half")
    writer.write(b"%x\r\n" % len(whole) + whole[:20])
    writer.write_eof()
    await asyncio.sleep(3600)


def follow(
    tmp_path: Path, server: Scripted, until: Callable[[Watch[Node]], bool], after: Callable[[], None] | None = None
) -> list[tuple[str, bool]]:
    """Watch until something holds, then say what came and went; `after` runs when the first watch begins."""
    changes: list[tuple[str, bool]] = []

    def on_change(change: Change[Node]) -> None:
        changes.append((change.name, change.new is not None))

    def on_sync(in_sync: bool, _why: str) -> None:
        if in_sync and len(server.began_at) == 1 and after is not None:
            after()

    async def work() -> None:
        listening = await asyncio.start_server(server.answer, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(
            json.dumps({
                "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            })
        )  # fmt: skip
        api = Api("prod", kubeconfig)
        watch: Watch[Node] = Watch(api, NODES, decode_node, on_change, on_sync=on_sync, watch_s=WATCH_S)
        task = asyncio.create_task(watch.run())
        async with asyncio.timeout(90):
            while True:
                if until(watch):
                    break
                await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await api.close()
        listening.close()

    asyncio.run(work())
    return changes


def test_a_watch_goes_on_from_the_bookmark_and_lists_again_when_that_is_forgotten(tmp_path: Path) -> None:
    server = Scripted(
        saying(event("ADDED", 12, "m2"), event("BOOKMARK", 50)),
        saying(event("MODIFIED", 51, "m2"), event("BOOKMARK", 60), GONE, then=silent),
        saying(event("ADDED", 71, "m4"), then=silent),
    )

    def listed_later() -> None:
        server.version, server.names = 70, ["m1", "m3"]

    changes = follow(tmp_path, server, lambda watch: "m4" in watch.values, listed_later)
    assert server.began_at[:3] == ["10", "50", "70"]
    assert server.lists == 2
    assert changes == [("m1", True), ("m2", True), ("m2", False), ("m3", True), ("m4", True)]


def test_a_watch_that_is_closed_by_half_in_the_middle_of_an_event_tells_no_half_of_it(tmp_path: Path) -> None:
    server = Scripted(saying(event("ADDED", 11, "m2"), then=close_half), silent)

    def listed_later() -> None:
        server.version, server.names = 20, ["m1", "m2", "m3"]

    changes = follow(tmp_path, server, lambda watch: "m3" in watch.values and watch.in_sync, listed_later)
    assert server.lists == 2
    assert changes == [("m1", True), ("m2", True), ("m3", True)]


def test_a_watch_that_says_nothing_is_given_up_when_it_should_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server took the request and said that it answers; then it stopped, and its kernel keeps the connection."""
    monkeypatch.setattr("pxeboot.kube.watching.GRACE_S", 0.5)
    server = Scripted(silent, silent)

    def listed_later() -> None:
        server.version, server.names = 20, ["m2"]

    changes = follow(tmp_path, server, lambda watch: "m2" in watch.values, listed_later)
    assert changes == [("m1", True), ("m1", False), ("m2", True)]
