import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from config.model import Farm
from pxeboot.api.control import ControlSocket
from pxeboot.api.nodes import Nodes
from pxeboot.cli.node import command, line, wanted
from pxeboot.cli.status import table
from pxeboot.intent_store import IntentStore
from pxeboot.intents import Boot
from pxeboot.timeline import Timeline


@pytest.mark.parametrize(
    ("words", "names", "boot"),
    [
        ((), [], None),
        (("m1",), ["m1"], None),
        (("m1", "boot=once", "m2", "m1"), ["m1", "m2"], Boot.ONCE),
        (("boot=local", "boot=local"), [], Boot.LOCAL),
    ],
)
def test_words_are_names_and_what_they_are_to_do(words: tuple[str, ...], names: list[str], boot: Boot | None) -> None:
    assert wanted(words) == (names, boot)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("m1", "boot=disk"), "must be one of netboot|local|refuse|once"),
        (("m1", "boot="), "must be one of"),
        (("m1", "bot=local"), "'bot' cannot be changed"),
        (("m1", "boot=local", "boot=once"), "boot=local or boot=once?"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: tuple[str, ...], why: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        wanted(words)
    assert why in refused.value.message


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
    nodes = Nodes(lambda: farm, IntentStore(tmp_path / "intents.json", farm), HEARD_OF.__eq__)
    ready, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with ControlSocket(tmp_path / "control.sock", Timeline(), nodes.routes, nodes.about):
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
