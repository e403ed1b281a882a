"""The watch on interfaces, with a kernel that is a dictionary; real interfaces are in tests/net."""

import asyncio
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Interface

import pytest

from config import interfaces
from config.interfaces import Link
from pxeboot import links, serving
from pxeboot.links import Watch

ETH1 = Link("eth1", 3, True, True, (IPv4Interface("10.77.0.1/24"),), "52:54:00:12:34:56", 1500)


class Kernel:
    """What there is now, in place of the ioctls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.links: dict[str, Link] = {}
        self.broken = False
        monkeypatch.setattr(interfaces, "links", self.now)
        monkeypatch.setattr(interfaces, "own_addresses", self.own)

    def now(self, patterns: Iterable[str]) -> dict[str, Link]:
        if self.broken:
            raise OSError(24, "Too many open files")
        return {name: link for name, link in self.links.items() if name in patterns}

    def own(self) -> frozenset[IPv4Address]:
        return frozenset(address.ip for link in self.links.values() for address in link.addresses)


def test_only_what_changed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, told = Kernel(monkeypatch), []

    def changed(found: Mapping[str, Link], own: frozenset[IPv4Address]) -> None:
        told.append((dict(found), own))

    watch = Watch(["eth1"], changed)
    watch.look()
    assert told == [], "nothing, as before"
    kernel.links["eth1"] = ETH1
    watch.look()
    watch.look()
    assert told == [({"eth1": ETH1}, frozenset({IPv4Address("10.77.0.1")}))]
    kernel.broken = True
    watch.look()
    assert len(told) == 1, "what we knew stands"
    kernel.broken = False
    kernel.links.clear()
    watch.look()
    assert told[1:] == [({}, frozenset())]


def test_an_address_of_an_interface_that_is_not_served_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, told = Kernel(monkeypatch), []
    watch = Watch(["eth9"], lambda found, own: told.append((dict(found), own)))
    kernel.links["eth1"] = ETH1
    watch.look()
    assert told == [({}, frozenset({IPv4Address("10.77.0.1")}))]


def test_without_netlink_it_polls(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    kernel, told = Kernel(monkeypatch), []
    monkeypatch.setattr(links, "POLL_S", 0.01)
    monkeypatch.setattr(links, "PAUSE_S", 0.0)

    class Forbidden(Watch):
        async def _messages(self) -> None:
            raise OSError(97, "Address family not supported by protocol")

    async def main() -> None:
        seen = asyncio.Event()

        def changed(found: Mapping[str, Link], _: frozenset[IPv4Address]) -> None:
            told.append(dict(found))
            seen.set()

        watching = asyncio.create_task(Forbidden(["eth1"], changed).run())
        await asyncio.sleep(0)
        kernel.links["eth1"] = ETH1
        await seen.wait()
        watching.cancel()
        await asyncio.wait([watching])

    asyncio.run(asyncio.wait_for(main(), 5))
    assert told == [{"eth1": ETH1}]
    assert [r.getMessage() for r in caplog.records] == [
        "no netlink, so interfaces are looked at every second: [Errno 97] Address family not supported by protocol"
    ]


@pytest.mark.parametrize(
    ("link", "lacks"),
    [
        (None, "there is no such interface"),
        (Link("eth1", 3, False, False, (), "", 1500), "it has no IPv4 address"),
        (Link("eth1", 3, False, False, ETH1.addresses, "", 1500), "it is down"),
        (Link("eth1", 3, True, False, ETH1.addresses, "", 1500), None),
        (ETH1, None),
    ],
)
def test_what_an_interface_lacks_is_said(link: Link | None, lacks: str | None) -> None:
    assert serving.lacks(link) == lacks


@pytest.mark.parametrize("turns", range(5))
def test_a_watch_that_is_cancelled_as_something_changes_ends(monkeypatch: pytest.MonkeyPatch, turns: int) -> None:
    """`asyncio.wait_for` of Python 3.11 took the change and lost the cancellation, and the daemon did not end."""
    Kernel(monkeypatch)
    monkeypatch.setattr(links, "PAUSE_S", 0.0)

    async def scenario() -> None:
        watch = Watch(["eth1"], lambda found, own: None)
        monkeypatch.setattr(watch, "_messages", asyncio.Event().wait)
        running = asyncio.create_task(watch.run())
        for _ in range(20):
            await asyncio.sleep(0)
        watch._signal.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        for _ in range(20):
            await asyncio.sleep(0)
        ended = running.done()
        running.cancel()
        await asyncio.wait({running})
        assert ended

    asyncio.run(scenario())
