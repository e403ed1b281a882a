"""The server and the root of its machines in one container image, as deploy/pod/Containerfile makes it."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from pxeboot.cli.asking import ask
from tests.support.lab import Lab, answers, farm
from tests.support.machine import BOOT_S, Firmware, Machine
from tests.support.pod import STAMP, USER, Pod
from tests.support.segment import Segment, lacking, requires

pytestmark = pytest.mark.boot

MAC = "52:54:00:12:34:56"
NAME = "node-" + MAC.replace(":", "")
GRACE_S = 30
"""What Kubernetes gives a pod to end in, unless told otherwise."""
START_S = BOOT_S
"""podman copies the image for each container here, for want of a better file system."""

TICK = "(while sleep 1; do echo 3 >/proc/sys/vm/drop_caches; find /usr/bin -type f | xargs cat >/dev/null && "
TICK += "echo alive: $(cat /etc/example-release) $(sed -n 's/ .*//p;q' /proc/uptime). >/dev/ttyS0; done) &"
"""Reads the root, past every cache, and says so."""


class InPod(Lab):
    """A farm whose servers run in pods. Its folders are those of a pod: configuration, state and sockets."""

    def __init__(self, segment: Segment, folder: Path, configuration: Mapping[str, Any], user: str = USER) -> None:
        super().__init__(segment, folder, configuration)
        self.etc, self.state, self.sockets = folder / "etc", folder / "state", folder / "run"
        for path in (self.etc, self.state, self.sockets):
            path.mkdir()
        for path in (self.state, self.sockets):
            os.chown(path, *map(int, user.split(":")))
        self.control, self.controller = self.sockets / "control.sock", self.sockets / "controller.sock"
        self.write(configuration)

    def write(self, configuration: Mapping[str, Any]) -> None:
        """Put a version of the farm's file where a ConfigMap's mount has it: behind a link that is switched."""
        version = self.etc / f"..{time.time_ns()}"
        version.mkdir()
        (version / "farm.yaml").write_text(yaml.safe_dump(dict(configuration)))
        (self.etc / "..new").symlink_to(version.name)
        (self.etc / "..new").rename(self.etc / "..data")
        if not (self.etc / "farm.yaml").is_symlink():
            (self.etc / "farm.yaml").symlink_to("..data/farm.yaml")

    def pod(self, name: str = "serve", **more: Any) -> Pod:
        mounts = {self.etc: "/etc/pxeboot:ro", self.state: "/var/lib/pxeboot", self.sockets: "/run/pxeboot"}
        return Pod(self.segment, self.folder / f"{name}.log", mounts, **more)


def configuration(folder: Path, **more: Any) -> dict[str, Any]:
    """Return a farm for the pod: whoever is switched on reads its root by NBD, with the driver of the example."""
    made = farm(folder, [{"name": "workers", "image": "node", "root": "nbd"}], clusters={})
    made["server"] = {
        "interfaces": ["eth1"],
        "state": "/var/lib/pxeboot",
        "control": "/run/pxeboot/control.sock",
        "controller": "/run/pxeboot/controller.sock",
    }
    made["images"] = {"node": {"path": "/srv/pxeboot/images/node"}}
    made["tags"]["all"]["lts"] = {"MODULE_01_DRIVER": "acpi_call", "MODULE_02_DUMMY": "dummy", "RCFILE_90_TICK": TICK}
    return made | more


@pytest.fixture(autouse=True)
def _needs_the_image() -> None:
    if shutil.which("podman") is None:
        lacking("needs podman (packages buildah, podman and runc)")
    if not STAMP.exists():
        lacking("needs the image of the pod; make boot builds it")


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def start(cleanup: ExitStack) -> Callable[..., Pod]:
    """Start a pod, and wait until it answers; it is removed when the test is over."""

    def start(lab: InPod, *arguments: str, **more: Any) -> Pod:
        command = arguments or ("serve", "--config", "/etc/pxeboot/farm.yaml")
        pod = lab.pod(command[0], **more)
        cleanup.callback(pod.remove)
        pod.start(*command)
        control = lab.controller if command[0] == "controller" else lab.control
        lab.wait(lambda: answers(control) or pod.ended, f"the {command[0]} in the pod answers", START_S)
        assert not pod.ended, pod.said
        return pod

    return start


def test_a_machine_boots_from_the_pod_which_may_be_replaced(
    segment: Segment, folder: Path, start: Callable[..., Pod]
) -> None:
    """What was added to the image is on the machine; its lease and its root outlive the pod."""
    lab = InPod(segment, folder, configuration(folder))
    pod = start(lab)
    machine = Machine(segment, folder, firmware=Firmware.UEFI, macs=[MAC], memory_mib=512)
    machine.power_on()
    lab.wait_stage(NAME, "system")
    report = lab.report(NAME)
    assert "acpi_call" in report["modules"].split(), "the driver that was built with the image"
    assert report["links"].count("dummy") == 3, "the driver's settings that came as a file"
    assert report["failed"] == ""
    console = machine.wait_for("alive: made for Linux")
    known = lab.machine(NAME)
    assert known is not None
    lease = (lab.state / "leases").read_text()
    pins = {path.name: path.read_text() for path in lab.state.glob("*pin*")}
    assert MAC in lease
    assert pins

    assert pod.stop() < GRACE_S
    assert not lab.control.exists(), "it was not killed, but ended"
    pod = start(lab)
    assert MAC in (lab.state / "leases").read_text()
    assert {path.name: path.read_text() for path in lab.state.glob("*pin*")} == pins
    since = len(console)
    for _ in range(2):  # the first may have been read from the pod before
        since = machine.wait_for("alive:", since=since).rindex("alive:") + 1
    again = segment.client.run("busybox", "udhcpc", "-nq", "-i", "eth0", "-s", "/bin/true")
    assert f"lease of {known['ip']} obtained" not in again.stdout + again.stderr, "it is the machine's"
    machine.power_off()
    assert "Traceback" not in pod.said


@requires("busybox", "curl")
def test_any_user_may_run_it_with_one_writable_folder(
    segment: Segment, folder: Path, start: Callable[..., Pod]
) -> None:
    """It follows its ConfigMap, and the process that everything else hangs from buries what others leave behind."""
    given = configuration(folder)
    given["server"] |= {"control": "/var/lib/pxeboot/control.sock", "controller": "/var/lib/pxeboot/controller.sock"}
    lab = InPod(segment, folder, given, user="123456:0")
    lab.control = lab.state / "control.sock"
    pod = start(lab, user="123456:0", options=("--read-only-tmpfs=false",))
    assert "123456" in pod.run("cat", "/proc/1/status")
    assert segment.client.run("busybox", "udhcpc", "-nq", "-i", "eth0", "-s", "/bin/true").returncode == 0
    segment.client.run("ip", "address", "add", "10.77.0.200/24", "dev", "eth0")
    core = segment.client.run("curl", "-sS", "-o", str(folder / "core"), "-w", "%{size_download}",
                              "tftp://10.77.0.1/grub/x86_64-efi/core.efi").stdout  # fmt: skip
    assert int(core) == (folder / "core").stat().st_size > 100_000
    given["pools"].append({"name": "more", "image": "node"})
    lab.write(given)  # as a ConfigMap that was changed
    lab.wait(lambda: "more" in str(ask(lab.control, "/v1/farm", patience_s=BOOT_S)), "the changed farm is served")
    pod.run("sh", "-c", "(sleep 0.2 & exec sleep 0.1) & exit")
    lab.wait(lambda: "(sleep)" not in pod.run("sh", "-c", "cat /proc/[0-9]*/stat"), "nobody is left unburied")
    assert pod.stop() < GRACE_S


def test_the_controller_is_in_the_same_image_and_needs_no_capability(
    segment: Segment, folder: Path, start: Callable[..., Pod]
) -> None:
    clusters = {"prod": {"kubeconfig": "/etc/pxeboot/controller.kubeconfig", "tokens": "boot"}}
    lab = InPod(segment, folder, configuration(folder, clusters=clusters))
    lab.start_api()
    shutil.copyfile(folder / "kube/controller.kubeconfig", lab.etc / "controller.kubeconfig")
    pod = start(lab, "controller", "--config", "/etc/pxeboot/farm.yaml", capabilities=())
    assert pod.stop() < GRACE_S
    assert "Traceback" not in pod.said


def test_a_pod_without_the_capabilities_says_which_it_needs(
    segment: Segment, folder: Path, cleanup: ExitStack
) -> None:
    lab = InPod(segment, folder, configuration(folder))
    pod = lab.pod(capabilities=())
    cleanup.callback(pod.remove)
    pod.start("serve", "--config", "/etc/pxeboot/farm.yaml")
    assert pod.wait(START_S) == 1
    assert "CAP_NET_BIND_SERVICE and CAP_NET_RAW" in pod.said
    assert "Traceback" not in pod.said
