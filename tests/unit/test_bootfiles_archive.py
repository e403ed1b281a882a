import stat
import string
import subprocess
from ipaddress import IPv4Address
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config import places
from config.exports import Writable
from config.ltsconf import LtsConf
from config.model import NodeSettings, Pool, Taint
from pxeboot.bootfiles import archive
from pxeboot.bootfiles.machine import Machine
from pxeboot.bootfiles.scripts import NODE_FILES
from tests.support.cpio_reader import Unpacked, unpack
from tests.support.segment import requires

MACS = ("52:54:00:00:00:01", "52:54:00:00:00:02")
NODE = {name: f"script {name}".encode() for name in NODE_FILES}
SECRET = "kubeadm join 10.0.0.1:6443 --token abcdef.0123456789abcdef"
values = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30)


def machine(**more: Any) -> Machine:
    fields: dict[str, Any] = {
        "name": "m1",
        "mac": MACS[1],
        "macs": MACS,
        "ip": IPv4Address("10.0.0.10"),
        "pool": Pool(name="workers", image="node", root="nbd"),
        "kernel_parameters": (),
        "lts": {},
        "labels": {},
        "taints": (),
        "services": (),
    }
    return Machine(**(fields | more))


def root(**more: Any) -> archive.Root:
    fields: dict[str, Any] = {
        "image_id": "1" * 64,
        "squashfs_sha256": "2" * 64,
        "size_bytes": 12345,
        "modules": (("00-squashfs.ko", b"s"), ("01-overlay.ko", b"o")),
        "server": "http://10.0.0.1:8080",
        "nbd_host": "10.0.0.1",
        "nbd_port": 10809,
    }
    return archive.Root(**(fields | more))


def cpio(
    lts: dict[str, str] | None = None, settings: dict[str, Any] | None = None, **more: Any
) -> dict[str, Unpacked]:
    node_settings = NodeSettings.model_validate(settings or {})
    files = {path: (file.content or "").encode() for path, file in node_settings.files.items()}
    return unpack(archive.node_cpio(machine(**more), root(), lts or {}, node_settings, files, NODE))


def test_numbered_keys_are_in_the_order_of_their_numbers_and_the_rest_by_name() -> None:
    lts = {
        "Z": "z",
        "RCFILE_10_B": "10",
        "RCFILE_9_C": "9",
        "RCFILE_07_JOIN_K8S": "7",
        "FSTAB_3": "f3",
        "FSTAB_12": "f12",
        "INIT_COMMAND_1": "i",
        "A": "a",
        "FSTABLE": "no family",
    }
    assert [path.removeprefix("pxeboot/lts/") for path in cpio(lts) if path.startswith("pxeboot/lts/")] == [
        "0000.FSTAB_3",
        "0001.FSTAB_12",
        "0002.RCFILE_07_JOIN_K8S",
        "0003.RCFILE_9_C",
        "0004.RCFILE_10_B",
        "0005.INIT_COMMAND_1",
        "0006.A",
        "0007.FSTABLE",
        "0008.Z",
    ]


@given(st.dictionaries(st.text(string.ascii_uppercase, min_size=1, max_size=5), values, max_size=5))
def test_a_value_is_the_same_bytes_on_the_machine(lts: dict[str, str]) -> None:
    found = cpio(lts)
    for number, key in enumerate(sorted(lts)):
        assert found[f"pxeboot/lts/{number:04}.{key}"].data.decode() == lts[key]
    text = found["pxeboot/root/etc/lts.conf"].data.decode()
    assert LtsConf.parse(text).resolve(hostname="x", ip=IPv4Address("10.0.0.9"), macs=()) == {
        key: value for key, value in lts.items() if key != "LIKE" and value != "NONE"
    }


def test_what_can_hold_a_secret_is_roots_alone() -> None:
    found = cpio(
        {"RCFILE_07_JOIN_K8S": SECRET},
        {"root_password_hash": "$6$salt$hash", "ssh_authorized_keys": ["ssh-ed25519 AAAA me"]},
    )
    holders = [path for path, entry in found.items() if b"abcdef.0123456789abcdef" in entry.data]
    assert holders == ["pxeboot/lts/0000.RCFILE_07_JOIN_K8S", "pxeboot/root/etc/lts.conf"]
    for path in (*holders, "pxeboot/env", "pxeboot/root-password", "pxeboot/root/root/.ssh/authorized_keys"):
        assert found[path].permissions == 0o600, path
    assert found["pxeboot/lts"].permissions == 0o700
    assert found["pxeboot/root/root/.ssh"].permissions == 0o700
    assert found["pxeboot/root-password"].data == b"$6$salt$hash"


