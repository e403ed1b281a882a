import json
import math
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.model import Farm
from pxeboot.intent_store import IntentStore
from pxeboot.intents import Boot, DamagedRecords, Intent, Intents, Origin, dump, parse

NETBOOT, LOCAL, REFUSE, ONCE = Boot
NAMES = ("m1", "m2", "guest")
CONFIGURED = {"m1": NETBOOT, "m2": ONCE}
intents = st.builds(
    Intent, st.sampled_from(Boot), st.sampled_from(Origin), st.floats(0, 4e9, allow_nan=False).map(float),
    st.sampled_from(["", "anna"]),
)  # fmt: skip


def farm(**boots: str) -> Farm:
    nodes = [
        {"name": name, "macs": [f"52:54:00:00:00:{n:02x}"], "ip": f"10.0.0.{n + 10}", "boot": boot}
        for n, (name, boot) in enumerate(boots.items(), 1)
    ]
    pools = [{"name": "workers", "image": "node", "nodes": nodes}]
    return Farm.model_validate({"images": {"node": {"path": "/images/node"}}, "pools": pools})


def store(folder: Path, **boots: str) -> IntentStore:
    return IntentStore(folder / "intents.json", farm(**(boots or {"m1": "netboot", "m2": "once"})), lambda: 100.0)


# What a machine is to do


@pytest.mark.parametrize(
    ("name", "said", "after_start"),
    [
        ("m1", None, NETBOOT),  # the farm's file: netboot
        ("m1", LOCAL, LOCAL),
        ("m1", REFUSE, REFUSE),
        ("m1", ONCE, LOCAL),
        ("m2", None, LOCAL),  # the farm's file: once
        ("m2", NETBOOT, NETBOOT),
        ("m2", ONCE, LOCAL),
        ("guest", None, NETBOOT),  # not in the farm's file
        ("guest", ONCE, LOCAL),
    ],
)
def test_what_a_machine_does_after_it_has_loaded_a_kernel(name: str, said: Boot | None, after_start: Boot) -> None:
    now = Intents(CONFIGURED, {})
    if said is not None:
        now = now.said([name], said, 1.0)
        assert now.of(name).boot is said
    assert now.started(name, 2.0).of(name).boot is after_start


@pytest.mark.parametrize(
    ("intent", "may"),
    [
        (Intent(NETBOOT), True),
        (Intent(ONCE, Origin.COMMAND, 1.0), True),
        (Intent(LOCAL, Origin.SPENT, 1.0), True),  # it asks again: the answer was lost
        (Intent(LOCAL, Origin.COMMAND, 1.0), False),
        (Intent(LOCAL), False),
        (Intent(REFUSE, Origin.COMMAND, 1.0), False),
        (Intent(REFUSE), False),
    ],
)
def test_a_kernel_that_is_loaded_starts_unless_somebody_said_otherwise_meanwhile(intent: Intent, may: bool) -> None:
    if intent.origin is Origin.FARM:
        assert Intents({"m1": intent.boot}, {}).may_start("m1") is may
    else:
        assert Intents({"m1": NETBOOT}, {"m1": intent}).may_start("m1") is may


def test_once_is_used_up_one_time_and_counts_from_then() -> None:
    first = Intents(CONFIGURED, {}).started("m2", 5.0)
    assert first.of("m2") == Intent(LOCAL, Origin.SPENT, 5.0)
    assert first.started("m2", 9.0) == first


def test_to_say_once_again_gives_a_machine_another_boot() -> None:
    spent = Intents(CONFIGURED, {}).started("m2", 5.0)
    assert spent.said(["m2"], ONCE, 6.0).of("m2") == Intent(ONCE)


def test_to_say_what_the_farms_file_says_lets_the_file_rule_again() -> None:
    said = Intents(CONFIGURED, {}).said(["m1", "m2"], LOCAL, 1.0).said(["m1"], NETBOOT, 2.0)
    assert dict(said.records) == {"m2": Intent(LOCAL, Origin.COMMAND, 1.0)}
    assert Intents({"m1": REFUSE}, said.records).of("m1") == Intent(REFUSE)


happened = st.tuples(st.sets(st.sampled_from(NAMES), min_size=1), st.none() | st.sampled_from(Boot))
"""Somebody said something of these machines; or, if nothing, each of them started a kernel."""


