"""A token per boot, against a real control plane and with the least privilege: to Ready; attacks, kills, a farm."""

import asyncio
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import yaml

from config.events import Stage
from config.model import Taint
from pxeboot.controller.boot_service import BootKeeper
from pxeboot.controller.boots import Terms
from pxeboot.controller.token import Token, boot_group, parse_rfc3339
from pxeboot.joining.talk import BootBegun, JoinGiven, Refused, TokenAsked
from pxeboot.kube.api import Api
from tests.support.boot_voice import Machine, Voice, until
from tests.support.control_plane import ROOT, ControlPlane

pytestmark = pytest.mark.net

READY = [Stage.TOKEN, Stage.APPROVED, Stage.REGISTERED, Stage.READY]
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"


class Controller:
    """`pxeboot controller` for cluster `prod`, with what the daemon says to it, and the machines it boots."""

    def __init__(self, folder: Path, plane: ControlPlane, kubeconfig: Path, **settings: object) -> None:
        self.folder = folder
        self.plane = plane
        self.socket = folder / "run/controller.sock"
        self._log = folder / "controller.log"
        clusters = {"prod": {"kubeconfig": str(kubeconfig), **settings}}
        farm = {"server": {"controller": str(self.socket)}, "clusters": clusters}
        (folder / "farm.yaml").write_text(yaml.safe_dump(farm))
        self.start()

    @property
    def log(self) -> str:
        return self._log.read_text()

    def start(self) -> None:
        run = "from pxeboot.cli.controller import command; command()"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", run, "-c", str(self.folder / "farm.yaml")],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def machine(self, node: str, command: str, disk: str = "") -> Machine:
        """A machine with its command; the API server hears of a token a moment after it was made."""
        machine = Machine(self.folder / (disk or node), node, command, self.plane.pki / "ca.crt")
        until(lambda: machine.refusal("GET", REQUESTS) != 401)
        return machine


@pytest.fixture
def controller(tmp_path: Path, plane: ControlPlane, kubeconfig: Path) -> Iterator[Controller]:
    controller = Controller(tmp_path, plane, kubeconfig)
    try:
        yield controller
    finally:
        print(controller.log)
        if controller.process.poll() is None:
            assert controller.stop() == 0
        assert "Traceback" not in controller.log


@pytest.fixture
def voice(controller: Controller) -> Iterator[Voice]:
    with Voice(controller.socket) as voice:
        yield voice


@pytest.fixture
def node(request: pytest.FixtureRequest) -> str:
    """A name of the test's own, since they share a cluster."""
    return f"m-{secrets.token_hex(4)}"


def tokens(plane: ControlPlane) -> list[str]:
    found = plane.kubectl(
        "-n", "kube-system", "get", "secrets", "--field-selector", "type=bootstrap.kubernetes.io/token", "-o", "name"
    )
    return [line.removeprefix("secret/bootstrap-token-") for line in found.split()]


def conditions(plane: ControlPlane, request: str) -> str:
    return plane.kubectl("get", "csr", request, "-o", "jsonpath={.status.conditions[*].type}")


def denial(plane: ControlPlane, request: str) -> str:
    """Wait until a request is denied, and return why."""
    return until(
        lambda: plane.kubectl(
            "get", "csr", request, "-o", 'jsonpath={.status.conditions[?(@.type=="Denied")].message}'
        )
    )


def assert_opens_nothing(plane: ControlPlane, machine: Machine, why: str, key: str = "kubelet") -> None:
    """What is asked with a token that is over is denied.

    The API server remembers for 10 s who a token was. Who comes later, on a machine that stood still, is not known.
    """
    try:
        request = machine.ask(key=key)
    except urllib.error.HTTPError as error:
        if error.code != 401:
            raise
    else:
        assert why in denial(plane, request)


