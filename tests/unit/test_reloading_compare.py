"""Which machines get something else at their next boot: a farm, and what is changed in it."""

import copy
from typing import Any

import pytest

from config.model import Farm
from pxeboot.cli import difference
from pxeboot.reloading.compare import Differences, compare

BASE: dict[str, Any] = {
    "server": {"interfaces": ["eth1"], "address": "10.0.0.1"},
    "dhcp": {
        "subnets": [
            {"subnet": "10.0.0.0/16", "routers": ["10.0.0.1"], "pool": "10.0.9.1-10.0.9.9", "unknown": "workers"},
            {"subnet": "10.1.0.0/16"},
        ]
    },
    "images": {"node": {"path": "/srv/node"}, "other": {"path": "/srv/other"}},
    "clusters": {"prod": {"kubeconfig": "/kube"}},
    "pools": [
        {
            "name": "workers",
            "image": "node",
            "tags": ["gpu"],
            "cluster": "prod",
            "nodes": [
                {"name": f"m{number}", "macs": [f"52:54:00:00:00:{number:02x}"], "ip": f"10.0.1.{number}"}
                for number in range(1, 6)
            ],
        },
        {"name": "away", "image": "node", "nodes": [{"name": "a1", "macs": ["52:54:01:00:00:01"], "ip": "10.1.0.5"}]},
    ],
    "tags": {"gpu": {"labels": {"gpu": "yes"}}},
}


def farm(change: Any = None) -> Farm:
    values = copy.deepcopy(BASE)
    if change is not None:
        change(values)
    return Farm.model_validate(values)


def put(*place: Any, to: Any) -> Any:
    """Return what sets the value at a place."""

    def change(values: Any) -> None:
        for key in place[:-1]:
            values = values.setdefault(key, {}) if isinstance(values, dict) else values[key]
        values[place[-1]] = to

    return change


def said(change: Any) -> list[tuple[list[str], list[str]]]:
    """Return who is affected, and how, in words."""
    return [
        ([*group.machines], [*map(str, group.changes), *(f"{name}: {one}" for name in group.each for one in
                                                          group.each[name])])
        for group in compare(farm(), farm(change)).changed
    ]  # fmt: skip


WORKERS, EVERYBODY = ["m1", "m2", "m3", "m4", "m5"], ["m1", "m2", "m3", "m4", "m5", "a1"]
NODE = ("pools", 0, "nodes", 0)

CHANGES = [
    pytest.param(put("pools", 0, "image", to="other"), WORKERS,
                 ["image: node -> other", "image's path: /srv/node -> /srv/other"], id="image"),
    pytest.param(put("images", "node", "path", to="/srv/new"), EVERYBODY,
                 ["image's path: /srv/node -> /srv/new"], id="image's path"),
    pytest.param(put("pools", 0, "root", to="nbd"), WORKERS, ["root: http -> nbd"], id="root"),
    pytest.param(put("pools", 1, "kernel_parameters", to=["quiet"]), ["a1"],
                 ["kernel parameters: none -> quiet"], id="kernel parameters"),
    pytest.param(put(*NODE, "ip", to="10.0.1.99"), ["m1"], ["m1: address: 10.0.1.1 -> 10.0.1.99"], id="address"),
    pytest.param(put(*NODE, "boot", to="local"), ["m1"], ["m1: boot: netboot -> local"], id="boot"),
    pytest.param(put(*NODE, "name", to="m1b"), ["m1b"], ["m1b: name: m1 -> m1b"], id="name"),
    pytest.param(put(*NODE, "dhcp", to={"mtu": 9000}), ["m1"], ["DHCP interface-mtu: none -> 9000"], id="own option"),
    pytest.param(put("dhcp", "subnets", 0, "routers", to=["10.0.0.2"]), WORKERS,
                 ["DHCP routers: 10.0.0.1 -> 10.0.0.2"], id="option"),
    pytest.param(put("dhcp", "lease_s", to=600), EVERYBODY, ["DHCP lease time, s: 86400 -> 600"], id="lease time"),
    pytest.param(put("dhcp", "boot_file", to="x.efi"), EVERYBODY, ["boot file: none -> x.efi"], id="boot file"),
    pytest.param(put("dhcp", "architectures", to={"uefi-arm64": {"boot_file": "a.efi"}}), EVERYBODY,
                 ["boot file (uefi-arm64): none -> a.efi"], id="boot file of an architecture"),
    pytest.param(put("tags", "gpu", "labels", "gpu", to="a100"), WORKERS, ["label gpu: yes -> a100"], id="label"),
    pytest.param(put("tags", "gpu", "taints", to=[{"key": "gpu", "effect": "NoSchedule", "value": "x"}]), WORKERS,
                 ["taint gpu:NoSchedule: none -> x"], id="taint"),
    pytest.param(put("tags", "gpu", "lts", to={"RCFILE_1": "secret"}), WORKERS,
                 ["lts.conf RCFILE_1: it is new"], id="lts.conf key"),
    pytest.param(put("clusters", "prod", "api_server", to="k:6443"), WORKERS,
                 ["cluster's api_server: none -> k:6443"], id="cluster"),
    pytest.param(put("node", to={"files": {"motd": {"content": "hello"}}}), EVERYBODY,
                 ["file motd: it is new", "mode of motd: none -> 0644"], id="file"),
    pytest.param(put("node", to={"root_password_hash": "$6$x"}), EVERYBODY,
                 ["root password: it is new"], id="password"),
    pytest.param(put("lts_conf", to="/lts"), EVERYBODY, ["lts.conf: none -> /lts"], id="lts.conf"),
    pytest.param(put("server", "address", to="10.0.0.2"), EVERYBODY,
                 ["server's address: 10.0.0.1 -> 10.0.0.2"], id="server's address"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "machines", "lines"), CHANGES)
