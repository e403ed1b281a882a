"""The systemd units are right, tight, and start what there is."""

import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from config.model import Server
from pxeboot.systemd import PINGS, STATUS_EVERY_S
from tests.support.segment import requires
from tests.unit.test_docs import misused

ROOT = Path(__file__).parent.parent.parent
UNITS = sorted(ROOT.glob("deploy/*.service"))
SOCKETS = sorted(ROOT.glob("deploy/systemd/*.socket"))
HIGHEST_EXPOSURE = 2.0
"""Of 10, as `systemd-analyze security` counts; an unrestricted service has 9.6."""

each_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)


def settings(unit: Path) -> dict[str, str]:
    lines = [line for line in unit.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def analyze(*argv: str) -> None:
    done = subprocess.run(["systemd-analyze", *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@each_unit
@requires("systemd-analyze")
def test_systemd_understands_every_line(unit: Path, tmp_path: Path) -> None:
    program = shutil.which("true")
    text = unit.read_text().replace("/opt/pxeboot/bin/pxeboot", program or sys.executable)
    (tmp_path / unit.name).write_text(text)
    analyze("verify", "--man=no", str(tmp_path / unit.name))


@each_unit
@requires("systemd-analyze")
def test_little_is_allowed(unit: Path) -> None:
    analyze("security", "--offline=true", "--no-pager", f"--threshold={HIGHEST_EXPOSURE * 10:.0f}", str(unit))


@pytest.mark.parametrize("unit", SOCKETS, ids=lambda path: path.stem)
@requires("systemd-analyze")
def test_systemd_understands_every_line_of_a_socket(unit: Path, tmp_path: Path) -> None:
    (tmp_path / "pxeboot.service").write_text("[Service]\nExecStart=/bin/true\n")
    instance = tmp_path / unit.name.replace("@", "@eth1")
    instance.write_text(unit.read_text())
    analyze("verify", "--man=no", str(instance))


@pytest.mark.parametrize("unit", SOCKETS, ids=lambda path: path.stem)
def test_a_socket_has_our_port_and_a_name_that_we_know(unit: Path) -> None:
    server, said = Server(), settings(unit)
    what = unit.stem.removeprefix("pxeboot-").removesuffix("@")
    port = {"http": server.http_port, "nbd": server.nbd_port}[what]
    assert said["ListenStream"] == f"0.0.0.0:{port}"
    assert said["FileDescriptorName"] == f"{what}-%I"
    assert said["Service"] == "pxeboot.service"


@each_unit
def test_it_starts_a_command_that_there_is(unit: Path) -> None:
    for key in ("ExecStart", "ExecReload"):
        command = settings(unit).get(key, "pxeboot")
        assert misused(shlex.join(["pxeboot", *shlex.split(command)[1:]])) == ""


@each_unit
def test_one_that_hangs_is_started_again(unit: Path) -> None:
    said = settings(unit)
    assert said["Type"] == "notify"
    assert int(said["WatchdogSec"]) >= PINGS * STATUS_EVERY_S
    assert said["Restart"] in ("always", "on-failure"), "on-failure is at the watchdog too"


@requires("systemd-sysusers", "systemd-tmpfiles")
def test_users_and_folders_are_as_the_units_expect_them(tmp_path: Path) -> None:
    for name in ("etc", "run", "var"):
        (tmp_path / name).mkdir()
    for program, name in (("systemd-sysusers", "sysusers"), ("systemd-tmpfiles", "tmpfiles")):
        more = ["--create"] if name == "tmpfiles" else []
        argv = [program, *more, f"--root={tmp_path}", str(ROOT / f"deploy/systemd/{name}.conf")]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    user = next(line for line in (tmp_path / "etc/passwd").read_text().splitlines() if line.startswith("pxeboot:"))
    group = int(user.split(":")[3])
    modes = {
        str(path.relative_to(tmp_path)): (stat.S_IMODE(path.stat().st_mode), path.stat().st_gid)
        for path in tmp_path.rglob("*")
    }
    assert modes["etc/pxeboot"] == (0o750, group)
    assert modes["etc/pxeboot/kubeconfigs"] == (0o700, 0)
    assert modes["var/lib/pxeboot-join"] == (0o2770, group)
    assert modes["srv/pxeboot/images"] == (0o755, 0)
    controller = settings(ROOT / "deploy/pxeboot-controller.service")
    assert controller["LoadCredential"] == "kubeconfig:/etc/pxeboot/kubeconfigs"
    assert controller["ReadWritePaths"] == "/var/lib/pxeboot-join"


def test_what_is_written_by_default_is_writable() -> None:
    server, unit = Server(), settings(ROOT / "deploy/pxeboot.service")
    assert server.state == Path("/var/lib") / unit["StateDirectory"]
    assert server.control.parent == Path("/run") / unit["RuntimeDirectory"]
    assert unit["Type"] == "notify"
