"""Lines of /etc/hosts for an API server that is known by a name."""

import asyncio
import threading
from dataclasses import dataclass, field
from ipaddress import IPv4Address

import pytest

from pxeboot.controller.hosts import KEPT_S, MOST, HostLines, addresses, name_of

ADDRESS = IPv4Address("192.0.2.7")


@dataclass
class Resolver:
    """DNS and a clock."""

    known: dict[str, tuple[str, ...]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    now: float = 0.0

    def __call__(self, name: str) -> tuple[IPv4Address, ...]:
        self.asked.append(name)
        return tuple(map(IPv4Address, self.known.get(name, ())))

    def host_lines(self, address: IPv4Address | None = None) -> HostLines:
        return HostLines(address, self, within_s=5, clock=lambda: self.now)


@pytest.mark.parametrize("server", ["192.0.2.1:6443", "[fd00::1]:6443"])
def test_an_address_needs_no_line_and_no_look_up(server: str) -> None:
    resolver = Resolver()
    assert asyncio.run(resolver.host_lines().lines(server)) == ()
    assert resolver.asked == []
    assert asyncio.run(resolver.host_lines(ADDRESS).lines(server)) == ()


def test_a_name_has_the_address_that_the_configuration_gives_and_is_not_looked_up() -> None:
    resolver = Resolver({"api.example.org": ("192.0.2.99",)})
    assert asyncio.run(resolver.host_lines(ADDRESS).lines("api.example.org:443")) == ("192.0.2.7 api.example.org",)
    assert resolver.asked == []


def test_a_name_is_looked_up_and_asked_for_again_after_a_while() -> None:
    resolver = Resolver({"api": ("192.0.2.1", "192.0.2.2")})
    hosts = resolver.host_lines()
    assert asyncio.run(hosts.lines("api:6443")) == ("192.0.2.1 api", "192.0.2.2 api")
    resolver.now = KEPT_S - 1
    asyncio.run(hosts.lines("api:6443"))
    assert resolver.asked == ["api"]
    resolver.now, resolver.known["api"] = KEPT_S, ("192.0.2.3",)
    assert asyncio.run(hosts.lines("api:6443")) == ("192.0.2.3 api",)


def test_what_a_name_meant_stays_while_nobody_knows_it() -> None:
    resolver = Resolver({"api": ("192.0.2.1",)})
    hosts = resolver.host_lines()
    asyncio.run(hosts.lines("api:6443"))
    resolver.now, resolver.known["api"] = KEPT_S, ()
    assert asyncio.run(hosts.lines("api:6443")) == ("192.0.2.1 api",)


def test_a_name_that_was_never_found_is_told_and_has_no_lines(caplog: pytest.LogCaptureFixture) -> None:
    resolver = Resolver()
    assert asyncio.run(resolver.host_lines().lines("api:6443")) is None
    assert "the address of 'api' is not known here" in caplog.text


def test_a_resolver_that_hangs_is_waited_for_no_longer_than_allowed_and_asked_once() -> None:
    released = threading.Event()
    asked: list[str] = []

    def hang(name: str) -> tuple[IPv4Address, ...]:
        asked.append(name)
        released.wait(10)
        return (ADDRESS,)

    async def look_up() -> list[tuple[str, ...] | None]:
        hosts = HostLines(None, hang, within_s=0.01)
        return list(await asyncio.gather(*(hosts.lines("api:6443") for _ in range(5))))

    try:
        assert asyncio.run(look_up()) == [None] * 5
        assert asked == ["api"]
    finally:
        released.set()


def test_a_resolver_that_answers_after_the_loop_has_ended_disturbs_nobody() -> None:
    released, done = threading.Event(), threading.Event()

    def slow(_: str) -> tuple[IPv4Address, ...]:
        released.wait(10)
        done.set()
        return ()

    assert asyncio.run(HostLines(None, slow, within_s=0.01).lines("api:1")) is None
    released.set()
    assert done.wait(10)


@pytest.mark.parametrize(
    ("server", "name"),
    [
        ("a:1", "a"),
        ("a.b.c:65535", "a.b.c"),
        ("10.0.0.1:6443", None),
        ("[::1]:6443", None),
        ("300.0.0.1:1", "300.0.0.1"),
    ],
)
def test_the_name_in_host_and_port(server: str, name: str | None) -> None:
    assert name_of(server) == name


def test_this_hosts_own_name_is_found_and_nonsense_is_not() -> None:
    assert IPv4Address("127.0.0.1") in addresses("localhost")
    assert addresses("") == ()
    assert addresses("x" * 300) == ()
    assert len(addresses("localhost")) <= MOST
