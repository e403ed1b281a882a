"""dhcp.told: the most specific place wins, and what is forced or forbidden is so."""

from ipaddress import IPv4Address
from typing import Any

import pytest

from config.model import Farm
from dhcp.engine import Server
from dhcp.options import MessageType, Option
from dhcp.plan import plan
from dhcp.replies import Send
from dhcp.wire import Message, decode
from tests.support.dhcp_clients import ARRIVAL, KNOWN, SERVER, STRANGER, farm, message, recorded

NOW = 1_790_000_000.0
LEVELS = ("global", "shared", "subnet", "pool", "all", "pooltag", "owntag", "architecture", "node")


def levels_farm(*levels: str, node: bool = True, **settings: Any) -> Farm:
    """A farm where each of `levels` says another domain name."""

    def says(level: str, **more: Any) -> dict[str, Any]:
        return (({"domain_name": f"{level}.example"} | settings) if level in levels else {}) | more

    subnet = says("subnet", subnet="10.77.0.0/24", shared_network="wire", unknown="workers")
    subnet["pools"] = [says("pool", range="10.77.0.100-10.77.0.101")]
    known = {"name": "n1", "macs": [KNOWN], "ip": "10.77.0.10", "tags": ["owntag"], "dhcp": says("node")}
    return Farm.model_validate(
        {
            "dhcp": says(
                "global",
                probe=False,
                subnets=[subnet],
                shared_networks={"wire": says("shared")},
                architectures={"uefi-x64": says("architecture")},
            ),
            "images": {"i": {"path": "/i"}},
            "pools": [{"name": "workers", "image": "i", "tags": ["pooltag"], "nodes": [known] if node else []}],
            "tags": {name: {"dhcp": says(name)} for name in ("all", "pooltag", "owntag")},
        }
    )


def offer(made: Farm, ask: Message) -> Message:
    """The OFFER that answers `ask`, as it is on the wire."""
    (send,) = (a for a in Server(plan(made), (), NOW).receive(ask, ARRIVAL, NOW) if isinstance(a, Send))
    return decode(send.pack().data)


def ask(mac: str = KNOWN, *more: int, **fields: Any) -> Message:
    """A DISCOVER of an x64 machine that asks for its domain, and more."""
    options = {55: bytes((1, 15, *more)), 60: b"PXEClient:Arch:00007", 93: b"\0\7"} | fields.pop("options", {})
    return message(MessageType.DHCPDISCOVER, mac, options=options, **fields)


@pytest.mark.parametrize("n", range(1, len(LEVELS) + 1))
def test_of_all_places_the_most_specific_wins(n: int) -> None:
    levels = [level for level in LEVELS[:n] if level != "pool"]  # a machine with an address of its own is in no pool
    assert offer(levels_farm(*levels), ask()).options[15] == f"{levels[-1]}.example".encode()


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (("global", "shared", "subnet", "pool"), "pool"),
        (("global", "shared", "subnet", "pool", "all", "pooltag"), "pooltag"),
        (("pool", "owntag", "node"), "pool"),
    ],
)
def test_an_unlisted_machine_has_its_address_pool_and_the_tags_of_those_it_is_taken_for(
    levels: tuple[str, ...], expected: str
) -> None:
    assert offer(levels_farm(*levels), ask(STRANGER)).options[15] == f"{expected}.example".encode()


def test_null_takes_away_what_a_level_above_says() -> None:
    made = levels_farm("global")
    node = {"name": "n1", "macs": [KNOWN], "ip": "10.77.0.10", "dhcp": {"options": {"domain-name": None}}}
    raw = made.model_dump(exclude_unset=True, mode="json")
    raw["pools"][0]["nodes"] = [node]
    assert 15 not in offer(Farm.model_validate(raw), ask()).options


def test_what_is_always_or_never_sent() -> None:
    made = levels_farm("subnet", always_send=["domain-name"], never_send=["broadcast-address", 97])
    got = offer(made, message(MessageType.DHCPDISCOVER, KNOWN, options={55: bytes((1, 28))})).options
    assert got[15] == b"subnet.example"
    assert 28 not in got
    assert 97 not in offer(made, ask(options={97: bytes(17)})).options


def test_next_server_server_name_and_boot_file_are_settings_like_others() -> None:
    made = levels_farm("subnet", "node", next_server="10.77.0.7", server_name="boot.example", boot_file="own/file")
    got = offer(made, ask())
    assert (got.siaddr, got.sname, got.file) == (IPv4Address("10.77.0.7"), b"boot.example", b"own/file")
    assert (got.options[66], got.options[67]) == (b"boot.example\0", b"own/file\0")


def test_an_empty_boot_file_is_none() -> None:
    got = offer(levels_farm("node", boot_file=""), ask())
    assert got.file == b""
    assert {43, 60, 67}.isdisjoint(got.options)


def test_a_long_boot_file_is_in_option_67_alone() -> None:
    name = "a/" * 80 + "file"
    got = offer(levels_farm("subnet", boot_file=name), ask())
    assert (got.file, got.options[67]) == (b"", name.encode() + b"\0")


def test_an_http_client_gets_a_configured_path_as_a_url_and_a_url_as_it_is() -> None:
    http = {60: b"HTTPClient:Arch:00016:UNDI:003001", 93: b"\0\x10"}
    path = offer(levels_farm("architecture", boot_file="/efi//boot.efi"), ask(options=http))
    assert path.file == b"http://10.77.0.1/efi/boot.efi"
    url = offer(levels_farm("architecture", boot_file="http://192.0.2.1/x.efi"), ask(options=http))
    assert (url.file, url.options[60]) == (b"http://192.0.2.1/x.efi", b"HTTPClient\0")


