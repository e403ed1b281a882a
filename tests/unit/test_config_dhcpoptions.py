"""config.dhcpoptions: what a person writes ⇄ an option's number and bytes, with scapy's DHCP options beside them."""

import doctest
import re
from ipaddress import IPv4Address
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.fields import ByteField, IntField, IPField, ShortField
from scapy.layers.dhcp import DHCP, DHCPOptions

from config import dhcpoptions, optiontypes
from config.dhcpoptions import MOST_BYTES, OWN_OPTIONS, code_of, decode_value, encode, name_of
from config.optiontable import CATALOGUE, OPTIONS, SPACES
from config.optiontypes import Kind


@pytest.mark.parametrize("module", [dhcpoptions, optiontypes])
def test_the_examples_in_the_documentation_hold(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


# --- The catalogue ---


def test_every_option_of_rfc_2132_has_a_name() -> None:
    of_other_documents = {62, 63}
    assert set(CATALOGUE) >= set(range(1, 77))
    for code in set(range(1, 77)) - of_other_documents:
        assert CATALOGUE[code].source[0] in "3456789", f"option {code} has no section of RFC 2132"


def test_only_these_options_of_rfc_2132_are_a_single_address() -> None:
    assert {code for code in range(1, 77) if CATALOGUE[code].kind is Kind.IP} == {1, 16, 28, 32, 50, 54}


def test_every_name_stands_for_one_option() -> None:
    names = [name for row in OPTIONS for name in (row.name, *row.also)]
    assert len(names) == len(set(names))
    assert len(CATALOGUE) == len(OPTIONS)
    for name in names:
        assert name == name.lower().replace("_", "-").replace(" ", "-")
    for space in SPACES.values():
        assert len({row.name for row in space.values()}) == len(space)


@pytest.mark.parametrize("code", range(1, 255))
def test_a_name_leads_back_to_its_number(code: int) -> None:
    assert code_of(name_of(code)) == code
    assert code_of(code) == code_of(str(code)) == code
    assert code_of(name_of(code).upper().replace("-", "_")) == code


@pytest.mark.parametrize(
    ("setting", "code"),
    [
        ("routers", 3),
        ("domain_name_servers", 6),
        ("log_servers", 7),
        ("domain_name", 15),
        ("mtu", 26),
        ("broadcast_address", 28),
        ("ntp_servers", 42),
        ("domain_search", 119),
        ("static_routes", 121),
    ],
)
def test_a_setting_of_ours_is_a_name_too(setting: str, code: int) -> None:
    assert code_of(setting) == code


@pytest.mark.parametrize(
    "name", ["", "x", "0", "255", "256", "-1", "1.5", "99999999999", "option-0", "²", "٣", "option-"]
)
def test_what_is_no_option_has_no_number(name: str) -> None:
    assert code_of(name) is None
    with pytest.raises(ValueError, match=r"there is no option|is not the number of an option"):
        encode(name, "00")


# --- Values by name ---

VALUES: list[tuple[str, Any, str]] = [
    ("time-offset", "-3600", "fffff1f0"),
    ("time-offset", -1, "ffffffff"),
    ("routers", ["10.28.0.1", "10.28.0.2"], "0a1c0001 0a1c0002"),
    ("routers", "10.28.0.1, 10.28.0.2", "0a1c0001 0a1c0002"),
    ("routers", IPv4Address("10.28.0.1"), "0a1c0001"),
    ("host-name", "nb1.farm", "6e62312e6661726d"),
    ("boot-size", "0x1000", "1000"),
    ("swap-server", "10.28.0.1", "0a1c0001"),
    ("root-path", "10.0.0.1:/srv,tcp", "31302e302e302e313a2f7372762c746370"),
    ("root-path", "/é", "2fc3a9"),
    ("ip-forwarding", "true", "01"),
    ("ip-forwarding", "off", "00"),
    ("ip_forwarding", True, "01"),
    ("policy-filter", ["10.0.0.0 255.0.0.0"], "0a000000 ff000000"),
    ("policy-filter", "10.0.0.0/255.0.0.0", "0a000000 ff000000"),
    ("static-route", [["10.0.0.0", "10.28.0.1"], "10.1.0.0, 10.28.0.2"], "0a000000 0a1c0001 0a010000 0a1c0002"),
    ("default-ip-ttl", 64, "40"),
    ("path-mtu-plateau-table", ["68", 1500], "0044 05dc"),
    ("interface-mtu", "9000", "2328"),
    ("arp-cache-timeout", "600", "00000258"),
    ("tftp-server-name", "10.28.0.1\0", "31302e32382e302e3100"),
    ("boot-file-name", 7, "37"),
    ("boot-file-name", {"text": "cafe"}, "63616665"),
    ("user-class", ["iPXE"], "04 69505845"),
    ("user-class", ["a", {"hex": "00ff"}], "01 61 02 00ff"),
    ("fqdn", "nb1.farm", "0cffff 036e6231 046661726d 00"),
    ("bcms-controller-names", ["a.b", "c.b"], "0161 0162 00 0163 0162 00"),
    ("pcode", "CET-1CEST,M3.5.0,M10.5.0/3", "4345542d31434553542c4d332e352e302c4d31302e352e302f33"),
    ("domain-search", ["a.b", "c.b"], "0161 0162 00 0163 c002"),
    ("domain-search", "a.b c.b.", "0161 0162 00 0163 c002"),
    ("sip-servers", ["10.28.0.1"], "01 0a1c0001"),
    ("sip-servers", ["sip.example"], "00 03736970 076578616d706c65 00"),
    ("classless-static-route", [{"to": "10.96.0.0/12", "via": "10.28.0.3"}], "0c 0a60 0a1c0003"),
    ("static_routes", "0.0.0.0/0 via 10.28.0.3", "00 0a1c0003"),
    ("static_routes", ["10.0.0.0/8 10.28.0.3", "10.1.1.1/32 via 10.28.0.4"], "080a0a1c0003 200a0101010a1c0004"),
    ("vivco-suboptions", {"9": "gpu", 343: ["a", {"hex": "ff"}]}, "00000009 04 03 677075 00000157 04 0161 01ff"),
    ("vivso-suboptions", {"9": {"1": "0a4d", 2: {"text": "x"}}}, "00000009 07 01 02 0a4d 02 01 78"),
    ("vivso-suboptions", {9: "01020a4d"}, "00000009 04 01 02 0a4d"),
    ("tftp_server_address", "10.28.0.2", "0a1c0002"),
    ("ipxe", {"no-pxedhcp": 1, "priority": -1, "syslogs": "a"}, "b00101 0101ff 550161"),
    ("pxelinux-magic", "f1:00:74:7e", "f100747e"),
    ("wpad", "http://wpad/wpad.dat", "687474703a2f2f777061642f777061642e646174"),
    ("option-224", {"text": "hi"}, "6869"),
    ("option-224", {"uint16": 1500}, "05dc"),
    ("option-224", {"ip": ["10.28.0.1", "10.28.0.2"]}, "0a1c0001 0a1c0002"),
    ("interface-mtu", {"hex": "00"}, "00"),
]


@pytest.mark.parametrize(("name", "value", "data"), VALUES)
def test_a_value_of_its_type_becomes_the_options_bytes(name: str, value: object, data: str) -> None:
    assert encode(name, value) == (code_of(name), bytes.fromhex(data))


@pytest.mark.parametrize("value", [None, "", "  ", [], (), {}, {"hex": ""}, {"text": ""}])
@pytest.mark.parametrize("name", ["routers", "150", "43", "224", "mtu", "vivso-suboptions"])
def test_an_empty_value_takes_away(name: str, value: object) -> None:
    assert encode(name, value) == (code_of(name), b"")


VENDOR_43: list[tuple[Any, str]] = [
    ({"discovery-control": "8"}, "060108 ff"),
    ({"discovery_control": 8, "end": "false"}, "060108"),
    ({"6": "08"}, "060108"),
    ({6: {"uint8": 8}, 255: None}, "060108 ff"),
    ({"6": "08", "end": "true"}, "060108 ff"),
    ({"241": {"ip": "10.0.0.1"}}, "f104 0a000001"),
    ({"9": {"text": "Raspberry Pi Boot"}}, "0911 52617370626572727920506920426f6f74"),
    ("060108ff", "060108ff"),
    ({"text": "Raspberry Pi Boot"}, "52617370626572727920506920426f6f74"),
    ({"discovery-control": 2, "boot-servers": {"0": ["10.0.0.1"], 32769: "10.0.0.2, 10.0.0.3"}},
     "060102 0812 0000 01 0a000001 8001 02 0a000002 0a000003 ff"),
    ({6: "08", "menu-prompt": {"timeout_s": 3, "text": "hi"}}, "060108 0a03036869 ff"),
    ({"10": "036869"}, "0a03036869"),
    ({"boot-menu": {0: "Local"}, "menu-prompt": {"timeout_s": "5", "text": "F8"}},
     "09080000054c6f63616c 0a03054638 ff"),
    ({"1": ""}, "0100"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "data"), VENDOR_43)
def test_option_43_holds_what_its_vendor_wants(value: object, data: str) -> None:
    assert encode("vendor-encapsulated-options", value) == (43, bytes.fromhex(data))
    assert encode(43, value) == (43, bytes.fromhex(data))


# --- Values by number ---

BY_NUMBER: list[tuple[int, str, str]] = [
    # Hex, as numbers always took it.
    (150, "0a1c0002", "0a1c0002"),
    (150, "0a:1c 00:02", "0a1c0002"),
    (26, "05dc", "05dc"),
    (2, "00000e10", "00000e10"),
    (19, "01", "01"),
    (66, "31302e302e302e31", "31302e302e302e31"),
    (67, "636f72652e65666900", "636f72652e65666900"),
    (77, "69505845", "69505845"),
    (119, "016100", "016100"),
    (121, "000a1c0003", "000a1c0003"),
    (124, "00000009 04 03 677075", "00000009 04 03 677075"),
    (128, "cafe", "cafe"),
    (224, "cafe", "cafe"),
    # Hex that would make no sense there is the value itself.
    (26, "64000000", ""),
    (26, "96", "0060"),
    (23, "128", "80"),
    (35, "86400", "00015180"),
    # What is no hex is the value itself.
    (150, "10.28.0.2", "0a1c0002"),
    (26, "0x5dc", "05dc"),
    (19, "true", "01"),
    (67, "lpxelinux.0", "6c7078656c696e75782e30"),
    (121, "10.0.0.0/8 via 10.28.0.3", "080a0a1c0003"),
]


@pytest.mark.parametrize(("code", "text", "data"), BY_NUMBER)
def test_text_under_a_number_is_hex_where_that_makes_sense(code: int, text: str, data: str) -> None:
    if not data:
        with pytest.raises(ValueError, match="are none that it can have"):
            encode(code, text)
        return
    assert encode(code, text) == encode(str(code), text) == (code, bytes.fromhex(data))


@pytest.mark.parametrize(("code", "text"), [(26, "1500"), (23, "64"), (35, "12345678"), (46, "10"), (25, "1500")])
def test_what_may_be_a_number_or_hex_is_refused_with_both_ways_to_write_it(code: int, text: str) -> None:
    with pytest.raises(ValueError, match=rf"write {name_of(code)}: {text}, or {{hex: {text}}}"):
        encode(code, text)
    assert encode(name_of(code), text) == encode(code, int(text))
    assert encode(code, {"hex": text}) == (code, bytes.fromhex(text))


EITHER = [
    # A text may be hex, whatever the bytes are.
    (67, "cafe", "{text: cafe}, or {hex: cafe}", "text"),
    (15, "beef", "{text: beef}, or {hex: beef}", "text"),
    (161, "0a1c0002", "{text: 0a1c0002}, or {hex: 0a1c0002}", "text"),
    (12, "3132", "{text: 3132}, or {hex: 3132}", "text"),
    (119, "cafe", "domain-search: cafe, or {hex: cafe}", "domains"),
    # Digits alone are a number to who reads them, and to other servers.
    (164, "12", "{uint8: 12}, or {hex: 12}", "uint8"),
    ("option-164", "12", "{uint8: 12}, or {hex: 12}", "uint8"),
    (224, "1500", "{uint16: 1500}, or {hex: 1500}", "uint16"),
    (128, "86400010", "{uint32: 86400010}, or {hex: 86400010}", "uint32"),
]


@pytest.mark.parametrize(("code", "text", "ways", "word"), EITHER)
def test_hex_that_may_be_something_else_is_refused_with_both_ways_to_write_it(
    code: int | str, text: str, ways: str, word: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{text!r} may be a")) as refused:
        encode(code, text)
    assert str(refused.value).endswith(f"or bytes in hex; write {ways}")
    assert encode(code, {"hex": text})[1] == bytes.fromhex(text)
    assert encode(code, {word: text})[1] not in (b"", bytes.fromhex(text))


@pytest.mark.parametrize("text", ["0a1", "a", "de:a"])
def test_a_text_that_may_be_hex_with_a_digit_missing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"'{text}' may be a text, or hex with a digit missing; write .text: {text}."):
        encode(161, text)
    assert encode("mud-url", text) == encode(161, {"text": text}) == (161, text.encode())


@pytest.mark.parametrize("text", ["0012", "00010203", "99999999999a", "10:20", "123456789012"])
def test_hex_that_nobody_writes_for_a_number_is_hex(text: str) -> None:
    assert encode(224, text) == (224, bytes.fromhex(text.replace(":", "")))


@pytest.mark.parametrize("document", ["dhcp.md", "farm.example.yaml"])
def test_the_documents_name_every_word_of_a_type(document: str) -> None:
    text = (Path(__file__).parent.parent.parent / "docs" / document).read_text()
    listed = next(line for line in text.replace("`", "").splitlines() if "uint8, uint16" in line)
    assert not [word for word in optiontypes.WORDS if not re.search(rf"\b{word}\b", listed)]


# --- What is refused ---

REFUSED: list[tuple[Any, Any, str]] = [
    ("routrs", ["10.28.0.1"], "there is no option 'routrs'; .* did you mean 'routers'"),
    ("tftp_server_nam", "x", "did you mean 'tftp-server-name'"),
    (255, "00", "255 is not the number of an option; allowed: 1 to 254"),
    ("routers", ["10.0.0.256"], r"option 3 \(routers\): '10.0.0.256' is not an IPv4 address"),
    ("routers", [{}], "a mapping is not an IPv4 address"),
    ("routers", 5, "5 is not an IPv4 address"),
    (3, "10.0.0.256", "'10.0.0.256' is not an IPv4 address"),
    (3, "0a1c", "the bytes 0a 1c are none that it can have; write a list of IPv4 addresses.*hex: 0a1c"),
    (150, "0a1", r"option 150 \(tftp-server-address\): '0a1' is not hex; write its bytes"),
    (224, "hello", "option 224: 'hello' is not hex"),
    (224, 5, "5 is not hex"),
    (
        "224",
        "5",
        "'5' is not hex; write its bytes such as 0a4d0001, or .text: ....; words: hex, text, ip, bool, uint8",
    ),
    (224, {"a": "1", "b": "2"}, "a mapping is one word and its value, such as .uint8: 64.; words: hex, text, ip"),
    (224, {"txt": "hi"}, "'txt' is not the word of a type; words: hex, .*, domains; did you mean 'text'"),
    (23, {"uint9": "3"}, "option 23 .*'uint9' is not the word of a type; words: hex, .*; did you mean 'uint"),
    ("43", {"menu-prompt": {"timeout_s": 3, "text": "hello"}}, "need discovery-control; add `discovery-control: 8`"),
    ("43", {"boot-servers": {"0": ["10.0.0.1"]}}, r"PXE-E21"),
    ("mtu", "67", "67 is too little; allowed: 68 to 65535"),
    ("mtu", "65536", "65536 is too much; allowed: 68 to 65535"),
    ("mtu", "1e3", "'1e3' is not a whole number from 68 to 65535"),
    ("mtu", True, "True is not a whole number"),
    ("mtu", "9" * 4000, "is not a whole number"),
    ("ip-forwarding", "maybe", "'maybe' is neither true nor false"),
    ("policy-filter", ["10.0.0.0"], "is not a pair of IPv4 addresses"),
    ("domain-name", "a b", "'a b' is not a domain name"),
    ("domain-name", "a..b", "is not a domain name"),
    ("domain-search", ["a" * 64], "is not a domain name"),
    ("domain-search", [["a"]], "a list is not a domain name"),
    ("boot-file-name", "a\nb", "has control characters"),
    ("boot-file-name", "a\0\0", "has control characters"),
    ("boot-file-name", ["a"], "a list is not a text"),
    ("boot-file-name", "\ud800", "is not a text that UTF-8 can carry"),
    ("static_routes", [{"to": "10.0.0.1/8", "via": "10.0.0.1"}], "'10.0.0.1/8' is not a network.*right of its prefix"),
    ("static_routes", [{"to": "10.0.0.0/33", "via": "10.0.0.1"}], "is not a network"),
    ("static_routes", [{"to": "10.0.0.0/8", "via": "10.0.0"}], "'10.0.0' is not an IPv4 address"),
    ("static_routes", [{"to": "10.0.0.0/8"}], "a mapping is not a route"),
    ("static_routes", [{"to": "10.0.0.0/8", "via": "10.0.0.1", "x": "1"}], "a mapping is not a route"),
    ("user-class", [""], "a class is empty"),
    ("user-class", ["a" * 256], "a class has 256 bytes; at most 255"),
    ("vivco-suboptions", "gpu", "'gpu' is not a mapping; write a mapping of enterprise numbers"),
    ("vivco-suboptions", {"cisco": "gpu"}, "'cisco' is not an enterprise number"),
    ("vivso-suboptions", {"9": {"1": "x"}}, "sub-option 1: 'x' is not hex"),
    (43, {"6": "8"}, "sub-option 6: '8' is not hex"),
    (43, {"discovery-contrl": "8"}, "not a sub-option; .*did you mean 'discovery-control'"),
    (43, {"0": "8"}, "'0' is not a sub-option"),
    (43, {"1": "00" * 256}, "sub-option 1 has 256 bytes; at most 255"),
    (43, {"boot-servers": {"0": "x"}}, "sub-option boot-servers: 'x' is not an IPv4 address"),
    (43, {"menu-prompt": "F8"}, "'F8' is not a prompt"),
    (43, ["060108"], "a list is not a mapping; write a mapping of sub-options"),
    (224, "00" * (MOST_BYTES + 1), f"{MOST_BYTES + 1} bytes; at most {MOST_BYTES}"),
]


@pytest.mark.parametrize(("key", "value", "message"), REFUSED)
def test_a_wrong_value_is_refused_with_what_is_allowed(key: str | int, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode(key, value)


@pytest.mark.parametrize("code", sorted(OWN_OPTIONS))
def test_what_the_protocol_decides_cannot_be_set(code: int) -> None:
    for key in (code, str(code), name_of(code)):
        with pytest.raises(ValueError, match=rf"option {code}.* is decided by the server for each answer"):
            encode(key, {"hex": "00"})


# --- An independent judge ---

ADDRESSES = {Kind.IP: 1, Kind.IPS: 3, Kind.IP_PAIRS: 4}
INTEGERS = {ByteField: 1, ShortField: 2, IntField: 4}


def scapy_options() -> list[Any]:
    """The options of which scapy knows a type that is a number or an address, and that can be configured."""
    known = []
    for code, field in DHCPOptions.items():
        definition = CATALOGUE.get(code)
        is_typed = isinstance(field, IPField) or type(field) in INTEGERS
        if definition and is_typed and code not in OWN_OPTIONS and definition.kind is not Kind.BINARY:
            known.append(pytest.param(code, field, id=definition.name))
    return known


@pytest.mark.parametrize(("code", "field"), scapy_options())
def test_scapy_makes_the_same_bytes(code: int, field: Any) -> None:
    kind = CATALOGUE[code].kind
    if isinstance(field, IPField):
        values: list[Any] = [f"10.28.0.{i}" for i in range(1, 1 + ADDRESSES[kind])]
        written = {Kind.IP: values[0], Kind.IP_PAIRS: [values[:2], values[2:]]}.get(kind, values)
        ours = encode(code, written)
    else:
        values = [1] if kind is Kind.FLAG else [200 if INTEGERS[type(field)] == 1 else 1500]
        if kind is Kind.UINT16S:
            values *= 3
        ours = encode(code, values if kind is Kind.UINT16S else values[0])
    judge = bytes(DHCP(options=[(field.name, *values)]))
    assert ours == (judge[0], judge[2 : 2 + judge[1]])
    assert decode_value(*ours) == decode_value(judge[0], judge[2:])


def test_the_judge_knows_most_of_the_catalogue() -> None:
    assert len(scapy_options()) >= 55


routes = st.lists(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32), st.integers(0, 2**32 - 1)), min_size=1, max_size=6
)


