"""Machines from power-on to a joined system, and what they say they became."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pxeboot.bootfiles.cpio import Entry, archive
from pxeboot.cli.token import tokens
from pxeboot.controller.token import FORM
from pxeboot.image.store import open_image
from tests.support.lab import IMAGES, Lab, farm
from tests.support.machine import Firmware, Machine
from tests.support.segment import Segment

pytestmark = pytest.mark.boot

MAC = "52:54:00:12:34:56"
SECOND_MAC = "52:54:00:12:34:57"
BOOT_S = 240
JOIN_S = 60
OF_CLUSTER = ["token", "fetched", "approved", "registered", "ready"]


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


def check_report(report: Mapping[str, str], name: str, ip: str) -> None:
    """What every machine of the seed farm must have become, by its own account."""
    image = open_image(IMAGES / "node")
    assert report["hostname"] == name
    assert report["image"] == image.image_id
    assert report["sha256"] == image.squashfs_sha256
    assert f"pxeboot.image={image.image_id}" in report["cmdline"].split()
    assert "farm.gpu=1" in report["cmdline"].split()
    assert f"{ip}/24" in report["addresses"]
    # the tag's DHCP option 26, on the card that booted
    assert ["mtu 1450" in line for line in report["links"].splitlines() if "state UP" in line] == [True]
    mounts = {line.split()[1]: line.split() for line in report["mounts"].splitlines()}
    assert mounts["/"][2] == "overlay"
    assert mounts["/"][3].startswith("rw,")
    assert mounts["/run/pxeboot/lower"][2] == "squashfs"
    # FSTAB_*
    assert mounts["/var/lib/docker"][2] == "tmpfs"
    assert "mode=700" in mounts["/srv/ssh"][3]
    assert report["fstab"].splitlines()[1:] == [
        "tmpfs /srv/ssh tmpfs mode=0700 0 0",
        "tmpfs /var/lib/docker tmpfs size=64m 0 0",
    ]
    # HOSTS_*, CRONTAB_*, MODULE_*
    hosts = report["hosts"].splitlines()
    assert "10.77.0.1 api.farm.example" in hosts
    assert f"{ip} {name}" in hosts
    assert "30 12 * * * root true" in report["crontab"]
    assert "dummy" in report["modules"].split()
    # PREINIT_* came after the settings, and so won: the time zone is the seed's, not the farm's
    assert report["timezone"] == "/usr/share/zoneinfo/Etc/GMT"
    # KEEP_SYSTEM_SERVICES over RM_SYSTEM_SERVICES; a unit that came as a file; our own
    enabled = report["enabled"].split()
    assert "multi-user.target.wants/cron.service" in enabled
    assert "multi-user.target.wants/hello.service" in enabled
    assert "multi-user.target.wants/e2scrub_reap.service" not in enabled
    assert not [unit for unit in enabled if "apt-daily" in unit]
    # files with their modes, keys, labels and taints
    assert "755 /etc/pxeboot/network.sh" in report["files"]
    assert report["ssh-keys"] == "1"
    assert report["kubelet"] == (
        'KUBELET_EXTRA_ARGS="--node-labels=accelerator=nvidia --register-with-taints=gpu=true:NoSchedule"'
    )
    assert "vm.max_map_count = 262144" in report["sysctl"]
    assert report["failed"] == ""


def check_join(lab: Lab, name: str, ip: str) -> None:
    """The machine joined with a token of its own, which nobody saw, and which is gone now."""
    lab.wait_stage(name, "ready", JOIN_S)
    steps = {step["stage"]: step["detail"] for step in lab.steps(name)}
    assert steps["joining"].startswith(
        "kubeadm join 10.77.0.1:6443 --token *** --discovery-token-ca-cert-hash sha256:"
    )
    stages = lab.stages(name)
    assert [stage for stage in stages if stage in OF_CLUSTER] == OF_CLUSTER, lab.story(name)
    assert f"node '{name}' joined from {ip}" in lab.log("kube")
    assert "accelerator=nvidia" in lab.log("kube")
    lab.wait(lambda: tokens(lab.controller) == [], "the token is deleted", 10)
    assert "kubeadm join" not in (lab.folder / "lts.conf").read_text()
    for text in (*map(lab.log, ("serve", "controller", "kube")), str(lab.machine(name))):
        assert not FORM.search(text), "a token is where people read"


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
    lab.wait_stage("m1c29", "joined", BOOT_S)
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
    machine.wait_for("order: first last /run/pxeboot/RCFILE_07_JOIN_K8S.log.", 60)
    assert lab.stop_daemon() < 2
    segment.server.stop()
    since = len(machine.console())
    for _ in range(3):  # the second begins after the end of our servers
        since = machine.wait_for("order:", 120, since=since).rindex("order:") + 1
    machine.power_off()


def test_a_bios_machine_boots_from_its_second_card(segment: Segment, folder: Path) -> None:
    received = {"machine_logs": {"netconsole_port": 6666}}
    lab = started(segment, folder, pool(node(macs=(MAC, SECOND_MAC))), **received)
    machine = Machine(segment, folder, firmware=Firmware.BIOS, macs=[MAC, SECOND_MAC], boot_card=1)
    machine.power_on()
    lab.wait_stage("m1c29", "joined", BOOT_S)
    known = lab.machine("m1c29")
    assert known is not None
    assert known["mac"] == SECOND_MAC
    report = lab.report("m1c29")
    check_report(report, "m1c29", "10.77.0.29")
    assert "BOOTIF=01-52-54-00-12-34-57" in report["cmdline"]
    assert report["addresses"].count("10.77.0.29") == 1, "the card that did not boot has the address too"
    logged = lab.machine("m1c29/log")
    assert logged is not None
    writers = {line["source"] for line in logged["lines"]}
    assert {"kernel", "journal:systemd", "pxeboot"} <= writers, "what its kernel says does not reach us"
    check_join(lab, "m1c29", "10.77.0.29")
    machine.power_off()


def test_a_uefi_machine_runs_from_an_nbd_root(segment: Segment, folder: Path) -> None:
    lab = started(segment, folder, pool(node(), root="nbd"))
    machine = Machine(segment, folder, firmware=Firmware.UEFI, macs=[MAC], memory_mib=512)
    machine.power_on()
    lab.wait_stage("m1c29", "joined", BOOT_S)
    report = lab.report("m1c29")
    check_report(report, "m1c29", "10.77.0.29")
    lower = next(line for line in report["mounts"].splitlines() if "/run/pxeboot/lower" in line)
    assert lower.startswith("/dev/nbd0 ")
    assert "verified" not in lab.stages("m1c29")
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
    lab.wait_stage(name, "joining", BOOT_S)
    assert "there is no valid join command yet" in lab.story(name)
    lab.start_controller()
    lab.wait_stage(name, "joined", JOIN_S)
    known = lab.machine(name)
    assert known is not None
    assert known["ip"].startswith("10.77.0.2")
    assert lab.report(name)["hostname"] == name
    check_shared_join(lab, name, known["ip"])
    machine.power_off()


def test_a_machine_gets_there_although_the_daemon_is_killed_in_mid_download(segment: Segment, folder: Path) -> None:
    """SIGKILL while the root is on its way; the machine resumes by Range when the daemon is back."""
    lab = started(segment, folder, pool(node()))
    # 20 Mbit/s: the download takes half a minute, so that it can be hit in the middle.
    machine = Machine(segment, folder, firmware=Firmware.UEFI, macs=[MAC])
    machine.power_on()
    lab.wait_stage("m1c29", "network", BOOT_S)
    segment.server.run("tc", "qdisc", "add", "dev", "eth1", "root", "tbf", "rate", "40mbit", "burst", "32k",
                       "latency", "50ms")  # fmt: skip
    lab.wait(
        lambda: any("%" in step["detail"] for step in lab.steps("m1c29") if step["stage"] == "fetch"),
        "the machine is in the middle of its download", 60,
    )  # fmt: skip
    lab.kill_daemon()
    machine.wait_for("connection lost after", 60)
    lab.start_daemon()
    lab.wait_stage("m1c29", "joined", BOOT_S)
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
    console = machine.wait_for("login:", BOOT_S)
    assert "boot=pxeboot" not in console
    assert "NBD export 'node' opened" in str(lab.steps("m1c29"))
    machine.power_off()