def test_ipxe_gets_its_script_and_never_itself() -> None:
    made = levels_farm().model_dump(exclude_unset=True, mode="json")
    made["dhcp"]["architectures"] = {
        "uefi-x64": {"boot_file": "ipxe.efi"},
        "bios": {"boot_file": "undionly.kpxe"},
        "ipxe": {"boot_file": "http://10.77.0.1/menu.ipxe"},
    }
    whole = Farm.model_validate(made)
    assert offer(whole, recorded("D-EDK2-PXE")).file == b"ipxe.efi"
    for option in ({77: b"iPXE"}, {77: b"\4iPXE"}, {77: b"\3lab\4iPXE"}, {175: b"\x17\1\1"}):
        assert offer(whole, ask(options=option)).file == b"http://10.77.0.1/menu.ipxe"
    del made["dhcp"]["architectures"]["ipxe"]
    assert offer(Farm.model_validate(made), ask(options={77: b"iPXE"})).file == b"grub/x86_64-efi/core.efi"


def test_a_fqdn_is_answered_with_the_name_that_we_know() -> None:
    sent = bytes.fromhex("050000 03 616263 00")
    got = offer(levels_farm("subnet"), ask(options={81: sent})).options[81]
    assert got == b"\x0e\xff\xff\2n1\6subnet\7example\0"
    for hostile in (b"\0\0\0a\nb", b"\0", b"\4\0\0\xff" + b"a" * 40, b"\0\0\0" + b"a" * 64):
        answer = offer(levels_farm("subnet"), ask(options={81: hostile}))
        assert 81 not in answer.options
        assert answer.yiaddr == IPv4Address("10.77.0.10"), "a bad name does not deny the lease"


def test_infinite_leases_have_no_renewal_times() -> None:
    got = offer(levels_farm("node", lease_s="infinite"), ask()).options
    assert got[51] == b"\xff" * 4
    assert {58, 59}.isdisjoint(got)


@pytest.mark.parametrize(
    ("wish", "lease_s"), [(30, 120), (3600, 3600), (0, 7200), (10_000_000, 90_000), (0xFFFFFFFF, 90_000)]
)
def test_a_wish_is_granted_between_the_shortest_and_the_longest(wish: int, lease_s: int) -> None:
    made = farm(lease_s=7200, shortest_lease_s=120, longest_lease_s=90_000)
    got = offer(made, ask(options={51: wish.to_bytes(4, "big")})).options
    assert int.from_bytes(got[51], "big") == lease_s
    assert got[58] < got[59] < got[51]


@pytest.mark.parametrize("level", ["subnet", "pooltag", "node"])
@pytest.mark.parametrize(("wish", "lease_s"), [(300, 300), (86400, 600), (0xFFFFFFFF, 600)])
def test_a_time_that_is_configured_for_a_machine_is_the_longest_it_gets(level: str, wish: int, lease_s: int) -> None:
    made = levels_farm(level, lease_s=600)
    assert made.dhcp.lease_s == 86400
    assert offer(made, ask(options={51: wish.to_bytes(4, "big")})).options[51] == lease_s.to_bytes(4, "big")


def test_a_time_that_is_configured_for_a_machine_counts_where_it_is_that_of_all_too() -> None:
    made = levels_farm("node", lease_s=3600)
    made = made.model_copy(update={"dhcp": made.dhcp.model_copy(update={"lease_s": 3600, "longest_lease_s": 86400})})
    ever = {51: b"\xff" * 4}
    assert offer(made, ask(options=ever)).options[51] == (3600).to_bytes(4, "big")
    assert offer(made, ask(STRANGER, options=ever)).options[51] == (86400).to_bytes(4, "big")


def test_an_infinite_wish_is_granted_where_that_is_allowed() -> None:
    got = offer(farm(longest_lease_s="infinite"), ask(options={51: b"\xff" * 4}))
    assert got.options[51] == b"\xff" * 4


def test_the_server_answers_for_itself_whatever_the_next_server_is() -> None:
    assert (
        offer(levels_farm("subnet", next_server="10.77.0.7"), ask()).options[Option.SERVER_IDENTIFIER] == SERVER.packed
    )


def test_we_are_the_log_server_where_syslog_is_received_and_none_is_configured() -> None:
    made = levels_farm()
    assert Option.LOG_SERVER not in offer(made, ask(KNOWN, 7)).options
    receives = Farm.model_validate(made.model_dump(by_alias=True) | {"machine_logs": {"syslog_port": 514}})
    assert offer(receives, ask(KNOWN, 7)).options[Option.LOG_SERVER] == SERVER.packed
    elsewhere = Farm.model_validate(made.model_dump(by_alias=True) | {"machine_logs": {"syslog_port": 5514}})
    assert Option.LOG_SERVER not in offer(elsewhere, ask(KNOWN, 7)).options
    other = levels_farm("node", log_servers=["10.77.0.9"]).model_dump(by_alias=True)
    told = offer(Farm.model_validate(other | {"machine_logs": {"syslog_port": 514}}), ask(KNOWN, 7))
    assert told.options[Option.LOG_SERVER] == IPv4Address("10.77.0.9").packed
