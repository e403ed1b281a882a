"""The join of a machine that boots, through the real daemon and by other people's clients; the controller is scripted.

What a stranger could try is in here too: another address, a second fetch, a late one, guesses.
"""

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from config.events import Stage
from pxeboot.joining.talk import JoinGiven, Refused, TokenAsked
from tests.support.scripted_controller import COMMAND, ID, SECRET, ScriptedController, given
from tests.support.segment import Segment, lacking
from tests.support.served import IP, MAC, Daemon, Prepared, get_lease, http, make_grub, status_json, tftp

pytestmark = pytest.mark.net

CARD = MAC.replace(":", "-")
MENU = f"grub/grub.cfg-01-{CARD}"
LABELS = {"accelerator": "nvidia"}


class Farm:
    """A daemon with one machine of a cluster whose boots have tokens of their own."""

    def __init__(self, folder: Path, grub: Path, segment: Segment, cluster: dict[str, Any] | None = None) -> None:
        self.folder = folder
        self.segment = segment
        self.socket = folder / "controller.sock"
        self.prepared = Prepared(
            *(folder, grub),
            clusters={"prod": cluster or {}},
            tags={"all": {"labels": LABELS, "taints": [{"key": "gpu", "effect": "NoSchedule"}]}},
            server={
                "interfaces": ["eth1"],
                "state": str(folder / "state"),
                "control": str(folder / "control.sock"),
                "controller": str(self.socket),
            },
        )
        self.start()
        self.machine = segment.host(mac=MAC)
        assert get_lease(self.machine) == IP
        self.stranger = segment.host(mac="52:54:00:00:00:0b")
        get_lease(self.stranger)

    def start(self) -> None:
        self.daemon = Daemon(self.segment.server, self.folder, "-c", str(self.prepared.configuration))

    def kill(self) -> None:
        self.daemon.process.send_signal(signal.SIGKILL)
        self.daemon.process.wait(20)

    def menu(self) -> str:
        """Fetch the machine's menu; return the name of its node.cpio."""
        code, text = http(self.machine, MENU)
        assert code == 200
        found = re.search(rf"/(images/[0-9a-f]{{64}}/01-{CARD}/\S*node\.cpio)", text.decode())
        assert found is not None
        return found[1]

    def join_name(self, cpio: str | None = None) -> str:
        """Fetch the machine's node.cpio; return the name of its join command."""
        code, archive = http(self.machine, cpio or self.menu())
        assert code == 200
        found = re.search(rb"JOIN_ONCE=(join/[0-9a-f]{32})\n", archive)
        assert found is not None
        return found[1].decode()

    @property
    def status(self) -> Any:
        return status_json(self.prepared.control)

    def steps(self) -> list[tuple[str, str]]:
        """Return stage and detail of each step of the machine's newest boot."""
        boot = status_json(self.prepared.control, "m1")["boot"]
        return [(step["stage"], step["detail"]) for step in boot["steps"]]


def until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 15
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.fixture(scope="module")
def grub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GRUB's images, made once."""
    if not all(map(shutil.which, ("grub-mknetdir", "ip", "busybox", "curl"))) or os.geteuid() != 0:
        lacking("needs root, ip, busybox, curl and grub-mknetdir")
    return make_grub(tmp_path_factory.mktemp("grub"))


@pytest.fixture
def farm(grub: Path, tmp_path: Path) -> Iterator[Farm]:
    with Segment() as segment:
        yield Farm(tmp_path, grub, segment)
        logs = "".join(path.read_text() for path in tmp_path.glob("serve-*.log"))
        assert "Traceback" not in logs
        assert SECRET not in logs
        assert not re.search("[0-9a-f]{32}", logs), "a one-time name, or a seed"


def test_a_machine_that_boots_is_given_a_command_of_its_own_once(farm: Farm) -> None:
    with ScriptedController(farm.socket) as controller:
        until(lambda: farm.status["controller"]["connected"], "the controller was not found")
        name = farm.join_name()
        until(lambda: controller.begun, "the controller was not told of the boot")
        cluster, node, boot = controller.begun[0]
        assert (cluster, node, str(boot.address), boot.labels) == ("prod", "m1", IP, LABELS)
        assert [taint.key for taint in boot.taints] == ["gpu"]
        code, text = http(farm.machine, name, "-D", str(farm.folder / "head"))
        assert code == 200
        command, hosts, good_for = text.decode().splitlines()
        assert (command, hosts) == (COMMAND, "hosts: 10.77.0.1 api.example")
        assert 590 <= int(good_for.removeprefix("good_for: ")) <= 600
        assert "Cache-Control: no-store" in (farm.folder / "head").read_text()
        assert [(asked.boot, len(asked.seed)) for _, asked in controller.asked] == [(boot.boot, 64)]
        at_s = time.time()
        for stage in (Stage.APPROVED, Stage.REGISTERED, Stage.READY):
            controller.tell("m1", boot.boot, stage, f"{stage} it is", at_s)
        until(lambda: farm.steps()[-1] == ("ready", "ready it is"), "what the controller tells is not shown")
        assert [stage for stage, _ in farm.steps()[-4:]] == ["fetched", "approved", "registered", "ready"]
        assert farm.status["joins"]["given"] == 1
