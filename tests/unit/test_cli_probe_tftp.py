import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pxeboot.cli import main


def run(*argv: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["probe", "tftp", *argv])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["127.0.0.1"], "Missing argument 'FILE'"),
        (["127.0.0.1", ""], "which FILE?"),
        (["", "a"], "'' is no server; write an IPv4 address or a name"),
        (["127.0.0.1:0", "a"], "'127.0.0.1:0' is no server"),
        (["127.0.0.1:99999999999", "a"], "is no server"),
        (["127.0.0.1:x", "a"], "is no server"),
        (["127.0.0.1", "a", "--blksize", "7"], "7 is none; RFC 2348 allows 8 to 65464, and 0 asks for none"),
        (["127.0.0.1", "a", "--blksize", "65465"], "65465 is none"),
        (["127.0.0.1", "a", "--timeout", "0"], "0"),
        (["127.0.0.1", "a", "--windowsize", "16"], "cannot ask for a window (RFC 7440)"),
    ],
)
def test_a_wrong_use_is_2_and_says_what_is_right(argv: list[str], says: str) -> None:
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    assert says in err


def test_without_tftpy_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith(("tftpy", "pxeboot.probe.tftp"))]:
        monkeypatch.delitem(sys.modules, module)
    for module in ("tftpy", "tftpy.TftpContexts", "tftpy.TftpShared"):
        monkeypatch.setitem(sys.modules, module, None)
    code, out, err = run("127.0.0.1", "a")
    assert (code, out) == (1, "")
    assert "tftpy" in err
    assert "pip install 'pxeboot[probe]'" in err


def test_what_cannot_be_done_at_all_is_said_in_a_line(tmp_path: Path) -> None:
    for argv, says in (
        (("127.0.0.1:9", "a", "--interface", "nosuch0"), "there is no interface nosuch0"),
        (("127.0.0.1:9", "a", "--output", str(tmp_path / "no/file")), "cannot be written: No such file or directory"),
        (("a..b", "a"), "'a..b' has no IPv4 address"),
    ):
        code, out, err = run(*argv)
        assert (code, out) == (1, "")
        assert err.startswith("pxeboot probe: ")
        assert says in err
        assert err.count("\n") == 1


def test_a_file_stays_as_it_is_when_nothing_arrives_for_it(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(b"of before")
    for more in (("--interface", "nosuch0"), ("--timeout", "0.1")):  # nobody is at that port
        code, _, _ = run("127.0.0.1:9", "a", "--output", str(kept), *more)
        assert code == 1
        assert kept.read_bytes() == b"of before"
        assert list(tmp_path.iterdir()) == [kept]
