"""Which boot may fetch what, and that it may once."""

import hashlib
import json
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.joining import once
from pxeboot.joining.once import KEPT_S, LATE_S, RANDOM_BYTES, Boot, Boots, Kind, Refused, State, Why, dump, parse

ADDRESS = IPv4Address("10.0.0.10")
CLOCK_S = 1_700_000_000.0


def begin(boots: Boots, machine: str = "m1", now_s: float = 0.0, number: int = 1) -> Boot:
    """Begin a boot whose names are made of `number`."""
    random = hashlib.shake_128(str(number).encode()).digest(RANDOM_BYTES)
    return boots.begin(
        *(machine, "prod", "52:54:00:00:00:01", ADDRESS), clock_s=CLOCK_S + now_s, now_s=now_s, random=random
    )


def why(found: Boot | Refused) -> Why | None:
    return found.why if isinstance(found, Refused) else None


def test_the_names_of_a_boot_are_good_once_each() -> None:
    boots = Boots()
    boot = begin(boots)
    assert {len(boot.folder), len(boot.join), len(boot.seed), len(boot.id)} == {32, 64, 16}
    kinds: list[tuple[Kind, str, State]] = [("folder", boot.folder, State.ARCHIVE), ("join", boot.join, State.GIVEN)]
    for kind, name, state in kinds:
        assert boots.may(kind, name, "m1", 1.0) == boots.newest("m1"), "to look spends nothing"
        got = boots.fetch(kind, name, "m1", 1.0)
        assert isinstance(got, Boot)
        assert got.state is state
        assert why(boots.fetch(kind, name, "m1", 1.0)) is Why.SPENT
        assert why(boots.may(kind, name, "m1", 1.0)) is Why.SPENT


def test_one_kind_of_name_is_none_of_the_other() -> None:
    boots = Boots()
    boot = begin(boots)
    assert why(boots.may("join", boot.folder, "m1", 0.0)) is Why.UNKNOWN
    assert why(boots.may("folder", boot.join, "m1", 0.0)) is Why.UNKNOWN


def test_once_it_has_its_command_its_archive_is_gone_too() -> None:
    boots = Boots()
    boot = begin(boots)
    boots.fetch("join", boot.join, "m1", 1.0)
    assert why(boots.fetch("folder", boot.folder, "m1", 1.0)) is Why.SPENT


@pytest.mark.parametrize("asker", ["m2", None])
def test_another_machine_is_refused_and_spends_nothing(asker: str | None) -> None:
    boots = Boots()
    boot = begin(boots)
    refused = boots.fetch("join", boot.join, asker, 1.0)
    assert refused == Refused(Why.ADDRESS, boot)
    assert isinstance(boots.fetch("join", boot.join, "m1", 1.0), Boot)


def test_after_half_an_hour_it_is_too_late() -> None:
    boots = Boots()
    boot = begin(boots, now_s=100.0)
    assert isinstance(boots.may("join", boot.join, "m1", 100.0 + LATE_S), Boot)
    assert why(boots.may("join", boot.join, "m1", 100.1 + LATE_S)) is Why.LATE
    assert why(boots.fetch("folder", boot.folder, "m1", 100.1 + LATE_S)) is Why.LATE
    assert (boots.left_s(boot, 100.0), boots.left_s(boot, 1e9)) == (LATE_S, 0.0)


def test_a_new_menu_ends_the_boot_before_and_its_names_are_remembered() -> None:
    boots = Boots()
    first, second = begin(boots, number=1), begin(boots, number=2)
    refused = boots.fetch("join", first.join, "m1", 1.0)
    assert why(refused) is Why.ENDED
    assert isinstance(refused, Refused)
    assert refused.boot is not None
    assert (refused.boot.ended, refused.boot.seed) == ("it has booted again", ""), "the seed is good for nothing now"
    third = begin(boots, number=3)
    assert why(boots.fetch("join", first.join, "m1", 1.0)) is Why.UNKNOWN, "one before the newest is enough"
    assert why(boots.fetch("join", second.join, "m1", 1.0)) is Why.ENDED
    assert boots.newest("m1") == third
    assert len(boots) == 2


def test_a_boot_that_is_over_says_that_its_command_was_fetched() -> None:
    boots = Boots()
    boot = begin(boots)
    boots.fetch("join", boot.join, "m1", 1.0)
    boots.given(boot.id, "abcdef", CLOCK_S + 600)
    assert boots.over(boot.id, "its Node is Ready") is not None
    assert why(boots.may("join", boot.join, "m1", 1.0)) is Why.SPENT
    assert boots.over(boot.id, "again") is None
    assert boots.over("0" * 16, "nobody") is None
    assert boots.end("nobody", "nothing") is None


def test_the_controller_has_to_know_who_waits_and_who_may_still_become_ready() -> None:
    boots = Boots()
    for number, machine in enumerate(("waits", "fetched", "given", "expired", "over"), 1):
        begin(boots, machine, number=number)
    for machine in ("given", "expired"):
        boot = boots.newest(machine)
        assert boot is not None
        boots.fetch("join", boot.join, machine, 1.0)
        boots.given(boot.id, "abcdef", CLOCK_S + (600 if machine == "given" else 5))
    fetched = boots.newest("fetched")
    assert fetched is not None
    boots.fetch("folder", fetched.folder, "fetched", 1.0)
    boots.end("over", "it is")
    everyone = ["waits", "fetched", "given", "expired"]
    assert [boot.machine for boot in boots.open(CLOCK_S + 10, 10.0)] == everyone, "its Node may not be Ready yet"
    assert [boot.machine for boot in boots.open(CLOCK_S + 10, 10.0 + LATE_S)] == ["given", "expired"]
    assert [boot.machine for boot in boots.open(CLOCK_S + 3605, 10.0 + LATE_S)] == ["given"]


