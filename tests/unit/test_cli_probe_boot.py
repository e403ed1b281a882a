import pytest
from click.testing import CliRunner

from pxeboot.cli import main


def run(*argv: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["probe", *argv])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--mac", "52:54:00:00:00:01"], "Add --yes if it is off"),
        (["--mac", "52:54:00", "--yes"], "'52:54:00' is no MAC"),
        (["--arch", "amd64"], "'amd64' is no architecture; the ones there are: bios, "),
        (["--class", "plain"], "'plain' is not one of"),
        (["--http-port", "0"], "0 is not in the range"),
    ],
)
@pytest.mark.parametrize("named", [["boot"], []])
def test_a_wrong_use_is_2_and_says_what_is_right(named: list[str], argv: list[str], says: str) -> None:
    code, out, err = run(*named, "--interface", "lo", *argv)
    assert (code, out) == (2, "")
    assert says in " ".join(err.split())


@pytest.mark.parametrize(
    ("interface", "says"), [("nothere0", "there is no such interface"), ("lo", "it is no Ethernet interface")]
)
def test_an_interface_that_cannot_boot_is_1(interface: str, says: str) -> None:
    assert run("boot", "--interface", interface) == (
        1, "", f"pxeboot probe: cannot probe on {interface}: {says}\n")  # fmt: skip


def test_help_names_the_commands_and_which_is_meant_without_one() -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert "Without a COMMAND: boot" in " ".join(out.split())
    assert all(name in out for name in ("boot", "dhcp", "tftp"))
