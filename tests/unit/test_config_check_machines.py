from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.check import check
from config.model import Farm
from tests.support.marked import assert_said, said

FARM = "images: {i: {path: /i}}\npools:\n  - name: p\n    image: i\n    nodes:\n"


def nodes(*rows: str) -> str:
    """A farm with these machines: n0 at 10.0.0.1, n1 at 10.0.0.2 and so on."""
    return FARM + "".join(f"      - {{name: n{n}, ip: 10.0.0.{n + 1}, {row}}}\n" for n, row in enumerate(rows))


MAC = "macs: [52:54:00:00:00:01]"
TAKEN = [
    (MAC, "macs: [▸5254.0000.0001]", "n1: the MAC 52:54:00:00:00:01 already belongs to n0 .line 6"),
    ("macs: [52:54:00:00:00:01, ▸52-54-00-00-00-01]", "serial: x", "n0: the MAC .* already belongs to n0"),
    ("client_id: abc", "client_id: ▸abc", "n1: the client identifier 61:62:63 already belongs to n0 .line 6"),
    ("client_id: abc", "client_id: ▸61:62:63", "client identifier 61:62:63 already belongs to n0"),
    ("client_id: FF:0A", "client_id: ▸ff:0a", "client identifier ff:0a already"),
    ("client_id: abc", "client_id: ▸00:61:62:63", "00:61:62:63 already belongs to n0"),
    ("client_id: 00:61:62:63", "client_id: ▸abc", "61:62:63 already belongs to n0"),
    ("serial: ABC", "serial: ▸ABC", "n1: the serial number ABC already belongs to n0"),
    ("client_id: ABC", "serial: ▸ABC", "n1: the serial number ABC already belongs to n0"),
    ("serial: ABC", "client_id: ▸00:41:42:43", "client identifier 00:41:42:43 already belongs to n0"),
    (
        "uuid: 4c4c4544-0042-3510-8054-b4c04f4a4d32",
        "uuid: ▸4C4C4544004235108054B4C04F4A4D32",
        "the UUID 4c4c4544-0042-3510-8054-b4c04f4a4d32 already belongs to n0",
    ),
    (
        "uuid: 4c4c4544-0042-3510-8054-b4c04f4a4d32",
        "uuid: ▸44454c4c-4200-1035-8054-b4c04f4a4d32",
        "the UUID 44454c4c-.* already belongs to n0",
    ),
    ("circuit_id: Gi1/0/1", "circuit_id: ▸47:69:31:2f:30:2f:31", "the port 47:.*31 already belongs to n0"),
    ("circuit_id: a1, remote_id: b", "circuit_id: ▸a1, remote_id: b", "the port 61:31 of 62 already belongs to n0"),
    ("remote_id: sw1", "remote_id: ▸sw1", "the switch 73:77:31 already belongs to n0"),
    (MAC, "client_id: ▸01:52:54:00:00:00:01", "n1: the client identifier 01:.* is that of a card of n0 .line 6"),
    ("client_id: ▸01:52:54:00:00:00:01", MAC, "n0: the client identifier 01:.* is that of a card of n1 .line 7"),
    (MAC, "macs: [▸33:33:00:00:00:01]", "n1: 33:33:00:00:00:01 is the address of a group of cards"),
    (MAC, "uuid: ▸00000000-0000-0000-0000-000000000000", "that of every machine whose maker gave it none"),
    (MAC, "uuid: ▸ffffffff-ffff-ffff-ffff-ffffffffffff", "that of every machine whose maker gave it none"),
]


@pytest.mark.parametrize(("first", "second", "message"), TAKEN)
def test_what_a_machine_is_known_by_is_its_own(tmp_path: Path, first: str, second: str, message: str) -> None:
    assert_said(tmp_path, nodes(first, second), message)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (MAC, "macs: [52:54:00:00:00:02]"),
        ("circuit_id: a", "circuit_id: a, remote_id: b"),  # the more specific one wins
        ("circuit_id: a", "remote_id: a"),
        ("client_id: a", "circuit_id: a"),
        ("serial: AB, client_id: AB", MAC),
        ("macs: [52:54:00:00:00:01], client_id: 01:52:54:00:00:00:01", "serial: b"),
        ("client_id: 01:52:54:00:00:00:02", MAC),
        ("uuid: 44454c4c-4200-1035-8054-b4c04f4a4d32", "uuid: 44454c4c-4200-1035-8054-b4c04f4a4d33"),
    ],
)
def test_machines_that_can_be_told_apart_are_right(tmp_path: Path, first: str, second: str) -> None:
    assert said(tmp_path, nodes(first, second)) == []


@given(
    st.lists(st.binary(min_size=16, max_size=16).map(lambda data: UUID(bytes=data)), min_size=1, max_size=4),
    st.booleans(),
)
def test_two_machines_share_a_uuid_whenever_a_packet_could_be_of_both(uuids: list[UUID], swapped: bool) -> None:
    rows = [*uuids, UUID(bytes_le=uuids[0].bytes) if swapped else uuids[0]]
    farm = Farm.model_validate(
        {
            "images": {"i": {"path": "/i"}},
            "pools": [
                {
                    "name": "p",
                    "image": "i",
                    "nodes": [{"name": f"n{n}", "ip": f"10.0.0.{n}", "uuid": u} for n, u in enumerate(rows)],
                }
            ],
        }
    )
    found = [finding.place for finding in check(farm)]
    assert ("pools", 0, "nodes", len(uuids), "uuid") in found