def test_what_is_old_is_forgotten_and_there_is_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    boots = Boots()
    old = begin(boots, "old", 0.0, 1)
    begin(boots, "new", KEPT_S + 1, 2)
    assert boots.get(old.id) is None
    assert boots.newest("old") is None
    assert why(boots.may("join", old.join, "old", KEPT_S + 1)) is Why.UNKNOWN
    monkeypatch.setattr(once, "MOST", 10)
    for number in range(3, 50):
        begin(boots, f"m{number}", KEPT_S + 2, number)
    assert [boot.machine for boot in boots] == [f"m{number}" for number in range(40, 50)]


def test_a_clock_that_is_set_makes_no_boot_late_and_keeps_none_for_good() -> None:
    boots = Boots()
    boot = begin(boots)
    for clock_s in (CLOCK_S - 1e6, CLOCK_S + 60):
        again = Boots(list(boots), clock_s=clock_s, now_s=5.0)
        assert isinstance(again.may("join", boot.join, "m1", 5.0), Boot)
        assert why(again.may("join", boot.join, "m1", 5.1 + LATE_S)) is Why.LATE
    assert (
        why(Boots(list(boots), clock_s=CLOCK_S + LATE_S + 1, now_s=5.0).may("join", boot.join, "m1", 5.0)) is Why.LATE
    )
    assert len(Boots(list(boots), clock_s=CLOCK_S + KEPT_S + 1, now_s=5.0)) == 0


def test_a_clock_that_was_set_back_makes_no_older_boot_the_newest_after_a_restart() -> None:
    boots = Boots()
    first, second = begin(boots, now_s=1000.0, number=1), begin(boots, now_s=10.0, number=2)
    again = Boots(parse(dump(boots))[0], clock_s=CLOCK_S + 20, now_s=20.0)
    newest = again.newest("m1")
    assert newest is not None
    assert (newest.id, first.began_s > second.began_s) == (second.id, True)
    begin(again, now_s=30.0, number=3)
    assert why(again.may("join", second.join, "m1", 30.0)) is Why.ENDED


def test_no_secret_is_in_a_repr() -> None:
    boot = begin(Boots())
    shown = f"{boot!r} {Refused(Why.SPENT, boot)!r}"
    assert boot.id in shown
    assert not any(secret in shown for secret in (boot.folder, boot.join, boot.seed))


hexes = st.text("0123456789abcdef", min_size=32, max_size=32)
boots_of = st.builds(
    Boot,
    id=hexes.map(lambda text: text[:16]),
    cluster=st.text(),
    machine=st.text(),
    mac=st.text(),
    address=st.ip_addresses(v=4),
    began_s=st.floats(0, 1e10),
    folder=hexes,
    join=hexes,
    seed=hexes.map(lambda text: text * 2),
    state=st.sampled_from([State.MENU, State.ARCHIVE, State.GIVEN]),
    ended=st.text(),
    token_id=st.text(),
    expires_s=st.floats(0, 1e10),
)


@given(st.lists(boots_of, unique_by=lambda boot: boot.id))
def test_boots_are_read_as_they_were_written(kept: list[Boot]) -> None:
    assert parse(dump(kept)) == (kept, 0)
    over = [replace(boot, state=State.OVER, seed="") for boot in kept]
    assert parse(dump(over)) == (over, 0)


@given(st.text())
def test_any_text_is_read_or_left_out(text: str) -> None:
    kept, damaged = parse(text)
    assert len(kept) + damaged <= len(text.splitlines())


@pytest.mark.parametrize(
    "change",
    [
        {"seed": "ab"}, {"seed": ""}, {"seed": "G" * 64}, {"id": 5}, {"state": "none"}, {"address": "m1"},
        {"began_s": True}, {"began_s": None}, {"join": None}, {"folder": "../" * 10 + "ab"},
    ],
)  # fmt: skip
def test_a_line_that_is_damaged_costs_one_boot(change: dict[str, object]) -> None:
    boots = Boots()
    one, other = begin(boots, "m1", number=1), begin(boots, "m2", number=2)
    lines = dump([one, other]).splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | change)
    assert parse("\n".join(lines)) == ([other], 1)
    assert parse(dump([one]).replace("version", "v"))[1] == 1


asked = st.tuples(
    st.sampled_from(["begin", "folder", "join", "over"]), st.sampled_from(["m1", "m2", "m3"]), st.integers(0, 40),
    st.floats(0, 900),
)  # fmt: skip


@given(st.lists(asked, max_size=60))
def test_whatever_is_asked_no_name_is_given_twice_or_to_another(wishes: list[tuple[str, str, int, float]]) -> None:
    boots, made, now_s = Boots(), list[Boot](), 0.0
    given: set[tuple[str, str]] = set()
    for number, (wish, machine, which, later_s) in enumerate(wishes):
        now_s += later_s
        if wish == "begin":
            made.append(begin(boots, machine, now_s, number + 1))
            continue
        if not made:
            continue
        boot = made[which % len(made)]
        if wish == "over":
            boots.over(boot.id, "it is")
            continue
        kind: Kind = "folder" if wish == "folder" else "join"
        name = boot.folder if kind == "folder" else boot.join
        got = boots.fetch(kind, name, machine, now_s)
        if isinstance(got, Refused):
            continue
        assert (got.machine, got.id) == (machine, boot.id)
        assert got == boots.newest(machine)
        assert now_s - (boot.began_s - CLOCK_S) <= LATE_S + 1e-3
        assert (kind, name) not in given
        given.add((kind, name))
