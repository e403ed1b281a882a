import sys

import pytest
from click.testing import CliRunner

from pxeboot.cli import main


def run(*argv: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["probe", "dhcp", *argv])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--mac", "52:54:00"], "'52:54:00' is no MAC; write six pairs of hex digits"),
        (["--mac", "01:00:5e:00:00:01"], "01:00:5e:00:00:01 is no single machine's MAC"),
        (["--mac", "00:00:00:00:00:00"], "is no single machine's MAC"),
        (["--arch", "amd64"], "'amd64' is no architecture; the ones there are: bios, "),
        (["--class", "nbd"], "'nbd' is not one of"),
        (["--timeout", "0"], "0"),
    ],
)
def test_a_wrong_use_is_2_and_says_what_is_right(argv: list[str], says: str) -> None:
    code, out, err = run("--interface", "lo", *argv)
    assert (code, out) == (2, "")
    assert says in err


def test_without_scapy_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith(("scapy", "pxeboot.probe.dhcp"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "scapy", None)
    monkeypatch.delattr(sys.modules["pxeboot.probe"], "dhcp", raising=False)
    code, out, err = run("--interface", "lo")
    assert (code, out) == (1, "")
    assert "scapy" in err
    assert "pip install 'pxeboot[probe]'" in err


def test_an_interface_that_is_not_there_is_named() -> None:
    assert run("--interface", "nosuch0")[::2] == (
        1,
        "pxeboot probe: cannot ask on nosuch0: there is no such interface\n",
    )