WRONG = [
    ("{▸name: n0, ip: 10.0.0.1}", "it says not how to know it; give `macs`, or client_id, uuid, serial"),
    ("{name: n0, ip: 10.0.0.1, uuid: ▸4c4c}", "'4c4c' is not a UUID, such as 4c4c4544-"),
    ("{name: n0, ip: 10.0.0.1, client_id: ▸[a]}", "a list is no identifier; write text, or hex pairs"),
    ("{name: n0, ip: 10.0.0.1, ▸serial: ''}", "serial: '' is too short"),
    ("{name: n0, ip: 10.0.0.1, serial: x, boot: ▸locl}", "write netboot, local, refuse or once; did you mean 'local'"),
    ("{name: n0, ip: 10.0.0.1, serial: x, ▸client-id: y}", "client-id is not known; .* did you mean 'client_id'"),
    ("{name: n0, ip: 10.0.0.1, serial: x, dhcp: {▸router: y}}", "router is not known; .*did you mean 'routers'"),
]


@pytest.mark.parametrize(("row", "message"), WRONG)
def test_a_machine_that_is_written_wrong_is_told(tmp_path: Path, row: str, message: str) -> None:
    row = row.replace("{▸name", "▸{name")
    assert_said(tmp_path, f"{FARM}      - {row}\n", message)


def test_a_machine_without_identity_is_still_checked(tmp_path: Path) -> None:
    text = FARM + "      - {name: a, macs: [52:54:00:00:00:01], ip: 10.0.0.1}\n      - ▸{name: ▸a, ip: ▸10.0.0.1}\n"
    assert_said(tmp_path, text, "says not how to know it", "already a machine named 'a'", "10.0.0.1 already belongs")


def test_an_address_is_looked_for_in_subnets_of_every_size(tmp_path: Path) -> None:
    subnets = "[{subnet: 10.0.0.0/30}, {subnet: 10.1.0.0/16, routers: [10.1.0.1]}, {subnet: 10.2.0.0/31}]"
    rows = ["10.0.0.2", "▸10.0.0.3", "▸10.0.0.4", "10.1.255.1", "▸10.1.0.1", "10.2.0.0", "10.2.0.1", "▸10.1.0.0"]
    text = f"dhcp: {{subnets: {subnets}}}\n" + FARM
    text += "".join(f"      - {{name: n{n}, serial: s{n}, ip: {ip}}}\n" for n, ip in enumerate(rows))
    assert_said(
        tmp_path,
        text,
        "n1: 10.0.0.3 is the broadcast address of 10.0.0.0/30; allowed: 10.0.0.1-10.0.0.2",
        "n2: 10.0.0.4 is in none of the subnets: 10.0.0.0/30, 10.1.0.0/16, 10.2.0.0/31",
        "n4: 10.1.0.1 is a router of 10.1.0.0/16",
        "n7: 10.1.0.0 is the network address of 10.1.0.0/16",
    )


@pytest.mark.parametrize(
    ("dhcp", "refused"),
    [
        ("subnets: [{subnet: 10.0.0.0/24, routers: [10.0.0.5]}]", True),
        ("subnets: [{subnet: 10.0.0.0/24, routers: [10.0.0.5], proxy: true}]", False),
        ("routers: [10.0.0.5], subnets: [{subnet: 10.0.0.0/24}]", False),
        ("routers: [10.0.0.5], subnets: [{subnet: 10.0.0.0/24, routers: []}]", False),
        ("subnets: [{subnet: 10.0.0.0/24, shared_network: s}], shared_networks: {s: {routers: [10.0.0.5]}}", False),
    ],
)
def test_a_machine_is_no_router_of_a_subnet_that_says_so_itself(tmp_path: Path, dhcp: str, refused: bool) -> None:
    text = f"dhcp: {{{dhcp}}}\n{FARM}      - {{name: gw, serial: x, ip: {'▸' * refused}10.0.0.5}}\n"
    assert_said(tmp_path, text, *["gw: 10.0.0.5 is a router of 10.0.0.0/24"] * refused)


@pytest.mark.parametrize(("name", "message"), [("10.0.0.5", ""), ("▸a..b", "'a..b' is not a host name")])
def test_a_machine_may_be_named_by_its_address(tmp_path: Path, name: str, message: str) -> None:
    text = f"{FARM}      - {{name: {name}, serial: x, ip: 10.0.0.5}}\n"
    assert_said(tmp_path, text, *[message] * bool(message))


def test_of_many_subnets_a_message_lists_some(tmp_path: Path) -> None:
    subnets = ", ".join(f"{{subnet: 10.1.{n}.0/24}}" for n in range(30))
    text = f"dhcp: {{subnets: [{subnets}]}}\n" + FARM + "      - {name: a, serial: a, ip: ▸10.2.0.1}\n"
    assert_said(tmp_path, text, "10.1.19.0/24 and 10 more$")