def test_a_machine_joins_and_joins_again_and_its_node_keeps_what_is_not_ours(
    controller: Controller, voice: Voice, plane: ControlPlane, node: str
) -> None:
    taint = Taint(key="gpu", value="true", effect="NoSchedule")
    boot = voice.begin(node, labels={"accelerator": "nvidia"}, taints=[taint])
    given = voice.join(node, boot)
    machine = controller.machine(node, given.command)
    machine.boot("kernel-1")
    machine.beat()
    voice.told(boot, Stage.READY)
    assert voice.stages(boot) == READY
    assert given.token_id not in tokens(plane)
    assert voice.tokens() == []
    until(lambda: "nvidia" in plane.kubectl("get", "node", node, "--show-labels"))
    assert "gpu" in plane.kubectl("get", "node", node, "-o", "jsonpath={.spec.taints[*].key}")

    plane.kubectl("cordon", node)
    plane.kubectl("annotate", "node", node, "farm.example/rack=r7")
    plane.kubectl("label", "node", node, "farm.example/by=hand")
    uid = plane.kubectl("get", "node", node, "-o", "jsonpath={.metadata.uid}")
    boot = voice.begin(node, labels={"accelerator": "amd"}, taints=[taint])
    given = voice.join(node, boot)
    ready = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
    assert plane.kubectl("get", "node", node, "-o", ready) == "Unknown"
    controller.machine(node, given.command, "second").boot("kernel-2")
    voice.told(boot, Stage.READY)
    assert voice.stages(boot) == READY
    until(lambda: "amd" in plane.kubectl("get", "node", node, "--show-labels"))
    text = plane.kubectl("get", "node", node, "-o", "yaml")
    assert uid in text
    for kept in ("farm.example/rack: r7", "farm.example/by: hand", "unschedulable: true", "key: gpu"):
        assert kept in text


def test_the_command_is_what_kubeadm_would_print(voice: Voice, plane: ControlPlane, node: str) -> None:
    boot, seed = voice.begin(node), secrets.token_hex(32)
    given = voice.join(node, boot, seed)
    printed = plane.kubeadm("token", "create", "--print-join-command", Token.make().reveal())
    theirs, ours = printed.split(), given.command.split()
    theirs[theirs.index("--token") + 1] = Token.derived(seed).reveal()
    assert sorted(ours) == sorted(theirs)
    assert given.expires_s == pytest.approx(time.time() + 600, abs=30)


def test_the_secret_says_its_groups_and_its_end(voice: Voice, plane: ControlPlane, node: str) -> None:
    boot = voice.begin(node)
    given = voice.join(node, boot)
    listed = plane.kubeadm("token", "list", "-o", "jsonpath={.token}{.expires}{.groups}{.usages}{.description}\n")
    (line,) = [line for line in listed.splitlines() if line.startswith(given.token_id)]
    assert boot_group(boot, node) in line
    assert "default-node-token" not in line
    (seen,) = [token for token in voice.tokens() if token["id"] == given.token_id]
    assert (seen["node"], seen["boot"], seen["state"]) == (node, boot, "waits for its machine")
    assert "secret" not in seen


def test_a_stolen_token_becomes_no_other_node_and_no_second_one(
    controller: Controller, voice: Voice, plane: ControlPlane, node: str
) -> None:
    boot = voice.begin(node)
    given = voice.join(node, boot)
    thief = controller.machine("victim", given.command, "thief")
    other = thief.ask()
    names = thief.ask(subject=f"/O=system:nodes/CN=system:node:{node}/CN=system:node:victim")
    master = thief.ask(subject="/O=system:masters/CN=admin")
    serving = thief.ask(
        usages=("digital signature", "key encipherment", "server auth"),
        subject=f"/O=system:nodes/CN=system:node:{node}",
    )
    for request, why in ((other, "subject"), (names, "subject"), (master, "subject"), (serving, "usages")):
        assert why in denial(plane, request)

    def told() -> list[str]:
        return [told.detail for told in voice.heard if (told.boot, told.stage) == (boot, Stage.FAILED)]

    until(lambda: len(told()) >= 3)
    assert len(told()) == 3
    assert all("denied" in detail for detail in told())

    machine = controller.machine(node, given.command)
    machine.certificate(machine.ask())
    second = controller.machine(node, given.command, "thief").ask(key="a-key-of-his-own")
    assert "another key" in denial(plane, second)
    assert "certificate" not in plane.kubectl("get", "csr", second, "-o", "jsonpath={.status}")


