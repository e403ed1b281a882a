"""dhcp.engine: what each message brings about, in each state of its sender (RFC 2131 section 4.3)."""

from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.events import Stage
from config.model import Farm
from dhcp import wire
from dhcp.engine import Action, Happened, Holder, Server, Store
from dhcp.leases import OFFER_HOLD_S, Lease, State
from dhcp.options import MessageType, Option
from dhcp.plan import plan
from dhcp.replies import EVERYBODY, Destination, Send
from dhcp.request import Arrival, Ignored, Reason
from dhcp.wire import Message
from tests.support.dhcp_clients import (
    ARRIVAL,
    FARM,
    KNOWN,
    OWN_ADDRESS,
    SECOND,
    SERVER,
    STRANGER,
    UNICAST,
    farm,
    message,
    recorded,
)

NOW = 1_790_000_000.0
DISCOVER, REQUEST = MessageType.DHCPDISCOVER, MessageType.DHCPREQUEST
OTHER = "02:00:00:00:00:98"
NOBODY = IPv4Address("10.77.0.8")
WAS_OURS = IPv4Address("10.77.0.77")
"""An address of the pool."""


def serving(*records: Lease, **dhcp: Any) -> Server:
    return Server(plan(farm(**dhcp)), records, NOW)


def bound(mac: str, address: IPv4Address = NOBODY, expires: float = NOW + 3600) -> Lease:
    return Lease(address, mac, int(expires))


def sent(actions: Iterable[Action]) -> Send | None:
    sends = [action for action in actions if isinstance(action, Send)]
    assert len(sends) <= 1
    return sends[0] if sends else None


def answer(actions: Iterable[Action]) -> tuple[MessageType, IPv4Address] | Reason | None:
    """Return (type, yiaddr) of the reply, or why there is none."""
    actions = list(actions)
    if (send := sent(actions)) is not None:
        return MessageType(send.message.options[53][0]), send.message.yiaddr
    reasons = [action.reason for action in actions if isinstance(action, Ignored)]
    return reasons[0] if reasons else None


def offer(address: IPv4Address | str) -> tuple[MessageType, IPv4Address]:
    return MessageType.DHCPOFFER, IPv4Address(address)


def ack(address: IPv4Address | str) -> tuple[MessageType, IPv4Address]:
    return MessageType.DHCPACK, IPv4Address(address)


NAK = (MessageType.DHCPNAK, wire.NO_ADDRESS)


def discover(mac: str = KNOWN, **fields: Any) -> Message:
    return message(DISCOVER, mac, **fields)


def selecting(address: IPv4Address | str, mac: str = KNOWN, server: IPv4Address = SERVER) -> Message:
    return message(REQUEST, mac, options={50: IPv4Address(address).packed, 54: server.packed})


def init_reboot(address: IPv4Address | str, mac: str = KNOWN) -> Message:
    return message(REQUEST, mac, options={50: IPv4Address(address).packed})


def renewing(address: IPv4Address | str, mac: str = KNOWN, server: IPv4Address | None = None) -> Message:
    named = {} if server is None else {54: server.packed}
    return message(REQUEST, mac, ciaddr=IPv4Address(address), options=named)


def test_a_known_machine_is_offered_its_address_by_each_of_its_cards() -> None:
    server = serving()
    for mac in (KNOWN, SECOND):
        actions = server.receive(discover(mac), ARRIVAL, NOW)
        assert answer(actions) == offer(OWN_ADDRESS)
        assert not any(isinstance(action, Store) for action in actions), "static leases need no disk"
        actions = server.receive(selecting(OWN_ADDRESS, mac), ARRIVAL, NOW)
        assert answer(actions) == ack(OWN_ADDRESS)
        assert not any(isinstance(action, Store) for action in actions)
    assert len(server.leases) == 0


def test_an_unknown_machine_is_stored_before_its_ack_leaves() -> None:
    server = serving()
    actions = server.receive(discover(STRANGER), ARRIVAL, NOW)
    offered = sent(actions)
    assert offered is not None
    actions = server.receive(selecting(offered.message.yiaddr, STRANGER), ARRIVAL, NOW)
    assert [type(action) for action in actions] == [Store, Send, Happened]
    assert actions[0] == Store(Lease(offered.message.yiaddr, STRANGER, int(NOW) + 86400))


