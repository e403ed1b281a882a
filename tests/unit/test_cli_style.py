"""pxeboot.cli: every command has one style, whoever wrote it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pxeboot.cli import COMMANDS, GROUPS, main
from pxeboot.reference.walking import Told, commands, first_line

ROOT = Path(__file__).parent.parent.parent
EVERY = {told.name: told for told in commands()}
LEAVES = {name: told for name, told in EVERY.items() if not told.commands or name == "pxeboot leases"}
OPTIONS = [
    pytest.param(told, option, id=f"{name} {option.opts[-1]}")
    for name, told in EVERY.items()
    for option in told.command.params
    if isinstance(option, click.Option) and not option.hidden
]
WITHOUT_JSON = {
    "pxeboot serve": "it serves",
    "pxeboot controller": "it serves",
    "pxeboot image add": "prints the folder of the version",
    "pxeboot image build": "prints the folder of the version",
    "pxeboot image remove": "says what it did",
    "pxeboot image prune": "says what it did",
    "pxeboot leases import": "says what it did",
    "pxeboot completion": "prints a script",
    "pxeboot manual": "writes pages",
    "pxeboot user": "prints a line of a file",
}
"""Commands that show no data."""
SPELLED = {
    "configuration": ["-c", "--config"],
    "as_json": ["--json"],
    "control": ["--control"],
    "output": ["-o", "--output"],
}
NOWHERE = "/nowhere/at/all"
NO_DAEMON = [
    ("status", "--control", NOWHERE),
    ("status", "m1", "--control", NOWHERE),
    ("node", "--control", NOWHERE),
    ("node", "m1", "boot=local", "--control", NOWHERE),
    ("reload", "--control", NOWHERE),
    ("leases", "--control", NOWHERE, "--file", NOWHERE),
    ("token", "list", "--socket", NOWHERE),
]
_WITH_FILES = ("serve", "controller", "status", "node", "reload", "leases", "explain m1", "token list")
NO_FILE = [(*command.split(), "-c", NOWHERE) for command in _WITH_FILES]
NO_STORE = [("image", "list"), ("image", "prune", "--force"), ("image", "remove", "node", "--force")]


def run(*argv: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(main, argv)
    return found.exit_code, found.stdout, found.stderr


def test_every_command_is_in_one_group_of_the_help() -> None:
    named = [name for names in GROUPS.values() for name in names]
    assert sorted(named) == sorted(COMMANDS)


@pytest.mark.parametrize("name", EVERY)
def test_every_command_says_in_one_sentence_what_it_does(name: str) -> None:
    said = first_line(EVERY[name].command)
    assert said.endswith((".", ":"))
    assert said[0].isupper()


@pytest.mark.parametrize(("told", "option"), OPTIONS)
def test_every_option_says_what_it_does_and_is_spelled_alike(told: Told, option: click.Option) -> None:
    assert option.help, f"{told.name} {option.opts}"
    assert option.help[0].isupper() or option.help.startswith(("zstd", "NAME"))
    if option.name in SPELLED and not (told.name == "pxeboot check" and option.name == "configuration"):
        assert option.opts == SPELLED[option.name]
    for spelling in option.opts:
        assert spelling == spelling.lower()
        assert "_" not in spelling


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_that_shows_data_has_it_as_json(name: str) -> None:
    has = any("--json" in option.opts for option in LEAVES[name].command.params)
    assert has != (name in WITHOUT_JSON)


@pytest.mark.parametrize("name", EVERY)
def test_every_help_fits_80_columns(name: str) -> None:
    status, out, err = run(*EVERY[name].path[1:], "--help")
    assert (status, err) == (0, "")
    assert not [line for line in out.split("\n") if len(line) > 80]


@pytest.mark.parametrize("argv", [*NO_DAEMON, *NO_FILE, *((*command, "--store", NOWHERE) for command in NO_STORE)])
def test_what_is_not_there_is_named_on_standard_error_with_status_1(argv: tuple[str, ...]) -> None:
    status, out, err = run(*argv)
    assert (status, out) == (1, "")
    assert NOWHERE in err
    assert "Traceback" not in err
    assert "Errno" not in err


@pytest.mark.parametrize("argv", NO_DAEMON)
def test_who_asks_without_a_daemon_is_told_what_to_do(argv: tuple[str, ...]) -> None:
    err = run(*argv)[2]
    assert any(hint in err for hint in ("`pxeboot serve`", "`pxeboot controller`", "no daemon at"))


@pytest.mark.parametrize("argv", NO_DAEMON[:-2])
def test_a_file_that_is_no_socket_is_said_to_be_none(argv: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "socket").write_text("")
    status, out, err = run(*(str(tmp_path / "socket") if word == NOWHERE else word for word in argv))
    assert (status, out) == (1, "")
    assert f"no daemon listens at {tmp_path}/socket any more" in err


@pytest.mark.parametrize(
    ("argv", "meant"),
    [
        (("stats",), "status"),
        (("imports", "kea"), "import"),
        (("image", "ad"), "add"),
        (("import", "dnsmask"), "dnsmasq"),
        (("status", "--jsn"), "--json"),
        (("token", "lst"), "list"),
    ],
)
def test_a_word_that_is_nearly_right_is_guessed(argv: tuple[str, ...], meant: str) -> None:
    status, out, err = run(*argv)
    assert (status, out) == (2, "")
    assert f"'{meant}'" in err


def test_help_is_a_word_too() -> None:
    argv = [sys.executable, "-m", "pxeboot", "help", "image", "add"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: pxeboot image add ")


def test_no_colour_is_in_a_pipe_and_json_is_json(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("nodePools: []\n")
    env = {**os.environ, "TERM": "xterm-256color"}
    env.pop("NO_COLOR", None)
    argv = [sys.executable, "-m", "pxeboot"]
    for words in (
        ["import", "kubefarm", str(values), "--json"],
        ["check", str(ROOT / "docs/farm.example.yaml"), "--json"],
    ):
        done = subprocess.run(
            [*argv, *words], capture_output=True, text=True, check=False, cwd=ROOT, timeout=60, env=env
        )
        assert "\x1b" not in done.stdout + done.stderr
        json.loads(done.stdout)
