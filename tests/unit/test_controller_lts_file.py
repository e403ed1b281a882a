"""The join command in lts.conf: two keys are ours, every other byte stays."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.ltsconf import JOIN_EXPIRES_KEY, LtsConf
from pxeboot.controller.engine import Published
from pxeboot.controller.join import Discovery, JoinCommand
from pxeboot.controller.lts_file import LtsFile
from pxeboot.controller.token import Token

JOIN = JoinCommand(Token("abcdef", "0123456789abcdef"), Discovery("10.28.0.1:6443", (f"sha256:{'0a' * 32}",)))
EXPIRES = 1735689600.0
KEY = "RCFILE_07_JOIN_K8S"

SEED = f"""\
# The farm's lts.conf; the join command is the controller's.
[Default]
{KEY}="kubeadm join old:6443 --token zzzzzz.zzzzzzzzzzzzzzzz"   # by the controller
FSTAB_03_DOCKER = "tmpfs /var/lib/docker tmpfs x-systemd.wanted-by=docker.service,size=60% 0 0"
PREINIT_00_TIME="ln -sf /usr/share/zoneinfo/Etc/GMT /etc/localtime"
\tKEEP_SYSTEM_SERVICES = "kubelet ssh"

include /etc/ltsp/more.conf
[94:57:a5:d3:ec:f2]
{KEY} = "true"
"""


@pytest.fixture
def file(tmp_path: Path) -> LtsFile:
    return LtsFile(tmp_path / "lts.conf", "Default", KEY)


def test_a_missing_file_holds_nothing_and_is_made(tmp_path: Path) -> None:
    file = LtsFile(tmp_path / "made" / "lts.conf", "Default", KEY)
    assert file.read() is None
    file.publish(JOIN, EXPIRES)
    assert file.read() == Published(JOIN.reveal(), EXPIRES)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o640
    assert file.path.read_text() == f'[Default]\n{KEY}="{JOIN.reveal()}"\n{JOIN_EXPIRES_KEY}="2025-01-01T00:00:00Z"\n'


def test_every_other_byte_stays_as_it_was(file: LtsFile) -> None:
    file.path.write_text(SEED)
    file.publish(JOIN, EXPIRES)
    lines = file.path.read_text().splitlines(keepends=True)
    assert [line for line in lines if JOIN_EXPIRES_KEY not in line] == [
        f'{KEY}="{JOIN.reveal()}"   # by the controller\n' if "old:6443" in line else line
        for line in SEED.splitlines(keepends=True)
    ]
    assert [line for line in lines if JOIN_EXPIRES_KEY in line] == [f'\t{JOIN_EXPIRES_KEY} = "2025-01-01T00:00:00Z"\n']


def test_publishing_again_changes_the_two_values_alone(file: LtsFile) -> None:
    file.path.write_text(SEED)
    file.publish(JOIN, EXPIRES)
    before = file.path.read_text()
    other = JoinCommand(Token("ghijkl", "0123456789abcdef"), JOIN.discovery)
    file.publish(other, EXPIRES + 60)
    assert file.path.read_text() == before.replace(JOIN.reveal(), other.reveal()).replace(":00:00Z", ":01:00Z")


def test_taking_it_out_leaves_the_rest(file: LtsFile) -> None:
    file.path.write_text(SEED)
    file.publish(JOIN, EXPIRES)
    file.retract()
    assert file.read() is None
    assert file.path.read_text() == "".join(line for line in SEED.splitlines(keepends=True) if "old:6443" not in line)


def test_bytes_that_are_no_utf8_stay(file: LtsFile) -> None:
    file.path.write_bytes(b'# caf\xe9\r\n[Default]\r\nX="\xff"\r\n')
    file.publish(JOIN, EXPIRES)
    assert file.path.read_bytes().startswith(b'# caf\xe9\r\n[Default]\r\nX="\xff"\r\n')
    assert file.read() == Published(JOIN.reveal(), EXPIRES)


@given(st.text(st.sampled_from("[]#='\"ab \n")))
def test_any_file_is_kept_or_refused_and_then_not_touched(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.conf"
    path.write_text(text)
    file = LtsFile(path, "Default", KEY)
    try:
        file.publish(JOIN, EXPIRES)
    except ValueError:
        assert path.read_text() == text
    else:
        assert file.read() == Published(JOIN.reveal(), EXPIRES)


@pytest.mark.parametrize(("before", "after"), [(0o644, 0o640), (0o600, 0o600), (0o640, 0o640), (0o666, 0o640)])
def test_its_mode_is_tightened_and_never_widened(file: LtsFile, before: int, after: int) -> None:
    file.path.write_text(SEED)
    file.path.chmod(before)
    file.publish(JOIN, EXPIRES)
    assert stat.S_IMODE(file.path.stat().st_mode) == after


def test_a_link_stays_one(file: LtsFile, tmp_path: Path) -> None:
    real = tmp_path / "real.conf"
    real.write_text(SEED)
    os.symlink(real, file.path)
    file.publish(JOIN, EXPIRES)
    assert file.path.is_symlink()
    assert JOIN.reveal() in real.read_text()


def test_another_section_has_its_own_command(file: LtsFile) -> None:
    file.path.write_text(SEED)
    other = LtsFile(file.path, "gpu*", KEY)
    file.publish(JOIN, EXPIRES)
    other.publish(JOIN, EXPIRES + 60)
    conf = LtsConf.parse(file.path.read_text())
    assert conf.get("Default", JOIN_EXPIRES_KEY) == "2025-01-01T00:00:00Z"
    assert conf.get("gpu*", JOIN_EXPIRES_KEY) == "2025-01-01T00:01:00Z"
    assert conf.get("94:57:a5:d3:ec:f2", KEY) == "true"


@pytest.mark.parametrize("end", ["tomorrow", "2025-01-01T00:00:00", ""])
def test_an_end_that_is_no_time_is_none(file: LtsFile, end: str) -> None:
    file.path.write_text(f'[Default]\n{KEY}="x"\n{JOIN_EXPIRES_KEY}="{end}"\n')
    assert file.read() == Published("x", None)
