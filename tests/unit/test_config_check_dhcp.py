from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.architectures import ARCHITECTURE_NAMES
from config.check import check
from config.model import Farm
from tests.support.marked import assert_said, said

SUBNET = "dhcp: {subnets: [{subnet: 10.0.0.0/16, %s}]}\n"
POOLS = [
    (
        "pool: ▸10.0.0.5-10.1.0.1",
        "the pool 10.0.0.5-10.1.0.1 leaves its subnet 10.0.0.0/16, whose machines are 10.0.0.1-",
    ),
    ("pools: [{range: ▸10.1.0.1}]", "leaves its subnet"),
    ("pools: [{range: ▸10.0.0.0-10.0.0.5}]", "holds 10.0.0.0, the network address of 10.0.0.0/16; allowed: 10.0.0.1-"),
    ("routers: [10.0.0.7], pools: [{range: ▸10.0.0.5-10.0.0.9}]", "holds 10.0.0.7, which is a router"),
    ("pools: [{routers: [10.0.0.7], range: ▸10.0.0.5-10.0.0.9}]", "holds 10.0.0.7, which is a router"),
    ("pool: 10.0.0.5-10.0.0.9, pools: [{range: ▸10.0.0.9-10.0.0.20}]", "overlaps with 10.0.0.5-10.0.0.9 .line 1"),
    ("pools: [{range: ▸10.0.0.9-10.0.0.20}], pool: 10.0.0.5-10.0.0.9", "pool 10.0.0.9-10.0.0.20 overlaps with"),
    ("pools: [{range: 10.0.0.9-10.0.0.20}, {range: ▸10.0.0.1-10.0.0.9}]", "pool 10.0.0.1-.* overlaps with 10.0.0.9-"),
    ("pools: [{range: 10.0.0.9-10.0.0.9}, {range: ▸10.0.0.9}]", "overlaps with"),
    ("proxy: true, pool: ▸10.0.0.5", "a network where somebody else gives the addresses .proxy: true"),
    ("proxy: true, pools: [{range: ▸10.0.0.5}]", "somebody else gives the addresses"),
    ("pools: [▸{lease_s: 60}]", "pools.0..range is missing"),
    ("pools: [{range: ▸10.0.0.9-10.0.0.1}]", "ends at 10.0.0.1, before it begins at 10.0.0.9"),
]


@pytest.mark.parametrize(("settings", "message"), POOLS)
def test_an_address_pool_that_cannot_be_is_told(tmp_path: Path, settings: str, message: str) -> None:
    assert_said(tmp_path, SUBNET % settings, message)


@pytest.mark.parametrize(
    "settings",
    [
        "pool: 10.0.0.5-10.0.0.9, pools: [{range: 10.0.0.10-10.0.0.20}, {range: 10.0.0.1-10.0.0.4}]",
        "proxy: true",
        "proxy: false, pool: 10.0.0.5",
    ],
)
def test_pools_side_by_side_are_right(tmp_path: Path, settings: str) -> None:
    assert said(tmp_path, SUBNET % settings) == []


def test_every_pool_that_overlaps_is_told_in_one_run(tmp_path: Path) -> None:
    text = (
        "server: {address: 10.0.0.40}\n"
        "dhcp:\n  routers: [10.0.0.41]\n  subnets:\n    - subnet: 10.0.0.0/16\n      pools:\n"
        "        - {range: ▸10.0.0.1-10.0.0.99}\n"
        "        - {range: ▸10.0.0.10-10.0.0.19}\n"
        "        - {range: ▸10.0.0.30-10.0.0.39}\n"
        "        - {range: 10.0.0.100-10.0.0.200}\n"
    ).replace("▸10.0.0.1-", "▸▸10.0.0.1-")
    assert_said(
        tmp_path,
        text,
        "holds 10.0.0.40, which is our own address",
        "holds 10.0.0.41, which is a router of this subnet",
        "10.0.0.10-10.0.0.19 overlaps with 10.0.0.1-10.0.0.99 .line 7",
        "10.0.0.30-10.0.0.39 overlaps with 10.0.0.1-10.0.0.99 .line 7",
    )


