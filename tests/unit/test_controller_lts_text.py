"""The join command in the text of an lts.conf, and what goes with it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.ltsconf import JOIN_FOLLOWED_KEY, LtsConf
from pxeboot.controller.engine import Followed, Published
from pxeboot.controller.join import Discovery, JoinCommand
from pxeboot.controller.lts_text import Place
from pxeboot.controller.token import Token

JOIN = JoinCommand(Token("abcdef", "0123456789abcdef"), Discovery("api.example.org:6443", (f"sha256:{'0a' * 32}",)))
EXPIRES = 1735689600.0
PLACE = Place("Default", "RCFILE_07_JOIN_K8S")
HOSTS = ("192.0.2.1 api.example.org", "192.0.2.2 api.example.org")
FOLLOWED = (Followed("zzzzzz", EXPIRES - 60), Followed("yyyyyy", EXPIRES - 30))
SEED = """\
# ours
[Default]
HOSTS_01_PRINTER="192.0.2.50 printer"
[m1c*]
RCFILE_07_JOIN_K8S="true"
"""


def test_what_goes_with_the_command_stands_beside_it_and_is_read_back() -> None:
    text = PLACE.publish(SEED, JOIN, EXPIRES, HOSTS, FOLLOWED)
    assert PLACE.read(text) == Published(JOIN.reveal(), EXPIRES, HOSTS, FOLLOWED)
    assert text == SEED.replace(
        "[m1c*]",
        f'RCFILE_07_JOIN_K8S="{JOIN.reveal()}"\n'
        'JOIN_K8S_EXPIRES="2025-01-01T00:00:00Z"\n'
        'JOIN_K8S_FOLLOWED="zzzzzz 2024-12-31T23:59:00Z, yyyyyy 2024-12-31T23:59:30Z"\n'
        'HOSTS_07_JOIN_K8S="192.0.2.1 api.example.org"\n'
        'HOSTS_07_JOIN_K8S_2="192.0.2.2 api.example.org"\n'
        "[m1c*]",
    )


def test_addresses_and_tokens_that_are_no_more_go() -> None:
    text = PLACE.publish(SEED, JOIN, EXPIRES, HOSTS, FOLLOWED)
    fewer = PLACE.publish(text, JOIN, EXPIRES, HOSTS[1:])
    assert PLACE.read(fewer) == Published(JOIN.reveal(), EXPIRES, HOSTS[1:])
    assert "192.0.2.50 printer" in fewer
    assert PLACE.read(PLACE.publish(fewer, JOIN, EXPIRES)) == Published(JOIN.reveal(), EXPIRES)


def test_taking_it_out_takes_all_of_it_and_nothing_else() -> None:
    assert PLACE.retract(PLACE.publish(SEED, JOIN, EXPIRES, HOSTS, FOLLOWED)) == SEED
    assert PLACE.retract(SEED) == SEED
    assert PLACE.retract("") == ""


def test_publishing_twice_changes_nothing() -> None:
    text = PLACE.publish(SEED, JOIN, EXPIRES, HOSTS, FOLLOWED)
    assert PLACE.publish(text, JOIN, EXPIRES, HOSTS, FOLLOWED) == text


@pytest.mark.parametrize(
    ("note", "means"),
    [
        ("", ()),
        ("abcdef", ()),
        ("abcdef tomorrow", ()),
        ("../../x 2025-01-01T00:00:00Z", ()),
        ("ABCDEF 2025-01-01T00:00:00Z", ()),
        ("broken, zzzzzz 2025-01-01T00:00:00Z,", (Followed("zzzzzz", EXPIRES),)),
    ],
)
def test_of_a_note_that_somebody_broke_counts_what_is_whole(note: str, means: tuple[Followed, ...]) -> None:
    text = LtsConf.parse(PLACE.publish("", JOIN, EXPIRES)).with_value("Default", JOIN_FOLLOWED_KEY, note).text
    published = PLACE.read(text)
    assert published is not None
    assert published.followed == means


def test_a_place_has_its_own_section_and_key() -> None:
    other = Place("m1c*", "RCFILE_09_X")
    text = other.publish(PLACE.publish(SEED, JOIN, EXPIRES), JOIN, EXPIRES + 60, HOSTS)
    assert 'HOSTS_09_X_2="192.0.2.2 api.example.org"' in text
    ours, theirs = PLACE.read(text), other.read(text)
    assert ours is not None
    assert theirs is not None
    assert (ours.expires, ours.hosts, theirs.expires) == (EXPIRES, (), EXPIRES + 60)
    assert Place("m1c*", "RCFILE_07_JOIN_K8S").read(text) == Published("true", EXPIRES + 60)


@given(
    st.text(st.sampled_from("[]#='\"ab \n")),
    st.lists(st.sampled_from(HOSTS), max_size=3, unique=True),
    st.lists(st.sampled_from(FOLLOWED), max_size=2, unique=True),
)
def test_any_text_that_is_an_lts_conf_holds_it_and_gives_it_back(
    text: str, hosts: list[str], followed: list[Followed]
) -> None:
    try:
        wanted = PLACE.publish(text, JOIN, EXPIRES, tuple(hosts), tuple(followed))
    except ValueError:
        return
    assert PLACE.read(wanted) == Published(JOIN.reveal(), EXPIRES, tuple(hosts), tuple(followed))
    assert PLACE.read(PLACE.retract(wanted)) is None
