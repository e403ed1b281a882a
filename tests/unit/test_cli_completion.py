"""pxeboot completion: what a shell is told at a TAB, asked of bash itself."""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pxeboot.cli import main
from pxeboot.cli.completing import MOST_READ, machines, of_text

ROOT = Path(__file__).parent.parent.parent
FARM = str(ROOT / "docs/farm.example.yaml")
BASH = """
%(script)s
COMP_WORDS=(%(words)s)
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_pxeboot_completion pxeboot
printf '%%s\\n' "${COMPREPLY[@]}"
"""
ASKED = [
    pytest.param("pxeboot st", {"status"}, id="command"),
    pytest.param("pxeboot import d", {"dnsmasq", "dhcpd"}, id="subcommand"),
    pytest.param(f"pxeboot status -c {FARM} m1c3", {"m1c30"}, id="machine"),
    pytest.param(f"pxeboot node -c {FARM} m", {"m1c29", "m1c30"}, id="machines-of-node"),
    pytest.param(f"pxeboot node -c {FARM} m1c29 boot = l", {"local"}, id="boot"),
    pytest.param(f"pxeboot node -c {FARM} m1c29 image = ''", {"node", "rescue"}, id="image"),
    pytest.param(f"pxeboot node -c {FARM} --pool ''", {"workers"}, id="pool"),
    pytest.param(f"pxeboot explain -c {FARM} m1c2", {"m1c29"}, id="explain"),
    pytest.param("pxeboot completion z", {"zsh"}, id="choice"),
]


def script_of(shell: str) -> str:
    found = CliRunner().invoke(main, ["completion", shell])
    assert found.exit_code == 0, found.output
    return found.stdout


@pytest.mark.parametrize(("words", "answers"), ASKED)
def test_bash_completes_what_there_is(words: str, answers: set[str], tmp_path: Path) -> None:
    program = tmp_path / "pxeboot"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m pxeboot "$@"\n')
    program.chmod(0o755)
    text = BASH % {"script": script_of("bash"), "words": words}
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    argv = ["bash", "-c", text]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60, env=env)
    assert (set(done.stdout.split()), done.stderr) == (answers, "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script_too(shell: str) -> None:
    assert "_PXEBOOT_COMPLETE" in script_of(shell)


def test_a_tab_imports_neither_the_model_nor_rich() -> None:
    code = f"""import sys
from pxeboot.cli.completing import MOST_READ, machines, of_text
from pathlib import Path
assert of_text(open({FARM!r}).read())["machines"] == ["m1c29", "m1c30"]
import pxeboot.cli.status, pxeboot.cli.node
print([name for name in ("pydantic", "rich", "aiohttp") if name in sys.modules])"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT, timeout=60
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize(
    "text", ["", "- a", "pools: 5", "pools: [5, {name: p, nodes: [1, {name: m}]}]", "a: [", "images: 3", "\x00"]
)
def test_a_farm_that_is_wrong_has_the_names_that_can_be_read(text: str) -> None:
    found = of_text(text)
    assert found["machines"] == (["m"] if "nodes" in text else [])


def test_a_large_farm_is_searched_and_not_parsed() -> None:
    lines = [f"  - {{name: n{number}, ip: 10.0.0.1}}" for number in range(10000)]
    text = "\n".join(["pools:", *lines])
    assert len(text) > MOST_READ
    assert of_text(text)["machines"][:2] == ["n0", "n1"]


def test_a_running_daemon_is_asked_before_the_file(tmp_path: Path) -> None:
    """What it serves may not be what the file says by now."""
    control = tmp_path / "control.sock"
    names = {"machines": ["served"], "pools": [], "images": []}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(control))
        listener.listen()
        answering = threading.Thread(target=answer_once, args=(listener, json.dumps(names)))
        answering.start()
        found = machines(context_of(control), click.Argument(["name"]), "se")
        answering.join(timeout=10)
    assert [item.value for item in found] == ["served"]


def context_of(control: Path) -> click.Context:
    context = click.Context(main)
    context.params = {"configuration": Path(FARM), "control": control}
    return context


def answer_once(listener: socket.socket, text: str) -> None:
    connection, _ = listener.accept()
    with connection:
        assert connection.recv(4096).startswith(b"GET /v1/names ")
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
        connection.sendall((head + text).encode())
