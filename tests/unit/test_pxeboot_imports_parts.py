"""pxeboot.imports: one setting after the other, by itself."""

from pathlib import Path
from typing import Any

import pytest

from config.load import load
from config.model import Farm
from pxeboot.imports import dhcpd, dnsmasq, kubefarm, write
from pxeboot.imports.found import Imported, Source
from pxeboot.imports.ltspconf import carried
from pxeboot.imports.options import said, untyped
from pxeboot.imports.ranges import parse
from pxeboot.imports.sound import sound

KEYS = [
    ("FSTAB_X", "a b c", ("lts", "FSTAB_X", "a b c")),
    ("POST_INIT_X", "true", ("lts", "PREINIT_X", "true")),
    ("PRE_INIT_X", "true", ("lts", "INIT_COMMAND_X", "true")),
    ("POST_SERVICE_X", "true", ("lts", "RCFILE_X", "true")),
    ("POST_INIT_X", "echo $IP_ADDRESS", ("lts", "PREINIT_X", ". /etc/ltsp/pxeboot-variables.sh; echo $IP_ADDRESS")),
    ("MASK_SYSTEM_SERVICES", "snapd", ("lts", "RM_SYSTEM_SERVICES", "snapd")),
    ("KERNEL_PARAMETERS", "quiet", ("kernel", "", "quiet")),
    ("DEBUG_SHELL", "1", ("kernel", "", "systemd.debug-shell=1")),
    ("DEBUG_SHELL", "0", ("needless", "", "")),
    ("OMIT_FUNCTIONS", "pam_main", ("needless", "", "")),
    ("HOSTNAME", "x", ("lost", "", "")),
    ("POST_INIT_X", "a\nb", ("lost", "", "")),
    ("lower", "x", ("lost", "", "")),
    ("CUSTOM", "x", ("lts", "CUSTOM", "x")),
]