networks = st.builds(
    lambda number, length: IPv4Network((10 << 24 | number << 4 & ~((1 << 32 - length) - 1), length)),
    st.integers(0, 23),
    st.integers(24, 30),
)


@given(st.lists(networks, max_size=6))
def test_two_subnets_overlap_exactly_when_they_share_an_address(subnets: list[IPv4Network]) -> None:
    farm = Farm.model_validate({"dhcp": {"subnets": [{"subnet": subnet} for subnet in subnets]}})
    found = {(finding.place[2], finding.other and finding.other[2]) for finding in check(farm)}
    assert found == {
        (second, first)
        for second in range(len(subnets))
        for first in range(second)
        if subnets[first].overlaps(subnets[second])
    }


SHARED = [
    ("subnets: [{subnet: 10.0.0.0/16, shared_network: hall}], shared_networks: {▸hal: {}}",
     "no subnet is in the shared network 'hal'; named by subnets: hall; did you mean 'hall'"),
    ("shared_networks: {▸hall: {mtu: 9000}}", "no subnet is in the shared network 'hall'; named by subnets: none"),
    ("subnets: [{subnet: 10.0.0.0/16, shared_network: a}, {subnet: 10.1.0.0/16, shared_network: ▸a, proxy: true}]",
     "in the shared network 'a', somebody else gives the addresses of 10.1.0.0/16, and we give those of 10.0.0.0/16"),
    ("subnets: [{subnet: 10.0.0.0/16, shared_network: a, proxy: true}, {subnet: 10.1.0.0/16, shared_network: ▸a}]",
     "we give the addresses of 10.1.0.0/16, and somebody else gives those of 10.0.0.0/16; write the same `proxy`"),
    ("subnets: [{subnet: ▸10.0.0.0/99, shared_network: a}], shared_networks: {a: {}}", "is not a network"),
    ("subnets: [{subnet: 10.0.0.0/16, shared_network: a, pool: ▸10.0.0.5-10.0.0.9}], shared_networks: "
     "{a: {routers: [10.0.0.6]}}", "holds 10.0.0.6, which is a router"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "message"), SHARED)
def test_a_shared_network_that_does_not_fit_is_told(tmp_path: Path, settings: str, message: str) -> None:
    assert_said(tmp_path, f"dhcp: {{{settings}}}\n", message)


TIMES = [
    ("lease_s: 100, longest_lease_s: ▸99", "longest_lease_s is 99, less than dhcp.lease_s, which is 100"),
    ("lease_s: infinite, longest_lease_s: ▸99", "less than dhcp.lease_s, which is infinite"),
    ("longest_lease_s: ▸3600", "less than dhcp.lease_s, which is 86400"),
    ("lease_s: 100, shortest_lease_s: ▸101", "shortest_lease_s is 101, more than dhcp.lease_s, which is 100"),
    (
        "shortest_lease_s: 3600, architectures: {bios: {lease_s: ▸3599}}",
        "3599 is less than dhcp.shortest_lease_s, which",
    ),
    ("shortest_lease_s: ▸infinite", "shortest_lease_s: 'infinite' is not a whole number"),
    ("lease_s: ▸30min, longest_lease_s: 3600", "'30min' is neither a whole number nor infinite"),  # and nothing else
    ("offer_hold_s: ▸5", "offer_hold_s: 5 is too little; the least allowed is 10"),
]


@pytest.mark.parametrize(("settings", "message"), TIMES)
def test_lease_times_that_contradict_each_other_are_told(tmp_path: Path, settings: str, message: str) -> None:
    assert_said(tmp_path, f"dhcp: {{{settings}}}\n", message)


@pytest.mark.parametrize(
    "settings",
    [
        "lease_s: 100, longest_lease_s: infinite, shortest_lease_s: 100",
        "lease_s: infinite, longest_lease_s: infinite, subnets: [{subnet: 10.0.0.0/16, pool: 10.0.0.5}]",
        "lease_s: infinite, shortest_lease_s: 4294967294",
        "shortest_lease_s: 3600, architectures: {bios: {lease_s: infinite}, uefi-x64: {mtu: 1400}}",
    ],
)
def test_lease_times_that_fit_are_right(tmp_path: Path, settings: str) -> None:
    assert said(tmp_path, f"dhcp: {{{settings}}}\n") == []