def test_a_stolen_token_asks_another_signer_in_vain(
    controller: Controller, voice: Voice, plane: ControlPlane, node: str
) -> None:
    boot = voice.begin(node)
    thief = controller.machine(node, voice.join(node, boot).command)
    signer, usages = "kubernetes.io/kube-apiserver-client", ("digital signature", "client auth")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        thief.ask(signer=signer, subject="/O=system:masters/CN=admin", usages=usages)
    request = thief.ask(signer=signer, subject="/CN=somebody", usages=usages)
    assert "leave alone" in voice.told(boot, Stage.FAILED).detail
    time.sleep(2)
    assert conditions(plane, request) == ""


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/namespaces/kube-system/secrets"),
        ("GET", "/api/v1/secrets"),
        ("GET", "/api/v1/nodes"),
        ("GET", "/api/v1/pods"),
        ("GET", "/api/v1/namespaces/kube-system/configmaps"),
        ("GET", "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"),
        ("DELETE", "/api/v1/nodes/other"),
        ("POST", "/api/v1/nodes"),
        ("POST", "/api/v1/namespaces/kube-system/secrets"),
        ("PUT", f"{REQUESTS}/x/approval"),
        ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
    ],
)
def test_a_stolen_token_opens_nothing_else(stolen: Machine, method: str, path: str) -> None:
    assert stolen.refusal(method, path, {} if method in ("POST", "PUT") else None) == 403


@pytest.fixture(scope="module")
def stolen(tmp_path_factory: pytest.TempPathFactory, plane: ControlPlane, kubeconfig: Path) -> Iterator[Machine]:
    """The token of a machine that boots, for all the things that it may not do."""
    controller = Controller(tmp_path_factory.mktemp("stolen"), plane, kubeconfig)
    try:
        with Voice(controller.socket) as voice:
            boot = voice.begin("m-stolen")
            yield controller.machine("m-stolen", voice.join("m-stolen", boot).command)
    finally:
        controller.stop()


def test_a_replay_after_ready_and_an_old_boots_token_open_nothing(
    controller: Controller, voice: Voice, plane: ControlPlane, node: str
) -> None:
    first = voice.begin(node)
    given = voice.join(node, first)
    machine = controller.machine(node, given.command)
    machine.boot("kernel-1")
    voice.told(first, Stage.READY)
    assert_opens_nothing(plane, machine, "over", key="another")

    old = voice.begin(node)
    command = voice.join(node, old).command
    old_machine = controller.machine(node, command, "old")
    old_machine.refusal("GET", REQUESTS)
    new = voice.begin(node)
    assert_opens_nothing(plane, old_machine, "newer boot")
    answer = voice.ask(node, old, secrets.token_hex(32))
    assert isinstance(answer, Refused)
    assert answer.retry_after_s is None
    assert new != old


def test_a_second_machine_with_the_mac_of_one_that_lives_gets_nothing(
    controller: Controller, voice: Voice, plane: ControlPlane, node: str
) -> None:
    boot = voice.begin(node)
    machine = controller.machine(node, voice.join(node, boot).command)
    machine.boot("kernel-1")
    machine.beat()
    voice.told(boot, Stage.READY)
    clone, seed = voice.begin(node), secrets.token_hex(32)
    time.sleep(6)
    answer: JoinGiven | Refused = Refused("", 1.0)
    while isinstance(answer, Refused) and answer.retry_after_s is not None:
        machine.beat()
        answer = voice.ask(node, clone, seed)
    assert isinstance(answer, Refused)
    assert "lives" in answer.error
    first = voice.told(clone, Stage.FAILED)
    assert "lives" in first.detail
    voice.begin(node, clone)
    until(lambda: len([told for told in voice.heard if told == first]) == 2)
    assert (
        plane.kubectl("get", "node", node, "-o", 'jsonpath={.status.conditions[?(@.type=="Ready")].status}') == "True"
    )
    assert Token.derived(seed).id not in tokens(plane)


