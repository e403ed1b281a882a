"""Request target → name, media type, Host (reference A-30, HQ4, HQ5, H-20)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpimage.names import content_type, host_is_valid, relative_name


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("/vmlinuz", "vmlinuz"),
        ("//vmlinuz", "vmlinuz"),
        ("/images//abc///root.squashfs", "images/abc/root.squashfs"),
        ("/a%20b", "a b"),
        ("/a+b", "a+b"),
        ("/a%2Fb", "a/b"),
        ("/%C5%99", "ř"),
        ("/vmlinuz?x=/../y", "vmlinuz"),
        ("http://192.0.2.1:80/vmlinuz", "vmlinuz"),
        ("http://192.0.2.1//vmlinuz", "vmlinuz"),
        ("/%zz", "%zz"),
        ("/...", "..."),
        ("/a..b", "a..b"),
        ("/%252e%252e/shadow", "%2e%2e/shadow"),  # decoded once: a file may be called so
    ],
)
def test_a_target_names_a_file(target: str, name: str) -> None:
    assert relative_name(target) == name


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "//",
        "",
        "*",
        "vmlinuz",
        "http://192.0.2.1",
        "192.0.2.1:80",
        "/images/",
        "/..",
        "/../etc/shadow",
        "/images/%2e%2e/%2e%2e/etc/shadow",
        "/images/..%2f..%2fetc/shadow",
        "/./vmlinuz",
        "/images\\..\\shadow",
        "/images%5c..%5cshadow",
        "/vmlinuz%00.txt",
        "/%c0%ae%c0%ae/shadow",
        "/%ff",
        "/\udcff",
    ],
)
def test_a_target_names_nothing(target: str) -> None:
    assert relative_name(target) is None


@given(st.text(max_size=40) | st.text("/.%2ef5c0\\", max_size=40))
def test_a_name_is_relative_and_stays_inside(target: str) -> None:
    name = relative_name("/" + target)
    if name is not None:
        assert not {"", ".", ".."} & set(name.split("/"))
        assert "\0" not in name
        assert "\\" not in name
        name.encode("utf-8")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("grubx64.efi", "application/efi"),
        ("a/BOOTX64.EFI", "application/efi"),
        ("debian.iso", "application/vnd.efi-iso"),
        ("disk.img", "application/vnd.efi-img"),
        ("grub.cfg", "text/plain; charset=utf-8"),
        ("vmlinuz", "application/octet-stream"),
        ("efi", "application/octet-stream"),
        ("a.efi/vmlinuz", "application/octet-stream"),
    ],
)
def test_the_type_follows_the_suffix(name: str, kind: str) -> None:
    assert content_type(name) == kind


@pytest.mark.parametrize(
    ("values", "valid_1_1", "valid_1_0"),
    [
        (["198.51.100.1"], True, True),
        (["boot.example:8080"], True, True),
        (["[2001:db8::1]:80"], True, True),
        ([""], True, True),
        ([], False, True),
        (["a", "a"], False, False),
        (["a b"], False, False),
        (["a/b"], False, False),
        (["a@b"], False, False),
        (["a:b"], False, False),
    ],
)
def test_one_well_formed_host_is_needed(values: list[str], valid_1_1: bool, valid_1_0: bool) -> None:
    assert host_is_valid(values, required=True) is valid_1_1
    assert host_is_valid(values, required=False) is valid_1_0