def test_a_repeated_message_brings_the_same_again() -> None:
    server = serving()
    for ask in (discover(STRANGER), discover(STRANGER)):
        first = server.receive(ask, ARRIVAL, NOW)
        assert server.receive(ask, ARRIVAL, NOW + 2) == first
    reply = sent(first)
    assert reply is not None
    ask = selecting(reply.message.yiaddr, STRANGER)
    first = server.receive(ask, ARRIVAL, NOW)
    assert server.receive(ask, ARRIVAL, NOW) == first
    assert len(server.leases) == 1


def test_what_happened_is_told() -> None:
    server = serving()
    found = [a for a in server.receive(recorded("D-OVMF-PXE"), ARRIVAL, NOW) if isinstance(a, Happened)]
    assert found == [Happened(KNOWN, Stage.DISCOVER, "UEFI x64 (PXEClient), asks for an address")]
    ask = recorded("D-OVMF-PXE-REQ", options={50: OWN_ADDRESS.packed, 54: SERVER.packed})
    found = [a for a in server.receive(ask, ARRIVAL, NOW) if isinstance(a, Happened)]
    assert found == [Happened(KNOWN, Stage.ADDRESS, "10.77.0.10, boots 'grub/x86_64-efi/core.efi'")]


def test_a_machine_that_will_not_boot_is_told_of() -> None:
    actions = serving().receive(recorded("D-UBOOT"), ARRIVAL, NOW)
    assert sent(actions) is not None
    assert actions[-1] == Happened(KNOWN, Stage.FAILED, "there is no boot file for U-Boot ARM 64 ('U-Boot.armv8')")


def test_a_stranger_where_strangers_do_not_boot_is_told_of() -> None:
    actions = serving().receive(recorded("D-OVMF-PXE", STRANGER), Arrival(IPv4Address("10.78.0.1")), NOW)
    asks = "UEFI x64 (PXEClient), asks for an address; it is not configured, so it gets one and nothing to boot"
    assert actions[1:] == [Happened(STRANGER, Stage.DISCOVER, asks)]
    reply = sent(actions)
    assert reply is not None
    assert (reply.message.file, reply.message.options.get(67)) == (b"", None)


def test_a_machine_without_pool_is_told_of_and_gets_nothing() -> None:
    arrival = Arrival(IPv4Address("10.79.0.1"))
    detail = "it is not configured, and 10.79.0.0/24 has no pool"
    assert serving().receive(recorded("D-OVMF-PXE", STRANGER), arrival, NOW) == [
        Happened(STRANGER, Stage.DISCOVER, f"UEFI x64 (PXEClient), asks for an address; {detail}"),
        Ignored(STRANGER, Reason.NO_ADDRESS, detail),
    ]


def test_a_running_system_that_asks_for_an_address_begins_no_boot() -> None:
    actions = serving().receive(recorded("D-IPCONFIG"), ARRIVAL, NOW)
    assert sent(actions) is not None
    assert not [action for action in actions if isinstance(action, Happened)]


def test_a_known_machine_on_another_network_gets_an_address_of_its_pool_and_boots() -> None:
    server = serving()
    reply = sent(server.receive(recorded("D-OVMF-PXE"), Arrival(IPv4Address("10.78.0.1")), NOW))
    assert reply is not None
    assert str(reply.message.yiaddr) in ("10.78.0.100", "10.78.0.101")
    assert reply.message.file == b"grub/x86_64-efi/core.efi"
    actions = server.receive(discover(), Arrival(IPv4Address("10.79.0.1")), NOW)
    assert answer(actions) == Reason.NO_ADDRESS


def test_an_exhausted_pool_is_silent_and_known_machines_are_still_served() -> None:
    server = serving()
    macs = [f"02:00:00:00:01:{n:02x}" for n in range(8)]
    offers = [answer(server.receive(discover(mac), ARRIVAL, NOW)) for mac in macs]
    assert len(set(offers)) == 8
    assert offers[7] is Reason.POOL_EMPTY
    assert server.counts[Reason.POOL_EMPTY] == 1
    assert answer(server.receive(discover(), ARRIVAL, NOW)) == offer(OWN_ADDRESS)
    assert server.deadline == NOW + OFFER_HOLD_S
    server.expire(NOW + OFFER_HOLD_S)
    assert server.deadline is None
    assert isinstance(answer(server.receive(discover(macs[7]), ARRIVAL, NOW + OFFER_HOLD_S)), tuple)


