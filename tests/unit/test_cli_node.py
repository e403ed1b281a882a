import asyncio
import http.client
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from config.model import Farm
from pxeboot.api import names
from pxeboot.api.control import ControlSocket
from pxeboot.api.nodes import Nodes
from pxeboot.cli import asking
from pxeboot.cli.leases import command as leases
from pxeboot.cli.node import command, line, wanted
from pxeboot.cli.status import command as status
from pxeboot.cli.status import table
from pxeboot.intent_store import IntentStore
from pxeboot.meant import Book
from pxeboot.timeline import Timeline


@pytest.mark.parametrize(
    ("words", "names", "change"),
    [
        ((), [], {}),
        (("m1",), ["m1"], {}),
        (("m1", "boot=once", "m2", "m1"), ["m1", "m2"], {"boot": "once"}),
        (("boot=local", "boot=local"), [], {"boot": "local"}),
        (("m1", "image=other@ab12", "boot=netboot"), ["m1"], {"image": "other@ab12", "boot": "netboot"}),
        (("m1", "image="), ["m1"], {"image": ""}),
    ],
)
def test_words_are_names_and_what_they_are_to_do(
    words: tuple[str, ...], names: list[str], change: dict[str, str]
) -> None:
    assert wanted(words) == (names, change)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("m1", "boot=disk"), "must be one of netboot|local|refuse|once"),
        (("m1", "boot="), "must be one of"),
        (("m1", "bot=local"), "'bot' cannot be changed"),
        (("m1", "boot=local", "boot=once"), "boot=local or boot=once?"),
        (("m1", "local"), "do you mean boot=local?"),
        (("m1", "image=../etc"), "names no image"),
        (("m1", "image=a", "image=b"), "image=a or image=b?"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: tuple[str, ...], why: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        wanted(words)
    assert why in refused.value.message


def test_once_goes_with_an_image() -> None:
    assert wanted(("m1", "image=other"), once=True) == (["m1"], {"image": "other", "once": True})
    with pytest.raises(click.UsageError, match="boot=once"):
        wanted(("m1", "boot=local"), once=True)


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (("netboot", "the farm's file", None, "netboot"), "m1  boot=netboot  (the farm's file)"),
        (("local", "pxeboot node", 40.0, "netboot"),
         "m1  boot=local  (pxeboot node, 1 min 0 s ago; the farm's file says netboot)"),
        (("local", "its one boot from the network began", 100.0, None),
         "m1  boot=local  (its one boot from the network began, 0 s ago)"),
    ],
)  # fmt: skip
def test_a_line_says_what_and_by_whose_word(node: tuple[object, ...], text: str) -> None:
    assert line(dict(zip(("boot", "origin", "since_s", "configured"), node, strict=True), name="m1"), 100.0) == text


@pytest.mark.parametrize(("intents", "shown"), [(["netboot", "netboot"], False), (["netboot", "local"], True)])
def test_status_has_a_column_of_intents_when_one_is_out_of_the_ordinary(intents: list[str], shown: bool) -> None:
    machines = [
        {"name": f"m{n}", "mac": "", "ip": "", "pool": "", "boot": None, "intent": intent}
        for n, intent in enumerate(intents)
    ]
    assert ("intent" in [column.header for column in table(machines, 0.0).columns]) is shown


# Against the control socket itself, without a daemon

HEARD_OF = "node-525400000099"


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Path]:
    """The socket of a farm with two pools, answered in a thread."""
    pools = [
        {"name": "workers", "image": "node", "nodes": [
            {"name": f"m{n}", "macs": [f"52:54:00:00:00:0{n}"], "ip": f"10.0.0.{n}"} for n in (1, 2)]},
        {"name": "spare", "image": "node"},
    ]  # fmt: skip
    farm = Farm.model_validate({"images": {"node": {"path": "/images/node"}}, "pools": pools})
    nodes = Nodes(lambda: farm, IntentStore(tmp_path / "intents.json", farm), HEARD_OF.__eq__, Book.of(farm))
    ready, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        routes = [*nodes.routes, *names.routes(lambda: farm, Timeline())]
        async with ControlSocket(tmp_path / "control.sock", Timeline(), routes, nodes.about):
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(5)
    yield tmp_path / "control.sock"
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


def node(control: Path, *words: str) -> tuple[int, str]:
    """Return the exit status of `pxeboot node`, and what it said."""
    done = CliRunner().invoke(command, [*words, "--control", str(control)])
    return done.exit_code, done.output


def test_several_machines_are_changed_at_once_and_shown(control: Path) -> None:
    assert node(control, "m1", HEARD_OF, "boot=local")[0] == 0
    code, said = node(control)
    assert code == 0
    assert [text.split("  (")[0] for text in said.splitlines()] == [
        "m1  boot=local", "m2  boot=netboot", f"{HEARD_OF}  boot=local",
    ]  # fmt: skip