def test_no_password_file_without_a_hash() -> None:
    assert "pxeboot/root-password" not in cpio()


def test_scripts_and_units_are_where_they_are_looked_for() -> None:
    found = cpio()
    assert found["scripts/pxeboot"].data == b"script mountroot"
    assert found["pxeboot/prepare"].data == b"script prepare"
    for name in ("say", "get", "report", "rcfile"):
        assert found[f"pxeboot/root/usr/lib/pxeboot/{name}"].permissions == 0o755
    for name in ("pxeboot-report.service", "pxeboot-rcfile.service"):
        assert found[f"pxeboot/root/etc/systemd/system/{name}"].permissions == 0o644
    assert found["pxeboot/modules/00-squashfs.ko"].data == b"s"
    assert found["pxeboot/root/etc/localtime"].target == "/usr/share/zoneinfo/Etc/UTC"


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("network.sh", "etc/pxeboot/network.sh"),
        ("a/b.service", "etc/pxeboot/a/b.service"),
        ("hello.service", "etc/systemd/system/hello.service"),
        ("/etc/motd", "etc/motd"),
        ("/opt/x.service", "opt/x.service"),
    ],
)
def test_a_file_goes_to_its_place_with_its_mode(path: str, place: str) -> None:
    found = cpio(settings={"files": {path: {"content": "text", "mode": "0750"}}})
    assert found[f"pxeboot/root/{place}"].data == b"text"
    assert found[f"pxeboot/root/{place}"].permissions == 0o750
    enabled = found["pxeboot/enable-services"].data.decode().split()
    assert ("hello.service" in enabled) == (path == "hello.service")


def test_a_file_of_the_farm_wins_over_one_of_ours() -> None:
    found = cpio(settings={"files": {"/etc/hosts": {"content": "mine"}}})
    assert found["pxeboot/root/etc/hosts"].data == b"mine"


def test_services_are_enabled_once_and_with_their_suffix() -> None:
    wanted = {"services": ("ssh", "big.timer", "ssh.service")}
    assert cpio(None, None, **wanted)["pxeboot/enable-services"].data.decode().split() == [
        "pxeboot-report.service",
        "pxeboot-rcfile.service",
        "ssh.service",
        "big.timer",
    ]


def test_the_kubelet_registers_with_labels_and_taints() -> None:
    taints = (
        Taint(key="gpu", value="true", effect="NoSchedule"),
        Taint(key="example.com/slow", effect="NoExecute"),
    )
    found = cpio(labels={"a": "1", "example.com/b": ""}, taints=taints)
    assert found["pxeboot/root/etc/default/kubelet"].data.decode() == (
        'KUBELET_EXTRA_ARGS="--node-labels=a=1,example.com/b='
        ' --register-with-taints=gpu=true:NoSchedule,example.com/slow:NoExecute"\n'
    )
    assert "pxeboot/root/etc/default/kubelet" not in cpio()


def test_a_machine_knows_who_it_is() -> None:
    found = cpio()
    assert found["pxeboot/root/etc/hostname"].data == b"m1\n"
    assert b"10.0.0.10 m1\n" in found["pxeboot/root/etc/hosts"].data
    assert f"MACAddress={MACS[1]}\n" in found["pxeboot/root/etc/systemd/network/05-pxeboot.network"].data.decode()


def test_a_machine_id_is_the_machines_whichever_card_boots() -> None:
    ids = {cpio(None, None, mac=mac)["pxeboot/root/etc/machine-id"].data for mac in MACS}
    assert len(ids) == 1
    assert len(ids.pop()) == 33
    assert archive.machine_id(machine(macs=MACS[::-1])) != archive.machine_id(machine())


