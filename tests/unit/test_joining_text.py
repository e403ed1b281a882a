"""What a machine fetches once, as a shell reads it."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.model import Taint
from pxeboot.joining.text import fill_in, join_text, one_line, said
from tests.support.segment import requires


def test_the_command_is_the_first_line_whatever_follows() -> None:
    text = join_text("a\nb", ["10.0.0.1 api\nevil", "10.0.0.2 x"], -5)
    lines = text.splitlines()
    assert (len(lines), lines[1:]) == (4, ["hosts: 10.0.0.1 api evil", "hosts: 10.0.0.2 x", "good_for: 0"])


@requires("dash", "busybox")
@pytest.mark.parametrize("shell", [["dash"], ["busybox", "sh"]])
@pytest.mark.parametrize(
    "command",
    [
        "echo one",
        "echo one\necho two\n",
        "x='a  b'\necho \"$x\" \\\n  more '\\n' %s %d 100%\nexit 3",
        'cat <<E\n$HOME `echo hi` "quoted" \\\\ back\nE\n',
        'if true; then\n\techo "it\'s"\nfi',
    ],
)
def test_a_command_of_many_lines_does_the_same_on_one(shell: list[str], command: str) -> None:
    lines = one_line(command)
    assert "\n" not in lines
    runs = [
        subprocess.run([*shell, "-c", text], capture_output=True, text=True, check=False, env={"HOME": "/h"})
        for text in (command, lines)
    ]
    assert (runs[0].returncode, runs[0].stdout, runs[0].stderr) == (runs[1].returncode, runs[1].stdout, "")


NASTY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@requires("dash")
@settings(max_examples=30, deadline=None)
@given(token=NASTY, label=NASTY, taint=NASTY)
def test_no_value_of_the_configuration_breaks_out_of_its_word(token: str, label: str, taint: str) -> None:
    taints = (Taint(key="gpu", value=taint, effect="NoSchedule"), Taint(key="b", effect="NoExecute"))
    template = "printf '%s\\0' {token} --node-label={labels} {taints} {name} {ip} {{brace}}"
    command = fill_in(template, token=token, name="m1", ip="10.0.0.10", labels={"l": label}, taints=taints)
    done = subprocess.run(["dash", "-c", one_line(command)], capture_output=True, check=True)
    shown = f"gpu={taint}:NoSchedule" if taint else "gpu:NoSchedule"
    expected = [token, f"--node-label=l={label}", f"{shown},b:NoExecute", "m1", "10.0.0.10", "{brace}"]
    assert done.stdout.decode().split("\0")[:-1] == expected


def test_a_reason_in_the_first_line_of_an_answer_is_short_and_plain() -> None:
    assert said("a\r\nSet-Cookie: ü" + "x" * 500) == "a  Set-Cookie:  " + "x" * 144
