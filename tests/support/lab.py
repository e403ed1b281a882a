"""A whole farm on a segment: the daemon, the controller, a stand-in for the Kubernetes API, and its machines.

The boot tests and the demonstration both run on it.
"""

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pxeboot.cli.status import UnixConnection
from tests.support.machine import BOOT_S, SOON_S
from tests.support.segment import Segment

ROOT = Path(__file__).parent.parent.parent
IMAGES = ROOT / ".build/images"
SERVER = "10.77.0.1"
API = f"{SERVER}:6443"

SEED_LTS_CONF = """\
# lts.conf of the farm; the controller keeps RCFILE_07_JOIN_K8S, everything else is ours
[Default]
    LTSP_NBD_TO_RAM = "true"
    KEEP_SYSTEM_SERVICES = "cron kubelet ssh"
    RM_SYSTEM_SERVICES = "cron e2scrub_reap"

    PREINIT_00_TIME = "ln -sf /usr/share/zoneinfo/Etc/GMT /etc/localtime"
    PREINIT_01_FIX_HOSTNAME = "sed -i '/^127.0.0.2/d' /etc/hosts"
    FSTAB_01_SSH = "tmpfs /srv/ssh tmpfs mode=0700 0 0"
    FSTAB_03_DOCKER = "tmpfs /var/lib/docker tmpfs size=64m 0 0"
    RCFILE_02_MARK = "echo first > /run/order; ls /run/pxeboot/RCFILE_07*.log >> /run/order || true"
    RCFILE_10_MARK = "echo last >> /run/order; ls /run/pxeboot/RCFILE_07*.log >> /run/order || true"
    HOSTS_01_API = "10.77.0.1 api.farm.example"
    CRONTAB_01 = "30 12 * * * root true"
    MODULE_01_DUMMY = "dummy numdummies=2"
    INIT_COMMAND_01 = "mkdir -p /etc/pxeboot && touch /etc/pxeboot/init-command"

[m1c*]
    INIT_COMMAND_02 = "touch /etc/pxeboot/glob-section"

[m1c29]
    LIKE = "debug"

[debug]
    INIT_COMMAND_03 = "touch /etc/pxeboot/like-section"
"""


