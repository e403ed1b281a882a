"""`pxeboot manual`: who installed us by pip has `man pxeboot`."""

import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from pxeboot.cli import main, manual
from pxeboot.reference.walking import commands
from tests.support.segment import requires


def run(*argv: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(main, ["manual", *argv])
    return found.exit_code, found.stdout, found.stderr


@requires("man")
@pytest.mark.parametrize("name", ["pxeboot", "pxeboot-image-build"])
def test_man_shows_the_pages_where_they_were_put(tmp_path: Path, name: str) -> None:
    """As after `pip install` and one command: man finds a `share/man` beside a `bin` that is in PATH."""
    folder = tmp_path / "share/man"
    (tmp_path / "bin").mkdir()
    env = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "MANWIDTH": "80", "LC_ALL": "C.UTF-8"}
    env.pop("MANPATH", None)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PATH", env["PATH"])
        patched.delenv("MANPATH", raising=False)
        status, out, err = run(str(folder))
    assert (status, err) == (0, "")
    assert out == f"{len([*commands()])} manual pages are in {folder}/man1; `man pxeboot` shows the first\n"
    where = subprocess.run(["man", "-w", name], capture_output=True, text=True, check=False, env=env)
    assert where.stdout == f"{folder}/man1/{name}.1\n"
    shown = subprocess.run(["man", name], capture_output=True, text=True, check=True, env=env)
    assert f"{name} - " in " ".join(shown.stdout.split())


def test_everybody_may_read_the_pages(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        assert run(str(tmp_path / "man"))[0] == 0
    finally:
        os.umask(before)
    assert (tmp_path / "man/man1").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "man/man1/pxeboot.1").stat().st_mode & 0o777 == 0o644


def test_a_folder_where_man_does_not_look_is_said(tmp_path: Path) -> None:
    assert f"`man -M {tmp_path} pxeboot`" in run(str(tmp_path))[1]


def test_a_host_without_man_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "`man` is not installed here: apt-get install man-db" in run(str(tmp_path))[1]


def test_a_folder_that_cannot_be_made_is_said_in_plain_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, out, err = run(str(tmp_path / "file"))
    assert (status, out) == (1, "")
    assert err == f"pxeboot manual: {tmp_path}/file/man1: Not a directory; give another FOLDER\n"


def test_pages_are_for_everybody_if_root_puts_them_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert manual.usual() == Path("/usr/local/share/man")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert manual.usual() == tmp_path / ".local/share/man"