def test_a_pool_is_all_its_machines(control: Path) -> None:
    assert node(control, "--pool", "workers", "boot=refuse")[0] == 0
    assert [text.split()[1] for text in node(control, "m1", "m2")[1].splitlines()] == ["boot=refuse", "boot=refuse"]


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("m9",), 1, "no machine 'm9' is in the farm's file or was heard of"),
        (("m1", "m9", "boot=local"), 1, "no machine 'm9'"),
        (("a/../b",), 1, "no machine 'a/../b'"),
        (("--pool", "wokers", "boot=local"), 1, "no pool 'wokers' is in the farm's file; it has workers, spare"),
        (("--pool", "spare", "boot=local"), 1, "lists no machine of pool 'spare'"),
        (("boot=local",), 2, "of which machines?"),
        (("m1", "boot=off"), 2, "must be one of"),
    ],
)
def test_a_mistake_is_told_and_nothing_changes(control: Path, words: tuple[str, ...], code: int, why: str) -> None:
    got, said = node(control, *words)
    assert got == code
    assert why in said
    assert "boot=local" not in node(control)[1]


def test_that_nobody_serves_is_told(tmp_path: Path) -> None:
    code, said = node(tmp_path / "gone.sock", "m1")
    assert code == 1
    assert "is `pxeboot serve` running?" in said


def test_a_change_that_cannot_be_kept_is_told(control: Path) -> None:
    (control.parent / "intents.json").mkdir()  # a folder in place of the file
    code, said = node(control, "m1", "boot=local")
    assert code == 1
    assert "nothing changed: it cannot be kept: Is a directory" in said
    assert "m1  boot=netboot" in node(control)[1]


@pytest.mark.parametrize("mac", ["52:54:00:00:00:01", "52-54-00-00-00-01", "525400000001", "5254.0000.0001"])
def test_a_machine_of_the_farm_is_known_by_its_mac_too(control: Path, mac: str) -> None:
    code, said = node(control, mac.upper(), "boot=local")
    assert (code, said.split("  (")[0]) == (0, "m1  boot=local")
    assert node(control, mac)[1] == said


def test_one_that_was_heard_of_is_known_by_its_mac_and_a_strangers_is_said_as_it_was_given(control: Path) -> None:
    assert node(control, "52:54:00:00:00:99")[1].startswith(f"{HEARD_OF}  boot=netboot")
    code, said = node(control, "52:54:00:00:00:98")
    assert code == 1
    assert "no machine with the MAC 52:54:00:00:00:98 is in the farm's file" in said


@pytest.mark.parametrize("word", ["M1", "10.0.0.1", "node-525400000001", "01-52-54-00-00-00-01"])
def test_a_machine_is_known_by_more_than_its_name(control: Path, word: str) -> None:
    assert node(control, word)[1].startswith("m1  boot=netboot")


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("m11", "no machine 'm11' is in the farm's file or was heard of; did you mean 'm1'?"),
        ("nothing-like-it", "; `pxeboot node` lists those that there are"),
        ("52:54:00:00:00:07", "; did you mean 52:54:00:00:00:02 of 'm2'?"),
        ("10.0.0.7", "no machine with the address 10.0.0.7 is in the farm's file or was heard of; `pxeboot node`"),
        ("", "an empty word names no machine"),
    ],
)
def test_who_mistypes_a_machine_is_told_which_there_are(control: Path, word: str, says: str) -> None:
    assert says in node(control, word)[1]
    assert says in node(control, word, "boot=local")[1]


def test_the_farms_file_says_where_the_daemon_is(control: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    farm = control.parent / "farm.yaml"
    farm.write_text(f"server: {{control: {control}}}\n")
    assert CliRunner().invoke(command, ["m1", "-c", str(farm)]).exit_code == 0
    monkeypatch.setattr(asking, "FARM", farm)
    assert CliRunner().invoke(command, ["m1"]).output.startswith("m1  boot=netboot")
    assert CliRunner().invoke(status, ["-c", str(control)]).exit_code == 1
    farm.write_text("server: {kontrol: 1}\n")
    assert CliRunner().invoke(command, ["m1", "--control", str(control)]).exit_code == 0
    assert asking.control_socket(None, None) == asking.CONTROL, "a file in the middle of a change counts as none"


@pytest.mark.parametrize("asks", [command, status])
@pytest.mark.parametrize(
    ("error", "says"),
    [
        (PermissionError(13, "x"), "only root and the socket's group may ask"),
        (ConnectionRefusedError(111, "x"), "is `pxeboot serve` running?"),
        (TimeoutError("timed out"), "does not answer in time"),
        (http.client.BadStatusLine("x"), "is no `pxeboot serve`"),
    ],
)
def test_why_nobody_answers_is_said_in_plain_words(
    monkeypatch: pytest.MonkeyPatch, asks: click.Command, error: Exception, says: str, tmp_path: Path
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(asking, "ask", fails)
    (tmp_path / "socket").touch(mode=0)
    done = CliRunner().invoke(asks, ["--control", str(tmp_path / "socket")])
    assert (done.exit_code, done.stdout) == (1, "")
    assert says in done.stderr
    assert "rrno" not in done.stderr


def test_a_socket_that_may_not_be_read_is_no_wrong_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """click would call it so itself, before anything is asked; root may read everything, so it is told that not."""
    (tmp_path / "socket").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    for asks in (command, status, leases):
        done = CliRunner().invoke(asks, ["--control", str(tmp_path / "socket")])
        assert done.exit_code == 1, done.output