@pytest.mark.parametrize(("key", "value", "becomes"), KEYS)
def test_an_option_of_ltsp_conf_is_what_does_the_same(key: str, value: str, becomes: tuple[str, str, str]) -> None:
    found = carried(key, value)
    assert (found.kind, found.key, found.value) == becomes
    assert found.why or found.kind in ("lts", "kernel")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no first address"),
        ("::1,::9", "IPv6"),
        ("10.0.0.1,10.0.0.9,soon", "neither a netmask nor a lease time"),
        ("10.0.0.1,10.0.0.9,12h,more", "nothing is known of"),
        ("here", "is not an IPv4 address"),
        ("interface:eth0,10.0.0.1", "server.interfaces"),
    ],
)
def test_a_range_that_is_none_says_why(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse(text)


def test_a_range_may_be_written_in_many_ways() -> None:
    found = parse("net:old,set:lab,10.28.72.250,10.28.72.10,255.255.0.0,10.28.255.255,12h")
    assert (str(found.first), str(found.last), found.lease_s) == ("10.28.72.10", "10.28.72.250", "43200")
    assert parse("lab,10.0.0.1,10.0.0.9").sets == ("lab",)
    assert (parse("10.0.0.0,static,infinite").mode, parse("10.0.0.0,proxy").mode) == ("static", "proxy")


@pytest.mark.parametrize(
    ("code", "values", "why"),
    [
        (3, ["0.0.0.0"], "the server's own address"),
        (3, ["x"], "is not an IPv4 address"),
        (121, ["10.0.0.0/8"], "pairs"),
        (121, ["10.0.0.1/8", "10.0.0.1"], "is not a network"),
        (121, ["10.0.0.0/8", "x"], "is not an IPv4 address"),
        (252, ["\n"], "white space"),
        (26, ["5"], "too little"),
        (1, ["255.0.0.0"], "decided by the server"),
    ],
)
def test_an_option_that_cannot_be_says_why(code: int, values: list[str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        said(code, values)


@pytest.mark.parametrize(
    ("values", "meant"),
    [
        (["255"], {"uint8": "255"}),
        (["256"], {"uint16": "256"}),
        (["70000"], {"uint32": "70000"}),
        (["99999999999"], {"text": "99999999999"}),
        (["a:b:c"], {"hex": "0a:0b:0c"}),
        (["hall 4"], {"text": "hall 4"}),
    ],
)
def test_a_value_without_a_type_is_what_it_looks_like(values: list[str], meant: dict[str, Any]) -> None:
    assert untyped(values) == meant


def nowhere(path: str, _: bool) -> str:
    return f"{path} is not here"


def loaded(imported: Imported, tmp_path: Path) -> tuple[Farm, str]:
    found = sound(imported)
    path = tmp_path / "farm.yaml"
    path.write_text(write.text(found, "pxeboot import"))
    return load(path), "\n".join(map(str, found.left))


def of_dnsmasq(text: str, tmp_path: Path) -> tuple[Farm, str]:
    return loaded(dnsmasq.read([Source("dnsmasq.conf", text)], nowhere), tmp_path)


def test_strangers_get_nothing_where_dnsmasq_ignored_them(tmp_path: Path) -> None:
    farm, _ = of_dnsmasq("dhcp-range=10.0.0.10,10.0.0.20,255.255.255.0\ndhcp-ignore=tag:!known\n", tmp_path)
    assert [(str(one.subnet), one.pool, one.pools) for one in farm.dhcp.subnets] == [("10.0.0.0/24", None, ())]


def test_a_range_without_a_mask_has_a_network_that_is_to_be_looked_at(tmp_path: Path) -> None:
    farm, told = of_dnsmasq("dhcp-range=10.0.0.10,10.0.3.20,12h\n", tmp_path)
    assert str(farm.dhcp.subnets[0].subnet) == "10.0.0.0/22"
    assert "it was taken for 10.0.0.0/22: look" in told


def test_the_port_of_a_switch_with_an_address_is_a_machine(tmp_path: Path) -> None:
    text = "dhcp-circuitid=set:port7,Gi1/0/7\ndhcp-range=tag:port7,10.0.0.7,10.0.0.7,255.255.255.0\n"
    (node,) = of_dnsmasq(text, tmp_path)[0].pools[0].nodes
    assert (node.name, str(node.ip), node.circuit_id) == ("port7", "10.0.0.7", b"Gi1/0/7".hex(":"))


def test_what_is_for_one_network_stands_in_it(tmp_path: Path) -> None:
    text = """dhcp-range=set:a,10.0.0.10,10.0.0.20,255.255.255.0\ndhcp-range=set:b,10.0.1.10,10.0.1.20,255.255.255.0
domain=a.example,10.0.0.0/24\ndomain=example\ndhcp-option=tag:b,3,10.0.1.1\ntftp-single-port\nno-ping\n"""
    farm, _ = of_dnsmasq(text, tmp_path)
    first, second = farm.dhcp.subnets
    assert (first.domain_name, farm.dhcp.domain_name, first.routers) == ("a.example", "example", None)
    assert [str(one) for one in second.routers or ()] == ["10.0.1.1"]
    assert (farm.tftp.single_port, farm.dhcp.probe) == (True, False)


def test_an_option_of_dhcpd_has_the_type_that_the_file_defines(tmp_path: Path) -> None:
    text = """option hall code 224 = text; option hall "300"; option lamp code 225 = boolean; option lamp on;
        subnet 10.0.0.0 netmask 255.255.255.0 { option domain-name = "x"; option nothing 1; }"""
    farm, told = loaded(dhcpd.read(Source("dhcpd.conf", text), nowhere), tmp_path)
    assert farm.dhcp.options == {"224": {"text": "300"}, "225": {"bool": "on"}}
    assert "an expression cannot be carried over" in told
    assert "there is no option 'nothing'" in told


@pytest.mark.parametrize("text", ["subnet {", "}", 'option x "', "subnet 10.0.0.0 netmask 255.0.0.0", "{ }"])
def test_a_dhcpd_conf_that_ends_too_early_is_refused(text: str) -> None:
    from pxeboot.imports.found import NotReadable

    with pytest.raises(NotReadable, match=r"^dhcpd.conf"):
        dhcpd.read(Source("dhcpd.conf", text), nowhere)


def test_machines_of_kubefarm_without_a_range_get_a_network(tmp_path: Path) -> None:
    values = (
        "nodePools: [{nodes: [{name: a, mac: '52:54:00:12:34:56', ip: 10.0.0.5}]}]\ntokenGenerator: {enabled: false}\n"
    )
    farm, told = loaded(kubefarm.read(Source("values.yaml", values)), tmp_path)
    assert ([str(one.subnet) for one in farm.dhcp.subnets], farm.clusters) == (["10.0.0.0/24"], {})
    assert "it was taken for 10.0.0.0/24: look" in told
