"""Machines from power-on to a joined system, and what they say they became."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pxeboot.bootfiles.cpio import Entry, archive
from pxeboot.image.store import open_image
from tests.support.lab import IMAGES, Lab, farm
from tests.support.machine import BOOT_S, Firmware, Machine
from tests.support.seed_farm import check_join, check_report
from tests.support.segment import Segment

pytestmark = pytest.mark.boot

MAC = "52:54:00:12:34:56"
SECOND_MAC = "52:54:00:12:34:57"


def node(name: str = "m1c29", macs: tuple[str, ...] = (MAC,), ip: str = "10.77.0.29") -> dict[str, Any]:
    return {"name": name, "macs": list(macs), "ip": ip}


def pool(*nodes: Mapping[str, Any], root: str = "http", **more: Any) -> dict[str, Any]:
    return {
        "name": "workers",
        "image": "node",
        "root": root,
        "cluster": "prod",
        "tags": ["gpu"],
        "nodes": list(nodes),
        **more,
    }


def shared(folder: Path) -> dict[str, Any]:
    """Return a cluster whose machines share one token, in an lts.conf."""
    return {"prod": {"kubeconfig": str(folder / "kube/controller.kubeconfig"), "lts_conf": str(folder / "lts.conf")}}


def started(segment: Segment, folder: Path, *pools: Mapping[str, Any], **more: Any) -> Lab:
    """Return a farm whose servers all run."""
    lab = Lab(segment, folder, farm(folder, pools, **more))
    lab.start_api()
    lab.start_controller()
    lab.start_daemon()
    return lab


def check_shared_join(lab: Lab, name: str, ip: str) -> None:
    """The machine ran the join command that the controller had put into lts.conf, and the API knows its Node."""
    pushed = next(line for line in (lab.folder / "lts.conf").read_text().splitlines() if "kubeadm join" in line)
    joining = next(step["detail"] for step in lab.steps(name) if step["stage"] == "joining")
    ca_hash = joining.split("--discovery-token-ca-cert-hash ")[1].split()[0]
    assert ca_hash in pushed
    assert joining.startswith("kubeadm join 10.77.0.1:6443 --token *** ")
    assert f"node '{name}' joined from {ip}" in lab.log("kube")
    assert "accelerator=nvidia" in lab.log("kube")
    secret = pushed.split("--token ")[1].split()[0].split(".")[1]
    for log in ("serve", "controller", "kube"):
        assert secret not in lab.log(log)
    assert secret not in str(lab.machine(name))


def test_a_uefi_machine_boots_into_ram_joins_and_needs_us_no_more(segment: Segment, folder: Path) -> None:
    """It goes on working when every server is gone: it reads its whole root, again and again."""
    read_all = "find / -xdev -type f -exec cat {} + >/dev/null"
    tick = f"(while sleep 1; do {read_all} && echo order: $(cat /run/order). >/dev/ttyS0; done) &"
    lab = started(segment, folder, pool(node()), tags={
        "all": {"kernel_parameters": ["console=ttyS0", "norandmaps"], "lts": {"RCFILE_90_TICK": tick}},
        "gpu": farm(folder, [pool()])["tags"]["gpu"],
    })  # fmt: skip
    machine = Machine(segment, folder, firmware=Firmware.UEFI, macs=[MAC])
    machine.power_on()
    lab.wait_stage("m1c29", "joined")
    stages = lab.stages("m1c29")
    assert stages[: stages.index("network")] == ["discover", "address", "loader", "menu", "kernel", "initrd"]
    assert [s for s in stages if s in ("network", "verified", "root", "prepared", "system", "joined")] == [
        "network", "verified", "root", "prepared", "system", "joined",
    ]  # fmt: skip
    report = lab.report("m1c29")
    check_report(report, "m1c29", "10.77.0.29")
    check_join(lab, "m1c29", "10.77.0.29")
    # sections of lts.conf: a glob, and LIKE
    assert {line.split("/")[-1] for line in report["files"].splitlines()} >= {
        "init-command", "glob-section", "like-section",
    }  # fmt: skip
    # RCFILE_02 came before the join, RCFILE_10 after it
    machine.wait_for("order: first last /run/pxeboot/RCFILE_07_JOIN_K8S.log.")
    lab.stop_daemon()
    segment.server.stop()
    since = len(machine.console())
    for _ in range(2):  # the second begins after the end of our servers
        since = machine.wait_for("order:", since=since).rindex("order:") + 1
    machine.power_off()


def writers(lab: Lab, name: str) -> set[str]:
    """Return who has written to the log that we keep of a machine."""
    logged = lab.machine(f"{name}/log")
    return {line["source"] for line in logged["lines"]} if logged else set()


def test_a_bios_machine_boots_from_its_second_card(segment: Segment, folder: Path) -> None:
    received = {"machine_logs": {"netconsole_port": 6666}}
    lab = started(segment, folder, pool(node(macs=(MAC, SECOND_MAC))), **received)
    machine = Machine(segment, folder, firmware=Firmware.BIOS, macs=[MAC, SECOND_MAC], boot_card=1)
    machine.power_on()
    lab.wait_stage("m1c29", "joined")
    known = lab.machine("m1c29")
    assert known is not None
    assert known["mac"] == SECOND_MAC
    report = lab.report("m1c29")
    check_report(report, "m1c29", "10.77.0.29")
    assert "BOOTIF=01-52-54-00-12-34-57" in report["cmdline"]
    assert report["addresses"].count("10.77.0.29") == 1, "the card that did not boot has the address too"
    wanted = {"kernel", "journal:systemd", "pxeboot"}
    lab.wait(lambda: wanted <= writers(lab, "m1c29"), "what its kernel says reaches us")
    check_join(lab, "m1c29", "10.77.0.29")
    machine.power_off()


def test_an_unknown_bios_machine_boots_from_the_pool_over_nbd(segment: Segment, folder: Path) -> None:
    """And it joins, with a token that machines share, although the controller comes up only after it."""
    lab = Lab(segment, folder, farm(folder, [pool(root="nbd")], clusters=shared(folder)))
    lab.start_api()
    lab.start_daemon()
    name = "node-" + MAC.replace(":", "")
    machine = Machine(segment, folder, firmware=Firmware.BIOS, macs=[MAC], memory_mib=512)
    machine.power_on()
    lab.wait_stage(name, "joining")
    lab.wait(lambda: "there is no valid join command yet" in lab.story(name), "people see what it waits for")
    lab.start_controller()
    lab.wait_stage(name, "joined")
    known = lab.machine(name)
    assert known is not None
    assert known["ip"].startswith("10.77.0.2")
    assert lab.report(name)["hostname"] == name
    check_shared_join(lab, name, known["ip"])
    machine.power_off()


def test_a_machine_gets_there_although_the_daemon_is_killed_in_mid_download(segment: Segment, folder: Path) -> None:
    """SIGKILL while the root is on its way; the machine resumes by Range when the daemon is back."""
    # Its root takes minutes, so that it is hit in the middle however slow we are to look.
    lab = started(segment, folder, pool(node()), http={"subnet_rates_mbit_s": {"10.77.0.29/32": 8}})
    machine = Machine(segment, folder, firmware=Firmware.UEFI, macs=[MAC])
    machine.power_on()
    lab.wait(lambda: lab.fetched_percent("m1c29") >= 10, "the machine is in the middle of its download", BOOT_S)
    lab.kill_daemon()
    machine.wait_for("connection lost after")
    lab.configuration.write_text(yaml.safe_dump(farm(folder, [pool(node())])))
    lab.start_daemon()
    lab.wait_stage("m1c29", "joined")
    resumed = [line for line in lab.log("serve").splitlines() if "root.squashfs" in line and "got" in line]
    size = open_image(IMAGES / "node").size_bytes
    assert not [line for line in resumed if f"{size} bytes" in line], "it was fetched anew, not resumed"
    assert lab.report("m1c29")["sha256"] == open_image(IMAGES / "node").squashfs_sha256
    machine.power_off()


def test_the_stock_nbd_hook_of_debian_takes_its_root_from_us(segment: Segment, folder: Path) -> None:
    """No boot script of ours: the initrd's own hook of nbd-client. We only bring squashfs, which it lacks."""
    lab = Lab(segment, folder, farm(folder, [pool(node())]))
    lab.start_daemon()
    image = open_image(IMAGES / "node")
    entries = [Entry(f"modules/{path.name}", path.read_bytes()) for path in image.modules]
    load = "".join(f"insmod /{entry.path}\n" for entry in entries)
    ours = archive([*entries, Entry("conf/conf.d/squashfs", load.encode())])
    initrd = folder / "initrd"
    initrd.write_bytes(ours + (image.folder / "initrd.img").read_bytes())
    machine = Machine(segment, folder, firmware=Firmware.BIOS, macs=[MAC], memory_mib=512)
    words = "root=/dev/nbd0 nbdroot=10.77.0.1,node,nbd0 rootfstype=squashfs ro ip=dhcp console=ttyS0 norandmaps"
    machine.power_on("-kernel", str(image.folder / "vmlinuz"), "-initrd", str(initrd), "-append", words)
    console = machine.wait_for("login:")
    assert "boot=pxeboot" not in console
    assert "NBD export 'node' opened" in str(lab.steps("m1c29"))
    machine.power_off()