def test_settings_become_files() -> None:
    found = cpio(
        settings={"sysctls": {"vm.max_map_count": "262144"}, "modules": ["dummy"], "timezone": "Europe/Paris"}
    )
    assert found["pxeboot/root/etc/sysctl.d/90-pxeboot.conf"].data == b"vm.max_map_count = 262144\n"
    assert found["pxeboot/root/etc/modules-load.d/pxeboot.conf"].data == b"dummy\n"
    assert found["pxeboot/root/etc/timezone"].data == b"Europe/Paris\n"
    assert found["pxeboot/root/etc/localtime"].target == "/usr/share/zoneinfo/Europe/Paris"


def test_the_configuration_knows_every_file_that_we_make() -> None:
    """It refuses a file of `node.files` that would be at, above or below one of them."""
    everything = cpio(
        settings={"ssh_authorized_keys": ["k"], "sysctls": {"vm.x": "1"}, "modules": ["dummy"]},
        labels={"a.example/b": "c"},
    )
    below = "pxeboot/root/"
    made = {
        path.removeprefix(below)
        for path, entry in everything.items()
        if path.startswith(below) and not stat.S_ISDIR(entry.mode)
    }
    scripts = {path for path in made if path.startswith(f"{places.RESERVED_FOLDER}/")}
    assert scripts == {f"{places.RESERVED_FOLDER}/{name}" for name in archive.SCRIPTS}
    assert made - scripts == {*places.OWN_FILES, *places.RESERVED_FILES}


@pytest.mark.parametrize(
    ("root_by", "writable", "expected"),
    [
        ("nbd", None, ("nbd", "", "1" * 64)),
        ("nbd", Writable(), ("nbd", "1", "node/m1")),
        ("nbd-to-ram", None, ("nbd-to-ram", "", "1" * 64)),
        ("http", Writable(), ("http", "", "1" * 64)),
    ],
)
def test_a_root_that_is_written_to_is_the_machines_own_export(
    root_by: Literal["http", "nbd", "nbd-to-ram"], writable: Writable | None, expected: tuple[str, str, str]
) -> None:
    """All others are the image by its digest, which needs no memory of the server."""
    found = cpio(pool=Pool(name="workers", image="node", root=root_by, writable=writable))["pxeboot/env"].data.decode()
    values = dict(line.split("=", 1) for line in found.splitlines())
    assert tuple(values[key].strip("'") for key in ("ROOT", "WRITABLE", "NBD_EXPORT")) == expected


@pytest.mark.parametrize("path", places.OWN_FILES)
def test_a_file_of_the_configuration_wins_over_ours(path: str) -> None:
    found = cpio(settings={"files": {f"/{path}": {"content": "mine"}}})
    assert found[f"pxeboot/root/{path}"].data == b"mine"


def test_the_same_machine_gets_the_same_bytes() -> None:
    made = [
        archive.node_cpio(machine(), root(), lts, NodeSettings(), {}, NODE)
        for lts in ({"A": "1", "B": "2"}, {"B": "2", "A": "1"})
    ]
    assert made[0] == made[1]


@requires("sh")
@settings(max_examples=20)
@given(values, values)
def test_a_shell_reads_the_variables_as_they_are(name: str, server: str) -> None:
    text = archive.env(machine(name=name), root(server=server))
    script = text.decode() + 'printf \'%s\\0\' "$NAME" "$SERVER" "$ROOT" "$IMAGE_URL" "$SIZE" "$NBD_PORT"'
    said = subprocess.run(["sh", "-eu", "-c", script], capture_output=True, check=True).stdout.decode()
    url = f"{server}/images/{'1' * 64}/root.squashfs"
    assert said.split("\0") == [name, server, "nbd", url, "12345", "10809", ""]


def test_a_kernels_log_is_sent_only_where_it_is_received() -> None:
    drop_in = "pxeboot/root/etc/systemd/journald.conf.d/pxeboot-netconsole.conf"
    for port, told in ((None, b"NETCONSOLE_PORT=''"), (6666, b"NETCONSOLE_PORT=6666")):
        files = unpack(archive.node_cpio(machine(), root(netconsole_port=port), {}, NodeSettings(), {}, NODE))
        assert told in files["pxeboot/env"].data.splitlines()
        assert (drop_in in files) is (port is not None)
