"""dhcp.engine: a machine that is not simply to boot from the network gets no boot file that would not ask."""

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from config.model import Farm
from dhcp import boot
from dhcp.actions import Happened
from dhcp.engine import Server
from dhcp.fast import FastPath
from dhcp.options import MessageType
from dhcp.plan import plan
from dhcp.replies import Send
from dhcp.request import BOOT_SERVER_PORT, Arrival, Ignored
from dhcp.wire import Message, decode
from tests.support.dhcp_clients import KNOWN, SERVER, STRANGER, message

NOW = 1_790_000_000.0
INSTALLER = "installer.efi"
MENU = bytes.fromhex("060100")
"""An option 43 by which firmware asks whom it likes what to boot."""
ARCHITECTURES = {"bios": 0, "uefi-x64": 7, "uefi-arm64": 11, "uefi-x64-http": 16, "uefi-riscv64": 27}
EVERYWHERE: list[dict[str, Any]] = [
    {"dhcp": {"boot_file": INSTALLER}},
    {"subnet": {"boot_file": INSTALLER, "options": {"43": {"hex": "060100"}}}},
    {"subnet": {"options": {"67": INSTALLER, "175": {"hex": "510101"}}}},
    {"node": {"boot_file": INSTALLER}},
    {"dhcp": {"architectures": {name.removesuffix("-http"): {"boot_file": INSTALLER} for name in ARCHITECTURES}}},
    {"dhcp": {"architectures": {"ipxe": {"boot_file": f"http://{SERVER}/{INSTALLER}"}}}},
]


def serving(place: dict[str, Any], *steered: str, **subnet: Any) -> Server:
    made = {
        "dhcp": {
            "probe": False,
            "subnets": [
                {"subnet": "10.77.0.0/24", "pool": "10.77.0.100-10.77.0.110", "unknown": "workers"}
                | place.get("subnet", {})
                | subnet
            ],
            **place.get("dhcp", {}),
        },
        "images": {"i": {"path": "/i"}},
        "pools": [
            {
                "name": "workers",
                "image": "i",
                "nodes": [{"name": "n1", "macs": [KNOWN], "ip": "10.77.0.10", "dhcp": place.get("node", {})}],
            }
        ],
    }
    server = Server(plan(Farm.model_validate(made)), (), NOW)
    server.steered = lambda: steered
    return server


def ask(architecture: str = "uefi-x64", mac: str = KNOWN, *, ipxe: bool = False, **fields: Any) -> Message:
    code = ARCHITECTURES[architecture]
    name = b"HTTPClient" if architecture.endswith("-http") else b"PXEClient"
    options = {55: bytes((1, 43, 60, 66, 67, 175)), 60: name, 93: code.to_bytes(2, "big")}
    if ipxe:
        options |= {77: b"iPXE", 175: b"\x13\1\1"}
    return message(MessageType.DHCPDISCOVER, mac, options=options | fields.pop("options", {}), **fields)


HERE = Arrival(SERVER)


def reply(server: Server, asked: Message, arrival: Arrival = HERE) -> Message:
    (send,) = (action for action in server.receive(asked, arrival, NOW) if isinstance(action, Send))
    return decode(send.pack().data)


