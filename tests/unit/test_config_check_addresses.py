from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.check_addresses import unusable
from tests.support.marked import assert_said, said

NODE = "images: {i: {path: /i}}\npools: [{name: p, image: i, nodes: [{name: %s, macs: [%s], ip: %s}]}]\n"
MAC, IP = "52:54:00:00:00:01", "10.0.0.9"
SUBNET = "dhcp: {subnets: [{subnet: 10.0.0.0/24, %s}]}\n"

WRONG = [
    (NODE % ("n", MAC, "▸0.0.0.0"), "n: 0.0.0.0 is no address of anybody"),
    (NODE % ("n", MAC, "▸0.0.0.9"), "n: 0.0.0.9 lies in 0.0.0.0/8, where nobody is"),
    (NODE % ("n", MAC, "▸127.0.1.1"), "n: 127.0.1.1 is what every machine calls itself"),
    (NODE % ("n", MAC, "▸224.0.0.1"), r"n: 224.0.0.1 is the address of a group \(multicast\)"),
    (NODE % ("n", MAC, "▸240.0.0.1"), "n: 240.0.0.1 lies in 240.0.0.0/4, where nobody is"),
    (NODE % ("n", MAC, "▸255.255.255.255"), "is the address of everybody on the wire"),
    (NODE % ("n", "▸00:00:00:00:00:00", IP), "n: 00:00:00:00:00:00 is the address of no card"),
    (NODE % ("n", "▸ff:ff:ff:ff:ff:ff", IP), "is the address of a group of cards"),
    (NODE % ("▸n..x", MAC, IP), "'n..x' is not a host name; write words of letters, digits and hyphens"),
    (NODE % ("▸n.-x", MAC, IP), "'n.-x' is not a host name"),
    (NODE % ("▸localhost", MAC, IP), "'localhost' is what every machine calls itself"),
    (SUBNET % "routers: [▸10.0.0.255]", "10.0.0.255 is the broadcast address of 10.0.0.0/24; allowed: 10.0.0.1-"),
    (SUBNET % "pools: [{range: 10.0.0.9, routers: [▸10.0.0.0]}]", "routers: 10.0.0.0 is the network address of"),
    (SUBNET % "routers: [▸0.0.0.0]", "routers: 0.0.0.0 is no address of anybody"),
    (SUBNET % "domain_name_servers: [127.0.0.53, ▸224.0.0.1]", "224.0.0.1 is the address of a group"),
    (SUBNET % "ntp_servers: [▸224.0.1.1]", "ntp_servers: 224.0.1.1 is the address of a group"),
    (SUBNET % "log_servers: [▸255.255.255.255]", "log_servers: 255.255.255.255 is the address of everybody"),
    (SUBNET % "next_server: ▸0.0.0.0", "next_server: 0.0.0.0 is no address of anybody"),
    (SUBNET % "static_routes: [{to: 10.9.0.0/16, via: ▸127.0.0.1}]", "static_routes: 127.0.0.1 is what every machine"),
    ("dhcp: {subnets: [{subnet: ▸224.0.0.0/24}]}\n", "no machine can be in 224.0.0.0/24: 224.0.0.0 is the address"),
    ("dhcp: {subnets: [{subnet: ▸0.0.0.0/0}]}\n", "no machine can be in 0.0.0.0/0: 0.0.0.0 is no address"),
    ("dhcp: {subnets: [{subnet: ▸128.0.0.0/1}]}\n", "no machine can be in all of 128.0.0.0/1: 255.255.255.255 is the"),
    ("server: {address: ▸0.0.0.0}\n", "server.address: 0.0.0.0 is no address of anybody; leave it out"),
    ("server: {address: ▸10.0.0.255}\n" + SUBNET % "", "server.address: 10.0.0.255 is the broadcast address of"),
    ("clusters: {c: {api_server: 'a:6443', api_address: ▸240.0.0.1}}\n", "clusters.c.api_address: 240.0.0.1 lies in"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_an_address_where_nobody_can_be_is_told(tmp_path: Path, text: str, message: str) -> None:
    assert_said(tmp_path, text, message)


@pytest.mark.parametrize(
    "text",
    [
        NODE % ("n.a-b.example", MAC, "223.255.255.255"),
        NODE % ("12", MAC, "1.0.0.0"),
        SUBNET % "pool: 10.0.0.5-10.0.0.99" + NODE % ("n", MAC, IP),  # its address is nobody else's: dhcp.plan
        SUBNET % "routers: [10.0.0.254], static_routes: [{to: 10.9.0.0/16, via: 0.0.0.0}]",
        "dhcp: {routers: [10.9.0.1], subnets: [{subnet: 10.0.0.0/31, routers: [10.0.0.0]}]}\n",
    ],
)
def test_addresses_of_machines_are_right(tmp_path: Path, text: str) -> None:
    assert said(tmp_path, text) == []


@given(st.integers(0, 2**32 - 1))
def test_what_can_be_reached_is_what_the_standard_library_says(number: int) -> None:
    address = IPv4Address(number)
    nobody = address.is_loopback or address.is_multicast or address.is_reserved or number >> 24 == 0
    assert (unusable(number) is not None) == nobody