@given(routes)
def test_scapy_reads_our_routes(found: list[tuple[int, int, int]]) -> None:
    texts = [(f"{IPv4Address(to >> (32 - bits) << (32 - bits))}/{bits}", IPv4Address(via)) for to, bits, via in found]
    code, data = encode("static_routes", [{"to": to, "via": str(via)} for to, via in texts])
    judge = DHCP(bytes((code, len(data))) + data + b"\xff").options[0]
    assert judge[1] == [f"{to}:{via}" for to, via in texts]
    assert decode_value(code, data) == ", ".join(f"{to} via {via}" for to, via in texts)


# --- Anything ---

anything: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.from_regex(r"[0-9a-f:]{1,12}"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4) | st.sampled_from(["hex", "text", "to", "via", "9", "end", "6"]), inner)
    ),
    max_leaves=8,
)


@given(st.integers(-1, 256) | st.sampled_from(OPTIONS).map(lambda row: row.name) | st.text(max_size=8), anything)
def test_whatever_is_written_is_encoded_and_shown_or_refused(key: str | int, value: object) -> None:
    try:
        code, data = encode(key, value)
    except ValueError:
        return
    assert code not in OWN_OPTIONS
    assert len(data) <= MOST_BYTES
    assert decode_value(code, data).isprintable()
