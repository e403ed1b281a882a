"""The Debian package of deploy/debian/build, in a root of its own."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pxeboot.image.store import open_image
from tests.support.control_plane import ControlPlane
from tests.support.kube_thread import join_command, until
from tests.support.lab import IMAGES, ROOT
from tests.support.machine import BOOT_S, SOON_S
from tests.support.segment import CommandFailed, Segment, lacking, requires
from tests.support.served import UDHCPC, get_lease, http
from tests.support.systemd_root import SystemdRoot

pytestmark = pytest.mark.boot

PACKAGE = ROOT / ".build/debian"

FARM = """\
server: {interfaces: [eth9]}
dhcp: {subnets: [{subnet: 10.99.0.0/24, pool: 10.99.0.100-10.99.0.110, unknown: all}]}
images: {node: {path: /srv/pxeboot/images/node}}
pools: [{name: all, image: node}]
"""
AS_THE_SERVER = ("setpriv", "--reuid=pxeboot", "--regid=pxeboot", "--init-groups")
CLUSTERS = """\
clusters:
  prod:
    kubeconfig: /run/credentials/pxeboot-controller.service/kubeconfig_prod
    lts_conf: /var/lib/pxeboot-join/prod.conf
"""


@pytest.fixture(scope="module")
def package() -> Path:
    found = sorted(PACKAGE.glob("pxeboot_*.deb"))
    if not found:
        lacking("needs the Debian package; make boot builds it")
    return found[-1]


def inside(root: Path, *argv: str, timeout: float = 900) -> str:
    """Run a command in a root, and return what it prints."""
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", f"--root={root}", "--mount-proc", *argv]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=timeout, check=False)
    assert done.returncode == 0, f"{argv}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def root(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Debian with a kernel, the one of the node image, in which the package is installed."""
    root = tmp_path_factory.mktemp("debian") / "root"
    image = open_image(IMAGES / "node")
    subprocess.run(["unsquashfs", "-quiet", "-no-progress", "-d", root, image.folder / "root.squashfs"], check=True)
    shutil.copyfile("/etc/resolv.conf", root / "etc/resolv.conf")
    shutil.copy(package, root / "tmp")
    inside(root, "apt-get", "update", "-q")
    inside(root, "apt-get", "install", "-qy", "--no-install-recommends", f"/tmp/{package.name}")
    yield root
    shutil.rmtree(root)


def journal(host: SystemdRoot) -> str:
    """Return what the unit has said so far."""
    return host.run("journalctl", "-o", "cat", "-u", "pxeboot")


