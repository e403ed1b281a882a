"""dhcp.quirks: which client is which, and what follows from it."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from config.quirks import Kind, Match, Option43, Quirk
from dhcp import boot, quirks, wire
from dhcp.options import Option
from dhcp.quirks import TABLE, Traits, combine, match
from dhcp.wire import options_in
from tests.support.dhcp_clients import RECORDED, recorded

MAC = "52:54:00:12:34:56"
PI_3 = "b8:27:eb:00:00:01"
PI_4 = "dc:a6:32:00:00:01"


def fragment(name: str) -> dict[int, bytes]:
    """Return the options of a recorded fragment."""
    return dict(options_in(RECORDED[name] + b"\xff"))


IPXE_EFI = recorded("D-IPXE-BIOS", options=fragment("D-IPXE-EFI"))
UBOOT_UNSET = recorded("D-UBOOT", options=fragment("D-UBOOT-NOARCH"))

CLIENTS: dict[str, tuple[wire.Message, str, list[str], dict[str, object]]] = {
    "EDK2": (recorded("D-EDK2-PXE"), MAC, ["pxe", "names-its-architecture"], {"option_43": Option43.USE_THIS_FILE}),
    "OVMF": (recorded("D-OVMF-PXE"), MAC, ["pxe", "names-its-architecture"], {"vendor_class": "PXEClient"}),
    "OVMF's REQUEST": (recorded("D-OVMF-PXE-REQ"), MAC, ["pxe", "names-its-architecture"], {"kind": Kind.PXE}),
    "EDK2 at 4011": (recorded("D-EDK2-4011"), MAC, ["pxe", "names-its-architecture"], {"kind": Kind.PXE}),
    "EDK2 HTTP": (
        recorded("D-EDK2-HTTP"),
        MAC,
        ["uefi-http", "names-its-architecture"],
        {
            "kind": Kind.HTTP,
            "vendor_class": "HTTPClient",
            "nul_after_vendor_class": True,
            "option_43": Option43.NONE,
            "largest_bytes": 1472,
        },
    ),
    "arm64, perhaps an eMAG": (
        recorded("D-EDK2-ARM64"),
        MAC,
        ["ampere-emag", "pxe", "names-its-architecture"],
        {"kind": Kind.PXE, "vendor_class": "", "option_43": Option43.NONE},
    ),
    "Huawei": (
        recorded("D-HUAWEI"),
        MAC,
        ["huawei", "names-its-architecture"],
        {"kind": Kind.PXE, "vendor_class": "HW-Client", "option_43": Option43.USE_THIS_FILE},
    ),
    "no class": (
        recorded("D-NO-CLASS"),
        MAC,
        ["names-its-architecture"],
        {"kind": Kind.OTHER_LOADER, "vendor_class": ""},
    ),
    "iPXE": (
        recorded("D-IPXE-BIOS"),
        MAC,
        ["ipxe", "flexboot", "pxe", "names-its-architecture"],
        {"ipxe": True, "kind": Kind.PXE, "vendor_class": "PXEClient"},
    ),
    "iPXE in UEFI": (IPXE_EFI, MAC, ["ipxe", "flexboot", "pxe", "names-its-architecture"], {"ipxe": True}),
    "FlexBoot": (recorded("D-FLEXBOOT"), MAC, ["flexboot", "pxe", "names-its-architecture"], {"ipxe": True}),
    "U-Boot": (
        recorded("D-UBOOT"),
        MAC,
        ["u-boot", "u-boot-arm64", "u-boot-arm32", "names-its-architecture"],
        {
            "kind": Kind.OTHER_LOADER,
            "overload": False,
            "smallest_bytes": 300,
            "largest_bytes": 548,
            "vendor_class": "",
            "option_43": Option43.NONE,
        },
    ),
    "U-Boot without its code": (
        UBOOT_UNSET,
        MAC,
        ["u-boot", "u-boot-arm64", "u-boot-arm32", "names-its-architecture"],
        {"architecture_unless_told": "uboot-arm64"},
    ),
    "U-Boot arm32": (
        recorded("D-UBOOT-ARM32"),
        MAC,
        ["u-boot", "u-boot-arm32", "names-its-architecture"],
        {"architecture_unless_told": "uboot-arm32"},
    ),
    "Raspberry Pi 4": (
        recorded("D-RPI"),
        PI_4,
        ["raspberry-pi", "pxe", "names-its-architecture"],
        {
            "kind": Kind.PXE,
            "architecture": "rpi",
            "option_43": Option43.RASPBERRY_PI,
            "nul_after_server_name": False,
            "nul_after_boot_file": True,
            "own_file_names": True,
            "sends_request": False,
        },
    ),
    "Raspberry Pi 3": (
        recorded("D-RPI"),
        PI_3,
        ["raspberry-pi-3", "raspberry-pi", "pxe", "names-its-architecture"],
        {"option_43": Option43.RASPBERRY_PI_SPACES, "architecture": "rpi", "nul_after_server_name": False},
    ),
    "Raspberry Pi by its id": (
        recorded("D-RPI-ID"),
        MAC,
        ["raspberry-pi-by-id", "pxe", "names-its-architecture"],
        {"architecture": "rpi", "option_43": Option43.RASPBERRY_PI},
    ),
    "Raspberry Pi by its code": (
        recorded("D-RPI-CODE"),
        MAC,
        ["raspberry-pi-by-code", "pxe", "names-its-architecture"],
        {"architecture": "rpi", "option_43": Option43.RASPBERRY_PI},
    ),
    "a board of another vendor": (
        recorded("D-RPI"),
        MAC,
        ["pxe", "names-its-architecture"],
        {"architecture": None, "architecture_unless_told": "bios", "nul_after_server_name": True},
    ),
    "UEFI on a Raspberry Pi": (
        recorded("D-EDK2-ARM64"),
        PI_4,
        ["ampere-emag", "pxe", "names-its-architecture"],
        {"architecture": None, "nul_after_server_name": True},
    ),
    "Linux on a Raspberry Pi": (recorded("D-IPCONFIG"), PI_4, [], {"kind": Kind.PLAIN, "vendor_class": ""}),
    "an initramfs": (recorded("D-IPCONFIG"), MAC, [], {"kind": Kind.PLAIN, "option_43": Option43.NONE}),
    "BOOTP": (
        recorded("D-BOOTP"),
        MAC,
        ["bootp"],
        {"kind": Kind.OTHER_LOADER, "architecture_unless_told": "bios", "largest_bytes": 300, "overload": False},
    ),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_recorded_client_has_its_quirks(name: str) -> None:
    message, mac, names, traits = CLIENTS[name]
    found = match(message.options, mac)
    combined = combine(found)
    assert [quirk.name for quirk in found] == names
    assert {field: getattr(combined, field) for field in traits} == traits


def test_every_quirk_is_some_recorded_clients() -> None:
    seen = {name for _, _, names, _ in CLIENTS.values() for name in names}
    assert seen == {quirk.name for quirk in TABLE}


def test_every_quirk_has_its_source_and_a_name_of_its_own() -> None:
    assert all(quirk.source for quirk in TABLE)
    assert len({quirk.name for quirk in TABLE}) == len(TABLE)


CATALOGUE = {
    "Q1": "test_dhcp_scenarios.py::test_scenario_1_the_flag_decides_who_hears_it",
    "Q2": "pxe",
    "Q3": "test_dhcp_scenarios.py::test_scenario_3_a_client_that_is_sent_to_4011_gets_its_file_there",
    "Q4": "test_dhcp_pxe.py::test_edk2_throws_away_what_only_speaks_of_multicast",
    "Q5": "test_dhcp_scenarios.py::test_scenario_5_beside_another_server_our_proxy_says_what_to_boot",
    "Q6": "raspberry-pi",
    "Q7": "test_dhcp_replies.py::test_ovmf_finds_the_same_truth_in_every_field",
    "Q8": "u-boot",
    "Q9": "test_dhcp_scenarios.py::test_scenario_11_a_long_name_goes_into_67_alone_and_a_wrong_57_means_576",
    "Q10": "u-boot-arm64",
    "Q11": "test_dhcp_scenarios.py::test_scenario_10_what_is_missing_or_odd_changes_nothing",
    "Q12": "test_dhcp_scenarios.py::test_scenario_10_what_is_missing_or_odd_changes_nothing",
    "Q13": "ampere-emag",
    "Q14": "ipxe",
    "Q15": "flexboot",
    "Q16": "test_dhcp_quirks.py::test_an_architecture_that_the_class_text_leaves_out_is_taken_from_option_93",
    "Q17": "test_dhcp_scenarios.py::test_scenario_10_the_lease_stays_while_the_client_id_changes",
    "Q18": "test_dhcp_scenarios.py::test_a_guid_for_a_hardware_address_is_answered_to_everybody",
    "Q20": "raspberry-pi",
    "Q21": "test_dhcp_scenarios.py::test_a_reply_waits_where_a_quirk_says_so",
    "Q25": "test_dhcp_boot.py::test_a_chain_through_ipxe_ends",
    "Q26": "huawei",
}
"""The lines of the quirk catalogue that this part keeps: an entry of the table, or the test of what holds for every
client. Q19 belongs to relays, Q22 to `dhcp.others`, Q23 to the sockets, Q24 to the timeline, Q27 to IPv6."""


@pytest.mark.parametrize("line", CATALOGUE)
def test_a_line_of_the_catalogue_is_an_entry_or_has_its_test(line: str) -> None:
    file, _, name = CATALOGUE[line].partition("::")
    if name:
        assert f"def {name}(" in (Path(__file__).parent / file).read_text("utf-8")
    else:
        assert file in {quirk.name for quirk in TABLE}


def test_an_architecture_that_the_class_text_leaves_out_is_taken_from_option_93() -> None:
    ipxe = {53: b"\1", 60: b"PXEClient", 77: b"iPXE", 93: b"\0\7"}
    assert boot.client(ipxe).settings == ("ipxe", "uefi-x64")


@pytest.mark.parametrize(
    ("user_class", "is_ipxe"),
    [
        pytest.param(b"iPXE", True, id="raw"),
        pytest.param(bytes.fromhex("04") + b"iPXE", True, id="framed"),
        pytest.param(b"\3lab\4iPXE", True, id="the-second-of-two"),
        pytest.param(b"labiPXE", True, id="raw-instances-joined"),
        pytest.param(b"\4iPXEiPXE", True, id="framed-and-raw-joined"),
        pytest.param(b"\4Grub", False, id="another"),
        pytest.param(b"", False, id="empty"),
        pytest.param(b"\0iPXE"[:1], False, id="a-class-of-no-length"),
    ],
)
def test_ipxe_is_known_by_its_user_class_framed_or_not(user_class: bytes, is_ipxe: bool) -> None:
    options = {53: b"\1", 60: b"PXEClient", 77: user_class}
    assert combine(match(options, MAC)).ipxe is is_ipxe


def test_ipxe_of_another_user_class_is_known_by_option_175() -> None:
    assert combine(match({53: b"\1", 77: b"\3lab", 175: b"\xb1\1\1"}, MAC)).ipxe


@pytest.mark.parametrize(
    ("value", "classes"),
    [
        (b"\4iPXE", [b"iPXE"]),
        (b"\1a\2bc", [b"a", b"bc"]),
        (b"iPXE", [b"iPXE"]),
        (b"\4iPX", [b"\4iPX"]),
        (b"\1a\0", [b"\1a\0"]),
        (b"", []),
    ],
)
def test_user_classes_are_a_list_if_they_look_like_one(value: bytes, classes: list[bytes]) -> None:
    assert quirks.user_classes(value) == classes


@pytest.mark.parametrize(
    ("value", "codes"),
    [
        ("0007", [7]),
        ("0007 0010", [7, 16]),
        ("ffff", []),
        ("ffff 000b", [11]),
        ("00", []),
        ("000700", []),
        ("", []),
    ],
)
def test_option_93_is_a_list_of_codes(value: str, codes: list[int]) -> None:
    assert quirks.architecture_codes({93: bytes.fromhex(value)}) == codes


def a_quirk(**fields: Any) -> Quirk:
    return Quirk.model_validate({"name": "mine"} | fields)


@pytest.mark.parametrize(
    ("wanted", "holds"),
    [
        pytest.param({}, True, id="nothing"),
        pytest.param({"vendor_classes": ["PXEClient*"]}, True, id="glob"),
        pytest.param({"vendor_classes": ["HTTPClient*", "PXEClient:Arch:0000?:*"]}, True, id="one-of-two-globs"),
        pytest.param({"vendor_classes": ["PXEClient"]}, False, id="all-of-it"),
        pytest.param({"vendor_classes": ["pxeclient*"]}, False, id="case-counts"),
        pytest.param({"architectures": [7]}, True, id="architecture"),
        pytest.param({"architectures": [6, 7]}, True, id="one-of-two-architectures"),
        pytest.param({"architectures": [9]}, False, id="another-architecture"),
        pytest.param({"macs": ["52-54-00"]}, True, id="vendor"),
        pytest.param({"macs": ["525400123456"]}, True, id="whole-mac"),
        pytest.param({"macs": ["52:54:01"]}, False, id="another-vendor"),
        pytest.param({"machine_ids": ["00:33:22"]}, True, id="machine"),
        pytest.param({"machine_ids": ["33"]}, False, id="another-machine"),
        pytest.param({"has_options": [97]}, True, id="has"),
        pytest.param({"has_options": [97, 61]}, False, id="has-not-both"),
        pytest.param({"lacks_options": [61]}, True, id="lacks"),
        pytest.param({"lacks_options": [61, 97]}, False, id="lacks-not-both"),
        pytest.param({"user_classes": ["*"]}, False, id="no-user-class"),
        pytest.param({"architectures": [7], "macs": ["b8:27:eb"]}, False, id="both-must-hold"),
    ],
)
def test_all_that_a_quirk_asks_for_must_hold(wanted: dict[str, Any], holds: bool) -> None:
    mine = a_quirk(match=wanted)
    assert (mine in match(recorded("D-EDK2-PXE").options, MAC, [mine])) is holds


def test_a_users_quirk_wins_over_the_table_and_says_so() -> None:
    mine = a_quirk(match={"macs": [MAC]}, option_43="none", boot_server=True, reply_delay_s=1.5)
    traits = combine(match(recorded("D-EDK2-PXE").options, MAC, [mine]))
    assert (traits.option_43, traits.boot_server, traits.reply_delay_s) == (Option43.NONE, True, 1.5)
    assert traits.vendor_class == "PXEClient"
    assert (traits.because["option_43"], traits.because["vendor_class"]) == ("mine", "pxe")


def test_a_users_quirk_replaces_the_built_in_one_of_its_name() -> None:
    mine = a_quirk(name="ampere-emag", match={"macs": ["fc:15:b4"]}, vendor_class="")
    traits = combine(match(recorded("D-EDK2-ARM64").options, MAC, [mine]))
    assert traits.vendor_class == "PXEClient"


def test_a_quirk_can_be_known_by_what_is_missing() -> None:
    mine = a_quirk(match={"lacks_options": [60, 61], "has_options": [97]}, force_broadcast=True)
    assert combine(match({53: b"\1", 97: bytes(17)}, MAC, [mine])).force_broadcast
    assert not combine(match({53: b"\1", 97: bytes(17), 61: b"\1"}, MAC, [mine])).force_broadcast


def test_nothing_is_odd_about_a_client_of_no_quirk() -> None:
    assert combine([]) == Traits()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"reply_delay_s": 2.1}, "less than or equal to 2"),
        ({"smallest_bytes": 299}, "greater than or equal to 300"),
        ({"largest_bytes": 1473}, "less than or equal to 1472"),
        ({"architecture": "x64"}, "is no architecture"),
        ({"architecture": "ipxe"}, "is no architecture"),
        ({"match": {"macs": ["5"]}}, "are no bytes in hex"),
        ({"match": {"macs": [""]}}, "are no bytes in hex"),
        ({"match": {"has_options": [0]}}, "greater than or equal to 1"),
        ({"match": {"vendor_classes": [""]}}, "at least 1 character"),
        ({"name": "Mine"}, "pattern"),
        ({"delay": 1}, "Extra inputs"),
    ],
)
def test_a_wrong_quirk_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        a_quirk(**fields)


@st.composite
def sent(draw: st.DrawFn) -> dict[int, bytes]:
    """Options of a client, recorded or made up, or one with something of the other."""
    options = dict(draw(st.sampled_from([message.options for message, *_ in CLIENTS.values()])))
    made_up = draw(st.dictionaries(st.sampled_from([53, 60, 77, 93, 97, 175]), st.binary(max_size=20), max_size=3))
    gone = draw(st.sets(st.sampled_from([53, 60, 77, 93, 97, 175]), max_size=2))
    return {code: value for code, value in (options | made_up).items() if code not in gone}


USER = (
    a_quirk(match=Match(machine_ids=("00:33",)), reply_delay_s=1),
    a_quirk(name="two", match=Match(macs=("dc:a6:32:00:00:01", "dc:a6")), force_broadcast=True),
    a_quirk(name="three", match=Match(lacks_options=(97,), has_options=(60,)), vendor_class=""),
)
REMEMBERING = boot.Clients(USER, {"uefi-arm64"})


@given(sent(), st.sampled_from([MAC, PI_3, PI_4, "dc:a6:32:00:00:02", ""]))
def test_what_is_remembered_is_what_would_be_found(options: dict[int, bytes], mac: str) -> None:
    """The fast path and its plain twin."""
    plain = boot.client(options, mac, USER, {"uefi-arm64"})
    assert REMEMBERING.client(options, mac) == plain
    assert REMEMBERING.client(options, mac) == plain


def test_what_is_remembered_is_bounded() -> None:
    clients = boot.Clients()
    made_up = [clients.client({60: i.to_bytes(2, "big")}, MAC) for i in range(10_000)]
    assert len({client.vendor_class for client in made_up}) == 10_000
    assert clients.client(recorded("D-RPI").options, PI_4).traits.architecture == "rpi"
    assert clients.client({60: (9999).to_bytes(2, "big")}, MAC) is made_up[9999]
    assert clients.client({60: bytes(2)}, MAC) is not made_up[0], "it was forgotten, and is found again"


@given(st.dictionaries(st.integers(1, 254), st.binary(max_size=300), max_size=20), st.text(max_size=20))
def test_no_options_are_too_odd(options: dict[int, bytes], mac: str) -> None:
    combine(match(options, mac))


def test_an_entry_looks_at_options_by_their_names() -> None:
    looked_at = {code for quirk in TABLE for code in (*quirk.match.has_options, *quirk.match.lacks_options)}
    assert looked_at <= set(Option)
