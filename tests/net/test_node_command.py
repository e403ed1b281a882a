"""`pxeboot node` against the whole daemon, and what a machine's boot loader is told then. No machine boots."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.segment import Host, Segment, lacking, requires
from tests.support.served import (
    IP,
    MAC,
    Daemon,
    Prepared,
    get_lease,
    http,
    make_grub,
    node,
    serve,
    status,
    status_json,
    tftp,
)

pytestmark = pytest.mark.net

MENU = f"grub/grub.cfg-01-{MAC.replace(':', '-')}"


@pytest.fixture(scope="module")
def grub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GRUB's images, made once."""
    if not all(map(shutil.which, ("grub-mknetdir", "ip", "curl", "busybox"))) or os.geteuid() != 0:
        lacking("needs root, ip, grub-mknetdir, curl and busybox")
    return make_grub(tmp_path_factory.mktemp("grub"))


@dataclass
class Running:
    """A daemon, and the machine m1 with its lease."""

    segment: Segment
    prepared: Prepared
    daemon: Daemon
    m1: Host

    def say(self, *words: str) -> None:
        """Run `pxeboot node`, which must succeed."""
        done = node(self.prepared.control, *words)
        assert done.returncode == 0, done.stderr

    @property
    def boot(self) -> str:
        """What `pxeboot node` says that m1 is to do."""
        return node(self.prepared.control, "m1").stdout.split("boot=")[1].split()[0]

    def get(self, name: str) -> str | None:
        """What m1 gets for `name`."""
        code, body = http(self.m1, name)
        return body.decode(errors="replace") if code == 200 else None

    @property
    def files(self) -> list[str]:
        """What GRUB loads in a boot from the network."""
        folder = f"images/{self.prepared.image.image_id}"
        return [f"{folder}/vmlinuz", f"{folder}/01-{MAC.replace(':', '-')}/node.cpio", f"{folder}/initrd.img"]

    def steps(self) -> list[dict[str, Any]]:
        """The steps of m1's newest boot."""
        steps: list[dict[str, Any]] = status_json(self.prepared.control, "m1")["boot"]["steps"]
        return steps

    def restart(self) -> None:
        """SIGKILL the daemon and start another."""
        self.daemon.process.kill()
        self.daemon.process.wait()
        self.daemon = Daemon(self.segment.server, self.prepared.folder, "-c", str(self.prepared.configuration))


@pytest.fixture
def running(segment: Segment, grub: Path, tmp_path: Path) -> Iterator[Running]:
    prepared = Prepared(tmp_path, grub)
    daemon = Daemon(segment.server, tmp_path, "-c", str(prepared.configuration))
    m1 = segment.host(mac=MAC)
    assert get_lease(m1) == IP
    found = Running(segment, prepared, daemon, m1)
    yield found
    assert "Traceback" not in found.daemon.log


@requires("curl", "busybox")
def test_once_is_used_up_by_the_start_of_a_kernel_and_by_nothing_before(running: Running) -> None:
    running.say("m1", "boot=once")
    for _ in range(3):  # boots that break off: firmware, GRUB and all that GRUB loads
        assert get_lease(running.m1) == IP
        assert tftp(running.m1, "grub/x86_64-efi/core.efi") is not None
        assert "intent/started" in (running.get(MENU) or "")
        assert all(running.get(name) for name in running.files)
        assert running.boot == "once"
        running.restart()
    assert running.get("intent/started") == "boot\n"
    assert running.boot == "local"
    running.restart()
    assert running.boot == "local"
    assert "goes on with its own disk" in (running.get(MENU) or "")
    # what started needs goes on: an answer that was lost, the root, the join command
    assert running.get("intent/started") == "boot\n"
    assert tftp(running.m1, "intent/started") == b"boot\n"
    assert running.get(f"images/{running.prepared.image.image_id}/root.squashfs")
    assert "kubeadm join" in (running.get("lts/RCFILE_07_JOIN_K8S") or "")
    assert running.boot == "local"


