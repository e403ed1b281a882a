"""`server.files`: a folder whose files any machine may fetch, when no name of ours is meant."""

import asyncio
import errno
import logging
import os
import threading
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from config.content import Content, OpenFile
from config.model import Farm
from pxeboot.bootfiles.names import is_ours
from pxeboot.bootfiles.tree import Asker, Tree
from pxeboot.image import store
from pxeboot.intents import Boot, Intent
from tests.support.fake_image import add_image, noise

MAC, IP, STRANGER = "52:54:00:00:00:01", IPv4Address("10.0.0.10"), IPv4Address("10.9.9.9")
SERIAL = "6c5a1b2d"

Make = Callable[..., Tree]


@pytest.fixture
def image(tmp_path: Path) -> store.StoredImage:
    return add_image(tmp_path / "images")


@pytest.fixture
def make(tmp_path: Path, image: store.StoredImage) -> Make:
    """Makes trees with `files` below the test's folder; a machine at `IP`."""
    grub = tmp_path / "state/boot/grub/x86_64-efi"
    grub.mkdir(parents=True)
    (grub / "normal.mod").write_bytes(b"ours")
    (grub / "moddep.lst").write_bytes(b"ours")

    def tree(files: Path | None = tmp_path / "tftp", **more: Any) -> Tree:
        node = {"name": "m1", "macs": [MAC], "ip": str(IP)}
        farm = {
            "server": {"state": tmp_path / "state", "files": files},
            "dhcp": {"subnets": [{"subnet": "10.0.0.0/24"}]},
            "images": {"node": {"path": tmp_path / "images/node"}},
            "pools": [{"name": "workers", "image": "node", "nodes": [node]}],
        }
        return Tree(
            Farm.model_validate(farm),
            who={IP: Asker(MAC, "m1")}.get,
            server_for=lambda _: IPv4Address("10.0.0.1"),
            node={},
            **more,
        )

    return tree


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of static files, and a secret beside it."""
    folder = tmp_path / "tftp"
    (folder / SERIAL).mkdir(parents=True)
    (folder / SERIAL / "start4.elf").write_bytes(b"of this Pi")
    (folder / "start4.elf").write_bytes(b"of every Pi")
    (folder / "autoexec.ipxe").write_bytes(b"#!ipxe\n")
    (tmp_path / "secret").write_bytes(b"secret")
    return folder


def put(path: Path, data: bytes = b"static") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def content(tree: Tree, name: str, peer: IPv4Address = IP) -> Content | None:
    async def look() -> Content | None:
        return await tree.lookup(name, peer)

    return asyncio.run(look())


def read(tree: Tree, name: str, peer: IPv4Address = IP) -> bytes | None:
    found = content(tree, name, peer)
    if found is None:
        return None
    try:
        return found.pread(found.size_bytes + 1, 0)
    finally:
        found.close()


@pytest.mark.parametrize("peer", [IP, STRANGER])
def test_anybody_may_fetch_a_static_file(make: Make, folder: Path, peer: IPv4Address) -> None:
    put(folder / "boot.scr.uimg", b"U-Boot")
    tree = make()
    assert read(tree, "autoexec.ipxe", peer) == b"#!ipxe\n"  # TQ12
    assert read(tree, "boot.scr.uimg", peer) == b"U-Boot"
    assert read(tree, "missing", peer) is None


def test_a_raspberry_pi_finds_its_own_folder_and_what_all_of_them_share(make: Make, folder: Path) -> None:
    tree = make()
    assert read(tree, f"{SERIAL}/start4.elf") == b"of this Pi"  # TQ13
    assert read(tree, "00000000/start4.elf") is None, "it then asks again without its serial number"
    assert read(tree, "start4.elf") == b"of every Pi"


def test_a_static_file_is_valid_by_its_facts_and_may_change(make: Make, folder: Path) -> None:
    tree = make()
    first = content(tree, "autoexec.ipxe")
    assert isinstance(first, OpenFile)
    first.close()
    assert not first.immutable
    (folder / "new").write_bytes(b"#!ipxe")
    os.rename(folder / "new", folder / "autoexec.ipxe")
    second = content(tree, "autoexec.ipxe")
    assert isinstance(second, OpenFile)
    second.close()
    assert first.etag != second.etag


def test_what_is_ours_wins_where_names_are_equal(make: Make, folder: Path, image: store.StoredImage) -> None:
    for name in ("grub/grub.cfg", "grub/x86_64-efi/normal.mod", "grub/x86_64-efi/fs.lst", "lts.conf",
                 "images/node/vmlinuz", f"images/{image.image_id}/vmlinuz"):  # fmt: skip
        put(folder / name)
    tree = make()
    assert b"made by pxeboot for m1" in (read(tree, "grub/grub.cfg") or b"")
    assert read(tree, "grub/x86_64-efi/normal.mod") == b"ours"
    assert read(tree, "grub/x86_64-efi/fs.lst") == b""
    assert b"static" not in (read(tree, "lts.conf") or b"static")
    for which in ("node", image.image_id):
        assert read(tree, f"images/{which}/vmlinuz") == noise("vmlinuz one", 3000)


def test_a_static_file_stands_in_where_we_have_none(make: Make, folder: Path) -> None:
    names = ("grub/arm64-efi/core.efi", "grub/arm64-efi/moddep.lst", "images/debian.iso", "images/a/b/c")
    for name in names:
        put(folder / name)
    tree = make()
    for name in names:
        assert read(tree, name, STRANGER) == b"static", name
    assert read(tree, "grub/arm64-efi/terminal.lst") == b"", "GRUB goes on faster than with an error"
    assert read(tree, "grub/x86_64-efi/moddep.lst") == b"ours"


REFUSED = [
    "lts.conf", "lts/RCFILE_07_JOIN_K8S", "intent/started", "intent/x/y", "report/system",
    "images/gone/vmlinuz", "images/gone/vmlinuz.sha256", "images/node/01-52-54-00-00-00-02/node.cpio",
    "grub/grub.cfg-0A00000A", "grub/grub.cfg-01-52-54-00-00-00-02",
]  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_static_file_never_stands_in_for_what_is_refused(make: Make, folder: Path, name: str) -> None:
    put(folder / name)
    assert is_ours(name)
    tree = make(intent=lambda _: Intent(Boot.REFUSE))
    for peer in (IP, STRANGER):
        assert b"static" not in (read(tree, name, peer) or b""), peer


def test_a_machine_that_is_refused_is_told_who_it_is(make: Make) -> None:
    assert read(make(intent=lambda _: Intent(Boot.REFUSE)), "you") == f"{IP} m1\n".encode()


@pytest.mark.parametrize(
    "name",
    ["../secret", "x/../../secret", "..\\secret", "link", "out/secret", ".hidden", "a.tmp", "fifo", "", "/", ".", "..",
     SERIAL, f"{SERIAL}/", f"{SERIAL}//start4.elf", "/autoexec.ipxe", "autoexec.ipxe/", "autoexec.ipxe\0",
     "\udcff", "a" * 5000],
)  # fmt: skip
def test_a_name_never_leaves_the_folder(make: Make, folder: Path, name: str) -> None:
    (folder / "link").symlink_to("../secret")
    (folder / "out").symlink_to("..")
    os.mkfifo(folder / "fifo")
    put(folder / ".hidden")
    put(folder / "a.tmp")
    assert read(make(), name) is None


def test_a_missing_folder_is_an_empty_one_until_it_comes(make: Make, tmp_path: Path) -> None:
    tree = make()
    assert read(tree, "autoexec.ipxe") is None
    put(tmp_path / "tftp/autoexec.ipxe")
    assert read(tree, "autoexec.ipxe") == b"static"
    assert read(make(files=None), "autoexec.ipxe") is None


def test_a_disk_that_hangs_below_it_keeps_no_machine_from_booting(
    make: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, hangs = make(), threading.Event()
    real = os.open

    def slow(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == folder:
            hangs.wait(20)
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", slow)

    async def boot() -> Content | None:
        waiting = [asyncio.create_task(tree.lookup("autoexec.ipxe", STRANGER)) for _ in range(100)]
        try:
            for _ in range(5):
                await asyncio.sleep(0)
            monkeypatch.setattr("pxeboot.bootfiles.lookups.STALLED_S", 0.0)
            with pytest.raises(TimeoutError, match="a disk hangs: 100 look-ups wait"):
                await asyncio.wait_for(tree.lookup("another", STRANGER), 10)
            return await asyncio.wait_for(tree.lookup("grub/grub.cfg", IP), 10)
        finally:
            hangs.set()
            for found in await asyncio.gather(*waiting):
                assert found is not None
                found.close()

    assert asyncio.run(boot()) is not None


def test_an_unreadable_file_is_said_to_a_person_once(
    make: Make, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tree = make()
    real = os.open

    def forbidden(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == b"start4.elf":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", forbidden)
    with caplog.at_level(logging.WARNING):
        assert read(tree, "start4.elf") is None
        assert read(tree, f"{SERIAL}/start4.elf") is None
    assert caplog.messages == [f"{folder}: 'start4.elf' may not be read by us; machines are told that it is not there"]
