"""dhcp.boot: which boot file a client gets."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhcp.boot import BIOS_FILE, X64_FILE, Kind, boot_file, client
from tests.support.dhcp_clients import recorded

SERVER = IPv4Address("10.77.0.1")
PXE = b"PXEClient:Arch:%05d:UNDI:003000"
HTTP = b"HTTPClient:Arch:%05d:UNDI:003000"


@pytest.mark.parametrize(
    ("name", "kind", "file", "said"),
    [
        ("D-OVMF-PXE", Kind.PXE, X64_FILE, "UEFI x64 (PXEClient)"),
        ("D-EDK2-PXE", Kind.PXE, X64_FILE, "UEFI x64 (PXEClient)"),
        ("D-EDK2-HTTP", Kind.HTTP, f"http://10.77.0.1:8080/{X64_FILE}", "UEFI x64 HTTP (HTTPClient)"),
        ("D-IPXE-BIOS", Kind.PXE, BIOS_FILE, "BIOS (iPXE, PXEClient)"),
        ("D-RPI", Kind.PXE, BIOS_FILE, "BIOS (PXEClient)"),
        ("D-UBOOT", Kind.OTHER_LOADER, None, "U-Boot ARM 64 ('U-Boot.armv8')"),
        ("D-IPCONFIG", Kind.PLAIN, None, "'Linux ipconfig'"),
    ],
)
def test_a_recorded_client_gets_its_file(name: str, kind: Kind, file: str | None, said: str) -> None:
    who = client(recorded(name).options)
    assert (who.kind, boot_file(who, SERVER, 8080), str(who)) == (kind, file, said)


@pytest.mark.parametrize(
    ("architecture", "vendor_class", "file"),
    [
        pytest.param(b"\0\0", PXE % 0, BIOS_FILE, id="bios"),
        pytest.param(b"\0\6", PXE % 6, None, id="ia32"),
        pytest.param(b"\0\7", PXE % 7, X64_FILE, id="x64"),
        pytest.param(b"\0\x08", PXE % 8, X64_FILE, id="x64-as-8"),
        pytest.param(b"\0\x09", PXE % 9, X64_FILE, id="x64-as-9"),
        pytest.param(b"\0\x0b", PXE % 11, None, id="arm64"),
        pytest.param(b"\0\x10", HTTP % 16, f"http://10.77.0.1/{X64_FILE}", id="http"),
        pytest.param(b"\0\x13", HTTP % 19, None, id="http-arm64"),
        pytest.param(b"\0\7", HTTP % 7, f"http://10.77.0.1/{X64_FILE}", id="http-of-a-tftp-architecture"),
        pytest.param(b"\0\x10", PXE % 7, X64_FILE, id="tftp-of-an-http-architecture"),
        pytest.param(b"\0\x0b\0\7", PXE % 11, X64_FILE, id="the-one-we-have-of-several"),
        pytest.param(b"\xff\xff", PXE % 7, X64_FILE, id="unset-so-the-text"),
        pytest.param(b"", PXE % 7, X64_FILE, id="missing-so-the-text"),
        pytest.param(b"\0", PXE % 7, X64_FILE, id="odd-so-the-text"),
        pytest.param(b"", b"PXEClient", BIOS_FILE, id="a-rom-older-than-the-option"),
        pytest.param(b"", b"HTTPClient", None, id="http-of-no-architecture"),
        pytest.param(b"\xff\xff", b"U-Boot.armv8", None, id="u-boot-unset"),
        pytest.param(b"\0\7", b"", X64_FILE, id="architecture-alone"),
        pytest.param(b"\0\7", b"HW-Client:Arch", X64_FILE, id="huawei"),
        pytest.param(b"", b"udhcp 1.35.0", None, id="an-operating-system"),
        pytest.param(b"\x77\x77", b"PXEClient", None, id="unknown-code"),
    ],
)
def test_the_architecture_decides(architecture: bytes, vendor_class: bytes, file: str | None) -> None:
    options = {53: b"\1", 93: architecture, 60: vendor_class}
    assert boot_file(client({k: v for k, v in options.items() if v}), SERVER, 80) == file


@pytest.mark.parametrize("options", [{77: b"iPXE"}, {77: b"\4iPXE"}, {175: b""}, {175: b"\xb1\1\1"}])
def test_ipxe_is_known_by_its_class_or_its_options(options: dict[int, bytes]) -> None:
    who = client(options | {93: b"\0\7"})
    assert who.ipxe
    assert boot_file(who, SERVER, 80) == X64_FILE


def test_a_client_that_boots_and_does_not_say_what_it_is_is_called_unknown() -> None:
    assert str(client({60: b"HTTPClient"})) == "unknown architecture (HTTPClient)"


def test_another_user_class_is_no_ipxe() -> None:
    assert not client({77: b"\4Grub", 93: b"\0\7"}).ipxe


def test_a_bootp_client_is_a_bios() -> None:
    assert boot_file(client({}, bootp=True), SERVER, 80) == BIOS_FILE


@given(st.dictionaries(st.sampled_from([60, 77, 93, 175]), st.binary(max_size=40)), st.booleans())
def test_any_client_is_described_on_one_line(options: dict[int, bytes], bootp: bool) -> None:
    who = client(options, bootp=bootp)
    boot_file(who, SERVER, 80)
    assert str(who).isprintable()
