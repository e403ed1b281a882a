"""config.optiontext: an option's bytes as a person reads them, whoever sent them."""

import doctest

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from config import optiontext
from config.dhcpoptions import decode_value


def test_the_examples_in_the_documentation_hold() -> None:
    assert doctest.testmod(optiontext).failed == 0


SHOWN: list[tuple[int, str, str]] = [
    (1, "ffff0000", "255.255.0.0"),
    (3, "0a1c0001 0a1c0002", "10.28.0.1, 10.28.0.2"),
    (3, "0a1c00", "0a 1c 00"),
    (3, "", "nothing"),
    (12, "6e6231", "nb1"),
    (12, "6e62310a2e2e2f", r"'nb1\n../'"),
    (19, "01", "true"),
    (19, "02", "02"),
    (51, "00015180", "86400 s"),
    (51, "ffffffff", "forever"),
    (53, "05", "DHCPACK"),
    (53, "63", "63"),
    (55, "0103e0", "subnet-mask, routers, option-224"),
    (56, "6e6f e2 80 ae", r"'no\u202e'"),
    (61, "01 525400123456", "52:54:00:12:34:56"),
    (61, "ff 00000001 0003000152540012", "IAID 00000001, DUID 00:03:00:01:52:54:00:12"),
    (67, "636f726500", r"'core\x00'"),
    (77, "69505845", "iPXE"),
    (77, "0469505845", "iPXE"),
    (81, "05 0000 036e6231 046661726d 00", "nb1.farm (flags SE)"),
    (81, "05 0000 036e6231", "nb1 (flags SE)"),
    (81, "00 0000 6e6231", "nb1 (flags none)"),
    (82, "0104 65746830 05 04 0a020000", "circuit-id: 'eth0', link-selection: 10.2.0.0"),
    (93, "0007 0010", "7, 16"),
    (94, "010310", "UNDI 3.16"),
    (97, "00 33221100554477668899aabbccddeeff", "00112233-4455-6677-8899-aabbccddeeff"),
    (119, "0161076578616d706c6500c002", "a.example, example"),
    (119, "c000", "c0 00"),
    (119, "03 610a2e 00", r"a\n\."),
    (121, "080a0a1c0003", "10.0.0.0/8 via 10.28.0.3"),
    (124, "00000009 04 03 677075", "enterprise 9: gpu"),
    (125, "00000009 04 01 02 0a4d", "enterprise 9: 1: 0a 4d"),
    (43, "060108ff", "discovery-control: 8, end"),
    (43, "0104 0a1c0001", "1: 0a 1c 00 01"),
    (43, "52617370626572727920506920426f6f74", "'Raspberry Pi Boot'"),
    (43, "0807 0000 01 0a000001 0903000078", "boot-servers: type 0: 10.0.0.1, boot-menu: 00 00 78"),
    (175, "b00101", "no-pxedhcp: 1"),
    (224, "6162630a", "61 62 63 0a"),
    (209, "61 ff", r"'a\\xff'"),
    (224, "616263", "'abc'"),
]


@pytest.mark.parametrize(("code", "data", "text"), SHOWN)
def test_a_value_is_shown_as_a_person_would_write_it(code: int, data: str, text: str) -> None:
    assert decode_value(code, bytes.fromhex(data)) == text


@given(st.integers(0, 300), st.binary(max_size=600))
@example(119, b"\x01a\xc0\x00" * 100)
@example(43, b"\x06" * 500)
@example(12, "\u202e".encode() * 100)
def test_any_bytes_are_shown_on_one_printable_line(code: int, data: bytes) -> None:
    text = decode_value(code, data)
    assert text.isprintable()
    assert 0 < len(text) < 5000


@given(st.binary(min_size=2, max_size=600))
def test_any_bytes_are_names_or_not(data: bytes) -> None:
    names = optiontext.domain_names(data)
    assert names is None or names


def test_names_that_point_at_each_other_come_to_an_end() -> None:
    chain = b"\x01a\0" + b"".join(b"\xc0" + bytes((3 + 2 * (i - 1),)) if i else b"\xc0\0" for i in range(100))
    assert optiontext.domain_names(chain) is None
    assert optiontext.domain_names(chain[:23]) == ["a"] * 11
    assert optiontext.domain_names(b"\xc0\0") is None
    assert optiontext.domain_names(b"\x3f" + b"a" * 63 + b"\0") == ["a" * 63]
    assert optiontext.domain_names((b"\x3f" + b"a" * 63) * 4 + b"\0") is None
