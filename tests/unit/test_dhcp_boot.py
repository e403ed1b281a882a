"""dhcp.boot: which boot file a client gets."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.architectures import ARCHITECTURE_NAMES, BY_CODE, BY_NAME
from config.quirks import Quirk
from dhcp.boot import BIOS_FILE, BUILT_IN, X64_FILE, Client, Clients, Kind, boot_file, client, is_ipxe
from dhcp.wire import options_in
from tests.support.dhcp_clients import RECORDED, recorded

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
        ("D-RPI-CODE", Kind.PXE, None, "Raspberry Pi (PXEClient)"),
        ("D-FLEXBOOT", Kind.PXE, BIOS_FILE, "BIOS (iPXE, PXEClient)"),
        ("D-HUAWEI", Kind.PXE, X64_FILE, "UEFI x64 ('HW-Client')"),
        ("D-EDK2-ARM64", Kind.PXE, None, "UEFI ARM 64 (PXEClient)"),
        ("D-NO-CLASS", Kind.OTHER_LOADER, X64_FILE, "UEFI x64 (an unnamed client)"),
        ("D-UBOOT-ARM32", Kind.OTHER_LOADER, None, "U-Boot ARM 32 ('U-Boot.armv7')"),
        ("D-BOOTP", Kind.OTHER_LOADER, BIOS_FILE, "BIOS (an unnamed client)"),
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
    assert str(client({53: b"\1", 60: b"HTTPClient"})) == "unknown architecture (HTTPClient)"
    assert str(client({53: b"\1", 60: b"HTTPClient", 93: b"\x77\x77"})) == "architecture 30583 (HTTPClient)"


def test_another_user_class_is_no_ipxe() -> None:
    assert not client({77: b"\4Grub", 93: b"\0\7"}).ipxe


def test_a_bootp_client_is_a_bios() -> None:
    assert boot_file(client({}), SERVER, 80) == BIOS_FILE


PXE_X64 = {53: b"\1", 60: PXE % 7, 93: b"\0\7"}
IPXE_X64 = PXE_X64 | {77: b"iPXE"}
HTTP_X64 = {53: b"\1", 60: HTTP % 16, 93: b"\0\x10"}
UBOOT_HTTP = {53: b"\1", 60: b"U-Boot.armv8", 93: b"\0\x18"}
PLAIN = {53: b"\1", 60: b"udhcp 1.35.0"}
SCRIPT = "http://10.77.0.1/boot.ipxe"


@pytest.mark.parametrize(
    ("options", "configured", "file"),
    [
        pytest.param(PXE_X64, ["shim.efi"], "shim.efi", id="configured"),
        pytest.param(PXE_X64, ["mine.efi", "shim.efi"], "mine.efi", id="the-most-specific"),
        pytest.param(PXE_X64, [""], None, id="configured-to-none"),
        pytest.param(PXE_X64, ["/efi/shim.efi"], "/efi/shim.efi", id="as-it-is-written"),
        pytest.param(PXE_X64, ["ipxe.efi"], "ipxe.efi", id="ipxe-for-firmware"),
        pytest.param(IPXE_X64, ["ipxe.efi"], X64_FILE, id="never-ipxe-for-ipxe"),
        pytest.param(IPXE_X64, [SCRIPT, "ipxe.efi"], SCRIPT, id="the-script-for-ipxe"),
        pytest.param(IPXE_X64, ["http://10.77.0.1/snponly.efi", SCRIPT], SCRIPT, id="ipxe-of-a-node-passed-over"),
        pytest.param(IPXE_X64, ["shim.efi"], "shim.efi", id="another-program-for-ipxe"),
        pytest.param(IPXE_X64, [""], None, id="none-for-ipxe"),
        pytest.param(HTTP_X64, ["shim.efi"], "http://10.77.0.1:8080/shim.efi", id="a-path-becomes-a-url"),
        pytest.param(HTTP_X64, ["//efi//shim.efi"], "http://10.77.0.1:8080/efi/shim.efi", id="no-double-slash"),
        pytest.param(HTTP_X64, ["a b.efi"], "http://10.77.0.1:8080/a%20b.efi", id="a-space"),
        pytest.param(HTTP_X64, ["https://x.example/shim.efi"], "https://x.example/shim.efi", id="a-url-stays"),
        pytest.param(HTTP_X64, [""], None, id="no-url"),
        pytest.param(UBOOT_HTTP, ["a.img"], "http://10.77.0.1:8080/a.img", id="u-boot-by-http"),
        pytest.param(PLAIN, ["shim.efi"], None, id="who-does-not-boot"),
        pytest.param({53: b"\1", 60: b"PXEClient", 93: b"\x77\x77"}, ["x.efi"], "x.efi", id="unknown-architecture"),
    ],
)
def test_the_configured_file_comes_first(options: dict[int, bytes], configured: list[str], file: str | None) -> None:
    assert boot_file(client(options), SERVER, 8080, configured) == file


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("ipxe.efi", True),
        ("undionly.kpxe", True),
        ("boot/UNDIONLY.KKPXE", True),
        ("snponly.efi", True),
        ("snp.efi", True),
        ("ipxe-arm64.efi", True),
        ("ipxe.lkrn", True),
        ("http://192.0.2.1:8080/bin/ipxe.pxe?mac=1", True),
        ("boot.ipxe", False),
        ("http://192.0.2.1/ipxe/menu.php", False),
        ("ipxe/grub/core.efi", False),
        (X64_FILE, False),
        (BIOS_FILE, False),
        ("pxelinux.0", False),
        ("bootx64.efi", False),
        ("ipxe", False),
        ("", False),
    ],
)
def test_ipxe_is_known_by_its_files_name(name: str, is_one: bool) -> None:
    assert is_ipxe(name) is is_one


@given(st.lists(st.sampled_from(["ipxe.efi", "undionly.kpxe", SCRIPT, "shim.efi"])), st.sampled_from([0, 6, 7, 9, 11]))
def test_ipxe_never_meets_itself(configured: list[str], code: int) -> None:
    who = client(IPXE_X64 | {93: code.to_bytes(2, "big")})
    assert not is_ipxe(boot_file(who, SERVER, 80, configured) or "")


def test_a_chain_through_ipxe_ends() -> None:
    """EDK2 gets iPXE, iPXE gets the script; FlexBoot and iPXE of another user class get it at once."""
    ipxe_efi = dict(options_in(RECORDED["D-IPXE-EFI"] + b"\xff"))
    configured = {"ipxe": SCRIPT, "uefi-x64": "ipxe.efi", "bios": "undionly.kpxe"}

    def file(options: dict[int, bytes]) -> str | None:
        who = client(options)
        return boot_file(who, SERVER, 80, [configured[name] for name in who.settings if name in configured])

    chain = recorded("D-IPXE-BIOS", options=ipxe_efi).options
    assert file(dict(recorded("D-EDK2-PXE").options)) == "ipxe.efi"
    assert file(dict(chain)) == SCRIPT
    assert file(dict(chain) | {77: bytes.fromhex("04") + b"iPXE"}) == SCRIPT
    assert file(dict(chain) | {77: b"\3lab"}) == SCRIPT
    assert file(dict(recorded("D-FLEXBOOT").options)) == SCRIPT


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (PXE_X64, ("uefi-x64",)),
        (PXE_X64 | {93: b"\0\x09"}, ("uefi-ebc", "uefi-x64")),
        (PXE_X64 | {93: b"\0\x08"}, ("uefi-xscale", "uefi-x64")),
        (IPXE_X64, ("ipxe", "uefi-x64")),
        (HTTP_X64, ("uefi-x64-http", "uefi-x64")),
        (UBOOT_HTTP, ("uboot-arm64-http", "uboot-arm64")),
        (PXE_X64 | {93: b"\x77\x77"}, ()),
        (PLAIN, ()),
    ],
)
def test_settings_of_an_architecture_hold_for_what_is_like_it(options: dict[int, bytes], settings: tuple[str]) -> None:
    assert client(options).settings == settings


def test_of_several_codes_the_one_with_a_file_counts() -> None:
    both = PXE_X64 | {93: b"\0\x0b\0\7"}
    assert client(both).architecture == 7
    assert client(both, served={"uefi-arm64"}).architecture == 11
    assert Clients(served={"uefi-arm64"}).client(both, "").architecture == 11
    assert client(both, served=()).architecture == 11


def test_a_quirk_may_know_better_what_a_client_is() -> None:
    mine = Quirk.model_validate({"name": "mine", "match": {"macs": ["52:54:00"]}, "architecture": "uefi-arm64"})
    assert client(PXE_X64, "52:54:00:12:34:56", [mine]).settings == ("uefi-arm64",)
    assert client(PXE_X64, "52:54:01:12:34:56", [mine]).settings == ("uefi-x64",)


# Section 5 of the reference: every code, and what it is.
CODES = {
    0x00: "bios", 0x02: "uefi-ia64", 0x06: "uefi-ia32", 0x07: "uefi-x64", 0x08: "uefi-xscale", 0x09: "uefi-ebc",
    0x0A: "uefi-arm32", 0x0B: "uefi-arm64", 0x0C: "powerpc-openfirmware", 0x0E: "power-opal",
    0x0F: "uefi-ia32-http", 0x10: "uefi-x64-http", 0x11: "uefi-ebc-http", 0x12: "uefi-arm32-http",
    0x13: "uefi-arm64-http", 0x14: "bios-http", 0x15: "uboot-arm32", 0x16: "uboot-arm64", 0x17: "uboot-arm32-http",
    0x18: "uboot-arm64-http", 0x19: "uefi-riscv32", 0x1A: "uefi-riscv32-http", 0x1B: "uefi-riscv64",
    0x1C: "uefi-riscv64-http", 0x1F: "s390", 0x20: "s390-extended", 0x25: "uefi-loongarch32",
    0x26: "uefi-loongarch32-http", 0x27: "uefi-loongarch64", 0x28: "uefi-loongarch64-http", 0x29: "rpi",
}  # fmt: skip


def test_every_architecture_has_its_code_and_name() -> None:
    assert {code: BY_CODE[code].name for code in CODES} == CODES
    assert sorted(BY_CODE) == list(range(0x2A))
    assert len(BY_NAME) == len(BY_CODE)
    assert set(ARCHITECTURE_NAMES) == {*BY_NAME, "ipxe"}


def test_an_architecture_fetches_by_http_if_its_name_says_so() -> None:
    assert all(architecture.http is name.endswith("-http") for name, architecture in BY_NAME.items())
    assert all(BY_NAME[one.platform].platform == "" for one in BY_NAME.values() if one.platform)
    assert set(BUILT_IN) <= set(BY_NAME)


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_every_code_gets_the_file_that_is_configured_for_it(code: int) -> None:
    http = BY_CODE[code].http
    who = client({53: b"\1", 60: (HTTP if http else PXE) % code, 93: code.to_bytes(2, "big")})
    assert who.machine == BY_CODE[code]
    assert boot_file(who, SERVER, 80, ["f"]) == ("http://10.77.0.1/f" if http else "f")
    told_in_words = client({53: b"\1", 60: (HTTP if http else PXE) % code})
    assert told_in_words.architecture == code


@given(st.dictionaries(st.sampled_from([53, 60, 77, 93, 97, 175]), st.binary(max_size=40)))
def test_any_client_is_described_on_one_line(options: dict[int, bytes]) -> None:
    who: Client = client(options)
    boot_file(who, SERVER, 80)
    assert str(who).isprintable()