@requires("curl", "busybox")
def test_a_boot_that_cannot_be_kept_does_not_start(running: Running) -> None:
    running.say("m1", "boot=once")
    file = running.prepared.folder / "state/intents.json"
    file.unlink()
    file.mkdir()  # what replaces a file cannot replace a folder
    assert running.get("intent/started") == ""
    assert running.boot == "once"
    assert "cannot be kept: Is a directory" in running.steps()[-1]["detail"]
    file.rmdir()
    assert running.get("intent/started") == "boot\n"


@requires("curl", "busybox")
def test_a_machine_whose_intent_changes_while_it_loads_does_not_start(running: Running) -> None:
    running.say("m1", "boot=once")
    assert "intent/started" in (running.get(MENU) or "")
    running.say("m1", "boot=local")
    assert "goes on with its own disk" in (running.get("intent/started") or "")
    running.say("m1", "boot=refuse")
    assert "is refused" in (running.get("intent/started") or "")


@requires("curl", "busybox")
def test_a_machine_is_sent_to_its_disk_even_when_its_image_is_gone(running: Running) -> None:
    running.say("m1", "boot=local")
    (running.prepared.folder / "images/node").unlink()
    assert "chainloader" in (running.get(MENU) or "")
    assert tftp(running.m1, MENU) == (running.get(MENU) or "").encode()
    assert [step["stage"] for step in running.steps()][-1] == "disk"
    assert "its boot intent is local (pxeboot node)" in running.steps()[-1]["detail"]
    assert running.get("intent/no-disk") is not None
    assert running.steps()[-1]["stage"] == "failed"
    assert "found none that can be booted" in running.steps()[-1]["detail"]


@requires("curl", "busybox")
def test_a_refused_machine_reads_why_and_gets_nothing_that_was_made_for_it(running: Running) -> None:
    assert all(running.get(name) for name in (*running.files, "lts.conf"))
    running.say("m1", "boot=refuse")
    assert get_lease(running.m1) == IP
    assert "m1 is refused: its boot intent is refuse (pxeboot node)" in (running.get(MENU) or "")
    assert "refused" in running.steps()[-1]["detail"]
    kernel, cpio, _ = running.files
    assert running.get(kernel)
    assert [running.get(name) for name in (cpio, "lts.conf", "lts/RCFILE_07_JOIN_K8S")] == [None, None, None]
    running.say("m1", "boot=netboot")
    assert all(running.get(name) for name in (MENU, *running.files, "lts.conf"))
    assert "intent/started" not in (running.get(MENU) or "")


@requires("curl", "busybox")
def test_status_shows_an_intent_that_is_out_of_the_ordinary(running: Running) -> None:
    running.get(MENU)
    assert " intent " not in status(running.prepared.control).stdout
    running.say("--pool", "workers", "boot=refuse")
    shown = status(running.prepared.control).stdout
    assert " intent " in shown
    assert "refuse" in shown
    assert status_json(running.prepared.control)["machines"][0]["intent"] == "refuse"
    assert "boot=refuse" in status(running.prepared.control, "m1").stdout


@requires("curl", "busybox")
def test_a_machine_that_the_farm_does_not_list_has_an_intent_once_it_was_heard_of(running: Running) -> None:
    guest = running.segment.host()
    name = f"node-{guest.mac.replace(':', '')}"
    assert node(running.prepared.control, name, "boot=local").returncode == 1
    get_lease(guest)
    assert b"loads its kernel" in http(guest, "grub/grub.cfg")[1]
    running.say(name, "boot=local")
    running.restart()
    assert f"machines that the farm does not list: {name}" in running.daemon.log
    get_lease(guest)
    assert b"goes on with its own disk" in http(guest, "grub/grub.cfg")[1]


def test_a_damaged_file_of_intents_stops_the_start_and_is_named(segment: Segment, grub: Path, tmp_path: Path) -> None:
    prepared = Prepared(tmp_path, grub)
    (tmp_path / "state/intents.json").write_text("{")
    done = serve(segment.server, "-c", str(prepared.configuration))
    assert done.returncode == 1
    assert f"{tmp_path / 'state/intents.json'} is damaged" in done.stderr
    assert "Traceback" not in done.stderr
