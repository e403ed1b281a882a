"""pxeboot.obvious: what somebody means who gives no file."""

import os
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.check import check
from config.interfaces import NoInterface
from pxeboot import obvious
from pxeboot.image import tools
from pxeboot.image.store import ImageError
from tests.support.fake_image import add_image, make_root
from tests.support.segment import requires

HEADER = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
ADDRESS = IPv4Interface("10.0.2.7/24")


def route(
    interface: str, via: str, to: str = "0.0.0.0", mask: str = "0.0.0.0", flags: int = 3, metric: int = 0
) -> str:
    words = [f"{int.from_bytes(IPv4Address(text).packed, 'little'):08X}" for text in (to, via, mask)]
    return f"{interface}\t{words[0]}\t{words[1]}\t{flags:04X}\t0\t0\t{metric}\t{words[2]}\t0\t0\t0\n"


@pytest.mark.parametrize(
    ("address", "used", "pool"),
    [
        ("10.77.0.1/24", [], "10.77.0.128-10.77.0.244"),
        ("10.77.0.1/24", ["10.77.0.254"], "10.77.0.128-10.77.0.244"),
        ("10.77.0.200/24", [], "10.77.0.1-10.77.0.127"),
        ("10.77.0.200/24", ["10.77.0.1"], "10.77.0.2-10.77.0.127"),
        ("10.77.0.1/24", ["10.77.0.129", "10.77.0.50"], "10.77.0.130-10.77.0.244"),
        ("10.77.0.1/24", ["192.0.2.1"], "10.77.0.128-10.77.0.244"),
        ("10.0.0.1/16", [], "10.0.128.0-10.0.255.244"),
        ("10.77.0.1/26", [], "10.77.0.32-10.77.0.52"),
        ("10.77.0.1/27", [], "10.77.0.16-10.77.0.30"),
        ("10.77.0.1/30", [], "10.77.0.2-10.77.0.2"),
        ("10.77.0.2/30", [], "10.77.0.1-10.77.0.1"),
    ],
)
def test_a_pool_is_half_of_the_network_without_what_is_used(address: str, used: list[str], pool: str) -> None:
    first, last = obvious.pool_of(IPv4Interface(address), [IPv4Address(one) for one in used])
    assert f"{first}-{last}" == pool


@pytest.mark.parametrize(
    ("address", "used"), [("10.0.0.0/31", []), ("10.0.0.1/32", []), ("10.0.0.1/30", ["10.0.0.2"])]
)
def test_a_network_without_room_is_refused(address: str, used: list[str]) -> None:
    with pytest.raises(NoInterface, match="has no room for machines"):
        obvious.pool_of(IPv4Interface(address), [IPv4Address(one) for one in used])


@given(st.data(), st.integers(8, 29))
def test_a_pool_holds_machines_and_nothing_that_is_used(data: st.DataObject, prefix: int) -> None:
    network = IPv4Interface(f"10.0.0.0/{prefix}").network
    hosts = st.integers(1, network.num_addresses - 2).map(lambda number: network[number])
    own, used = data.draw(hosts), data.draw(st.lists(hosts, max_size=3))
    first, last = obvious.pool_of(IPv4Interface(f"{own}/{prefix}"), used)
    assert network.network_address < first <= last < network.broadcast_address
    assert not any(first <= one <= last for one in (own, *used))


@pytest.mark.parametrize(
    ("routes", "gateway"),
    [
        (route("eth1", "10.0.2.1"), "10.0.2.1"),
        (route("eth1", "0.0.0.0", "10.0.2.0", "255.255.255.0", 1) + route("eth1", "10.0.2.1"), "10.0.2.1"),
        (route("eth1", "10.0.2.1", metric=200) + route("eth1", "10.0.2.2", metric=100), "10.0.2.2"),
        (route("eth0", "10.0.2.1"), None),
        (route("eth1", "10.0.3.1"), None),
        (route("eth1", "0.0.0.0", flags=1), None),
        (route("eth1", "10.0.2.1", flags=2), None),
        (route("eth1", "10.0.2.1", "0.0.0.0", "128.0.0.0"), None),
        ("eth1\tnothing\n\nof sense\n", None),
        ("", None),
    ],
)
def test_the_gateway_is_the_hosts_if_it_is_on_the_network(tmp_path: Path, routes: str, gateway: str | None) -> None:
    (tmp_path / "route").write_text(HEADER + routes)
    found = obvious.default_gateway("eth1", ADDRESS, tmp_path / "route")
    assert found == (gateway and IPv4Address(gateway))


