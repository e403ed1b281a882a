"""dhcp.pxe: what is inside option 43."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.quirks import Option43
from dhcp import pxe
from dhcp.options import Option
from dhcp.pxe import BootItem, BootServer, Discovery, MenuLine, Prompt, VendorOptions
from dhcp.wire import options_in
from tests.support.dhcp_clients import RECORDED

MTFTP = {1: b"\1\1\1\1", 2: b"\0\1", 3: b"\0\2", 4: b"\1", 5: b"\2"}


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        pytest.param("06 01 08 ff", VendorOptions(Discovery.USE_THIS_FILE), id="use-this-file"),
        pytest.param(
            "06 01 08 0a 04 00 50 58 45 ff",
            VendorOptions(Discovery.USE_THIS_FILE, prompt=Prompt(0, b"PXE")),
            id="fog",
        ),
        pytest.param("47 04 80 00 00 00 ff", VendorOptions(item=BootItem(0x8000)), id="the-item-that-ipxe-asks-for"),
        pytest.param(
            "08 0b 00 01 02 c0 00 02 01 c0 00 02 02 09 07 00 01 04 47 52 55 42 ff",
            VendorOptions(
                servers=(BootServer(1, (IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2"))),),
                menu=(MenuLine(1, b"GRUB"),),
            ),
            id="a-menu-of-servers",
        ),
        pytest.param("fe 02 68 69 ff", VendorOptions(others={0xFE: b"hi"}), id="unknown"),
        pytest.param("ff", VendorOptions(), id="nothing"),
    ],
)
def test_an_option_43_matches_its_bytes(recorded: str, said: VendorOptions) -> None:
    assert pxe.decode(bytes.fromhex(recorded)) == said
    assert said.encode() == bytes.fromhex(recorded)


@pytest.mark.parametrize(
    ("content", "fixture"),
    [(Option43.USE_THIS_FILE, "R-PXE-43-MIN"), (Option43.RASPBERRY_PI, "R-RPI-43")],
)
def test_what_we_send_is_what_was_recorded(content: Option43, fixture: str) -> None:
    recorded = dict(options_in(RECORDED[fixture] + b"\xff"))
    assert pxe.OPTION_43[content] == recorded[Option.VENDOR_SPECIFIC_INFORMATION]


def test_the_oldest_pi_gets_three_spaces() -> None:
    assert pxe.OPTION_43[Option43.RASPBERRY_PI_SPACES].endswith(
        bytes.fromhex("09 17 00 00 14") + b"Raspberry Pi Boot   \xff"
    )
    assert len(pxe.OPTION_43[Option43.RASPBERRY_PI_SPACES]) == 0x23


@pytest.mark.parametrize(
    ("said", "is_thrown_away"),
    [
        pytest.param(VendorOptions(others=MTFTP), True, id="multicast-tftp-alone"),
        pytest.param(VendorOptions(Discovery.USE_THIS_FILE, others=MTFTP), False, id="with-a-discovery"),
        pytest.param(VendorOptions(others={1: b"\1\1\1\1"}), False, id="one-of-its-tags"),
        *(pytest.param(pxe.decode(value), False, id=f"ours-{name}") for name, value in pxe.OPTION_43.items()),
        pytest.param(pxe.decode(pxe.LOCAL_BOOT), False, id="ours-local"),
    ],
)
def test_edk2_throws_away_what_only_speaks_of_multicast(said: VendorOptions, is_thrown_away: bool) -> None:
    assert said.is_mtftp_only is is_thrown_away


@pytest.mark.parametrize(
    ("said", "boots_local_disk"),
    [
        pytest.param(pxe.decode(pxe.LOCAL_BOOT), True, id="ours"),
        pytest.param(VendorOptions(menu=(MenuLine(0, b"disk"),)), True, id="without-a-prompt"),
        pytest.param(VendorOptions(menu=(MenuLine(0, b"disk"),), prompt=Prompt(255, b"")), False, id="it-waits"),
        pytest.param(VendorOptions(menu=(MenuLine(1, b"net"), MenuLine(0, b"disk"))), False, id="not-the-first-line"),
        pytest.param(pxe.decode(pxe.USE_THIS_FILE), False, id="no-menu"),
    ],
)
def test_the_first_line_of_the_menu_may_be_the_local_disk(said: VendorOptions, boots_local_disk: bool) -> None:
    assert said.boots_local_disk is boots_local_disk


def test_pads_and_what_is_behind_the_end_say_nothing() -> None:
    assert pxe.decode(bytes.fromhex("00 00 06 01 08 00 ff 09 01")) == VendorOptions(Discovery.USE_THIS_FILE)


def test_a_text_that_has_no_room_is_refused() -> None:
    with pytest.raises(ValueError, match="sub-option 10 of option 43"):
        VendorOptions(prompt=Prompt(0, b"x" * 255)).encode()


@pytest.mark.parametrize(
    "cut", ["09 04 00 00 05 41", "08 05 00 01 02 c0 00", "09 02 00 00", "06 02 08 00", "0a 00", "06 05 08"]
)
def test_what_is_cut_is_kept_and_not_understood(cut: str) -> None:
    said = pxe.decode(bytes.fromhex(cut))
    assert (said.discovery, said.servers, said.menu, said.prompt) == (None, (), (), None)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_and_survive_a_round_trip(value: bytes) -> None:
    said = pxe.decode(value)
    assert pxe.decode(said.encode()) == said