@given(st.lists(happened, max_size=12))
def test_whatever_happens_a_machine_boots_from_the_network_no_more_often_than_it_was_told(
    history: list[tuple[set[str], Boot | None]],
) -> None:
    """`allowed` counts, beside the code, how many kernels each machine may still start."""
    now = Intents(CONFIGURED, {})
    kernels = {NETBOOT: math.inf, ONCE: 1, LOCAL: 0, REFUSE: 0}
    allowed = {"m1": math.inf, "m2": 1, "guest": math.inf}
    for second, (names, boot) in enumerate(history):
        if boot is not None:
            now = now.said(names, boot, float(second))
            allowed |= dict.fromkeys(names, kernels[boot])
        else:
            for name in names:
                now = now.started(name, float(second))
                allowed[name] = max(0, allowed[name] - 1)
        for name in NAMES:
            assert (now.of(name).boot in (NETBOOT, ONCE)) == (allowed[name] > 0)
        assert parse(dump(now.records)) == now.records


# On disk


@given(st.dictionaries(st.text(max_size=20), intents, max_size=5))
def test_what_was_kept_is_what_is_read(records: dict[str, Intent]) -> None:
    assert parse(dump(records)) == records


@given(st.text(max_size=60) | st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists).map(json.dumps))
def test_what_is_no_record_is_refused_and_not_skipped(text: str) -> None:
    with pytest.raises(DamagedRecords):
        parse(text)


@pytest.mark.parametrize(
    ("kept", "why"),
    [
        ({"boot": "disk", "origin": "pxeboot node", "since_s": 1}, "'disk' is not a valid Boot"),
        ({"boot": "local", "origin": "me", "since_s": 1}, "'me' is not a valid Origin"),
        ({"boot": "local", "origin": "pxeboot node", "since_s": True}, "since_s is True"),
        ({"boot": "local", "origin": "pxeboot node"}, "since_s"),
        ([], "TypeError"),
    ],
)
def test_a_record_that_is_wrong_is_named(kept: object, why: str) -> None:
    with pytest.raises(DamagedRecords, match=why):
        parse(json.dumps({"version": 1, "intents": {"m1": kept}}))


def test_a_file_of_a_later_version_is_refused() -> None:
    with pytest.raises(DamagedRecords, match="version 3"):
        parse('{"version": 3, "intents": {}}')


def test_a_file_of_an_older_server_is_read_and_written_so_that_it_can_go_back() -> None:
    old = '{"version": 1, "intents": {"m1": {"boot": "local", "origin": "pxeboot node", "since_s": 5.0}}}'
    records = parse(old)
    assert records == {"m1": Intent(LOCAL, Origin.COMMAND, 5.0)}
    assert json.loads(dump(records)) == json.loads(old)
    assert json.loads(dump({"m1": Intent(NETBOOT, Origin.COMMAND, 5.0, image="other")}))["version"] == 2


@pytest.mark.parametrize("image", ["../x", "a@zz", "", 5])
def test_an_image_that_names_none_is_damage(image: object) -> None:
    kept = {"boot": "local", "origin": "pxeboot node", "since_s": 5.0, "image": image}
    text = json.dumps({"version": 2, "intents": {"m1": kept}})
    if image == "":
        assert parse(text)["m1"].image == ""
    else:
        with pytest.raises(DamagedRecords):
            parse(text)


# Which image a machine boots


def test_an_image_holds_until_something_else_is_said() -> None:
    now = Intents(CONFIGURED, {}).said(["m1"], None, 1.0, image="other")
    assert now.of("m1") == Intent(NETBOOT, Origin.COMMAND, 1.0, image="other")
    assert not now.of("m1").asks_leave
    assert now.started("m1", 2.0) == now
    assert now.said(["m1"], LOCAL, 3.0).of("m1").image == "other", "the one does not end the other"
    assert now.said(["m1"], None, 3.0, image="").records == {}, "the farm's file rules again"


def test_an_image_for_one_boot_is_used_up_when_its_kernel_starts() -> None:
    now = Intents(CONFIGURED, {}).said(["m1", "m2"], None, 1.0, image="other", once=True)
    assert now.of("m1").asks_leave
    after = now.started("m1", 2.0)
    assert after.of("m1") == Intent(NETBOOT)
    assert after.may_start("m1"), "it asks again, as our answer was lost"
    assert after.started("m1", 3.0).records == after.records
    assert after.started("m2", 3.0).of("m2") == Intent(LOCAL, Origin.SPENT, 3.0), (
        "boot=once is used up by the same boot"
    )


