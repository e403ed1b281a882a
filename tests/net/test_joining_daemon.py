"""The join of a machine that boots, through the real daemon and by other people's clients; the controller is scripted.

What a stranger could try is in here too: another address, a second fetch, a late one, guesses.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from config.events import Stage
from pxeboot.joining.talk import JoinGiven, Refused
from tests.support.initramfs import busybox_root, inside, install, mode
from tests.support.scripted_controller import COMMAND, ID, SECRET, ScriptedController, given
from tests.support.segment import Host, Segment, lacking
from tests.support.served import IP, MAC, Daemon, Prepared, get_lease, http, make_grub, node, status, status_json, tftp

pytestmark = pytest.mark.net

CARD = MAC.replace(":", "-")
MENU = f"grub/grub.cfg-01-{CARD}"
NODE = Path(__file__).parents[2] / "node"
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
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.fixture(scope="module")
def grub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GRUB's images, made once."""
    if not all(map(shutil.which, ("grub-mknetdir", "ip", "busybox", "curl"))) or os.geteuid() != 0:
        lacking("needs root, ip, busybox, curl and grub-mknetdir")
    return make_grub(tmp_path_factory.mktemp("grub"))


def check_logs(folder: Path) -> None:
    """No secret is in a log."""
    logs = "".join(path.read_text() for path in folder.glob("serve-*.log"))
    assert "Traceback" not in logs
    assert SECRET not in logs
    kept = (folder / "state/joins").read_text()
    secrets = re.findall('"(?:folder|join|seed)": "([0-9a-f]+)"', kept)
    assert secrets
    assert not [line for line in logs.splitlines() if any(secret in line for secret in secrets)]


@pytest.fixture
def farm(grub: Path, tmp_path: Path) -> Iterator[Farm]:
    """One for a test that stops it."""
    with Segment() as segment:
        yield Farm(tmp_path, grub, segment)
    check_logs(tmp_path)


@dataclass
class Running:
    """A farm that all other tests use, with its controller."""

    farm: Farm
    controller: ScriptedController


