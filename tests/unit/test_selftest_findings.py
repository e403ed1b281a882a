import asyncio
import errno
import logging
import shutil
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest

from config.interfaces import Link
from config.model import Farm
from pxeboot.image import store
from pxeboot.selftest import files, images, interfaces, pod, run
from pxeboot.selftest.findings import Finding, in_order
from pxeboot.selftest.pod import Surroundings
from pxeboot.selftest.watch import Watch
from tests.support.certificates import Authority
from tests.support.fake_image import add_image

NOTE, WARNING, ERROR = (
    Finding("note", "x", "note here"),
    Finding("warning", "x", "warning here"),
    Finding("error", "x", "error here"),
)


def test_the_worst_comes_first_and_each_once() -> None:
    assert in_order([NOTE, ERROR, WARNING, NOTE]) == [ERROR, WARNING, NOTE]


def link(name: str = "eth1", *addresses: str, up: bool = True, carrier: bool = True, mtu: int = 1500) -> Link:
    own = tuple(IPv4Interface(address) for address in addresses)
    return Link(name, 2, up, carrier, own, "52:54:00:00:00:01", mtu)


FARM = {"server": {"interfaces": ["eth1"]}, "dhcp": {"subnets": [{"subnet": "10.0.0.0/24"}]}}


@pytest.mark.parametrize(
    ("farm", "there", "said"),
    [
        (FARM, [link("eth1", "10.0.0.1/24")], []),
        ({}, [], [("error", "server.interfaces names none")]),
        (FARM, [], [("error", "there is no interface eth1")]),
        ({"server": {"interfaces": ["ens*"]}}, [], [("error", "no interface with an IPv4 address is named ens*")]),
        ({"server": {"interfaces": ["ens*"]}}, [link("ens3", "10.0.0.1/24")], []),
        (FARM, [link("eth1", "10.0.0.1/24", up=False, carrier=False)], [("error", "eth1 is down")]),
        (FARM, [link("eth1", "10.0.0.1/24", carrier=False)], [("warning", "eth1 has no wire")]),
        (FARM, [link("eth1")], [("error", "eth1 has no IPv4 address")]),
        (FARM, [link("eth1", "10.1.0.1/24")],
         [("warning", "10.1.0.1/24 of eth1 is in no subnet of the farm (10.0.0.0/24)"),
          ("note", "no interface has an address in 10.0.0.0/24")]),
        ({**FARM, "tags": {"all": {"dhcp": {"mtu": 9000}}}}, [link("eth1", "10.0.0.1/24")],
         [("warning", "machines are told an MTU of 9000, and that of eth1 is 1500")]),
        ({**FARM, "tags": {"all": {"dhcp": {"mtu": 9000}}}}, [link("eth1", "10.0.0.1/24", mtu=9000)], []),
    ],
)  # fmt: skip
def test_what_an_interface_lacks_is_told(
    farm: dict[str, object], there: list[Link], said: list[tuple[str, str]]
) -> None:
    found = interfaces.look(Farm.model_validate(farm), {one.name: one for one in there})
    assert [finding.level for finding in found] == [level for level, _ in said]
    for finding, (_, what) in zip(found, said, strict=True):
        assert finding.what.startswith(what)


def test_a_machine_with_an_address_of_this_host_is_told() -> None:
    nodes = [{"name": f"n{n}", "macs": [f"52:54:00:00:00:0{n}"], "ip": f"10.0.0.{n}"} for n in (1, 2)]
    pool = {"name": "p", "image": "i", "nodes": nodes}
    farm = Farm.model_validate({"images": {"i": {"path": "/i"}}, "pools": [pool], **FARM})
    there = {"eth1": link("eth1", "10.0.0.9/24")}
    (finding,) = interfaces.look(farm, there, frozenset({IPv4Address("10.0.0.2")}))
    assert (finding.level, finding.what) == ("error", "n2 has the address 10.0.0.2, which is this host's own")


@pytest.mark.parametrize(
    ("below", "mtus", "what"),
    [
        (["lower_eth0"], {"eth0": "1500"}, "the MTU of br0 is 9000, and that of eth0, which carries it, is 1500, so"),
        (["brif/tap0", "lower_eth0"], {"eth0": "9000", "tap0": "1500"}, "the MTU of br0 is 9000, and that of tap0"),
        (["lower_eth0"], {"eth0": "9000"}, None),
        (["lower_eth0"], {"eth0": "gone"}, None),
        ([], {}, None),
    ],
)
def test_what_carries_an_interface_has_its_mtu(
    tmp_path: Path, below: list[str], mtus: dict[str, str], what: str | None
) -> None:
    for path in below:
        (tmp_path / "br0" / path).mkdir(parents=True)
    for name, mtu in mtus.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "mtu").write_text(f"{mtu}\n")
    there = {"br0": link("br0", "10.0.0.1/24", mtu=9000)}
    found = interfaces.look(Farm.model_validate(FARM | {"server": {"interfaces": ["br0"]}}), there, (), tmp_path)
    assert [(one.level, one.about) for one in found] == [("warning", "MTU of br0")] * (what is not None)
    assert all(what and one.what.startswith(what) for one in found)