def farm(folder: Path, pools: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """Return the configuration of a farm with `pools`; `more` replaces whole sections."""
    return {
        "server": {
            "interfaces": ["eth1"],
            "state": str(folder / "state"),
            "control": str(folder / "control.sock"),
            "controller": str(folder / "controller.sock"),
        },
        "dhcp": {
            "subnets": [
                {
                    "subnet": "10.77.0.0/24",
                    "routers": [SERVER],
                    "domain_name": "farm.example",
                    "pool": "10.77.0.200-10.77.0.220",
                    "unknown": pools[0]["name"],
                }
            ]
        },
        "images": {"node": {"path": str(IMAGES / "node")}},
        "clusters": {
            "prod": {
                "kubeconfig": str(folder / "kube/controller.kubeconfig"),
                "lts_conf": str(folder / "lts.conf"),
                "tokens": "boot",
            }
        },
        "pools": list(pools),
        "tags": {
            # norandmaps: an emulator translates the code of each process anew if it lies elsewhere every time.
            "all": {"kernel_parameters": ["console=tty0", "console=ttyS0", "norandmaps"]},
            "gpu": {
                "dhcp": {"mtu": 1450},
                "labels": {"accelerator": "nvidia"},
                "taints": [{"key": "gpu", "value": "true", "effect": "NoSchedule"}],
                "kernel_parameters": ["farm.gpu=1"],
            },
        },
        "node": {
            "timezone": "Europe/Prague",
            "ssh_authorized_keys": [
                "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPxeBootDemoKeyPxeBootDemoKeyPxeBootDemoKeyA demo"
            ],
            "sysctls": {"vm.max_map_count": "262144"},
            "files": {
                "network.sh": {"content": "#!/bin/sh\necho network\n", "mode": "0755"},
                "hello.service": {
                    "content": "[Service]\nType=oneshot\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
                },
            },
        },
        **more,
    }


class Lab:
    """The servers of one farm in the server's namespace of `segment`, with their files in `folder`."""

    def __init__(self, segment: Segment, folder: Path, configuration: Mapping[str, Any]) -> None:
        """Write the configuration; nothing runs yet."""
        self.segment = segment
        self.folder = folder
        self.control = Path(configuration["server"]["control"])
        self.controller = Path(configuration["server"]["controller"])
        clusters = configuration.get("clusters", {}).values()
        self._shares = any("lts_conf" in cluster and cluster.get("tokens") != "boot" for cluster in clusters)
        self.configuration = folder / "farm.yaml"
        self.configuration.write_text(yaml.safe_dump(dict(configuration), sort_keys=False))
        (folder / "lts.conf").write_text(SEED_LTS_CONF)
        self.daemon: subprocess.Popen[str] | None = None

    def start_api(self) -> None:
        """Start the stand-in for the Kubernetes API, and wait for it."""
        process = self.start("kube", "-m", "tests.support.kube_api", "--address", SERVER, "--port", "6443",
                             "--folder", str(self.folder / "kube"))  # fmt: skip
        self._until_up(process, lambda: "ready" in self.log("kube"), "the API stand-in is ready")

    def start_controller(self) -> None:
        """Start the controller, and wait until it answers, and a join command that is shared is in lts.conf."""
        process = self.start("controller", "-m", "pxeboot", "controller", "-c", str(self.configuration))
        self._until_up(process, lambda: answers(self.controller), "pxeboot controller is ready")
        if self._shares:
            lts_conf = self.folder / "lts.conf"
            self.wait(lambda: "kubeadm join" in lts_conf.read_text(), "the join command is pushed")

    def start_daemon(self) -> None:
        """Start `pxeboot serve`, and wait until it is ready."""
        self.daemon = self.start("serve", "-m", "pxeboot", "serve", "-c", str(self.configuration))
        self._until_up(self.daemon, lambda: answers(self.control), "pxeboot serve is ready")

    def _until_up(self, process: subprocess.Popen[str], is_up: Callable[[], bool], what: str) -> None:
        self.wait(lambda: is_up() or process.poll() is not None, what)
        assert process.poll() is None, f"{what}? It ended:\n" + "\n".join(
            map(self.log, ("serve", "controller", "kube"))
        )

    def start(self, name: str, *argv: str) -> subprocess.Popen[str]:
        """Start Python with `argv` in the server's namespace; what it prints is kept as `log(name)`."""
        with (self.folder / f"{name}.log").open("a") as log:
            return self.segment.server.popen(
                sys.executable, *argv, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip

    def kill_daemon(self) -> None:
        """SIGKILL the daemon."""
        assert self.daemon is not None
        self.daemon.kill()
        self.daemon.wait()

    def stop_daemon(self) -> None:
        """SIGTERM the daemon; it ends by itself, whoever is connected."""
        assert self.daemon is not None
        self.daemon.terminate()
        assert self.daemon.wait(timeout=SOON_S) == 0, self.log("serve")[-3000:]

    def daemon_memory(self, field: str) -> float:
        """Return a field of the daemon's /proc/PID/status (VmRSS, VmHWM), in MB."""
        assert self.daemon is not None
        status = Path(f"/proc/{self.daemon.pid}/status").read_text()
        return int(status.split(f"{field}:")[1].split()[0]) / 1024

    def log(self, name: str) -> str:
        """Return what `serve`, `controller` or `kube` has printed so far."""
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def machine(self, name: str) -> dict[str, Any] | None:
        """Return what the daemon knows of one machine; None if it has not heard of it, or does not answer."""
        connection = UnixConnection(self.control, SOON_S)
        try:
            connection.request("GET", f"/v1/machines/{name}")
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        return answer if response.status == 200 else None

    def steps(self, name: str) -> list[dict[str, Any]]:
        """Return the steps of a machine's newest boot."""
        machine = self.machine(name)
        return machine["boot"]["steps"] if machine and machine["boot"] else []

    def stages(self, name: str) -> list[str]:
        """Return the stages of a machine's newest boot, in the order in which they came."""
        return [step["stage"] for step in self.steps(name)]

    def fetched_percent(self, name: str) -> int:
        """Return how much of its root a machine says that it has; 0 before it says anything."""
        details = [step["detail"] for step in self.steps(name) if step["stage"] == "fetch"]
        said = [int(detail.split()[0]) for detail in details if " % of " in detail]
        return max(said, default=0)

    def wait_stage(self, name: str, stage: str, within_s: float = BOOT_S) -> None:
        """Wait until a machine reaches `stage`. Raises `TimeoutError` with its story, or when it fails."""

        def reached() -> bool:
            stages = self.stages(name)
            if "failed" in stages and stage != "failed":
                raise TimeoutError(f"{name} failed: {self.story(name)}")
            return stage in stages

        self.wait(reached, f"{name} reaches {stage}", within_s, lambda: self.story(name))

    def report(self, name: str) -> dict[str, str]:
        """Return the machine's own account: section → text."""
        machine = self.machine(name)
        out: dict[str, str] = {}
        for part in (machine["report"] if machine else "").split("== ")[1:]:
            title, _, text = part.partition("\n")
            out[title] = text.rstrip("\n")
        return out

    def story(self, name: str) -> str:
        """Return a boot as lines of text."""
        steps = self.steps(name)
        start = steps[0]["first_s"] if steps else 0
        return "\n".join(f"{s['first_s'] - start:6.1f} s  {s['stage']:<9} {s['detail']}" for s in steps)

    def wait(
        self, condition: Callable[[], bool], what: str, within_s: float = SOON_S, why: Callable[[], str] = lambda: ""
    ) -> None:
        """Wait for `condition`. Raises `TimeoutError` with the daemon's last lines."""
        deadline = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > deadline and not condition():  # we may have stalled since we looked
                logs = "\n".join(f"--- {n}\n{self.log(n)[-3000:]}" for n in ("serve", "controller", "kube"))
                raise TimeoutError(f"not within {within_s} s: {what}\n{why()}\n{logs}")
            time.sleep(0.1)


def answers(socket: Path) -> bool:
    """Return whether a daemon or a controller answers on its socket."""
    connection = UnixConnection(socket)
    try:
        connection.request("GET", "/v1/status")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