def test_a_revoked_token_opens_nothing(controller: Controller, voice: Voice, plane: ControlPlane, node: str) -> None:
    boot = voice.begin(node)
    given = voice.join(node, boot)
    machine = controller.machine(node, given.command)
    machine.refusal("GET", REQUESTS)
    assert voice.say("DELETE", "/v1/tokens/prod/zzzzzz")[0] == 404
    assert voice.say("DELETE", f"/v1/tokens/prod/{given.token_id}") == (200, "{}\n")
    assert_opens_nothing(plane, machine, "revoked")
    assert given.token_id not in tokens(plane)
    assert voice.say("DELETE", f"/v1/tokens/prod/{given.token_id}")[0] == 404


def test_the_token_of_a_machine_that_boots_something_else_opens_nothing(
    controller: Controller, voice: Voice, plane: ControlPlane, node: str
) -> None:
    boot = voice.begin(node)
    given = voice.join(node, boot)
    machine = controller.machine(node, given.command)
    machine.refusal("GET", REQUESTS)
    assert voice.say("DELETE", f"/v1/boots/prod/{node}/{'0' * 16}") == (200, "{}\n"), "no boot that it knows"
    assert given.token_id in tokens(plane)
    assert voice.say("DELETE", f"/v1/boots/prod/{node}/{boot}") == (200, "{}\n")
    assert_opens_nothing(plane, machine, "boots something else")
    until(lambda: given.token_id not in tokens(plane))
    answer = voice.ask(node, boot, secrets.token_hex(32))
    assert isinstance(answer, Refused)
    assert answer.retry_after_s is None


