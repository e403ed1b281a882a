"""`pxeboot token` and the real controller, with a cluster that the stand-in plays and the rights of rbac.yaml."""

import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from config.events import Stage
from config.model import Taint
from pxeboot.cli import main
from pxeboot.controller.token import FORM
from tests.support.boot_voice import Voice
from tests.support.kube_api import RULES, Fault
from tests.support.kube_thread import ROOT, Controller, ThreadedApi, running_api, running_controller, until
from tests.support.segment import requires

pytestmark = pytest.mark.net

HOST = socket.gethostname().lower()


@dataclass
class Running:
    """A stand-in cluster, the controller that keeps it, and who speaks for the daemon."""

    folder: Path
    api: ThreadedApi
    controller: Controller
    voice: Voice

    def cli(self, *argv: str) -> tuple[int, str, str]:
        """Run `pxeboot token ARGV` as somebody on this machine would."""
        words = ["token", argv[0], "--socket", str(self.folder / "controller.sock"), *argv[1:]]
        result = CliRunner().invoke(main, words, env={"COLUMNS": "120"})
        return result.exit_code, result.stdout, result.stderr

    def kubeadm(self, command: str) -> "subprocess.CompletedProcess[str]":
        """Join as a machine does, with the stand-in kubeadm."""
        env = {"PATH": f"{ROOT}/tests/support:{os.environ['PATH']}", "KUBELET_DEFAULTS": "/nonexistent"}
        return subprocess.run(["sh", "-c", command], env=env, capture_output=True, text=True, check=False, timeout=180)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    tmp_path = tmp_path_factory.mktemp("running")
    with running_api(tmp_path / "kube") as api:
        api.do(api.api.apply(RULES.read_text()))
        cluster = {"kubeconfig": str(api.api.controller_kubeconfig())}
        with running_controller(tmp_path, {"prod": cluster}) as controller:
            until((tmp_path / "controller.sock").exists, "the controller listens")
            with Voice(tmp_path / "controller.sock") as voice:
                yield Running(tmp_path, api, controller, voice)


def test_a_token_is_listed_while_it_is_there_and_then_deleted(running: Running) -> None:
    given = running.voice.join("m1", running.voice.begin("m1"))
    status, out, err = running.cli("list")
    assert (status, err) == (0, "")
    (row,) = [line for line in out.splitlines() if given.token_id in line]
    assert "prod" in row
    assert "m1" in row
    assert not FORM.search(out), "no secret is shown"
    assert running.cli("revoke", given.token_id) == (0, f"deleted token {given.token_id} in prod, of m1\n", "")
    until(lambda: given.token_id not in running.api.token_ids, "it is out of the cluster")
    assert given.token_id not in running.cli("list")[1]


@requires("curl", "openssl")
def test_a_revoked_token_joins_nobody(running: Running) -> None:
    before = dict(running.api.api.nodes)
    given = running.voice.join(HOST, running.voice.begin(HOST))
    assert running.cli("revoke", given.token_id)[0] == 0
    done = running.kubeadm(given.command)
    assert done.returncode == 1
    assert f"not signed for token {given.token_id}" in done.stderr
    assert running.api.api.nodes == before


def test_a_token_that_cannot_be_deleted_now_is_said_so(running: Running) -> None:
    given = running.voice.join("m1", running.voice.begin("m1"))
    running.api.inject(Fault.INTERNAL)
    status, out, err = running.cli("revoke", given.token_id)
    assert (status, out) == (1, "")
    assert err.startswith(f"pxeboot token: {given.token_id} in prod is still there: ")
    running.api.inject(Fault.NONE)
    until(
        lambda: given.token_id not in running.api.token_ids or running.cli("revoke", given.token_id)[0] == 0, "it goes"
    )


@requires("curl", "openssl")
def test_the_stand_in_machine_joins_by_this_controller_alone(running: Running) -> None:
    """What the demonstration does, without a machine: the rights of rbac.yaml are enough for all of it."""
    boot = running.voice.begin(
        HOST, labels={"accelerator": "nvidia"}, taints=[Taint(key="gpu", value="true", effect="NoSchedule")]
    )
    given = running.voice.join(HOST, boot)
    done = running.kubeadm(given.command)
    assert done.returncode == 0, done.stderr
    running.voice.told(boot, Stage.READY)
    assert running.voice.stages(boot) == [Stage.TOKEN, Stage.APPROVED, Stage.REGISTERED, Stage.READY]
    until(lambda: given.token_id not in running.cli("list")[1], "the token is deleted")
    until(lambda: given.token_id not in running.api.token_ids, "in the cluster too")

    def owned() -> bool:
        node = running.api.api.nodes[HOST]
        taints = [taint["key"] for taint in node["spec"].get("taints", [])]
        return node["metadata"]["labels"].get("accelerator") == "nvidia" and taints == ["gpu"]

    until(owned, "the Node has what the configuration wants of it")
    who = {user for user, _, _ in running.api.api.asked}
    assert "kubernetes-admin" not in who, "nobody was the administrator"
    assert not FORM.search(running.controller.log)


def test_the_controllers_credential_reads_no_secret(running: Running) -> None:
    running.voice.join("m2", running.voice.begin("m2"))
    verbs = {verb for _, verb, path in running.api.api.asked if "/secrets" in path}
    assert "create" in verbs
    assert verbs <= {"create", "delete"}
