"""An address that somebody uses is not taken: with it here too, he would lose it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface
from typing import cast

import pytest

from config.interfaces import Link
from dhcp.options import MessageType
from pxeboot.probe import arp, dhcp
from pxeboot.probe.answers import Answer
from pxeboot.probe.boot import Walk
from pxeboot.probe.client import Client, Kind, architecture
from pxeboot.probe.walk import Hop

FIRST, SECOND, OURS, OTHER_OF_OURS = (f"02:00:00:00:00:{last}" for last in ("01", "02", "a0", "a1"))
"""The cards of the machine that is played, and of the host that probes."""
IP, ELSE = IPv4Address("10.77.0.10"), IPv4Address("10.77.0.11")
SERVER = IPv4Address("10.77.0.1")


def link(name: str, mac: str, *addresses: str) -> Link:
    return Link(name, 1, True, True, tuple(map(IPv4Interface, addresses)), mac, 1500)


HERE = {"eth0": link("eth0", OURS, "10.77.0.2/24"), "eth1": link("eth1", OTHER_OF_OURS, "10.77.0.3/24")}


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> dict[IPv4Address, list[str]]:
    """Who answers ARP for an address."""
    held: dict[IPv4Address, list[str]] = {}

    def links(names: Iterable[str]) -> dict[str, Link]:
        return {name: link for name, link in HERE.items() if {name, "*"} & {*names}}

    def holders(_: str, __: bytes, address: IPv4Address) -> list[str]:
        return held.get(address, [])

    monkeypatch.setattr(arp, "links", links)
    monkeypatch.setattr(arp, "holders", holders)
    return held


def answer(kind: str, address: IPv4Address) -> Answer:
    return Answer(kind, SERVER, "02:00:00:00:00:ff", SERVER, 0.0, 300, address=address)


@dataclass
class Server:
    """What DHCP answers to a request, and what was said to it."""

    gives: IPv4Address
    said: list[str] = field(default_factory=list)

    def ask(self, kind: MessageType, wants: Mapping[int, bytes], wait_s: float) -> Iterator[Answer]:
        self.said.append(kind.name)
        yield answer("ACK", self.gives)

    def release(self, lease: Answer, address: IPv4Address) -> None:
        self.said.append(f"release {address}")


def requested(mac: str, gives: IPv4Address = IP) -> tuple[Answer | None, list[str], list[str]]:
    """Walk as far as the lease of the offered `IP`: what is taken, what was said, what is wrong."""
    client = Client(Kind.PXE, architecture("x64", Kind.PXE), bytes.fromhex(mac.replace(":", "")), marked=True)
    server, hop = Server(gives), Hop("DHCP lease")
    walk = Walk(client, HERE["eth0"], 1.0, lambda _: None)
    taken = walk._request(cast(dhcp.Conversation, server), answer("OFFER", IP), hop)
    return taken, server.said, [problem.what for problem in hop.problems]


@pytest.mark.parametrize(
    ("by", "says"),
    [
        ([FIRST], f"{IP} is used by {FIRST}, the machine that is played: it runs, so its address is not taken"),
        ([SECOND], f"{IP} is used by {SECOND} already, so it is not taken"),
        ([SECOND, FIRST], f"{IP} is used by {FIRST}, the machine that is played: it runs"),
    ],
)
def test_a_machine_that_runs_keeps_its_address_whichever_of_its_cards_answers(
    network: dict[IPv4Address, list[str]], by: list[str], says: str
) -> None:
    network[IP] = by
    taken, said, (wrong,) = requested(FIRST)
    assert (taken, said) == (None, []), "it is not even asked for"
    assert wrong.startswith(says)


def test_what_is_given_instead_of_the_offer_is_given_back_where_somebody_uses_it(
    network: dict[IPv4Address, list[str]],
) -> None:
    network[ELSE] = [SECOND]
    assert requested(FIRST, gives=ELSE) == (
        None, ["DHCPREQUEST", f"release {ELSE}"], [f"{ELSE} is used by {SECOND} already, so it is not taken"],
    )  # fmt: skip


def test_an_address_that_nobody_uses_is_taken(network: dict[IPv4Address, list[str]]) -> None:
    assert requested(FIRST) == (answer("ACK", IP), ["DHCPREQUEST"], [])


@pytest.mark.parametrize(
    ("address", "by", "others"),
    [
        (IPv4Address("10.77.0.2"), [OTHER_OF_OURS], []),
        (IPv4Address("10.77.0.2"), [OTHER_OF_OURS, SECOND], [SECOND]),
        (IPv4Address("10.77.0.3"), [OTHER_OF_OURS], [OTHER_OF_OURS]),
    ],
    ids=["another card of ours for this one's", "and somebody else", "another card of ours for its own"],
)
def test_we_are_nobody_else_when_the_interface_has_the_address(
    network: dict[IPv4Address, list[str]], address: IPv4Address, by: list[str], others: list[str]
) -> None:
    network[address] = by
    assert arp.others("eth0", address) == others
    assert arp.others("lo", address) == []