@pytest.mark.parametrize("jump_s", [86400.0, -86400.0])
def test_our_clock_being_set_neither_extends_a_token_nor_ends_it(
    plane: ControlPlane, kubeconfig: Path, node: str, jump_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seed = time.time, secrets.token_hex(32)
    off = [jump_s]
    monkeypatch.setattr(time, "time", lambda: real() + off[0])

    async def run() -> JoinGiven:
        keeper = BootKeeper(Api("prod", kubeconfig), Terms(600.0), lambda told: None, wall=lambda: time.time())
        keeping = asyncio.create_task(keeper.run())
        boot = secrets.token_hex(8)
        keeper.begun(node, BootBegun(boot, IPv4Address("10.77.0.9"), time.time()))
        answer: JoinGiven | Refused = Refused("")
        while isinstance(answer, Refused):
            answer = await keeper.give(node, TokenAsked(boot, seed))
        assert answer.expires_s == pytest.approx(time.time() + 600, abs=60)
        off[0] = 0.0
        deadline = time.monotonic() + 60
        while keeper.tokens()[0].expires_s != pytest.approx(real() + 600, abs=60):
            assert time.monotonic() < deadline, keeper.tokens()
            await asyncio.sleep(0.05)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        return answer

    given = asyncio.run(run())
    expiration = plane.kubectl(
        *("-n", "kube-system", "get", "secret", f"bootstrap-token-{given.token_id}"),
        *("-o", "go-template={{.data.expiration | base64decode}}"),
    )
    assert parse_rfc3339(expiration) == pytest.approx(real() + 600, abs=90)


def test_killed_between_any_two_steps_the_machine_becomes_ready_with_one_token(
    controller: Controller, voice: Voice, plane: ControlPlane, node: str
) -> None:
    def again(given: JoinGiven | None = None) -> None:
        controller.kill()
        voice.cut_off()
        controller.start()
        voice.listening()
        until(lambda: _tells(voice, node, boot, given))

    seed = secrets.token_hex(32)
    boot = voice.begin(node)
    again()
    with ThreadPoolExecutor() as threads:
        asking = threads.submit(lambda: _ask_quietly(voice, node, boot, seed))
        until(lambda: Token.derived(seed).id in tokens(plane))
        again()
        asking.result()
    given = voice.join(node, boot, seed)
    assert given.token_id == Token.derived(seed).id
    again(given)
    machine = controller.machine(node, given.command)
    controller.kill()
    voice.cut_off()
    request = machine.ask()
    controller.start()
    voice.listening()
    until(lambda: _tells(voice, node, boot, given))
    machine.certificate(request)
    again(given)
    machine.register("kernel-1", ready=False)
    again(given)
    machine.register("kernel-1")
    voice.told(boot, Stage.READY)
    assert voice.stages(boot)[-1] is Stage.READY
    until(lambda: given.token_id not in tokens(plane))


def _ask_quietly(voice: Voice, node: str, boot: str, seed: str) -> None:
    with suppress(OSError, HTTPException):
        voice.ask(node, boot, seed)


def _tells(voice: Voice, node: str, boot: str, given: JoinGiven | None) -> bool:
    try:
        voice.begin(node, boot, given=given)
    except (OSError, HTTPException):
        return False
    return True


def test_while_the_api_is_killed_machines_are_told_to_wait_and_then_all_goes_on(
    controller: Controller, voice: Voice, plane: ControlPlane, node: str
) -> None:
    boot, seed = voice.begin(node), secrets.token_hex(32)
    time.sleep(6)
    plane.kill_api()
    began = time.monotonic()
    answer = voice.ask(node, boot, seed)
    assert time.monotonic() - began < 30, "a machine's own patience"
    assert isinstance(answer, Refused)
    assert answer.retry_after_s is not None
    assert "API" in answer.error
    plane.start_api()
    given = voice.join(node, boot, seed)
    plane.kill_api()
    plane.start_api()
    machine = controller.machine(node, given.command)
    machine.certificate(machine.ask())
    machine.register("kernel-1")
    voice.told(boot, Stage.READY)
    assert voice.stages(boot) == READY


def test_what_is_not_understood_is_refused_and_a_second_controller_too(
    controller: Controller, voice: Voice, tmp_path: Path
) -> None:
    assert controller.socket.stat().st_mode & 0o777 == 0o660
    boot = f'{{"boot": "{"0" * 16}", "address": "10.0.0.1", "began_s": 1}}'
    for method, path, body, status in (
        ("PUT", "/v1/boots/prod/m1", "{}", 400),
        ("PUT", "/v1/boots/prod/m1", "nonsense", 400),
        ("PUT", "/v1/boots/prod/m1%2Fstatus", boot, 400),
        ("PUT", "/v1/boots/prod/M1", boot, 400),
        ("PUT", "/v1/boots/other/m1", boot, 404),
        ("PUT", "/v1/boots/prod/m1", " " * 100_000, 413),
        ("POST", "/v1/boots/prod/m1/token", boot, 400),
        ("POST", "/v1/boots/prod/m1/token", f'{{"boot": "{"0" * 16}", "seed": "{"0" * 64}"}}', 503),
        ("DELETE", "/v1/tokens/other/abcdef", "", 404),
        ("DELETE", f"/v1/boots/other/m1/{'0' * 16}", "", 404),
    ):
        assert voice.say(method, path, body)[0] == status, (method, path)
    run = "from pxeboot.cli.controller import command; command()"
    second = subprocess.run(
        [sys.executable, "-c", run, "-c", str(controller.folder / "farm.yaml")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert second.returncode == 1
    assert "another pxeboot controller answers" in second.stderr
    assert voice.say("GET", "/v1/status")[0] == 200


def test_a_hundred_machines_boot_at_once(controller: Controller, voice: Voice, plane: ControlPlane) -> None:
    farm = secrets.token_hex(3)
    boots = {f"m-{farm}-{number}": "" for number in range(100)}
    for node in boots:
        boots[node] = voice.begin(node)

    def boot(node: str) -> None:
        machine = controller.machine(node, voice.join(node, boots[node], within_s=240).command)
        machine.certificate(machine.ask(), within_s=240)
        machine.register(f"kernel of {node}")

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(boot, boots))
    for node, begun in boots.items():
        voice.told(begun, Stage.READY, within_s=240)
        assert voice.stages(begun) == READY, node
    until(lambda: not voice.tokens())