STATES = [
    # the sender's message, how it came, records on disk, the answer when authoritative, the answer when not
    pytest.param(selecting(OWN_ADDRESS), ARRIVAL, (), ack(OWN_ADDRESS), ..., id="selecting-static"),
    pytest.param(selecting(NOBODY), ARRIVAL, (), NAK, ..., id="selecting-another-than-its-static"),
    pytest.param(selecting(NOBODY, STRANGER), ARRIVAL, (), ack(NOBODY), ..., id="selecting-a-lapsed-offer"),
    pytest.param(selecting(NOBODY, STRANGER), ARRIVAL, (bound(OTHER),), NAK, ..., id="selecting-taken-meanwhile"),
    pytest.param(selecting(OWN_ADDRESS, STRANGER), ARRIVAL, (), NAK, ..., id="selecting-anothers-static"),
    pytest.param(selecting("10.77.0.100", STRANGER), ARRIVAL, (), NAK, ..., id="selecting-outside-the-pool"),
    pytest.param(
        selecting(NOBODY, STRANGER),
        ARRIVAL,
        (bound(STRANGER, IPv4Address("10.77.0.9")),),
        NAK,
        ...,
        id="selecting-a-second-address",
    ),
    pytest.param(
        selecting(NOBODY, STRANGER, IPv4Address("10.77.0.77")),
        ARRIVAL,
        (),
        Reason.OTHER_SERVER,
        ...,
        id="selecting-another-server",
    ),
    pytest.param(init_reboot(OWN_ADDRESS), ARRIVAL, (), ack(OWN_ADDRESS), ..., id="init-reboot-static"),
    pytest.param(init_reboot(NOBODY), ARRIVAL, (), NAK, ..., id="init-reboot-known-wrong-address"),
    pytest.param(init_reboot("10.1.2.3"), ARRIVAL, (), NAK, Reason.NOT_OURS, id="init-reboot-wrong-network"),
    pytest.param(init_reboot(NOBODY, STRANGER), ARRIVAL, (bound(STRANGER),), ack(NOBODY), ..., id="init-reboot-bound"),
    pytest.param(
        init_reboot(NOBODY, STRANGER),
        ARRIVAL,
        (bound(STRANGER, expires=NOW - 9),),
        ack(NOBODY),
        ...,
        id="init-reboot-expired-and-still-free",
    ),
    pytest.param(
        init_reboot("10.77.0.9", STRANGER), ARRIVAL, (bound(STRANGER),), NAK, ..., id="init-reboot-bound-elsewhere"
    ),
    pytest.param(init_reboot(NOBODY, STRANGER), ARRIVAL, (), NAK, Reason.NOT_OURS, id="init-reboot-unknown"),
    pytest.param(renewing(OWN_ADDRESS), UNICAST, (), ack(OWN_ADDRESS), ..., id="renewing-static"),
    pytest.param(renewing(NOBODY), UNICAST, (), NAK, ..., id="renewing-before-it-became-static"),
    pytest.param(renewing(NOBODY, STRANGER), UNICAST, (bound(STRANGER),), ack(NOBODY), ..., id="renewing-bound"),
    pytest.param(renewing(NOBODY, STRANGER), UNICAST, (), ack(NOBODY), ..., id="renewing-a-lease-we-lost"),
    pytest.param(renewing(NOBODY, STRANGER), UNICAST, (bound(OTHER),), NAK, ..., id="renewing-anothers"),
    pytest.param(
        renewing(OWN_ADDRESS, STRANGER),
        UNICAST,
        (bound(STRANGER, OWN_ADDRESS),),
        NAK,
        ...,
        id="renewing-what-became-anothers-static",
    ),
    pytest.param(renewing("10.77.0.99", STRANGER), UNICAST, (), NAK, Reason.NOT_OURS, id="renewing-outside-the-pool"),
    pytest.param(renewing("10.1.2.3", STRANGER), UNICAST, (), Reason.NO_NETWORK, ..., id="renewing-from-nowhere"),
    pytest.param(renewing(NOBODY, STRANGER), ARRIVAL, (bound(STRANGER),), ack(NOBODY), ..., id="rebinding-bound"),
    pytest.param(
        renewing(NOBODY, STRANGER, WAS_OURS),
        ARRIVAL,
        (bound(STRANGER),),
        ack(NOBODY),
        ...,
        id="rebinding-and-naming-our-old-address",
    ),
    pytest.param(
        renewing(OWN_ADDRESS, KNOWN, WAS_OURS), UNICAST, (), ack(OWN_ADDRESS), ..., id="renewing-static-and-naming-it"
    ),
    pytest.param(
        renewing(NOBODY, STRANGER, WAS_OURS), ARRIVAL, (), Reason.OTHER_SERVER, ..., id="rebinding-with-another-server"
    ),
    pytest.param(
        renewing(NOBODY, STRANGER, WAS_OURS),
        ARRIVAL,
        (bound(OTHER),),
        Reason.OTHER_SERVER,
        ...,
        id="rebinding-anothers-with-another-server",
    ),
    pytest.param(renewing("10.1.2.3", STRANGER), ARRIVAL, (), NAK, Reason.NOT_OURS, id="rebinding-wrong-network"),
    pytest.param(
        renewing("10.78.0.100", STRANGER),
        ARRIVAL,
        (bound(STRANGER, IPv4Address("10.78.0.100")),),
        NAK,
        Reason.NOT_OURS,
        id="rebinding-after-it-moved",
    ),
    pytest.param(
        renewing("10.78.0.100", STRANGER),
        UNICAST,
        (bound(STRANGER, IPv4Address("10.78.0.100")),),
        ack("10.78.0.100"),
        ...,
        id="renewing-through-a-router",
    ),
    pytest.param(message(REQUEST), ARRIVAL, (), Reason.INCOMPLETE, ..., id="neither-50-nor-ciaddr"),
    pytest.param(
        message(REQUEST, options={54: SERVER.packed}), ARRIVAL, (), Reason.INCOMPLETE, ..., id="54-without-50"
    ),
]


