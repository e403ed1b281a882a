"""The two containers of the chart's pod, run as its manifest says: users, groups, capabilities, volumes.

There is no kubelet here, so the volumes are made as it makes them: with `fsGroup`, an emptyDir is root's, of that
group and setgid, and what a ConfigMap or a token shows is root's, of that group, with the volume's mode.
"""

import os
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pxeboot.cli.status import ask
from tests.support.chart import ROOT, Object, farm_text, objects, only, render
from tests.support.fake_image import add_image
from tests.support.kube_credentials import make_ca
from tests.support.kube_thread import until
from tests.support.segment import Segment, requires

pytestmark = pytest.mark.net

PATIENCE_S = 60.0
ELSEWHERE = "/run/etc-pxeboot"
"""In place of /etc/pxeboot, which the machine that tests may not have."""

IN_A_CONTAINER = """\
set -e
folder=$1 python=$2 checkout=$3 hidden=$4 closed=$5
shift 5
mount --bind "$python" "$folder/python"
mount --bind "$checkout" "$folder/checkout"
mount --rbind "$folder" /mnt
for place in "$hidden" "$closed" /run /var/lib /tmp; do
	[ -z "$place" ] || mount -t tmpfs -o mode=755 tmpfs "$place"
done
[ -e "$python/bin" ] || { mkdir -p "$python" && mount --bind /mnt/python "$python"; }
while [ "$1" != -- ]; do
	mkdir -p "$2"
	mount --bind "/mnt/$1" "$2"
	[ "$3" = rw ] || mount -o remount,bind,ro "$2"
	shift 3
done
shift
[ -e "$checkout/setup.cfg" ] || { mkdir -p "$checkout" && mount --bind /mnt/checkout "$checkout"; }
mount -o remount,bind,ro /
cd "$checkout"
exec "$@"
"""
"""The checkout and Python may lie below folders that are root's alone: those are empty here, but for these two."""


class Pod:
    """The pod of a farm with one machine that joins a cluster, in the server's namespace of `segment`."""

    def __init__(self, segment: Segment, folder: Path) -> None:
        self.segment, self.folder = segment, folder
        add_image(folder / "images")
        node = {"name": "m1", "macs": ["52:54:00:12:34:56"], "ip": "10.77.0.29"}
        self.objects = objects(
            render(
                {
                    "farm": {
                        "server": {"interfaces": ["eth1"]},
                        "dhcp": {"subnets": [{"subnet": "10.77.0.0/24"}]},
                        "images": {"node": {"path": str(folder / "images/node")}},
                        "pools": [{"name": "workers", "image": "node", "cluster": "here", "nodes": [node]}],
                    }
                }
            )
        )
        self.spec: Object = only(self.objects, "Deployment")["spec"]["template"]["spec"]
        self.group: int = self.spec["securityContext"]["fsGroup"]
        for inside in ("python", "checkout"):
            (folder / inside).mkdir()
        for volume in self.spec["volumes"]:
            self._make(volume)

    def _make(self, volume: Object) -> None:
        """A volume, as a kubelet makes it."""
        path = self.folder / volume["name"]
        path.mkdir()
        held: dict[str, str] = {}
        if "hostPath" in volume:
            path.chmod(0o755)
            return
        if "configMap" in volume:
            held = {"farm.yaml": farm_text(self.objects)}
        elif "projected" in volume:
            held = {"token": "no.token", "namespace": "pxeboot", "ca.crt": _some_ca()}
        for name, text in held.items():
            file = path / name
            file.write_text(text)
            file.chmod((volume.get("configMap") or volume["projected"])["defaultMode"])
            os.chown(file, 0, self.group)
        os.chown(path, 0, self.group)
        path.chmod(0o2777)

    def container(self, name: str) -> Object:
        (one,) = [one for one in self.spec["containers"] if one["name"] == name]
        assert isinstance(one, dict)
        return one

    def start(self, name: str) -> subprocess.Popen[str]:
        """Start a container."""
        one = self.container(name)
        context = one["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        kept = "".join(f",+{word.lower()}" for word in context["capabilities"].get("add", ()))
        mounts = [
            word
            for mount in one["volumeMounts"]
            for word in (mount["name"], _here(mount["mountPath"]), "ro" if mount.get("readOnly") else "rw")
        ]
        prefix = Path(sys.base_prefix)
        with (self.folder / f"{name}.log").open("w") as log:
            return self.segment.server.popen(
                *("sh", "-c", IN_A_CONTAINER, "sh", str(self.folder), str(prefix), str(ROOT)),
                *(_hidden_by(prefix), _hidden_by(ROOT), *mounts, "--"),
                *("setpriv", f"--reuid={context['runAsUser']}", f"--regid={context['runAsGroup']}"),
                *(f"--groups={self.group}", "--no-new-privs", f"--bounding-set=-all{kept}", "--inh-caps=-all"),
                *(sys.executable, "-m", "pxeboot", *map(_here, one["args"])),
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={
                    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "KUBERNETES_SERVICE_HOST": "10.77.0.1",  # where nobody answers
                    "KUBERNETES_SERVICE_PORT": "6443",
                },
            )

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()


def _hidden_by(path: Path) -> str:
    """Return the folder on the way to `path` that only its owner may enter, or ""."""
    return next((str(parent) for parent in reversed(path.parents) if not parent.stat().st_mode & stat.S_IXOTH), "")


def _here(path: str) -> str:
    return path.replace("/etc/pxeboot", ELSEWHERE)


def _some_ca() -> str:
    """A certificate that can be read; nobody shows one that it would be compared with."""
    with tempfile.TemporaryDirectory() as folder:
        return make_ca(Path(folder)).read_text()


@pytest.fixture
def pod(segment: Segment) -> Iterator[Pod]:
    with tempfile.TemporaryDirectory(prefix="pxeboot-", dir="/srv" if Path("/srv").is_dir() else "/") as folder:
        Path(folder).chmod(0o755)
        yield Pod(segment, Path(folder))
        segment.server.stop()


@requires("setpriv", "curl", "grub-mknetdir")
def test_its_containers_have_the_rights_that_they_need_and_meet_at_the_socket(segment: Segment, pod: Pod) -> None:
    server, controller = pod.start("serve"), pod.start("controller")

    def said() -> str:
        ended = [one for one in (server, controller) if one.poll() is not None]
        assert not ended, pod.log("serve") + pod.log("controller")
        return pod.log("serve")

    until(lambda: "ready in" in said(), "the server is ready", PATIENCE_S)
    control = pod.folder / "run/control.sock"

    def connected() -> bool:
        said()
        return bool(ask(control, "/v1/status")["controller"]["connected"])

    until(connected, "the server talks to the controller", PATIENCE_S)
    for process, capabilities in ((server, "2400"), (controller, "0")):
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert re.search(rf"^CapEff:\t0*{capabilities}$", status, re.MULTILINE)
        assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
    mode = (pod.folder / "controller/controller.sock").stat()
    assert (mode.st_gid, mode.st_mode & 0o777) == (pod.group, 0o660)
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = pod.container("serve")[kind]["httpGet"]
        url = f"{asked['scheme'].lower()}://{asked['host']}:{asked['port']}{asked['path']}"
        answer = segment.server.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url).stdout
        assert answer == "200", f"{url}: {answer}\n{segment.server.run('curl', '-s', url).stdout}"
    assert "Traceback" not in pod.log("serve") + pod.log("controller")
