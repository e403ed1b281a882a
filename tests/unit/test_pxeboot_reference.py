"""pxeboot.reference: what is looked up is what there is; manual pages are sound."""

import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import pytest

from config.events import Stage
from pxeboot.reference import manual
from pxeboot.reference.__main__ import PAGES
from pxeboot.reference.examples import EXAMPLES, FILES
from pxeboot.reference.stages import docstrings
from pxeboot.reference.walking import Told, commands
from tests.support.segment import requires

DOCS = Path(__file__).parent.parent.parent / "docs/reference"
TOLD = {told.name: told for told in commands()}
MANUAL = manual.pages(0)


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_as_the_code_says(name: str) -> None:
    """`python -m pxeboot.reference docs/reference` makes it so."""
    assert (DOCS / name).read_text("utf-8") == PAGES[name]()


def test_every_stage_says_what_it_means() -> None:
    assert {*docstrings()} == {stage.name for stage in Stage}


def test_every_command_has_a_manual_page() -> None:
    assert {name.removesuffix(".1").replace("-", " ") for name in MANUAL} == set(TOLD)


@requires("groff")
def test_no_manual_page_has_anything_that_groff_warns_of(tmp_path: Path) -> None:
    for name, text in MANUAL.items():
        (tmp_path / name).write_text(text)
    argv = ["groff", "-man", "-ww", "-z", "-Tutf8", "-Kutf8", *(str(path) for path in sorted(tmp_path.iterdir()))]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@requires("groff")
def test_a_manual_page_reads_as_the_help_does_within_80_columns(tmp_path: Path) -> None:
    path = tmp_path / "page.1"
    for name, told in TOLD.items():
        path.write_text(MANUAL[f"{name.replace(' ', '-')}.1"])
        argv = ["groff", "-man", "-Tascii", "-P-cbou", "-rLL=78n", str(path)]
        shown = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout
        words = " ".join(shown.split())
        assert all(heading in words for heading in ("NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "SEE ALSO"))
        assert all(" ".join(option.split()) in words for option, _ in told.options), name
        # A word that is a URL or a usage may be longer than a line.
        assert all(len(line) <= 80 or " " not in line.strip() for line in shown.split("\n")), name


@pytest.mark.parametrize("made", [".SH x", "'a", "a\\nb", "-x", "`a-b`"])
def test_what_a_help_says_is_never_a_request(made: str) -> None:
    assert not re.match(r"[.']", manual.text_of(made))
    assert "\\n" not in manual.text_of(made)


def parts(words: Sequence[str]) -> tuple[Told, list[str]]:
    """The command that is typed, and the rest."""
    for length in range(len(words), 0, -1):
        if " ".join(words[:length]) in TOLD:
            return TOLD[" ".join(words[:length])], [*words[length:]]
    raise AssertionError(words)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_of_options_that_there_are(name: str) -> None:
    assert name in TOLD
    for _, example in EXAMPLES[name]:
        told, rest = parts(shlex.split(example.partition(">")[0]))
        known = {word for one in told.command.params if isinstance(one, click.Option) for word in one.opts}
        assert {word for word in rest if word.startswith("-")} <= known, example


def test_the_files_are_those_of_the_configuration() -> None:
    text = PAGES["configuration.md"]()
    assert all(f"`{path}`" in text for path, _ in FILES if path.startswith(("/run", "/var")))


def test_the_module_writes_pages_and_says_how_it_is_used(tmp_path: Path) -> None:
    run = [sys.executable, "-m", "pxeboot.reference"]
    subprocess.run([*run, "--man", str(tmp_path / "man")], check=True, timeout=60, env={"SOURCE_DATE_EPOCH": "0"})
    assert (tmp_path / "man/pxeboot.1").read_text() == MANUAL["pxeboot.1"]
    wrong = subprocess.run(run, capture_output=True, text=True, check=False, timeout=60)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "usage" in wrong.stderr


def test_a_message_is_found_wherever_it_is_said() -> None:
    """One of each kind, so that a way of saying things that the page does not know is noticed."""
    text = (DOCS / "errors.md").read_text("utf-8")
    for said in (
        "there is already a machine named NAME",
        "another pxeboot serve uses STATE",
        "nothing to boot: neither a pool nor 'unknown' of its subnet lists it",
        "no network: no answer to DHCP",
        "boot intents cannot be kept, so nothing changes: ...",
        "dhcp stores leases again in ...",
    ):
        assert f"`{said}`" in text