def test_a_host_without_routes_or_resolver_has_none(tmp_path: Path) -> None:
    assert obvious.default_gateway("eth1", ADDRESS, tmp_path / "none") is None
    assert obvious.name_servers(tmp_path / "none") == []


def test_name_servers_are_those_that_a_machine_can_ask_too(tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text(
        "# nameserver 192.0.2.9\nsearch example.com\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nnameserver fe80::1\n"
        "nameserver\n nameserver 192.0.2.2 # second\nnameserver 192.0.2.1\nnameserver 0.0.0.0\noptions edns0\n"
    )
    assert obvious.name_servers(tmp_path / "resolv.conf") == [IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")]


def test_the_farm_is_one_that_check_finds_nothing_wrong_with(tmp_path: Path) -> None:
    add_image(tmp_path / "images")
    (tmp_path / "route").write_text(HEADER + route("lo", "127.128.0.5"))
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.1\n")
    farm = obvious.farm_of(
        ("lo",), tmp_path / "images/node", "nbd", tmp_path, tmp_path / "route", tmp_path / "resolv.conf"
    )
    # Nothing but that it is lo, which a test has everywhere.
    assert [one for one in check(farm) if "what every machine calls itself" not in one.message] == []
    (subnet,) = farm.dhcp.subnets
    assert subnet.routers == (IPv4Address("127.128.0.5"),)
    assert subnet.domain_name_servers == (IPv4Address("192.0.2.1"),)
    assert str(subnet.pool) == "127.0.0.2-127.127.255.255"
    assert farm.images["node"].path == tmp_path / "images/node"
    assert farm.server.state == tmp_path
    bare = obvious.farm_of(("lo",), tmp_path / "images/node", "http", None, tmp_path / "none", tmp_path / "none")
    assert bare.dhcp.subnets[0].routers is None
    assert bare.dhcp.subnets[0].domain_name_servers is None


@requires("mksquashfs", "tar")
def test_a_file_is_added_again_only_when_it_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state, source = tmp_path / "state", tmp_path / "root.squashfs"
    root = make_root(tmp_path / "root")

    def packs() -> bool:
        assert obvious.added(source, state) == state / "images/node"
        return "unsquashfs" in capsys.readouterr().out

    def pack() -> None:
        source.unlink(missing_ok=True)
        tools.run(["mksquashfs", root, source, "-no-progress", "-quiet"], lambda _: None)

    pack()
    assert [packs(), packs(), packs()] == [True, False, False]
    before = (state / "images/node").readlink()
    (root / "etc/hostname").write_text("another\n")
    pack()
    assert [packs(), packs()] == [True, False]
    assert (state / "images/node").readlink() != before
    os.utime(source, ns=(0, source.stat().st_mtime_ns + 1))
    assert [packs(), packs()] == [True, False]
    (state / "image.json").write_text("{")
    assert [packs(), packs()] == [True, False]
    (state / "images/node").unlink()
    assert [packs(), packs()] == [True, False]
    add_image(state / "images", "node")  # somebody gave the name to another image
    assert [packs(), packs()] == [True, False]


def test_a_state_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    make_root(tmp_path / "root")
    (tmp_path / "state").write_text("a file")
    with pytest.raises(ImageError, match=r"root cannot be added to .*state/images: .*not a directory"):
        obvious.added(tmp_path / "root", tmp_path / "state")