@requires("lintian")
def test_lintian_finds_nothing(package: Path) -> None:
    argv = ["lintian", "--allow-root", "--fail-on", "error,warning", str(package)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_documents_are_those_of_the_checkout(package: Path, tmp_path: Path) -> None:
    """At the same places, so that links lead somewhere; and the example lies beside the file that it names."""
    subprocess.run(["dpkg", "-x", package, tmp_path], check=True)
    folder = tmp_path / "usr/share/doc/pxeboot"
    assert (folder / "README.md").read_text().startswith("# pxeboot\n"), "another README.md lies in its place"
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*") if path.is_file()} <= there
    assert {"examples/farm.example.yaml", "examples/farm.example.bond.sh"} <= there


@requires("unsquashfs")
def test_the_package_brings_all_that_it_takes_and_starts_nothing(root: Path) -> None:
    assert inside(root, "pxeboot", "--version").strip().endswith("0.1.0")
    for program in ("pxeboot", "pxeboot-controller"):
        assert not list((root / "etc/systemd/system").rglob(f"{program}.service")), "it would answer DHCP"
    (root / "etc/pxeboot/farm.yaml").write_text(FARM)
    inside(root, "pxeboot", "check", "/etc/pxeboot/farm.yaml")
    assert inside(root, "stat", "-c", "%U:%G %a", "/etc/pxeboot", "/var/lib/pxeboot-join").split("\n")[:2] == [
        "root:pxeboot 750", "root:pxeboot 2770",
    ]  # fmt: skip
    assert "pxeboot" in inside(
        root, "bash", "-c", "source /usr/share/bash-completion/completions/pxeboot; complete -p"
    )
    compiled = list((root / "usr/lib/pxeboot/pxeboot").glob("__pycache__/*.pyc"))
    assert compiled, "who may not write there would compile it at each start"


@requires("unsquashfs", "nsenter", "busybox", "curl")
def test_its_unit_runs_under_systemd_with_all_that_it_denies(root: Path, segment: Segment, tmp_path: Path) -> None:
    """Without root, with two capabilities; it is reloaded, and started again when it hangs."""
    farm = root / "etc/pxeboot/farm.yaml"
    farm.write_text(FARM.replace("eth9", "eth1").replace("10.99.0.", "10.77.0."))
    farm.chmod(0o640)
    with SystemdRoot(segment.server, root, tmp_path / "systemd.log") as host:
        host.run("chgrp", "pxeboot", "/etc/pxeboot/farm.yaml")
        host.run("systemctl", "start", "pxeboot")
        process = host.run("systemctl", "show", "-P", "MainPID", "pxeboot").strip()
        about = dict(line.split(":\t", 1) for line in host.run("cat", f"/proc/{process}/status").splitlines())
        assert int(about["CapEff"], 16) == 1 << 10 | 1 << 13, "CAP_NET_BIND_SERVICE and CAP_NET_RAW"
        assert "0" not in about["Uid"].split()
        assert (about["NoNewPrivs"], about["Seccomp"]) == ("1", "2")
        assert re.search(r"lease of 10\.77\.0\.1\d\d obtained", segment.client.run(*UDHCPC).stderr)
        assert "ready" in host.run("curl", "-s", "http://127.0.0.1:8067/readyz")
        host.run("systemctl", "reload", "pxeboot")
        text = farm.read_text()
        farm.write_text(text + "pools: []\n")
        with pytest.raises(CommandFailed):
            host.run("systemctl", "reload", "pxeboot")
        farm.write_text(text)
        host.run("systemctl", "reload", "pxeboot")
        deadline = time.monotonic() + SOON_S
        while "the key 'pools' is already there" not in (log := journal(host)):
            assert time.monotonic() < deadline, log
            time.sleep(0.5)
        assert "Traceback" not in log
        assert "tcmsg" not in log, "a library speaks of what nobody here knows"
        host.run("kill", "-STOP", process)
        deadline = time.monotonic() + BOOT_S
        while True:
            again, state = host.run("systemctl", "show", "-P", "NRestarts", "-P", "ActiveState", "pxeboot").split()
            if int(again) > 0 and state == "active":
                break
            assert time.monotonic() < deadline, "it hangs and is not started again"
            time.sleep(0.5)
        host.run("systemctl", "stop", "pxeboot")


@requires("unsquashfs", "nsenter", "busybox", "curl")
def test_the_controllers_unit_runs_under_systemd_and_it_alone_has_the_credentials(
    root: Path, segment: Segment, tmp_path: Path
) -> None:
    """As a user that exists while it runs, without any capability; the server's user reads what it writes, no more."""
    farm, kubeconfig = root / "etc/pxeboot/farm.yaml", root / "etc/pxeboot/kubeconfigs/prod"
    ours = FARM.replace("eth9", "eth1").replace("10.99.0.", "10.77.0.")
    farm.write_text(ours.replace("image: node}]", "image: node, cluster: prod}]") + CLUSTERS)
    farm.chmod(0o640)
    with ControlPlane(tmp_path, segment.server) as plane:
        shutil.copy(plane.controller_kubeconfig(), kubeconfig)
        with SystemdRoot(segment.server, root, tmp_path / "systemd.log") as host:
            host.run("chgrp", "pxeboot", "/etc/pxeboot/farm.yaml")
            host.run("systemctl", "start", "pxeboot-controller", "pxeboot")
            written = root / "var/lib/pxeboot-join/prod.conf"
            until(lambda: written.exists() and join_command(written), "a join command", BOOT_S)
            process = host.run("systemctl", "show", "-P", "MainPID", "pxeboot-controller").strip()
            about = dict(line.split(":\t", 1) for line in host.run("cat", f"/proc/{process}/status").splitlines())
            assert (int(about["CapEff"], 16), int(about["CapBnd"], 16)) == (0, 0)
            assert (about["NoNewPrivs"], about["Seccomp"]) == ("1", "2")
            users = {about["Uid"].split()[0], host.run("id", "-u", "pxeboot").strip(), "0"}
            assert len(users) == 3, "neither root nor the server's user"
            assert host.run("stat", "-c", "%a %G", "/var/lib/pxeboot-join/prod.conf").strip() == "640 pxeboot"
            given = "/run/credentials/pxeboot-controller.service/kubeconfig_prod"
            assert host.run("cat", given) == kubeconfig.read_text()
            for secret in (given, "/etc/pxeboot/kubeconfigs/prod"):
                with pytest.raises(CommandFailed):
                    host.run(*AS_THE_SERVER, "cat", secret)
            get_lease(segment.client)
            status, said = http(segment.client, "lts.conf")
            assert (status, join_command(written) in said.decode()) == (200, True)
            token = join_command(written).split()[4].partition(".")[0]
            assert token in host.run(*AS_THE_SERVER, "pxeboot", "token", "list"), "the server's user may ask it"
            host.run("systemctl", "stop", "pxeboot", "pxeboot-controller")