POD = Surroundings(True, True, frozenset({"eth0"}), frozenset({"lo", "eth0"}))


@pytest.mark.parametrize(
    ("patterns", "there", "around", "remedy"),
    [
        (["eth1"], [], POD, "hostNetwork: true"),
        (["eth0"], ["eth0"], POD, "hostNetwork: true"),
        (["eth0"], ["eth0"], Surroundings(False, True, POD.pairs, POD.interfaces), "run it with --network host"),
        (["eth0"], ["eth0"], Surroundings(False, False, POD.pairs, POD.interfaces), None),
        (["eth0"], ["eth0"], Surroundings(True, True, frozenset(), POD.interfaces), None),
        (["eth1"], ["eth1"], Surroundings(True, True, POD.pairs, frozenset({"lo", "eth0", "eth1"})), None),
    ],
)
def test_a_pod_without_the_hosts_network_is_told_what_it_lacks(
    patterns: list[str], there: list[str], around: Surroundings, remedy: str | None
) -> None:
    found = pod.look(patterns, there, around)
    assert [finding.level for finding in found] == ["error"] * (remedy is not None)
    assert all(remedy is not None and finding.remedy.startswith(remedy) for finding in found)


def test_a_pair_is_told_from_other_interfaces(tmp_path: Path) -> None:
    for name, index, other, kind in (("eth0", 2, 9, ""), ("eth1", 3, 3, ""), ("mac0", 4, 3, "DEVTYPE=macvlan\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ifindex").write_text(f"{index}\n")
        (tmp_path / name / "iflink").write_text(f"{other}\n")
        (tmp_path / name / "uevent").write_text(f"{kind}INTERFACE={name}\n")
    around = pod.surroundings({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, tmp_path)
    assert around.kubernetes
    assert around.pairs == {"eth0"}


def farm_of(image: Path, *, used: bool = True) -> Farm:
    pools = [{"name": "w", "image": "node"}] if used else []
    return Farm.model_validate({"images": {"node": {"path": str(image)}}, "pools": pools})


def spoil(image: store.StoredImage, file: str, change: Callable[[bytes], bytes]) -> None:
    path = image.folder / file
    path.chmod(0o644)
    path.write_bytes(change(path.read_bytes()))


def test_an_image_that_is_whole_is_no_finding_and_one_that_nobody_boots_is_a_note(tmp_path: Path) -> None:
    add_image(tmp_path)
    assert images.look(farm_of(tmp_path / "node")) == []
    assert [finding.level for finding in images.look(farm_of(tmp_path / "node", used=False))] == ["note"]


@pytest.mark.parametrize(
    ("file", "change", "level", "says"),
    [
        (store.INITRD, None, "error", "initrd.img missing"),
        (store.KERNEL, lambda _: b"", "error", "vmlinuz of image node is empty"),
        (store.SQUASHFS, lambda data: data[:90], "error", "root.squashfs of image node is cut off: 90 bytes of 96"),
        (store.SQUASHFS, lambda data: b"<htm" + data[4:], "error", "root.squashfs of image node is no squashfs"),
        (store.SQUASHFS, lambda data: data[:9], "error", "root.squashfs of image node is no squashfs"),
    ],
)
def test_what_an_image_lacks_is_told(
    tmp_path: Path, file: str, change: Callable[[bytes], bytes] | None, level: str, says: str
) -> None:
    image = add_image(tmp_path)
    if change is None:
        (image.folder / file).unlink()
    else:
        spoil(image, file, change)
    (finding,) = images.look(farm_of(tmp_path / "node"))
    assert finding.level == level
    assert says in finding.what


def test_what_makes_an_image_that_is_missing_is_said(tmp_path: Path) -> None:
    def told(path: Path) -> str:
        (finding,) = images.look(farm_of(path))
        assert finding.level == "error"
        return str(finding)

    store_at = tmp_path / "my store"
    add_image(store_at)
    shutil.copy(store_at / "node" / store.SQUASHFS, tmp_path / "root.squashfs")
    (tmp_path / "loose").mkdir()
    (store_at / "old").symlink_to("by-sha256/gone")
    build = f"`pxeboot image build new --store '{store_at}'`, or `image add` in place of `build`"
    assert f"{store_at}/new is not there: {build}" in told(store_at / "new")
    assert "/old leads to by-sha256/gone, which is not there: `pxeboot image build old --store" in told(
        store_at / "old"
    )
    assert f"is a store of images, and no image: write the path of one: {store_at}/node" in told(store_at)
    assert "root.squashfs is a file, and an image is a folder: `pxeboot image add root" in told(
        tmp_path / "root.squashfs")  # fmt: skip
    assert "loose is a folder without SHA256SUMS, so no image" in told(tmp_path / "loose")
    assert "`pxeboot image build NAME --store" in told(tmp_path / "a name")


def test_files_that_the_farm_names_and_that_are_not_there_are_told(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    farm = Farm.model_validate({
        "lts_conf": str(tmp_path / "lts.conf"),
        "clusters": {
            "shared": {"lts_conf": str(tmp_path / "none"), "tokens": "shared", "kubeconfig": str(tmp_path / "kube")},
            "own": {"command": "join {token}", "token_file": str(tmp_path / "folder")},
        },
    })  # fmt: skip
    said = [finding.what for finding in files.look(farm, 0.0)]
    assert [any(word in what for what in said) for word in ("none, is not there", "folder, cannot be read")] == [
        True
    ] * 2
    assert any(what.startswith("lts_conf, ") for what in said)
    (kube,) = files.look_controller(farm)
    assert (kube.level, kube.what) == (
        "warning", f"the kubeconfig of cluster shared, {tmp_path}/kube, is not there")  # fmt: skip


@pytest.mark.parametrize("days", [20, 12_000])  # the year has two digits until 2049, four from then on
def test_a_certificate_that_ends_is_told_in_time(tmp_path: Path, days: int) -> None:
    day = 86400.0
    certificate, key = Authority(tmp_path).sign("server", days=days)
    ends_s = files.ends(certificate.read_text())
    assert abs(ends_s - certificate.stat().st_mtime - days * day) < 600
    farm = Farm.model_validate({"http": {"tls": {"certificate": str(certificate), "key": str(key)}}})
    for left_s, levels in ((30 * day, []), (10 * day, ["warning"]), (-1.0, ["error"])):
        assert [finding.level for finding in files.look(farm, ends_s - left_s)] == levels


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no PEM"])
def test_what_is_no_certificate_is_refused(text: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        files.ends(text)


def test_each_finding_is_logged_once_until_it_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    found = [[ERROR, NOTE], [ERROR, WARNING], [], [ERROR]]
    watch = Watch(Farm, lambda _: found.pop(0) if found else [ERROR])

    async def look_often() -> None:
        await watch.begin()
        assert watch.found == [ERROR, NOTE]
        async with asyncio.timeout(20):
            going = asyncio.create_task(watch.run())
            while found or not watch.found:
                watch.again()
                await asyncio.sleep(0.005)
        going.cancel()

    with caplog.at_level(logging.INFO, "pxeboot"):
        asyncio.run(look_often())
    assert [record.getMessage() for record in caplog.records] == ["error here", "warning here", "error here"]


def looks(*answers: Callable[[], list[Finding]]) -> Sequence[Finding]:
    """Let a self-test look so often, and return what it found last."""
    left = list(answers)
    watch = Watch(Farm, lambda _: (left.pop(0) if len(left) > 1 else left[0])())

    async def look_often() -> Sequence[Finding]:
        await watch.begin()
        going = asyncio.create_task(watch.run())
        async with asyncio.timeout(20):
            while len(left) > 1:
                watch.again()
                await asyncio.sleep(0.005)
                assert not going.done(), "it ends the daemon"
        going.cancel()
        return watch.found

    return asyncio.run(look_often())


def test_a_self_test_that_fails_ends_no_daemon(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> list[Finding]:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "from a host as nobody has seen one")

    assert looks(fails, fails, fails, lambda: [ERROR], fails, lambda: [ERROR]) == [ERROR]
    assert [record.getMessage()[:20] for record in caplog.records] == [
        "the self-test failed", "error here", "the self-test failed"
    ]  # fmt: skip


def test_what_differs_in_a_number_alone_is_not_logged_again(caplog: pytest.LogCaptureFixture) -> None:
    looks(*(lambda left=left: [Finding("warning", "state", f"room for {left} MiB")] for left in (60, 59, 7)))
    assert [record.getMessage() for record in caplog.records] == ["room for 60 MiB"]


def test_one_part_that_fails_is_a_finding_and_the_others_look() -> None:
    def fails() -> list[Finding]:
        raise KeyError("val")

    def full() -> list[Finding]:
        raise OSError(errno.EMFILE, "Too many open files")

    said = run.each({"firewall": fails, "clock": lambda: [NOTE]})
    assert [(one.level, one.about) for one in said] == [("warning", "firewall"), ("note", "x")]
    with pytest.raises(OSError, match="Too many"):
        run.each({"clock": full})
