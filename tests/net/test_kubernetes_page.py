"""The five commands of docs/kubernetes.md, typed as they stand there, at a cluster that kubeadm made.

And those of docs/howto/several-clusters.md, with a kubeconfig whose current context is another cluster.

What systemd does for the controller's unit is done by hand: the credentials it hands over, the command it starts.
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.boot_voice import Voice
from tests.support.control_plane import ROOT, ControlPlane
from tests.support.document import Step, steps
from tests.support.kube_credentials import openssl_ca_hash
from tests.support.kube_thread import until
from tests.support.segment import requires
from tests.support.served import IP, MAC

pytestmark = pytest.mark.net

PAGE = ROOT / "docs/kubernetes.md"
SEVERAL = ROOT / "docs/howto/several-clusters.md"
UNIT = ROOT / "deploy/pxeboot-controller.service"
FARM: Mapping[str, Any] = {
    "server": {"interfaces": ["eth1"]},
    "dhcp": {"subnets": [{"subnet": "10.77.0.0/24"}]},
    "images": {"node": {"path": "/srv/pxeboot/images/node"}},
}


def page() -> tuple[Step, dict[str, Any]]:
    """Return the five commands, and the farm that the page gives with them."""
    farm = dict(FARM)
    five: Step | None = None
    for step in steps(PAGE):
        if step.kind == "sh" and "make-kubeconfig" in step.text:
            five = step
        elif five is not None and step.kind == "yaml" and "command:" not in step.text:
            farm |= yaml.safe_load(step.text)
    assert five is not None
    farm["pools"][0]["nodes"] = [{"name": "m1", "macs": [MAC], "ip": IP}]
    return five, farm


class Operator:
    """A person at the machine that serves, with an administrator's kubectl: /etc/pxeboot and /run are its own."""

    def __init__(self, folder: Path, plane: ControlPlane) -> None:
        self.folder = folder
        for name in ("etc", "run", "bin", "home"):
            (folder / name).mkdir()
        (folder / "home/deploy").symlink_to(ROOT / "deploy")
        (folder / "bin/kubectl").symlink_to(plane.bin / "kubectl")
        (folder / "bin/pxeboot").symlink_to(ROOT / ".venv/bin/pxeboot")
        systemctl = folder / "bin/systemctl"
        systemctl.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{folder}/told\n')
        systemctl.chmod(0o755)
        self.env = {
            "PATH": f"{folder}/bin:{os.environ['PATH']}",
            "HOME": str(folder / "home"),
            "KUBECONFIG": str(plane.kubeconfig),
        }

    def argv(self, *command: str) -> list[str]:
        """Return what runs a command where the operator is."""
        mounts = f"mount --bind {self.folder}/etc /etc/pxeboot && mount --bind {self.folder}/run /run"
        return ["unshare", "-m", "--propagation", "private", "sh", "-c", f'{mounts} && exec "$@"', "sh", *command]

    def types(self, line: str) -> str:
        """Run a line of shell, which has to end with 0, and return all that it said."""
        done = subprocess.run(
            self.argv("sh", "-c", line), cwd=self.folder / "home", env=self.env, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    @contextmanager
    def controller(self) -> Iterator[subprocess.Popen[bytes]]:
        """Start what the controller's unit starts, with the credentials that systemd would hand over."""
        unit = dict(line.split("=", 1) for line in UNIT.read_text().splitlines() if line[:1].isalpha() and "=" in line)
        identifier, _, source = unit["LoadCredential"].partition(":")
        credentials = self.folder / "run/credentials" / UNIT.name
        credentials.mkdir(parents=True)
        for file in (self.folder / "etc" / Path(source).relative_to("/etc/pxeboot")).iterdir():
            shutil.copy(file, credentials / f"{identifier}_{file.name}")  # of a folder, systemd.exec(5)
        program, *arguments = shlex.split(unit["ExecStart"])
        with (self.folder / "log").open("wb") as log:
            process = subprocess.Popen(
                self.argv(str(self.folder / "bin" / Path(program).name), *arguments),
                env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def operator(plane: ControlPlane, tmp_path: Path) -> Iterator[Operator]:
    there = Path("/etc/pxeboot")
    made = not there.exists()
    there.mkdir(exist_ok=True)  # something has to be there to be hidden
    yield Operator(tmp_path, plane)
    if made:
        with suppress(OSError):
            there.rmdir()


@requires("unshare", "install")
def test_after_the_five_commands_a_machine_is_given_its_join_command(operator: Operator, plane: ControlPlane) -> None:
    five, farm = page()
    assert len(five.commands) == 5
    (operator.folder / "etc/farm.yaml").write_text(yaml.safe_dump(farm))
    said = [operator.types(line) for line in five.commands]
    assert "is right" in said[3]
    assert "note:" not in said[3]
    assert (operator.folder / "etc/kubeconfigs/prod").stat().st_mode & 0o777 == 0o600
    assert not list((operator.folder / "home").glob("prod*")), "a copy of the credentials is left"
    enabled = (operator.folder / "told").read_text().split()
    assert enabled == ["enable", "--now", "pxeboot-controller", "pxeboot"]
    assert all((ROOT / f"deploy/{name}.service").is_file() for name in enabled[2:])
    with operator.controller() as controller:
        socket = Path(f"/proc/{controller.pid}/root/run/pxeboot-controller/controller.sock")
        until(lambda: socket.exists() or controller.poll() is not None, "its socket")
        assert controller.poll() is None, (operator.folder / "log").read_text()
        with Voice(socket) as voice:
            given = voice.join("m1", voice.begin("m1"))
    assert given.command.startswith("kubeadm join ")
    assert given.command.endswith(openssl_ca_hash(plane.pki / "ca.crt"))
    assert "WARNING" not in (operator.folder / "log").read_text()


@requires("unshare", "install")
def test_of_several_clusters_each_has_the_credentials_of_its_own_context(
    operator: Operator, plane: ControlPlane
) -> None:
    config = yaml.safe_load(plane.kubeconfig.read_text())
    (context,) = config["contexts"]
    config["contexts"] = [
        {**context, "name": "prod"},
        {"name": "other", "context": {**context["context"], "cluster": "x"}},
    ]
    config["clusters"].append({"name": "x", "cluster": {"server": "https://127.0.0.1:1"}})
    (operator.folder / "several").write_text(yaml.safe_dump({**config, "current-context": "other"}))
    operator.env["KUBECONFIG"] = str(operator.folder / "several")
    (operator.folder / "etc/kubeconfigs").mkdir()
    commands = next(step.commands for step in steps(SEVERAL) if "make-kubeconfig" in step.text)
    for line in commands:
        operator.types(line)
    made = operator.folder / "etc/kubeconfigs/prod"
    assert made.stat().st_mode & 0o777 == 0o600
    (cluster,) = yaml.safe_load(made.read_text())["clusters"]
    assert cluster["cluster"]["server"] == plane.url
    said = plane.kubectl("get", "certificatesigningrequests", kubeconfig=made, check=False)
    assert "error" not in said.lower(), said