@pytest.mark.parametrize(("ask", "arrival", "records", "expected", "otherwise"), STATES)
@pytest.mark.parametrize("authoritative", [True, False])
def test_a_request_is_answered_by_its_senders_state(
    ask: Message,
    arrival: Arrival,
    records: tuple[Lease, ...],
    expected: object,
    otherwise: object,
    authoritative: bool,
) -> None:
    server = serving(*records, authoritative=authoritative)
    actions = server.receive(ask, arrival, NOW)
    assert answer(actions) == (expected if authoritative or otherwise is ... else otherwise)
    send = sent(actions)
    if send is not None and send.message.yiaddr != wire.NO_ADDRESS and ask.ciaddr != wire.NO_ADDRESS:
        assert send.destination == Destination(ask.ciaddr, 68)
        assert send.message.ciaddr == ask.ciaddr


def test_choosing_another_server_frees_the_offer() -> None:
    server = serving()
    reply = sent(server.receive(discover(STRANGER), ARRIVAL, NOW))
    assert reply is not None
    address = reply.message.yiaddr
    assert not server.leases.is_free(address, OTHER, NOW)
    server.receive(selecting(address, STRANGER, IPv4Address("10.77.0.77")), ARRIVAL, NOW)
    assert server.leases.is_free(address, OTHER, NOW)


def test_a_static_address_that_a_stranger_still_leases_waits_for_him() -> None:
    server = serving(bound(STRANGER, OWN_ADDRESS))
    assert answer(server.receive(discover(), ARRIVAL, NOW)) != offer(OWN_ADDRESS)
    assert server.who(OWN_ADDRESS, NOW) == Holder(STRANGER, None, OWN_ADDRESS)
    assert answer(server.receive(discover(), ARRIVAL, NOW + 3601)) == offer(OWN_ADDRESS)
    assert server.who(OWN_ADDRESS, NOW + 3601) == Holder(None, "n1", OWN_ADDRESS)


