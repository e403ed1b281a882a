from collections.abc import Mapping

import pytest

from config.advice import advice
from config.model import Farm

SERVED = {"server": {"interfaces": ["eth1"]}, "dhcp": {"subnets": [{"subnet": "10.0.0.0/24"}]}}
IMAGE = {"images": {"i": {"path": "/i"}}}


def pool(*words: str) -> dict[str, object]:
    return {**SERVED, **IMAGE, "pools": [{"name": "p", "image": "i", "kernel_parameters": words}]}


def of_router(router: str) -> dict[str, object]:
    return {"dhcp": {"subnets": [{"subnet": "10.0.0.0/24", "routers": [router]}]}}


def at_router(name: str, subnet: Mapping[str, object] | None = None, **dhcp: object) -> dict[str, object]:
    """A farm with a machine at 10.0.0.5."""
    machine = {"name": name, "serial": "x", "ip": "10.0.0.5"}
    served = {"dhcp": {"subnets": [{"subnet": "10.0.0.0/24", **(subnet or {})}], **dhcp}}
    return {**SERVED, **IMAGE, **served, "pools": [{"name": "p", "image": "i", "nodes": [machine]}]}


def of_name(name: str, mac: str, unknown: str | None = "p") -> dict[str, object]:
    machine = {"name": name, "macs": [mac], "ip": "10.0.0.5"}
    served = {"dhcp": {"subnets": [{"subnet": "10.0.0.0/24", "unknown": unknown}]}}
    return {**SERVED, **IMAGE, **served, "pools": [{"name": "p", "image": "i", "nodes": [machine]}]}


@pytest.mark.parametrize(
    ("farm", "lines"),
    [
        ({}, []),
        (pool("quiet", "console=ttyS0 boot=pxeboot"), []),
        ({**IMAGE, "pools": [{"name": "p", "image": "i"}]}, ["server.interfaces names none; `pxeboot serve`"]),
        ({**pool(), "dhcp": {}}, ["dhcp.subnets names no network, so no machine gets an address"]),
        (pool("quiet boot=live"), ["pools[0].kernel_parameters[0]: 'boot=live' takes the place of ours: our"]),
        (pool("a='geheim'"), ["pools[0].kernel_parameters[0]: GRUB writes a backslash before each ' and \\ of a's"]),
        ({"tags": {"t": {"kernel_parameters": ["BOOTIF=x"]}}}, ["tags.t.kernel_parameters[0]: 'BOOTIF=x' takes the"]),
        ({"tags": {"t": {"lts": {"RCFILE": "x", "RCFILE_1": "x", "TZ": "x"}}}},
         ["tags.t.lts.RCFILE does nothing; write RCFILE_01"]),
        ({"tags": {"t": {"lts": {"FSTAB_1": "# x", "HOSTS_1": " # x", "CRONTAB_1": "# x", "HOSTS_2": "::1 a #"}}}},
         ["tags.t.lts.FSTAB_1 is only a comment", "tags.t.lts.HOSTS_1 is only a comment"]),
        ({"node": {"ssh_authorized_keys": ["# alice", ""]}},
         ["node.ssh_authorized_keys[0] is no key, but empty or a comment", "node.ssh_authorized_keys[1] is no key"]),
        ({"server": {"interfaces": ["eth1", "eth2", "eth1", "eth1"]}}, ["server.interfaces: eth1 is there twice"]),
        (at_router("10.0.0.5", routers=["10.0.0.5"]), ["10.0.0.5: 10.0.0.5 is a router of 10.0.0.0/24"]),
        (at_router("10.0.0.5", routers=["10.0.0.6"]), []),
        (at_router("10.0.0.5", subnet={"routers": []}, routers=["10.0.0.5"]), []),
        (at_router("10.0.0.5", subnet={"proxy": True}, routers=["10.0.0.5"]), []),
        (at_router("m", subnet={"shared_network": "s"}, shared_networks={"s": {"routers": ["10.0.0.5"]}}),
         ["m: 10.0.0.5 is a router of 10.0.0.0/24"]),
        (at_router("m", subnet={"shared_network": "s"}, shared_networks={"s": {"routers": []}}, routers=["10.0.0.5"]),
         []),
        (at_router("10.0.0.6"), ["10.0.0.6: its name is an address, and not its own, which is 10.0.0.5"]),
        (of_name("node-5254000000aa", "52:54:00:00:00:01"),
         ["node-5254000000aa: a machine with the MAC 52:54:00:00:00:aa, which is not listed, has this name too"]),
        (of_name("node-5254000000aa", "52:54:00:00:00:aa"), []),
        (of_name("node-5254000000aa", "52:54:00:00:00:01", None), []),
        (of_name("node-5254", "52:54:00:00:00:01"), []),
        (of_router("10.0.0.1"), []),
        (of_router("10.0.1.1"), ["dhcp.subnets[0].routers: 10.0.1.1 is outside of 10.0.0.0/24 (10.0.0.1-10.0.0.254)"]),
        ({"clusters": {"c": {"api_server": "127.0.0.1:6443"}, "d": {"api_server": "10.0.0.1:6443"}}},
         ["clusters.c.api_server: 127.0.0.1:6443 is the machine itself"]),
        ({"clusters": {"c": {"api_server": "a:6443", "api_address": "127.0.0.1"}}},
         ["clusters.c.api_address: 127.0.0.1 is the machine itself"]),
        ({"dhcp": {"subnets": [{"subnet": "10.0.0.0/24", "domain_name_servers": ["127.0.0.53", "10.0.0.1"]}]}},
         ["dhcp.subnets[0].domain_name_servers: 127.0.0.53 is the machine itself"]),
    ],
)  # fmt: skip
def test_what_is_hardly_ever_meant_is_noted(farm: dict[str, object], lines: list[str]) -> None:
    found = [*advice(Farm.model_validate(farm))]
    assert len(found) == len(lines), found
    assert "geheim" not in "".join(found)
    assert all(line.startswith(begin) for line, begin in zip(found, lines, strict=True)), found
