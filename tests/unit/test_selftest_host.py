from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.model import Farm
from pxeboot.selftest import host
from pxeboot.selftest.host import Clock, Disk

NOW = datetime(2026, 11, 22, tzinfo=UTC).timestamp()
PLAIN = Farm()
JOINS = Farm.model_validate({"clusters": {"prod": {"kubeconfig": "/etc/pxeboot/prod"}}})
FIVE_THOUSAND = Farm.model_validate({
    "images": {"node": {"path": "/i"}},
    "pools": [{"name": "w", "image": "node", "nodes": [
        {"name": f"n{n}", "macs": [f"52:54:00:00:{n >> 8:02x}:{n & 255:02x}"], "ip": f"10.0.{n >> 8}.{n & 255}"}
        for n in range(5000)]}],
})  # fmt: skip
MIB = 1 << 20


@pytest.mark.parametrize(
    ("farm", "clock", "said"),
    [
        (PLAIN, Clock(NOW, True), []),
        (PLAIN, Clock(NOW, None), []),
        (PLAIN, Clock(NOW, False), [("note", "nothing keeps this host's clock right")]),
        (JOINS, Clock(NOW, False), [("warning", "nothing keeps this host's clock right")]),
        (PLAIN, Clock(3600, True), [("error", "the clock was not set: it says 1970-01-01 01:00 UTC")]),
        (JOINS, Clock(host.BUILT_S - 1, None), [("error", "the clock was not set: it says 2024-12-31 23:59 UTC")]),
    ],
)
def test_a_clock_that_is_wrong_is_told(farm: Farm, clock: Clock, said: list[tuple[str, str]]) -> None:
    found = host.look_clock(farm, clock)
    assert [finding.level for finding in found] == [level for level, _ in said]
    for finding, (_, what) in zip(found, said, strict=True):
        assert finding.what.startswith(what)


@pytest.mark.parametrize(
    ("disk", "levels"),
    [
        (None, []),
        (Disk(100 * MIB, 200 * MIB, False, "ext4"), []),
        (Disk(100 * MIB, 200 * MIB, False, "ext4", 5000), []),
        (Disk(10 * MIB, 200 * MIB, False, "ext4"), ["warning"]),
        (Disk(0, 200 * MIB, False, "ext4"), ["error"]),
        (Disk(100 * MIB, 200 * MIB, False, "ext4", 3), ["error"]),
        (Disk(100 * MIB, 200 * MIB, True, "ext4"), ["error"]),
        (Disk(100 * MIB, 200 * MIB, False, "tmpfs"), ["warning"]),
        (Disk(0, 200 * MIB, False, "tmpfs"), ["error", "warning"]),
    ],
)
def test_a_state_folder_that_keeps_nothing_is_told(disk: Disk | None, levels: list[str]) -> None:
    assert [finding.level for finding in host.look_state(Path("/var/lib/pxeboot"), disk)] == levels


def test_the_file_system_of_a_folder_is_that_of_the_nearest_mount(tmp_path: Path) -> None:
    inside = tmp_path / "state/not/there/yet"
    (tmp_path / "self").mkdir()
    mounts = ["1 0 8:1 / / rw - ext4 /dev/sda1 rw", f"2 1 0:5 / {tmp_path} rw shared:1 - tmpfs tmpfs rw",
              f"3 1 0:6 / {tmp_path}-other rw - xfs /dev/sdb rw"]  # fmt: skip
    (tmp_path / "self/mountinfo").write_text("\n".join(mounts) + "\n")
    found = host.disk(inside, tmp_path)
    assert found is not None
    assert found.kind == "tmpfs"
    assert 0 < found.free <= found.size
    assert host.disk(inside, tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("farm", "hard", "needed"),
    [(PLAIN, 1024, None), (PLAIN, -1, None), (PLAIN, 512, 1024), (FIVE_THOUSAND, 65536, None),
     (FIVE_THOUSAND, 4096, 15256)],
)  # fmt: skip
def test_too_few_open_files_for_the_farm_are_told(farm: Farm, hard: int, needed: int | None) -> None:
    found = host.look_limits(farm, hard)
    assert [f"LimitNOFILE={needed}" in finding.remedy for finding in found] == [True] * (needed is not None)


@pytest.mark.parametrize(
    ("has", "first_port", "missing"),
    [
        (None, 1024, []),
        (1 << 10 | 1 << 13, 1024, []),
        (1 << 13, 1024, ["CAP_NET_BIND_SERVICE"]),
        (1 << 13, 0, []),
        (1 << 10, 1024, ["CAP_NET_RAW"]),
        (0, 1024, ["CAP_NET_RAW", "CAP_NET_BIND_SERVICE"]),
    ],
)
def test_capabilities_that_are_missing_are_named(has: int | None, first_port: int, missing: list[str]) -> None:
    found = host.look_capabilities(has, first_port)
    assert [finding.what.split()[0] for finding in found] == missing


@pytest.mark.parametrize(("text", "has"), [("Name:\tx\nCapEff:\t0000000000003400\n", 0x3400), ("", None)])
def test_what_this_process_may_is_read(tmp_path: Path, text: str, has: int | None) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/status").write_text(text)
    assert host.capabilities(tmp_path) == has
    assert host.may_list_rules(has) == (has is not None and bool(has & 1 << 12))


def kernel(folder: Path, **values: int) -> Path:
    names = {"ip_forward": "ip_forward", "all": "conf/all/rp_filter", "eth1": "conf/eth1/rp_filter"}
    for key, value in values.items():
        path = folder / "sys/net/ipv4" / names[key]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return folder


def test_a_router_that_forwards_nothing_is_told(tmp_path: Path) -> None:
    subnet = {"subnet": "10.0.0.0/24", "routers": ["10.0.0.1"]}
    farm = Farm.model_validate({"dhcp": {"subnets": [subnet]}})
    off, on = kernel(tmp_path / "off", ip_forward=0), kernel(tmp_path / "on", ip_forward=1)
    (finding,) = host.look_kernel(farm, frozenset({"10.0.0.1"}), ["eth1"], off)
    assert "10.0.0.1 is their router, which is this host, and it forwards nothing" in finding.what
    assert not [*host.look_kernel(farm, frozenset({"10.0.0.1"}), ["eth1"], on)]
    assert not [*host.look_kernel(farm, frozenset({"10.0.0.2"}), ["eth1"], off)]
    assert not [*host.look_kernel(farm, frozenset({"10.0.0.1"}), ["eth1"], tmp_path / "hidden")]


def test_strict_reverse_paths_are_a_note_where_machines_are_behind_relays(tmp_path: Path) -> None:
    farm = Farm.model_validate({"dhcp": {"subnets": [{"subnet": "10.0.0.0/24", "next_server": "10.1.0.1"}]}})
    (finding,) = host.look_kernel(farm, frozenset(), ["eth1"], kernel(tmp_path / "a", all=0, eth1=1))
    assert (finding.level, finding.about) == ("note", "rp_filter of eth1")
    assert not [*host.look_kernel(farm, frozenset(), ["eth1"], kernel(tmp_path / "b", all=2, eth1=1))]
    assert not [*host.look_kernel(PLAIN, frozenset(), ["eth1"], tmp_path / "a")]


def test_the_clock_of_this_host_can_be_read() -> None:
    assert host.clock().now_s > host.BUILT_S