@pytest.fixture(scope="module")
def everybodys(grub: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("joins")
    with ScriptedController(folder / "controller.sock") as controller, Segment() as segment:
        yield Running(Farm(folder, grub, segment), controller)
    check_logs(folder)


@pytest.fixture
def running(everybodys: Running) -> Running:
    everybodys.controller.answer, everybodys.controller.slow_s = given, 0.0
    everybodys.controller.begun.clear()
    everybodys.controller.ended.clear()
    everybodys.controller.asked.clear()
    return everybodys


def head(machine: Host, name: str, *options: str) -> list[str]:
    """Return the lines of the head of an answer."""
    _, text = http(machine, name, "-o", "/dev/null", "-D", "-", *options)
    return text.decode().splitlines()


def test_a_machine_that_boots_is_given_a_command_of_its_own_once(running: Running) -> None:
    farm, controller = running.farm, running.controller
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
    assert 500 <= int(good_for.removeprefix("good_for: ")) <= 600
    assert "Cache-Control: no-store" in (farm.folder / "head").read_text()
    assert [(asked.boot, len(asked.seed)) for _, asked in controller.asked] == [(boot.boot, 64)]
    at_s = time.time()
    for stage in (Stage.APPROVED, Stage.REGISTERED, Stage.READY):
        controller.tell("m1", boot.boot, stage, f"{stage} it is", at_s)
    until(lambda: farm.steps()[-1] == ("ready", "ready it is"), "what the controller tells is not shown")
    assert [stage for stage, _ in farm.steps()[-4:]] == ["fetched", "approved", "registered", "ready"]
    assert farm.status["joins"]["given"] == 1


def test_every_step_of_a_join_is_shown_with_its_time(running: Running) -> None:
    """Those that the controller saw with the times at which it saw them, however late they are told."""
    farm, controller = running.farm, running.controller
    name = farm.join_name()
    until(lambda: controller.begun, "the boot is told")
    boot, began_s = controller.begun[0][2].boot, time.time()
    controller.tell("m1", boot, Stage.TOKEN, "token abcdef was made for it", began_s + 1)
    until(lambda: farm.steps()[-1][0] == "token", "its token is shown")
    assert http(farm.machine, name)[0] == 200
    fetched_s = time.time()
    for after_s, stage in ((10, Stage.APPROVED), (20, Stage.REGISTERED), (30, Stage.READY)):
        controller.tell("m1", boot, stage, f"{stage} it is", began_s + after_s)
    until(lambda: farm.steps()[-1][0] == "ready", "what the controller tells is not shown")
    steps = status_json(farm.prepared.control, "m1")["boot"]["steps"][-5:]
    assert [step["stage"] for step in steps] == ["token", "fetched", "approved", "registered", "ready"]
    token, fetched, *others = [step["first_s"] - began_s for step in steps]
    assert [token, *others] == pytest.approx([1, 10, 20, 30], abs=0.001)
    assert 0 <= fetched <= fetched_s - began_s + 0.001
    began = status_json(farm.prepared.control, "m1")["boot"]["started_s"]
    rows = [" ".join(line.split()) for line in status(farm.prepared.control, "m1").stdout.splitlines()]
    for step in steps:
        assert f"{step['first_s'] - began:.1f} s {step['stage']} {step['detail']}" in rows, rows


def test_each_name_is_good_once_and_to_look_does_not_spend_it(running: Running) -> None:
    farm = running.farm
    before = farm.status["joins"].get("spent", 0)
    cpio = farm.menu()
    assert head(farm.machine, cpio, "-I")[0].startswith("HTTP/1.1 200")
    name = farm.join_name(cpio)
    assert head(farm.machine, cpio)[0] == "HTTP/1.1 410 Gone, it was fetched before"
    assert head(farm.machine, name, "-I")[0].startswith("HTTP/1.1 200")
    assert running.controller.asked == [], "nobody wanted a token yet"
    assert http(farm.machine, name)[0] == 200
    again = head(farm.machine, name)
    assert again[0] == "HTTP/1.1 410 Gone, it was fetched before"
    assert "Cache-Control: no-store" in again
    assert head(farm.machine, name, "-I")[0].startswith("HTTP/1.1 410")
    assert farm.status["joins"]["spent"] == before + 3
    refused = [detail for stage, detail in farm.steps() if stage == "refused"]
    assert refused[-1] == "it asked for its join command, and was refused: it was fetched before"
    assert len(running.controller.asked) == 1


def test_another_address_is_refused_and_costs_the_machine_nothing(running: Running) -> None:
    farm = running.farm
    before = farm.status["joins"].get("address", 0)
    cpio = farm.menu()
    assert http(farm.stranger, cpio)[0] == 404
    name = farm.join_name(cpio)
    code, text = http(farm.stranger, name)
    assert (code, SECRET.encode() in text) == (404, False)
    assert farm.status["joins"]["address"] == before + 2
    assert "asked for its join command, and is not it" in farm.steps()[-1][1]
    assert status_json(farm.prepared.control)["machines"][0]["boot"]["stage"] != "refused", "it goes on with its boot"
    assert http(farm.machine, name)[0] == 200


def test_by_tftp_its_archive_is_given_once_and_its_join_command_never(running: Running) -> None:
    farm = running.farm
    cpio = farm.menu()
    assert tftp(farm.stranger, cpio) is None
    archive = tftp(farm.machine, cpio)
    assert archive is not None
    found = re.search(rb"JOIN_ONCE=(join/[0-9a-f]{32})\n", archive)
    assert found is not None
    join = found[1].decode()
    assert tftp(farm.machine, cpio) is None
    assert tftp(farm.machine, join) is None
    until(lambda: any("/***/node.cpio" in detail for _, detail in farm.steps()), "its initrd is told, and not by name")
    told = json.dumps([farm.status, status_json(farm.prepared.control, "m1")])
    assert not [name for name in (cpio.split("/")[-2], join.split("/")[-1]) if name in told]
    assert http(farm.machine, join)[0] == 200


def test_a_request_that_is_quoted_in_the_log_is_so_without_its_secret(running: Running) -> None:
    """`check_logs` looks for all names that there are; this one is still good."""
    farm = running.farm
    cpio = farm.menu()
    for name in (cpio, farm.join_name(cpio)):
        size = len(farm.daemon.log)
        for path in (f"{name}/", f"x/{name}", f"{name}%00"):
            assert http(farm.machine, path)[0] == 404
        assert http(farm.machine, name, "-X", "(")[0] == 400, "a method that is none"
        assert tftp(farm.machine, f"x/{name}") is None
        assert farm.daemon.log[size:].count("***") >= 3
    assert http(farm.machine, name)[0] == 200


def test_by_the_old_name_there_is_nothing(running: Running) -> None:
    farm = running.farm
    farm.menu()
    old = f"images/{farm.prepared.image.image_id}/01-{CARD}/node.cpio"
    assert http(farm.machine, old)[0] == 404
    assert tftp(farm.machine, old) is None
    until(lambda: running.controller.begun, "the boot is told, to this test and not to the next")


def test_a_new_menu_ends_the_boot_before(running: Running) -> None:
    farm = running.farm
    begun = running.controller.begun
    old_cpio = farm.menu()
    old = farm.join_name(old_cpio)
    until(lambda: begun, "the first boot is told")
    new = farm.join_name()
    until(lambda: begun[-1][2].boot != begun[0][2].boot, "the second boot is told")
    told = len(begun)
    for name in (old, old_cpio):
        assert head(farm.machine, name)[0] == "HTTP/1.1 410 Gone, its boot is over: it has booted again"
    assert http(farm.machine, new)[0] == 200
    assert len(begun) > told, "the last is told once more before it asks"
    running.controller.tell("m1", running.controller.begun[0][2].boot, Stage.READY, "old", time.time())
    running.controller.tell("m1", running.controller.begun[-1][2].boot, Stage.REGISTERED, "new", time.time())
    until(lambda: farm.steps()[-1] == ("registered", "new"), "what is told of the newest boot is shown")
    assert "old" not in [detail for _, detail in farm.steps()]


def test_the_controller_hears_that_a_machine_boots_from_its_disk(running: Running) -> None:
    farm = running.farm
    name = farm.join_name()
    until(lambda: running.controller.begun, "the boot is told")
    boot = running.controller.begun[-1][2].boot
    assert http(farm.machine, name)[0] == 200
    assert node(farm.prepared.control, "m1", "boot=local").returncode == 0
    try:
        assert b"intent/no-disk" in http(farm.machine, MENU)[1]
        until(lambda: running.controller.ended == [("prod", "m1", boot)], "the end of the boot is told")
    finally:
        assert node(farm.prepared.control, "m1", "boot=netboot").returncode == 0


def test_who_may_not_join_is_told_so(running: Running) -> None:
    farm = running.farm
    name = farm.join_name()
    running.controller.answer = lambda *_: Refused("another machine with its MAC is alive")
    assert head(farm.machine, name)[0] == "HTTP/1.1 410 Gone, another machine with its MAC is alive"
    assert farm.steps()[-1] == (
        "failed",
        "it may not join: another machine with its MAC is alive; it starts again by itself",
    )
    assert head(farm.machine, name)[0].startswith("HTTP/1.1 410 Gone, its boot is over: another machine")


def test_a_machine_waits_for_an_api_that_is_away(running: Running) -> None:
    farm = running.farm
    name = farm.join_name()
    running.controller.answer = lambda *_: Refused("the API does not answer", 7.0)
    answer = head(farm.machine, name)
    assert answer[0] == "HTTP/1.1 503 Service Unavailable, Retry-After: 7, the API does not answer"
    assert {"Retry-After: 7", "Cache-Control: no-store"} <= set(answer)
    assert farm.steps()[-1] == ("joining", "waits for its join command: the API does not answer")
    running.controller.answer = given
    assert http(farm.machine, name)[0] == 200


def test_a_slow_controller_is_asked_once(running: Running) -> None:
    farm = running.farm
    name = farm.join_name()
    running.controller.slow_s = 50.0
    assert (
        head(farm.machine, name)[0]
        == "HTTP/1.1 503 Service Unavailable, Retry-After: 1, the controller takes its time"
    )
    running.controller.slow_s = 0.0
    assert http(farm.machine, name)[0] == 200
    assert len(running.controller.asked) == 1


def test_an_expired_token_is_given_to_nobody(running: Running) -> None:
    farm = running.farm
    name = farm.join_name()
    running.controller.answer = lambda *_: JoinGiven(COMMAND, ID, time.time() - 1)
    assert head(farm.machine, name)[0].startswith("HTTP/1.1 503")
    running.controller.answer = given
    assert http(farm.machine, name)[0] == 200


def test_a_flood_of_guesses_costs_nothing(running: Running) -> None:
    farm = running.farm
    before, size = farm.status["joins"].get("unknown", 0), len(farm.daemon.log)
    name = farm.join_name()
    image = farm.prepared.image.image_id
    guesses = [f"http://10.77.0.1/join/{n:032x}" for n in range(400)]
    guesses += [f"http://10.77.0.1/images/{image}/01-{CARD}/{n:032x}/node.cpio" for n in range(400)]
    config = farm.folder / "guesses"
    config.write_text("".join(f'url = "{url}"\noutput = /dev/null\n' for url in guesses))
    farm.stranger.run("curl", "-s", "-K", str(config))
    assert farm.status["joins"]["unknown"] == before + 800
    assert len(farm.daemon.log) - size < 2000
    assert http(farm.machine, name)[0] == 200
    assert running.controller.asked[0][0] == "m1"
    assert len(running.controller.asked) == 1


def test_a_machine_may_not_report_what_only_we_and_the_controller_see(running: Running) -> None:
    for stage in ("token", "fetched", "approved", "registered", "ready", "refused"):
        assert http(running.farm.machine, f"report/{stage}", "--data", "it is")[0] != 200
    assert http(running.farm.machine, "report/joined", "--data", "it is")[0] in (200, 204)


@pytest.mark.parametrize("client", ["busybox", "curl", "wget"])
def test_the_machines_own_script_tells_the_answers_apart(running: Running, tmp_path: Path, client: str) -> None:
    farm, root = running.farm, tmp_path / "root"
    busybox_root(root, "busybox")
    for tool in ("curl", "wget"):
        (root / "bin" / tool).unlink(missing_ok=True)
    if client == "busybox":
        (root / "usr/lib/pxeboot").mkdir(parents=True)
        shutil.copy(shutil.which("busybox") or "", root / "usr/lib/pxeboot/busybox")
    else:
        install(client, root)
    (root / "run/pxeboot").mkdir()
    (root / "run/pxeboot/env").write_text("SERVER=http://10.77.0.1\n")
    shutil.copy(NODE / "get", root / "bin/get")
    (root / "bin/get").chmod(0o755)

    def get(name: str) -> tuple[int, str]:
        argv = farm.machine.argv(*inside(root, "/bin/get", name, "/got"))
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
        assert (root / "got").exists() == (done.returncode == 0)
        return done.returncode, done.stdout.strip() + done.stderr

    name = farm.join_name()
    running.controller.answer = lambda *_: Refused("the API does not answer", 7.0)
    assert get(name) == (3, "the API does not answer")
    running.controller.answer = given
    assert get(name) == (0, "")
    assert (root / "got").read_text().startswith(f"{COMMAND}\nhosts: ")
    assert mode(root / "got") == 0o600
    assert get(name) == (4, "it was fetched before")
    assert get("join/nothing") == (4, "there is no such name for this machine")
    (root / "run/pxeboot/env").write_text("SERVER=http://10.77.0.1:9\n")
    assert get(name) == (1, "the server does not answer")


def test_a_daemon_that_is_killed_knows_the_boots_that_wait(farm: Farm) -> None:
    """The names are good, what was spent is spent, and the same seed makes the same token."""
    cpio = farm.menu()
    farm.kill()
    farm.start()
    name = farm.join_name(cpio)
    with ScriptedController(farm.socket, lambda *_: Refused("not yet", 1.0)) as controller:
        until(lambda: controller.begun, "the controller was not told of a boot from before")
        assert http(farm.machine, name)[0] == 503
        farm.kill()
        farm.start()
        assert head(farm.machine, cpio)[0].startswith("HTTP/1.1 410")
        controller.answer = given
        assert http(farm.machine, name)[0] == 200
        assert len({asked.seed for _, asked in controller.asked}) == 1
        assert len({boot.boot for _, _, boot in controller.begun}) == 1
        farm.kill()
        controller.begun.clear()
        farm.start()
        assert head(farm.machine, name)[0].startswith("HTTP/1.1 410")
        until(lambda: controller.begun, "a controller that may have forgotten is not told of the token")
        boot = controller.begun[0][2]
        assert (boot.token_id, boot.expires_s > time.time()) == (ID, True)
    kept = farm.folder / "state/joins"
    assert mode(kept) == 0o600


def test_boots_go_on_without_a_controller_and_people_see_why(farm: Farm) -> None:
    name = farm.join_name()
    answer = head(farm.machine, name)
    assert answer[0].startswith("HTTP/1.1 503 Service Unavailable, Retry-After: 5, the controller does not answer")
    assert farm.status["controller"]["connected"] is False
    assert farm.status["controller"]["trouble"] == "there is no such socket"
    assert farm.steps()[-1][1].startswith("waits for its join command: the controller does not answer")
    time.sleep(1)
    assert farm.daemon.log.count("the controller does not answer at") == 1
    with ScriptedController(farm.socket) as controller:
        until(lambda: controller.begun, "the controller was not told of the boot that waits")
        assert http(farm.machine, name)[0] == 200
        until(lambda: farm.status["controller"]["connected"], "that it answers is not shown")
        controller.stop()
        until(lambda: not farm.status["controller"]["connected"], "that it has gone is not shown")
        controller.start()
        until(lambda: farm.status["controller"]["connected"], "that it is back is not shown")


def test_a_machine_that_comes_late_is_refused(farm: Farm) -> None:
    cpio = farm.menu()
    name = farm.join_name(cpio)
    farm.daemon.stop()
    kept = farm.folder / "state/joins"
    began_s = float(re.search(r'"began_s": ([0-9.]+)', kept.read_text())[1])  # type: ignore[index]
    kept.write_text(kept.read_text().replace(str(began_s), str(began_s - 1801)))
    farm.start()
    with ScriptedController(farm.socket) as controller:
        assert head(farm.machine, name)[0] == "HTTP/1.1 410 Gone, it is more than 30 minutes since its menu"
        assert farm.status["joins"] == {"open": 0, "late": 1}
        assert (controller.asked, controller.begun) == ([], [])


def test_a_command_of_ones_own_needs_no_controller(grub: Path, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    command = "k3s agent --token {token} --node-name {name} --node-ip {ip} --node-label {labels} --node-taint {taints}"
    with Segment() as segment:
        farm = Farm(tmp_path, grub, segment, {"command": command, "token_file": str(secret)})
        name = farm.join_name()
        assert head(farm.machine, name)[0].startswith(
            "HTTP/1.1 503 Service Unavailable, Retry-After: 5, the token_file"
        )
        secret.write_text("K10ab::server:cd\n")
        code, text = http(farm.machine, name)
        assert (code, text.decode().splitlines()) == (200, [
            f"k3s agent --token K10ab::server:cd --node-name m1 --node-ip {IP} --node-label accelerator=nvidia"
            " --node-taint gpu:NoSchedule",
            "good_for: 1800",
        ])  # fmt: skip
        assert http(farm.machine, name)[0] == 410
        assert farm.status["controller"] is None
        assert "controller" not in farm.daemon.log
        assert "K10ab" not in farm.daemon.log + (tmp_path / "state/joins").read_text()
