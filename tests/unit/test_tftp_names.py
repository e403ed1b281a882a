"""What firmware calls a file (T-FFNAME, TQ10) and what it may not call one (A-20)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tftp.errors import NotFound, OutsideRoot, Refused
from tftp.names import normalise
from tftp.wire import ErrorCode


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        (b"bootx64.efi", "bootx64.efi"),
        (b"/grub/grub.cfg", "grub/grub.cfg"),
        (b"//grub//x86_64-efi///normal.mod", "grub/x86_64-efi/normal.mod"),
        (b"\\EFI\\BOOT\\x", "EFI/BOOT/x"),
        (b"EFI\\BOOT/x", "EFI/BOOT/x"),
        (b"lpxelinux.0\xff", "lpxelinux.0"),
        (b"lpxelinux.0\xff\xff", "lpxelinux.0"),
        (b"a b.cfg", "a b.cfg"),
        ("čárka.cfg".encode(), "čárka.cfg"),
        (b"..a/b..", "..a/b.."),
        (b"%2e%2e/x", "%2e%2e/x"),
    ],
)
def test_one_file_has_one_name(sent: bytes, name: str) -> None:
    assert normalise(sent) == name


@pytest.mark.parametrize(
    "sent", [b"..", b".", b"../x", b"a/../x", b"..\\x", b"a\\..\\..\\x", b"./x", b"/./x", b"../\xff"]
)
def test_a_name_that_leads_out_is_refused(sent: bytes) -> None:
    with pytest.raises(OutsideRoot):
        normalise(sent)


@pytest.mark.parametrize(
    "sent",
    [b"", b"/", b"//", b"\\", b"\xff", b"sub/", b"sub\\", b"a\xffb", b"a\xc0\xaeb", b"a\nb", b"a\0b", b"\x1b[31m"],
)
def test_a_name_that_no_file_has_is_not_found(sent: bytes) -> None:
    with pytest.raises(NotFound):
        normalise(sent)


@given(st.binary(max_size=60) | st.lists(st.sampled_from([b"/", b"\\", b"..", b".", b"a", b"\xff"])).map(b"".join))
def test_any_bytes_are_a_plain_relative_name_or_refused(sent: bytes) -> None:
    try:
        name = normalise(sent)
    except Refused as error:
        refusal = error
    else:
        assert all(part not in {"", ".", ".."} for part in name.split("/"))
        assert "\\" not in name
        assert normalise(name.encode()) == name
        return
    assert refusal.code in {ErrorCode.FILE_NOT_FOUND, ErrorCode.ACCESS_VIOLATION}
    assert len(refusal.message) <= 64
    assert str(refusal).isprintable()
