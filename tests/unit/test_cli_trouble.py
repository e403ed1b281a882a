"""pxeboot.cli: whatever is wrong around a command, it says so in a line of plain words."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pxeboot.cli import main
from pxeboot.image import build
from pxeboot.plainly import plainly

ROOT = Path(__file__).parent.parent.parent
READERS = [
    ["status", "-c"], ["node", "-c"], ["reload", "-c"], ["leases", "-c"], ["token", "list", "-c"],
    ["explain", "m1", "-c"], ["serve", "-c"], ["controller", "-c"], ["import", "kubefarm"], ["import", "dnsmasq"],
    ["import", "dhcpd"], ["import", "kea"], ["image", "list", "--store"], ["image", "prune", "--force", "--store"],
    ["image", "remove", "x", "--force", "--store"], ["image", "build", "x", "--store"],
    ["leases", "import", "--dry-run", "--from", "kea"], ["leases", "import", "--dry-run", "--from", "dhcpd"],
    ["user", "bob", "--file"], ["image", "build", "x", "--packages-from"],
]  # fmt: skip
"""Commands that lack their last word, a path."""


def run(*argv: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(main, argv)
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exc_info
    return found.exit_code, found.stdout, found.stderr


def said_plainly(err: str) -> None:
    assert err.strip()
    for word in ("Errno", "Traceback", "Error(", "KeyError", "<class"):
        assert word not in err


@pytest.mark.parametrize("argv", READERS, ids=" ".join)
@pytest.mark.parametrize("what", ["missing", "folder", "broken", "binary", "empty"])
def test_a_path_that_leads_to_nothing_of_use_is_named_without_a_traceback(
    argv: list[str], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for a store that is missing, which `build` makes; it is not let get so far as to build."""
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "it"
    match what:
        case "folder":
            path.mkdir()
        case "broken":
            path.write_text("a: [")
        case "binary":
            path.write_bytes(b"\xff\xfe\x00\x01")
        case "empty":
            path.write_text("")
        case _:
            pass
    status, out, err = run(*argv, str(path))
    if (argv[:2], what) == (["image", "list"], "folder") or ((argv[-1], what) == ("dhcpd", "empty") and out):
        assert status == 0, "nothing is in it, and that is all"
    else:
        assert status in (1, 2)
        assert not out
        said_plainly(err)


@pytest.mark.parametrize("argv", [argv for argv in READERS if "--packages-from" not in argv], ids=" ".join)
def test_an_empty_word_is_no_path(argv: list[str]) -> None:
    status, out, err = run(*argv, "")
    assert (status, out) == (2, "")
    assert "an empty word is no path" in err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/srv/x"),
         "/srv/x: permission denied; run it as root (sudo), or say --store"),
        (PermissionError(errno.EPERM, os.strerror(errno.EPERM)),
         "operation not permitted; run it as root (sudo), or say --store"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/srv/x"), "/srv/x: no space left on device"),
        (OSError(errno.ENODEV, "there is no interface eth9"), "there is no interface eth9"),
        (OSError("the network is full"), "the network is full"),
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), b"/srv/\xff"),
         "/srv/\udcff: no such file or directory"),
    ],
)  # fmt: skip
def test_an_error_of_the_system_is_said_without_its_number(
    error: OSError, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert plainly(error, "say --store") == words
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert plainly(error, "say --store") == words.partition("; run it")[0], "root needs no such advice"


def test_who_may_not_write_to_the_store_is_told_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(folder: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(build, "build", denied)
    status, out, err = run("image", "build", "node", "--store", str(tmp_path / "store"))
    advice = "run it as root (sudo), or give --store a folder of yours"
    assert (status, out, err) == (1, "", f"pxeboot image: {tmp_path}/store: permission denied; {advice}\n")


def test_a_store_without_images_is_said_to_be_empty(tmp_path: Path) -> None:
    for words in (["prune", "--force"], ["remove", "x", "--force"]):
        status, _, err = run("image", *words, "--store", str(tmp_path))
        assert (status, err) == (
            1,
            f"pxeboot image: no image is in {tmp_path}; `pxeboot image build NAME` makes one\n",
        )
    assert run("image", "list", "--json", "--store", str(tmp_path)) == (0, '{"images": []}\n', "")


def shell(command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in which $P is our program."""
    every = {**os.environ, "P": f"{sys.executable} -m pxeboot", **env}
    argv = ["bash", "-c", f"set -o pipefail; {command}"]
    return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120, env=every)


@pytest.mark.parametrize("words", ["--help", "check --schema"])
@pytest.mark.parametrize("out", ["| head -1", ">/dev/full", ">&-"])
def test_a_reader_that_goes_away_or_a_full_disk_is_no_traceback(words: str, out: str) -> None:
    done = shell(f"$P {words} {out}")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if out == ">/dev/full":
        assert done.returncode == 1
        assert "no space left on device" in done.stderr


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_terminal_without_a_letter_gets_the_rest(locale: str, tmp_path: Path) -> None:
    """Rich stops at an arrow where the encoding has none, and Python at a name that is no UTF-8."""
    farm = os.fsencode(tmp_path) + b"/f\xe4rm.yaml"
    with open(farm, "w") as file:
        file.write("server: {interfaces: [nosuch0]}\n")
    env = {"LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = shell("$P check --here $F | cat -v", F=os.fsdecode(farm), **env)
    assert "Traceback" not in done.stderr
    assert "there is no interface nosuch0" in done.stdout
    assert "right" in done.stdout