@pytest.mark.parametrize(
    ("wish", "lease_s"),
    [(None, 86400), (600, 600), (1, 60), (0, 86400), (0xFFFFFFFF, 86400), (b"\0\1", 86400)],
)
def test_a_client_may_ask_for_less_time(wish: int | bytes | None, lease_s: int) -> None:
    value = wish.to_bytes(4, "big") if isinstance(wish, int) else wish
    options = {} if value is None else {51: value}
    reply = sent(serving().receive(discover(options=options), ARRIVAL, NOW))
    assert reply is not None
    times = [int.from_bytes(reply.message.options[code], "big") for code in (58, 59, 51)]
    assert times == [lease_s // 2, lease_s * 7 // 8, lease_s]


def decline(address: IPv4Address, mac: str, **fields: Any) -> Message:
    return message(
        MessageType.DHCPDECLINE, mac, options={50: address.packed, 54: SERVER.packed} | fields.pop("options", {})
    )


def test_a_declined_address_goes_to_nobody() -> None:
    server = serving(bound(STRANGER))
    actions = server.receive(decline(NOBODY, STRANGER), ARRIVAL, NOW)
    stored = Lease(NOBODY, STRANGER, int(NOW) + 86400, State.DECLINED)
    assert actions == [
        Store(stored),
        Happened(STRANGER, Stage.FAILED, "another machine uses 10.77.0.8; nobody gets it for 24 hours"),
    ]
    assert answer(server.receive(discover(STRANGER, options={50: NOBODY.packed}), ARRIVAL, NOW)) != offer(NOBODY)


def test_who_asks_for_less_time_is_told_so_and_nobody_else_has_the_address_before_the_old_end() -> None:
    server = serving(bound(STRANGER))
    ask = message(REQUEST, STRANGER, options={50: NOBODY.packed, 54: SERVER.packed, 51: (600).to_bytes(4, "big")})
    actions = server.receive(ask, ARRIVAL, NOW + 10)
    ack = sent(actions)
    assert ack is not None
    assert ack.message.options[51] == (600).to_bytes(4, "big")
    assert actions[0] == Store(bound(STRANGER)), "which is on disk already"
    assert not server.leases.is_free(NOBODY, OTHER, NOW + 3500)


@pytest.mark.parametrize(
    ("ask", "reason"),
    [
        (decline(NOBODY, OTHER), Reason.NOT_OURS),
        (decline(IPv4Address("10.77.0.9"), STRANGER), Reason.NOT_OURS),
        (decline(NOBODY, STRANGER, options={54: b"\n\1\1\1"}), Reason.INCOMPLETE),
        (decline(NOBODY, STRANGER, options={50: b""}), Reason.INCOMPLETE),
    ],
)
def test_a_decline_of_what_is_not_its_own_changes_nothing(ask: Message, reason: Reason) -> None:
    server = serving(bound(STRANGER))
    assert answer(server.receive(ask, ARRIVAL, NOW)) == reason
    assert list(server.leases) == [bound(STRANGER)]


def test_a_machine_that_declines_its_own_address_is_told_of_and_offered_it_again() -> None:
    server = serving()
    actions = server.receive(decline(OWN_ADDRESS, KNOWN), ARRIVAL, NOW)
    detail = "another machine uses 10.77.0.10, which is configured for this one"
    assert actions == [Happened(KNOWN, Stage.FAILED, detail)]
    assert answer(server.receive(discover(), ARRIVAL, NOW)) == offer(OWN_ADDRESS)


def test_a_decline_flood_quarantines_only_some() -> None:
    server = serving(subnets=[{"subnet": "10.77.0.0/24", "pool": "10.77.0.100-10.77.0.150"}])
    answers = []
    for _ in range(11):
        reply = sent(server.receive(discover(STRANGER), ARRIVAL, NOW))
        assert reply is not None
        answers.append(answer(server.receive(decline(reply.message.yiaddr, STRANGER), ARRIVAL, NOW)))
    assert answers == [None] * 10 + [Reason.TOO_MANY_DECLINED]


def release(address: IPv4Address, mac: str, **options: bytes) -> Message:
    return message(MessageType.DHCPRELEASE, mac, ciaddr=address, options={54: options.get("server", SERVER.packed)})


def test_a_release_is_stored_and_not_answered() -> None:
    server = serving(bound(STRANGER))
    assert server.receive(release(NOBODY, STRANGER), UNICAST, NOW) == [
        Store(Lease(NOBODY, STRANGER, int(NOW), State.RELEASED))
    ]
    assert server.who(NOBODY, NOW) is None
    assert answer(server.receive(discover(STRANGER), ARRIVAL, NOW)) == offer(NOBODY)


@pytest.mark.parametrize(
    ("ask", "reason"),
    [
        (release(NOBODY, OTHER), Reason.NOT_OURS),
        (release(IPv4Address("10.77.0.9"), STRANGER), Reason.NOT_OURS),
        (release(NOBODY, STRANGER, server=b"\n\1\1\1"), Reason.OTHER_SERVER),
        (release(OWN_ADDRESS, KNOWN), None),
    ],
)
def test_a_release_by_somebody_else_changes_nothing(ask: Message, reason: Reason | None) -> None:
    server = serving(bound(STRANGER))
    assert answer(server.receive(ask, UNICAST, NOW)) == reason
    assert server.who(NOBODY, NOW) == Holder(STRANGER, None, NOBODY)


def inform(ciaddr: str, **fields: Any) -> Message:
    return message(MessageType.DHCPINFORM, STRANGER, ciaddr=IPv4Address(ciaddr), **fields)


def test_an_inform_gets_options_and_no_lease() -> None:
    server = serving()
    actions = server.receive(inform("10.77.0.77"), UNICAST, NOW)
    reply = sent(actions)
    assert reply is not None
    assert actions == [reply]
    assert reply.destination == Destination(IPv4Address("10.77.0.77"), 68)
    assert (reply.message.yiaddr, str(reply.message.ciaddr)) == (wire.NO_ADDRESS, "10.77.0.77")
    assert {51, 58, 59}.isdisjoint(reply.message.options)
    assert reply.message.options[6] == bytes.fromhex("0a4d00010a4d0002")
    assert len(server.leases) == 0


@pytest.mark.parametrize(
    "ciaddr", ["0.0.0.0", "224.0.0.9", "255.255.255.255", "127.0.0.1", "10.77.0.255", "10.77.0.0", str(SERVER)]
)
@pytest.mark.parametrize("arrival", [ARRIVAL, UNICAST])
def test_an_inform_cannot_be_turned_against_others(ciaddr: str, arrival: Arrival) -> None:
    assert isinstance(answer(serving().receive(inform(ciaddr), arrival, NOW)), Reason)


def test_a_relayed_inform_is_answered_to_the_relay() -> None:
    reply = sent(serving().receive(inform("0.0.0.0", giaddr=IPv4Address("10.77.0.254")), UNICAST, NOW))
    assert reply is not None
    assert reply.destination == Destination(IPv4Address("10.77.0.254"), 67)


def test_a_bootp_client_gets_its_static_address_or_nothing() -> None:
    server = serving()
    reply = sent(server.receive(message(None), ARRIVAL, NOW))
    assert reply is not None
    assert reply.message.yiaddr == OWN_ADDRESS
    assert {51, 53, 54, 58, 59}.isdisjoint(reply.message.options)
    assert reply.message.file == b"grub/i386-pc/core.0"
    assert len(reply.pack().data) == 300
    assert answer(server.receive(message(None, STRANGER), ARRIVAL, NOW)) == Reason.BOOTP
    assert answer(server.receive(message(None, ciaddr=NOBODY), ARRIVAL, NOW)) == Reason.NOT_OURS
    reply = sent(server.receive(message(None, ciaddr=OWN_ADDRESS), UNICAST, NOW))
    assert reply is not None
    assert reply.destination == Destination(OWN_ADDRESS, 68)


@pytest.mark.parametrize(
    ("ask", "reason"),
    [
        pytest.param(discover(op=wire.Op.BOOTREPLY), Reason.NOT_A_REQUEST, id="a-reply"),
        *(
            pytest.param(message(None, options={53: bytes.fromhex(kind)}), Reason.NOT_A_REQUEST, id=f"type-{kind}")
            for kind in ("", "0102", "00", "02", "05", "06", "09", "0a", "63")
        ),
        *(
            pytest.param(discover(chaddr=bytes.fromhex(mac)), Reason.NO_MACHINE, id=f"chaddr-{mac}")
            for mac in ("", "000000000000", "ffffffffffff", "01005e000001")
        ),
        *(
            pytest.param(discover(giaddr=IPv4Address(giaddr)), Reason.BAD_RELAY, id=f"giaddr-{giaddr}")
            for giaddr in ("127.0.0.1", "224.0.0.1", "255.255.255.255", str(SERVER))
        ),
        pytest.param(discover(giaddr=IPv4Address("10.99.0.1")), Reason.NO_NETWORK, id="giaddr-of-no-network"),
    ],
)
def test_what_is_not_for_us_is_silent_and_counted(ask: Message, reason: Reason) -> None:
    server = serving()
    assert answer(server.receive(ask, ARRIVAL, NOW)) == reason
    assert server.counts == {reason: 1}


def test_an_interface_outside_every_network_is_silent() -> None:
    actions = serving().receive(discover(), Arrival(IPv4Address("192.0.2.1")), NOW)
    assert answer(actions) == Reason.NO_NETWORK


def test_our_own_address_is_never_offered() -> None:
    server = serving(subnets=[{"subnet": "10.77.0.0/24", "pool": "10.77.0.1-10.77.0.1"}])
    ask = discover(STRANGER, options={50: SERVER.packed})
    assert answer(server.receive(ask, ARRIVAL, NOW)) == Reason.POOL_EMPTY


def test_option_61_does_not_say_who_it_is() -> None:
    server = serving()
    stages = [b"", b"\1" + bytes.fromhex(STRANGER.replace(":", "")), b"\xff" + b"duid" * 5]
    offers = [answer(server.receive(discover(STRANGER, options={61: own}), ARRIVAL, NOW)) for own in stages]
    assert len(set(offers)) == 1


def test_secs_hops_and_reserved_flags_change_nothing() -> None:
    plain = answer(serving().receive(discover(STRANGER), ARRIVAL, NOW))
    assert answer(serving().receive(discover(STRANGER, secs=99, hops=7, flags=0x7FFF), ARRIVAL, NOW)) == plain


def test_who_holds_an_address() -> None:
    server = serving(bound(STRANGER), bound("52:54:00:00:00:02", IPv4Address("10.78.0.100")))
    assert server.who(OWN_ADDRESS, NOW) == Holder(None, "n1", OWN_ADDRESS), "it has two cards"
    server.receive(selecting(OWN_ADDRESS, SECOND), ARRIVAL, NOW)
    assert server.who(OWN_ADDRESS, NOW) == Holder(SECOND, "n1", OWN_ADDRESS)
    other = IPv4Address("10.77.0.200")
    assert server.who(other, NOW) == Holder("52:54:00:00:00:02", "n2", other)
    assert server.who(NOBODY, NOW) == Holder(STRANGER, None, NOBODY)
    assert server.who(NOBODY, NOW + 3601) is None
    roaming = IPv4Address("10.78.0.100")
    assert server.who(roaming, NOW) == Holder("52:54:00:00:00:02", "n2", roaming)
    assert server.who(IPv4Address("192.0.2.1"), NOW) is None


def test_times_move_with_the_wall_clock() -> None:
    server = serving(bound(STRANGER))
    server.receive(selecting(OWN_ADDRESS), ARRIVAL, NOW)
    server.shift(10**9)
    assert server.who(NOBODY, NOW + 10**9 + 3599) == Holder(STRANGER, None, NOBODY)
    assert server.who(NOBODY, NOW + 10**9 + 3601) is None


def test_a_reload_counts_from_the_next_request_and_keeps_leases() -> None:
    server = serving(bound(STRANGER))
    server.receive(selecting(OWN_ADDRESS), ARRIVAL, NOW)
    without = farm()
    server.reload(plan(without.model_copy(update={"pools": ()})))
    assert server.who(NOBODY, NOW) == Holder(STRANGER, None, NOBODY)
    assert answer(server.receive(discover(OTHER, options={50: OWN_ADDRESS.packed}), ARRIVAL, NOW)) != offer(
        OWN_ADDRESS
    )
    assert answer(server.receive(renewing(OWN_ADDRESS), UNICAST, NOW)) == ack(OWN_ADDRESS)
    server.reload(plan(without))
    server.receive(selecting(OWN_ADDRESS), ARRIVAL, NOW)
    server.reload(plan(without))
    assert answer(server.receive(renewing(OWN_ADDRESS), UNICAST, NOW)) == ack(OWN_ADDRESS)


any_options = st.dictionaries(
    st.sampled_from([12, 43, 50, 51, 53, 54, 55, 57, 60, 61, 66, 77, 81, 82, 93, 97, 118, 175]) | st.integers(1, 254),
    st.binary(max_size=40),
    max_size=8,
)
addresses = st.sampled_from([0, int(SERVER), int(OWN_ADDRESS), int(NOBODY), 2**32 - 1]) | st.integers(0, 2**32 - 1)


@given(
    st.lists(
        st.builds(
            lambda kind, mac, fields, options: message(
                kind,
                mac,
                flags=fields[0],
                ciaddr=IPv4Address(fields[1]),
                giaddr=IPv4Address(fields[2]),
                options=options,
            ),
            st.sampled_from([None, *MessageType]),
            st.sampled_from([KNOWN, STRANGER, OTHER]),
            st.tuples(st.sampled_from([0, 0x8000]), addresses, addresses),
            any_options,
        ),
        max_size=6,
    ),
    st.booleans(),
)
def test_no_message_stops_the_server(messages: list[Message], unicast: bool) -> None:
    server = serving()
    for n, ask in enumerate(messages):
        actions = server.receive(ask, Arrival(SERVER, unicast), NOW + n)
        send = sent(actions)
        if send is None:
            continue
        packed = send.pack()
        assert 300 <= len(packed.data) <= 1472
        reply = wire.decode(packed.data)
        assert (reply.op, reply.xid, reply.chaddr) == (wire.Op.BOOTREPLY, ask.xid, ask.chaddr)
        assert {50, 55, 57}.isdisjoint(reply.options), "a reply never carries these (RFC 2131 table 3)"
        assert not {Option.SUBNET_MASK, Option.DHCP_MESSAGE_TYPE} & set(packed.left_out)
        to = send.destination.address
        assert to == EVERYBODY or not (to.is_multicast or to.is_loopback or to.is_reserved)
    for other in ("02:00:00:00:00:77", KNOWN):
        assert sent(server.receive(discover(other), ARRIVAL, NOW + 10)) is not None


def test_a_bootp_client_waits_for_the_stranger_who_leases_its_address() -> None:
    asked = Server(plan(farm()), [Lease(OWN_ADDRESS, STRANGER, int(NOW) + 1000)], NOW)
    assert not [action for action in asked.receive(message(None, KNOWN), ARRIVAL, NOW) if isinstance(action, Send)]
    (sent,) = (a for a in asked.receive(message(None, KNOWN), ARRIVAL, NOW + 1001) if isinstance(a, Send))
    assert sent.message.yiaddr == OWN_ADDRESS
    holder = asked.who(OWN_ADDRESS, NOW + 1001)
    assert holder is not None
    assert holder.mac == KNOWN, "the card that was told"


def test_an_address_that_a_reload_moves_stays_with_who_was_told_it_is_his() -> None:
    asked = Server(plan(farm()), (), NOW)
    taken = message(MessageType.DHCPREQUEST, KNOWN, options={50: OWN_ADDRESS.packed, 54: SERVER.packed})
    asked.receive(taken, ARRIVAL, NOW)
    nodes = [{"name": "new", "macs": ["52:54:00:00:00:aa"], "ip": str(OWN_ADDRESS)}]
    other = Farm.model_validate(FARM | {"pools": [FARM["pools"][0] | {"nodes": nodes}]})
    (store,) = asked.reload(plan(other))
    assert isinstance(store, Store)
    assert (store.lease.address, store.lease.mac) == (OWN_ADDRESS, KNOWN)
    discover = message(MessageType.DHCPDISCOVER, "52:54:00:00:00:aa")
    (offer, *_) = (a for a in asked.receive(discover, ARRIVAL, NOW + 1) if isinstance(a, Send))
    assert offer.message.yiaddr != OWN_ADDRESS
    assert asked.reload(plan(other)) == []
    renamed = [{"name": "renamed", "macs": [KNOWN], "ip": "10.77.0.11"}]
    assert asked.reload(plan(Farm.model_validate(FARM | {"pools": [FARM["pools"][0] | {"nodes": renamed}]}))) == []