def test_a_change_is_said_of_the_machines_that_it_is_about(change: Any, machines: list[str], lines: list[str]) -> None:
    groups = said(change)
    assert sorted(name for names, _ in groups for name in names) == sorted(machines)
    assert {line for _, group in groups for line in group} == set(lines)


def test_nothing_differs_from_itself() -> None:
    assert not compare(farm(), farm()).any
    assert [*difference.lines(compare(farm(), farm()), (), "x")] == ["nothing changes: it says the same as x"]


def test_machines_that_change_alike_are_one_group_and_what_is_their_own_another() -> None:
    def change(values: Any) -> None:
        put("pools", 0, "root", to="nbd")(values)
        for number in range(3):
            put("pools", 0, "nodes", number, "ip", to=f"10.0.2.{number + 1}")(values)

    assert [names for names, _ in said(change)] == [WORKERS, ["m1", "m2", "m3"]]
    assert compare(farm(), farm(change)).machines == 5


def test_machines_come_and_go() -> None:
    def change(values: Any) -> None:
        gone = values["pools"][0]["nodes"].pop(0)
        values["pools"][1]["nodes"].append({**gone, "name": "z9", "macs": ["52:54:09:00:00:09"], "ip": "10.1.0.9"})

    found = compare(farm(), farm(change))
    assert (found.added, found.gone, found.changed) == (("z9",), ("m1",), ())


def test_machines_that_are_not_listed_are_spoken_of_by_their_subnet() -> None:
    found = compare(farm(), farm(put("dhcp", "subnets", 0, "unknown", to="away")))
    assert found.changed == ()
    ((subnet, changes),) = found.unlisted
    assert subnet == "10.0.0.0/16"
    assert {"pool: workers -> away", "label gpu: yes -> none"} <= {*map(str, changes)}


def test_a_setting_that_no_boot_depends_on_is_no_machine_s_change() -> None:
    found = compare(farm(), farm(put("http", "downloads", to=3)))
    assert (found.changed, found.unlisted) == ((), ())
    assert [*map(str, found.settings)] == ["http.downloads: 64 -> 3"]


def test_no_secret_is_in_what_is_said() -> None:
    def change(values: Any) -> None:
        put("tags", "gpu", "lts", to={"RCFILE_1": "kubeadm join --token abcdef"})(values)
        put("node", to={"root_password_hash": "$6$secret", "files": {"k": {"content": "PRIVATE"}}})(values)

    found = compare(farm(), farm(change))
    text = str(found.as_json()) + "\n".join(difference.lines(found, (), "x"))
    assert not any(secret in text for secret in ("abcdef", "$6$", "PRIVATE"))


def test_the_lines_name_a_few_of_many() -> None:
    found: Differences = compare(farm(), farm(put("pools", 0, "image", to="other")))
    assert [*difference.lines(found, ("server.http_port: 81 in the file, 80 until a restart",), "x")] == [
        "at their next boot 5 machines will get something else",
        "5 machines:",
        "    image: node -> other",
        "    image's path: /srv/node -> /srv/other",
        "    m1, m2, m3, m4, m5",
        "machines of 10.0.0.0/16 that are not listed:",
        "    image: node -> other",
        "    image's path: /srv/node -> /srv/other",
        "needs a restart: server.http_port: 81 in the file, 80 until a restart",
    ]
