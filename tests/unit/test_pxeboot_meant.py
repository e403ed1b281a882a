"""pxeboot.meant: a machine is found by whatever a person calls it."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.model import Farm
from dhcp.plan import machine_name
from pxeboot.meant import Book, address, alike, card, nobody

MAC = "52:54:00:ab:cd:ef"
FARM = Farm.model_validate(
    {
        "images": {"node": {"path": "/images/node"}},
        "pools": [
            {
                "name": "a",
                "image": "node",
                "nodes": [
                    {"name": "m1", "macs": [MAC, "52:54:00:ab:cd:00"], "ip": "10.0.0.1"},
                    {"name": "m2", "uuid": "00112233-4455-6677-8899-aabbccddeeff", "ip": "10.0.0.2"},
                    {"name": "525400000077", "macs": ["52:54:00:00:00:78"], "ip": "10.0.0.77"},
                ],
            }
        ],
    }
)
BOOK = Book.of(FARM)
LISTED = {"m1", "m2", "525400000077"}


@pytest.mark.parametrize(
    "word",
    [
        "52:54:00:ab:cd:ef",
        "52-54-00-AB-CD-EF",
        "52.54.00.ab.cd.ef",
        "525400ABCDEF",
        "5254.00ab.cdef",
        "5254-00ab-cdef",
        "525400-abcdef",
        "525400:abcdef",
        "01-52-54-00-ab-cd-ef",
        "node-525400abcdef",
        " 52:54:00:ab:cd:ef\n",
    ],
)
def test_a_mac_is_one_however_it_is_written(word: str) -> None:
    assert card(word) == MAC
    assert BOOK.find(word, LISTED.__contains__) == "m1"


@pytest.mark.parametrize(
    "word", ["", "m1", "52:54:00:ab:cd", "52:54:00:ab:cd:eg", "525400abcdef0", "02-52-54-00-ab-cd-ef", "10.0.0.1"]
)
def test_what_is_no_mac_is_none(word: str) -> None:
    assert card(word) is None


@given(st.text(max_size=40))
def test_any_word_is_looked_up_and_answered(word: str) -> None:
    assert BOOK.find(word, LISTED.__contains__) in {*LISTED, None}
    assert nobody(word)
    assert alike(word, LISTED, {MAC: "m1"}) is not None


@given(st.binary(min_size=6, max_size=6))
def test_the_name_that_is_made_of_a_mac_leads_back_to_it(mac: bytes) -> None:
    assert card(machine_name(mac.hex(":"))) == mac.hex(":")


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("m1", ["m1"]),
        ("M1", ["M1", "m1"]),
        ("52:54:00:ab:cd:00", ["52:54:00:ab:cd:00", "m1", "node-525400abcd00"]),
        ("10.0.0.2", ["10.0.0.2", "m2"]),
        ("10.0.0.3", ["10.0.0.3"]),
        ("525400000077", ["525400000077", "node-525400000077"]),
    ],
)
def test_what_somebody_is_called_comes_before_what_it_may_mean(word: str, names: list[str]) -> None:
    assert list(BOOK.names(word)) == names


def test_who_has_an_address_may_be_told_by_a_mac() -> None:
    book = Book(BOOK.of_card, lambda at: [MAC] if at == IPv4Address("10.0.0.9") else [])
    assert list(book.names("10.0.0.9")) == ["10.0.0.9", "m1", machine_name(MAC)]


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("m11", "; did you mean 'm1'?"),
        ("52-54-00-ab-cd-ee", f"; did you mean {MAC} of 'm1'?"),
        ("00:11:22:33:44:55", ""),
        ("10.0.0.3", ""),
        ("storage", ""),
    ],
)
def test_what_is_nearly_right_is_guessed(word: str, near: str) -> None:
    assert alike(word, ["m1"], {MAC: "m1"}) == near


def test_an_address_is_no_name_to_guess_at() -> None:
    assert address("10.0.0.1") == IPv4Address("10.0.0.1")
    assert nobody("10.0.0.1") == "no machine with the address 10.0.0.1 is in the farm's file or was heard of"
