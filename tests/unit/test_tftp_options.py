"""Option negotiation (T-10 to T-19, A-27, A-28)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tftp.errors import UnknownMode
from tftp.options import Most, Terms, is_netascii, negotiate
from tftp.wire import ReadRequest

ETHERNET = 1500


def accepted(options: dict[str, str], mode: str = "octet", size: int = 1000, mtu: int = ETHERNET) -> dict[str, str]:
    return dict(negotiate(ReadRequest(b"f", mode, options), size, mtu).accepted)


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        pytest.param({}, {}, id="none"),
        pytest.param({"unknown": "1", "multicast": "", "utimeout": "5"}, {}, id="unknown"),
        pytest.param({"blksize": "1468"}, {"blksize": "1468"}, id="blksize-fits"),
        pytest.param({"blksize": "1469"}, {"blksize": "1468"}, id="blksize-above-the-path"),
        pytest.param({"blksize": "65464"}, {"blksize": "1468"}, id="blksize-largest"),
        pytest.param({"blksize": "65465"}, {}, id="blksize-too-large"),
        pytest.param({"blksize": "8"}, {"blksize": "8"}, id="blksize-smallest"),
        pytest.param({"blksize": "7"}, {}, id="blksize-too-small"),
        pytest.param({"blksize": "0"}, {}, id="blksize-zero"),
        pytest.param({"blksize": "-1"}, {}, id="blksize-sign"),
        pytest.param({"blksize": "+512"}, {}, id="blksize-plus"),
        pytest.param({"blksize": " 512"}, {}, id="blksize-blank"),
        pytest.param({"blksize": ""}, {}, id="blksize-empty"),
        pytest.param({"blksize": "abc"}, {}, id="blksize-word"),
        pytest.param({"blksize": "5_12"}, {}, id="blksize-underscore"),
        pytest.param({"blksize": "0x200"}, {}, id="blksize-hex"),
        pytest.param({"blksize": "1" * 40}, {}, id="blksize-40-digits"),
        pytest.param({"blksize": "²³"}, {}, id="blksize-superscript"),
        pytest.param({"tsize": "0"}, {"tsize": "1000"}, id="tsize"),
        pytest.param({"tsize": "9" * 40}, {}, id="tsize-40-digits"),
        pytest.param({"tsize": "x"}, {}, id="tsize-word"),
        pytest.param({"timeout": "5"}, {"timeout": "5"}, id="timeout"),
        pytest.param({"timeout": "255"}, {"timeout": "255"}, id="timeout-longest"),
        pytest.param({"timeout": "0"}, {}, id="timeout-zero"),
        pytest.param({"timeout": "256"}, {}, id="timeout-too-long"),
        pytest.param({"windowsize": "1"}, {"windowsize": "1"}, id="windowsize-one"),
        pytest.param({"windowsize": "4"}, {"windowsize": "4"}, id="windowsize"),
        pytest.param({"windowsize": "65535"}, {"windowsize": "64"}, id="windowsize-capped"),
        pytest.param({"windowsize": "0"}, {}, id="windowsize-zero"),
        pytest.param({"windowsize": "65536"}, {}, id="windowsize-too-large"),
        pytest.param(
            {"tsize": "0", "blksize": "1468", "windowsize": "4"},
            {"tsize": "1000", "blksize": "1468", "windowsize": "4"},
            id="T-EDK2",
        ),
        pytest.param(
            {"timeout": "5", "tsize": "0", "blksize": "1468"},
            {"timeout": "5", "tsize": "1000", "blksize": "1468"},
            id="T-UBOOT",
        ),
    ],
)
def test_the_answer_names_what_was_asked_with_lower_or_equal_values(
    asked: dict[str, str], answer: dict[str, str]
) -> None:
    assert accepted(asked) == answer


def test_blksize_leaves_room_for_the_headers_on_a_narrow_path() -> None:
    assert accepted({"tsize": "0", "blksize": "1468"}, mtu=1450) == {"tsize": "1000", "blksize": "1418"}


def test_tsize_goes_above_4_gib() -> None:
    assert accepted({"tsize": "0"}, size=2**33 + 1) == {"tsize": "8589934593"}


def test_tsize_is_not_offered_for_netascii() -> None:
    assert accepted({"tsize": "0", "blksize": "512"}, mode="netascii") == {"blksize": "512"}


def test_a_window_is_no_gigabytes_whatever_is_asked() -> None:
    terms = negotiate(ReadRequest(b"f", options={"windowsize": "65535", "blksize": "65464"}), 1, 65536)
    assert (terms.blksize, terms.windowsize) == (65464, 2)
    assert terms.accepted == {"windowsize": "2", "blksize": "65464"}


def test_the_farm_may_grant_less() -> None:
    asked = ReadRequest(b"f", options={"blksize": "1468", "windowsize": "16"})
    terms = negotiate(asked, 1, ETHERNET, Most(blksize=1024, windowsize=4, rollover=1))
    assert terms == Terms(1024, 4, None, {"blksize": "1024", "windowsize": "4"}, 1)
    assert negotiate(ReadRequest(b"f"), 1, ETHERNET, Most(windowsize=8)).windowsize == 1


def test_without_options_the_rules_of_1981_hold() -> None:
    assert negotiate(ReadRequest(b"f"), 1, ETHERNET) == Terms(512, 1, None, {})


@pytest.mark.parametrize(("mode", "converts"), [("octet", False), ("netascii", True)])
def test_both_modes_are_known(mode: str, converts: bool) -> None:
    assert is_netascii(ReadRequest(b"f", mode)) is converts


@pytest.mark.parametrize("mode", ["mail", "", "binary", "octet "])
def test_other_modes_are_refused(mode: str) -> None:
    with pytest.raises(UnknownMode):
        is_netascii(ReadRequest(b"f", mode))


VALUES = st.integers(-5, 70000).map(str) | st.text(max_size=5)
NAMES = st.sampled_from(["blksize", "tsize", "timeout", "windowsize", "rollover"])


@given(st.dictionaries(NAMES, VALUES), st.integers(68, 65536), st.integers(0, 2**40))
def test_no_answer_is_ever_more_than_what_was_asked(asked: dict[str, str], mtu: int, size: int) -> None:
    terms = negotiate(ReadRequest(b"f", options=asked), size, mtu)
    assert terms.accepted.keys() <= asked.keys() - {"rollover"}
    for name in terms.accepted.keys() & {"blksize", "windowsize"}:
        assert int(terms.accepted[name]) <= int(asked[name])
    if "timeout" in terms.accepted:
        assert int(terms.accepted["timeout"]) == int(asked["timeout"]) == terms.timeout_s
    assert terms.accepted.get("blksize", "512") == str(terms.blksize)
    assert terms.accepted.get("windowsize", "1") == str(terms.windowsize)
    assert terms.blksize * terms.windowsize <= 131072
    assert "blksize" not in terms.accepted or terms.blksize + 32 <= mtu