def test_architectures_have_names_that_we_know(tmp_path: Path) -> None:
    names = ", ".join(f"{name}: {{mtu: 1400}}" for name in ARCHITECTURE_NAMES)
    assert said(tmp_path, f"dhcp: {{architectures: {{{names}}}}}\n") == []
    text = "dhcp: {architectures: {▸uefi_x64: {mtu: 1400}, ▸ipxe2: {mtu: 1400}}}\n"
    assert_said(tmp_path, text, "no architecture 'uefi_x64'; did you mean 'uefi-x64'.$", "mean 'ipxe'")
    assert_said(tmp_path, "dhcp: {architectures: {▸zzzz: {mtu: 1400}}}\n", "no architecture 'zzzz'; known: bios, ")


def test_http_boot_takes_a_url(tmp_path: Path) -> None:
    files = {
        "uefi-x64-http": "▸x.efi",
        "uefi-arm64-http": "▸tftp://10.0.0.1/x.efi",
        "uefi-ia32-http": "http://10.0.0.1/x.efi",
        "bios-http": "''",
        "uefi-x64": "x.efi",
        "ipxe": "x.ipxe",
    }
    lines = "".join(f"    {name}: {{boot_file: {file}}}\n" for name, file in files.items())
    assert_said(
        tmp_path,
        f"dhcp:\n  architectures:\n{lines}",
        "uefi-x64-http fetches its boot file by HTTP; write a URL such as http://",
        "uefi-arm64-http fetches its boot file by HTTP",
    )


QUIRKS = [
    ("[{name: a}, {name: ▸a}]", "there is already a quirk named 'a' .line 1"),
    (
        "[▸{name: a, reply_delay_s: 1}]",
        "the quirk 'a' matches every client; write what .* vendor_classes: ..... if all",
    ),
    ("[{name: a, match: ▸{}, overload: false}]", "the quirk 'a' matches every client"),
    (
        "[{name: a, match: ▸{has_options: [97, 175], lacks_options: [97]}}]",
        "matches nobody: option 97 is in has_options",
    ),
    ("[{name: a, match: {macs: [▸x]}}]", "are no bytes in hex; write pairs"),
    (
        "[{name: a, smallest_bytes: ▸1000, largest_bytes: 500, match: {macs: ['02']}}]",
        "smallest_bytes is 1000, more than",
    ),
    ('[{name: a, vendor_class: ▸"x\\n", match: {macs: ["02"]}}]', "254 bytes at most, without control characters"),
    ("[{name: a, reply_delay_s: ▸3}]", "3 is too much; the most allowed is 2"),
    ("[{name: a, reply_delay_s: ▸x}]", "'x' is not a number"),
    (
        "[{name: a, option_43: ▸raspbery-pi}]",
        "write none, pxe-discovery-8, .* or raspberry-pi-spaces; did you mean 'rasp",
    ),
    ("[{name: a, architecture: ▸x64}]", "'x64' is no architecture; the ones there are: bios"),
    ("[{name: ▸A}]", "'A' is not such a name; write small letters, digits and hyphens"),
    ("[{name: a, match: {▸vendor_class: x}}]", "vendor_class is not known; .*did you mean 'vendor_classes'"),
]


@pytest.mark.parametrize(("quirks", "message"), QUIRKS)
def test_a_quirk_that_cannot_be_meant_is_told(tmp_path: Path, quirks: str, message: str) -> None:
    assert_said(tmp_path, f"dhcp: {{quirks: {quirks}}}\n", message)


@pytest.mark.parametrize(
    "quirks",
    [
        "[{name: huawei}]",
        "[{name: all, match: {vendor_classes: ['*']}, reply_delay_s: 0.5}]",
        "[{name: x, source: y}]",
    ],
)
def test_a_quirk_may_take_a_built_in_one_away_or_be_for_all(tmp_path: Path, quirks: str) -> None:
    assert said(tmp_path, f"dhcp: {{quirks: {quirks}}}\n") == []
