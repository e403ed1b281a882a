import pytest

from config.advice import advice
from config.model import Farm

SERVED = {"server": {"interfaces": ["eth1"]}, "dhcp": {"subnets": [{"subnet": "10.0.0.0/24"}]}}
IMAGE = {"images": {"i": {"path": "/i"}}}


def pool(*words: str) -> dict[str, object]:
    return {**SERVED, **IMAGE, "pools": [{"name": "p", "image": "i", "kernel_parameters": words}]}


def of_router(router: str) -> dict[str, object]:
    return {"dhcp": {"subnets": [{"subnet": "10.0.0.0/24", "routers": [router]}]}}


@pytest.mark.parametrize(
    ("farm", "lines"),
    [
        ({}, []),
        (pool("quiet", "console=ttyS0 boot=pxeboot"), []),
        ({**IMAGE, "pools": [{"name": "p", "image": "i"}]}, ["server.interfaces names none; `pxeboot serve`"]),
        ({**pool(), "dhcp": {}}, ["dhcp.subnets names no network, so no machine gets an address"]),
        (pool("quiet boot=live"), ["pools[0].kernel_parameters[0]: 'boot=live' takes the place of ours: our"]),
        (pool("a='b'"), ["pools[0].kernel_parameters[0]: GRUB writes a backslash before each ' and \\ of"]),
        ({"tags": {"t": {"kernel_parameters": ["BOOTIF=x"]}}}, ["tags.t.kernel_parameters[0]: 'BOOTIF=x' takes the"]),
        ({"tags": {"t": {"lts": {"RCFILE": "x", "RCFILE_1": "x", "TZ": "x"}}}},
         ["tags.t.lts.RCFILE does nothing; write RCFILE_01"]),
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
    assert all(line.startswith(begin) for line, begin in zip(found, lines, strict=True)), found
