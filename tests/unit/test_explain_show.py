"""pxeboot.explain.show and .as_json: whatever came from the network is explained, and printed as plain text."""

import json
from io import StringIO
from ipaddress import IPv4Address

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from config.marks import Marks
from dhcp.engine import Server
from dhcp.plan import plan
from dhcp.request import Arrival
from dhcp.wire import Message, Op
from pxeboot.explain.as_json import explanation_json
from pxeboot.explain.explanation import Desk
from pxeboot.explain.show import show
from tests.support.dhcp_clients import RECORDED, SERVER, farm, recorded

NOW = 1_000_000.0
FARM = farm(subnets=[
    {"subnet": "10.77.0.0/24", "pool": "10.77.0.8-10.77.0.15", "unknown": "workers"},
    {"subnet": "10.78.0.0/24", "pool": "10.78.0.100-10.78.0.101", "unknown": "workers"},
    {"subnet": "10.79.0.0/24", "proxy": True, "unknown": "workers"},
])  # fmt: skip
PLAN = plan(FARM)
ADDRESSES = st.sampled_from(
    [0, *(int(IPv4Address(f"10.{net}.0.{host}")) for net in (77, 78, 79) for host in (1, 9, 10))]
)
DISCOVERS = [recorded(name) for name in RECORDED if name.startswith("D-") and len(RECORDED[name]) > 60]


def desk() -> Desk:
    return Desk(Server(PLAN, (), NOW), FARM, Marks(), {})


def printed(message: Message, arrival: Arrival) -> str:
    one = desk().explain(message, arrival, NOW)
    out = StringIO()
    show(Console(file=out, width=100), one, title="somebody")
    json.dumps(explanation_json(one))
    return out.getvalue()


OPTIONS = st.dictionaries(
    st.sampled_from([43, 50, 51, 53, 54, 55, 57, 60, 61, 66, 67, 77, 81, 82, 93, 94, 97, 118, 175])
    | st.integers(1, 254),
    st.binary(max_size=40) | st.just(b"PXEClient:Arch:00007") | st.sampled_from([bytes((n,)) for n in range(1, 9)]),
    max_size=8,
)


@settings(max_examples=300, deadline=None)
@given(
    known=st.sampled_from(DISCOVERS),
    options=OPTIONS,
    fields=st.fixed_dictionaries(
        {
            "op": st.sampled_from(Op),
            "xid": st.integers(0, 0xFFFFFFFF),
            "chaddr": st.sampled_from([DISCOVERS[0].chaddr]) | st.binary(max_size=16),
            "htype": st.sampled_from([1, 1, 1, 32, 6]),
            "flags": st.sampled_from([0, 0x8000]),
            "ciaddr": ADDRESSES.map(IPv4Address),
            "giaddr": ADDRESSES.map(IPv4Address),
        }
    ),
    at=ADDRESSES,
    port=st.sampled_from([67, 4011]),
    unicast=st.booleans(),
)
def test_any_request_is_explained_and_printed(
    known: Message, options: dict[int, bytes], fields: dict[str, object], at: int, port: int, unicast: bool
) -> None:
    message = Message(**fields, options={**known.options, **options})  # type: ignore[arg-type]
    arrival = Arrival(IPv4Address(at or int(SERVER)), unicast, 68, port, message.ciaddr)
    text = printed(message, arrival)
    assert "answer" in text
    assert text.isprintable() or all(c.isprintable() or c == "\n" for c in text)


def test_what_a_client_sends_is_no_markup_and_no_control_sequence() -> None:
    evil = recorded("D-EDK2-PXE", options={60: b"PXEClient:\x1b[31m[bold]red[/bold]", 61: b"\0\x1b]0;title\x07[/]"})
    text = printed(evil, Arrival(SERVER))
    assert "\x1b" not in text
    assert "\x07" not in text


def test_the_fields_are_the_packet() -> None:
    one = desk().explain(recorded("D-EDK2-PXE"), Arrival(SERVER), NOW)
    assert one.answer is not None
    assert b"".join(row.raw for row in one.answer.fields) == one.answer.packed.data[:236]
    assert sum(row.size_bytes for row in one.answer.fields) == 236
    for row in one.answer.options:
        assert bytes((row.code or 0, row.size_bytes)) + row.raw in one.answer.packed.data


def test_an_address_of_ours_is_not_what_a_machine_would_get() -> None:
    stranger = recorded("D-EDK2-PXE", "02:00:00:00:00:99")
    first = desk().explain(stranger, Arrival(SERVER), NOW)
    assert first.answer is not None
    taken = first.answer.send.message.yiaddr
    one = Desk(Server(PLAN, (), NOW), FARM, Marks(), {}, frozenset([taken])).explain(stranger, Arrival(SERVER), NOW)
    assert one.answer is not None
    assert one.answer.send.message.yiaddr != taken
