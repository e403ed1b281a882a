"""The systemd units are right, tight, and start what there is."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from config.model import Server
from tests.support.segment import requires
from tests.unit.test_docs import misused

ROOT = Path(__file__).parent.parent.parent
UNITS = sorted(ROOT.glob("deploy/*.service"))
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


@each_unit
def test_it_starts_a_command_that_there_is(unit: Path) -> None:
    command = settings(unit)["ExecStart"]
    assert misused(shlex.join(["pxeboot", *shlex.split(command)[1:]])) == ""


def test_what_is_written_by_default_is_writable() -> None:
    server, unit = Server(), settings(ROOT / "deploy/pxeboot.service")
    assert server.state == Path("/var/lib") / unit["StateDirectory"]
    assert server.control.parent == Path("/run") / unit["RuntimeDirectory"]
    assert unit["Type"] == "notify"