@pytest.mark.parametrize("ipxe", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("place", EVERYWHERE)
def test_no_other_boot_file_is_named_to_it(place: dict[str, Any], architecture: str, ipxe: bool) -> None:
    told = reply(serving(place, "n1"), ask(architecture, ipxe=ipxe))
    named = told.options.get(67, told.file).rstrip(b"\0").decode()
    assert INSTALLER.encode() not in told.encode()
    assert named.endswith(boot.BUILT_IN.get(architecture.removesuffix("-http"), "")), "where there is one of ours"
    assert told.options.get(43) != MENU
    assert told.options.get(175) != b"\x51\1\1"


@pytest.mark.parametrize("place", EVERYWHERE[:4])
def test_others_get_what_is_configured(place: dict[str, Any]) -> None:
    assert INSTALLER.encode() in reply(serving(place, "n2"), ask()).encode()


def test_it_is_not_sent_for_our_boot_file_to_where_the_other_one_is() -> None:
    place = {"node": {"boot_file": INSTALLER, "next_server": "10.77.0.9", "server_name": "elsewhere"}}
    told = reply(serving(place, "n1"), ask())
    assert (told.siaddr, told.options[66].rstrip(b"\0")) == (SERVER, b"10.77.0.1")
    assert b"elsewhere" not in told.encode()
    ours = {"node": {"next_server": "10.77.0.9"}}
    assert reply(serving(ours, "n1"), ask()).siaddr == IPv4Address("10.77.0.9"), "that is how it finds us"


def test_that_nobody_else_gets_a_boot_file_takes_ours_from_no_machine_that_has_another() -> None:
    place = {"dhcp": {"boot_file": ""}, "node": {"boot_file": INSTALLER}}
    assert reply(serving(place, "n1"), ask()).options[67].rstrip(b"\0").decode() == boot.X64_FILE
    assert 67 not in reply(serving({"node": {"boot_file": ""}}, "n1"), ask()).options


def test_that_it_is_given_no_boot_file_is_no_failure() -> None:
    actions = serving(EVERYWHERE[0], "n1").receive(ask("uefi-arm64"), HERE, NOW)
    assert not any(isinstance(action, Ignored) for action in actions)
    assert [a.stage.value for a in actions if isinstance(a, Happened)] == ["discover"]


def test_a_machine_that_is_not_listed_goes_by_the_name_that_it_is_given() -> None:
    told = reply(serving(EVERYWHERE[0], "node-020000000099"), ask(mac=STRANGER))
    assert told.options[67].rstrip(b"\0").decode() == boot.X64_FILE
    assert reply(serving(EVERYWHERE[0], "n1"), ask(mac=STRANGER)).options[67].startswith(INSTALLER.encode())


def test_who_gets_no_boot_file_as_a_stranger_gets_none_of_ours() -> None:
    server = serving({"subnet": {"options": {"67": INSTALLER}}}, "node-020000000099", unknown=None)
    assert 67 not in reply(server, ask(mac=STRANGER)).options


@pytest.mark.parametrize("port", [67, BOOT_SERVER_PORT])
def test_beside_another_dhcp_server_too(port: int) -> None:
    server = serving(EVERYWHERE[1], "n1", proxy=True, pool=None, unknown=None)
    asked, arrival = ask(), HERE
    if port == BOOT_SERVER_PORT:
        has = IPv4Address("10.77.0.10")
        asked = replace(asked, ciaddr=has, options=dict(asked.options) | {53: bytes((MessageType.DHCPREQUEST,))})
        arrival = Arrival(SERVER, unicast=True, source_port=4011, port=port, source=has)
    told = reply(server, asked, arrival)
    assert told.options[67].rstrip(b"\0").decode() == boot.X64_FILE


def test_a_raspberry_pi_that_is_to_leave_the_network_alone_is_not_told_to_boot_from_it() -> None:
    pi = ask(mac="dc:a6:32:00:00:01", options={60: b"PXEClient:Arch:00000:UNDI:002001", 93: b"\0\0"})
    boots, steered = (reply(serving({}, *names), pi) for names in ((), ("node-dca632000001",)))
    assert b"Raspberry Pi Boot" in boots.options[43]
    assert 43 not in steered.options


def test_beside_another_dhcp_server_it_gets_no_answer() -> None:
    pi = ask(mac="dc:a6:32:00:00:01", options={60: b"PXEClient:Arch:00000:UNDI:002001", 93: b"\0\0"})
    for names, answers in (((), 1), (("node-dca632000001",), 0)):
        server = serving({}, *names, proxy=True, pool=None)
        assert len([action for action in server.receive(pi, HERE, NOW) if isinstance(action, Send)]) == answers


def test_an_answer_is_no_form_for_others_if_something_is_said_while_it_is_made() -> None:
    server = serving({"dhcp": {"boot_file": INSTALLER}})
    server.steered = lambda: ["another list each time"]
    fast = FastPath(server)
    for _ in range(3):
        assert fast.receive(ask().encode(), HERE, NOW)
    assert fast.hits == 0


def test_what_is_said_counts_from_the_next_message_on_the_short_way_too() -> None:
    said: list[str] = []
    server = serving({"dhcp": {"boot_file": INSTALLER}})
    server.steered = lambda: said
    fast, asked = FastPath(server), ask().encode()
    fast.receive(asked, HERE, NOW)
    assert fast.receive(asked, HERE, NOW)
    assert fast.hits == 1
    said.append("n1")
    assert fast.receive(asked, HERE, NOW) is None, "the engine answers"
    assert boot.X64_FILE.encode() in reply(server, ask()).encode()
    said.clear()
    assert fast.receive(asked, HERE, NOW)
    assert fast.hits == 2