def test_a_disk_boot_uses_no_image_up() -> None:
    now = Intents(CONFIGURED, {}).said(["m1"], LOCAL, 1.0, image="other", once=True)
    assert now.started("m1", 2.0).of("m1").image == "other"


def test_who_said_so_on_the_page_is_kept(tmp_path: Path) -> None:
    store(tmp_path).say(["m1"], LOCAL, origin=Origin.PAGE, by="anna")
    assert store(tmp_path).of("m1") == Intent(LOCAL, Origin.PAGE, 100.0, by="anna")
    assert store(tmp_path).of("m1").whence == "anna (the web page)"


def test_a_version_that_a_machine_is_to_boot_is_known_as_used(tmp_path: Path) -> None:
    intents_of = store(tmp_path)
    intents_of.say(["m1"], None, image=f"other@{'ab' * 32}")
    assert intents_of.booting("ab" * 32) == [("m1", f"other@{'ab' * 32}")]
    assert intents_of.booting("cd" * 32) == []


def test_intents_survive_a_restart(tmp_path: Path) -> None:
    first = store(tmp_path)
    first.say(["m1"], REFUSE)
    assert first.start("m2")
    second = store(tmp_path)
    assert second.of("m1") == Intent(REFUSE, Origin.COMMAND, 100.0)
    assert second.of("m2") == Intent(LOCAL, Origin.SPENT, 100.0)
    assert (tmp_path / "intents.json").stat().st_mode & 0o777 == 0o640


def test_a_damaged_file_stops_the_start_and_is_named(tmp_path: Path) -> None:
    for data in (b"{", b"\xff\xfe", b""):
        (tmp_path / "intents.json").write_bytes(data)
        with pytest.raises(DamagedRecords, match=r"/intents.json is damaged: .*; repair it, or remove it"):
            store(tmp_path)


def test_a_change_that_cannot_be_kept_does_not_count(tmp_path: Path) -> None:
    kept = store(tmp_path / "gone")  # there is no such folder, so nothing can be written
    with pytest.raises(OSError, match="No such file"):
        kept.say(["m1"], LOCAL)
    with pytest.raises(OSError, match="No such file"):
        kept.start("m2")
    assert kept.of("m1") == Intent(NETBOOT)
    assert kept.of("m2") == Intent(ONCE)
    assert kept.start("m1"), "what needs no record needs no disk"


def test_machines_that_the_farm_does_not_list_are_warned_of_and_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store(tmp_path, m1="netboot", old="netboot").say(["old"], LOCAL)
    kept = store(tmp_path, m1="netboot")
    assert "machines that the farm does not list: old" in caplog.text
    kept.say(["m1"], LOCAL)
    assert store(tmp_path, m1="netboot", old="netboot").of("old").boot is LOCAL


def test_another_farms_file_rules_where_nothing_was_said(tmp_path: Path) -> None:
    kept = store(tmp_path, m1="netboot", m2="netboot")
    kept.say(["m1"], LOCAL)
    kept.configure(farm(m1="netboot", m2="refuse"))
    assert [kept.of(name).boot for name in ("m1", "m2")] == [LOCAL, REFUSE]
    assert kept.configured("m2") is REFUSE
    assert kept.configured("m3") is None


def test_machines_that_are_not_simply_to_boot_from_the_network_are_known(tmp_path: Path) -> None:
    kept = store(tmp_path, m1="netboot", m2="refuse", m3="once", m4="local")
    assert kept.steered == {"m2", "m3", "m4"}
    kept.say(["m1", "stranger"], LOCAL)
    kept.say(["m2", "m3"], NETBOOT)
    kept.say(["m2"], None, image="other")
    assert kept.steered == {"m1", "m4", "stranger"}
    assert store(tmp_path, m1="netboot", m2="refuse").steered == {"m1", "stranger"}
    kept.configure(farm(m1="netboot", m5="refuse"))
    assert kept.steered == {"m1", "m5", "stranger"}


def test_machines_that_start_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    names = [f"m{n}" for n in range(1, 20)]
    kept = store(tmp_path, **dict.fromkeys(names, "once"))
    threads = [threading.Thread(target=kept.start, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: store(tmp_path).of(name).boot for name in names} == dict.fromkeys(names, LOCAL)
