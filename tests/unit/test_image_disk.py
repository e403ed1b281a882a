import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from pxeboot.image import build, disk
from pxeboot.image.store import ImageError, StoredImage
from tests.support.fake_image import make_root
from tests.support.segment import requires

needs_tools = requires("mksquashfs", "unsquashfs", "mke2fs", "dumpe2fs", "debugfs", "e2fsck")

CAP_NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")
"""The attribute security.capability of a file with cap_net_raw=ep (linux/capability.h, revision 2)."""
SIZE = 32 << 20


def quiet(_: str) -> None:
    """Say nothing."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_root(tmp_path / "root")


def debugfs(image: StoredImage, request: str) -> str:
    """Return what debugfs says to `request` about the disk of an image."""
    argv = ["debugfs", "-R", request, str(image.folder / "root.ext4")]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("4G", 4 << 30), ("512M", 512 << 20), ("1t", 1 << 40), ("20000k", 20_480_000), (" 2GiB ", 2 << 30)],
)
def test_a_size_is_in_powers_of_1024_and_whole_blocks(text: str, size_bytes: int) -> None:
    assert disk.parse_size(text) == size_bytes
    assert size_bytes % disk.BLOCK_BYTES == 0


@pytest.mark.parametrize("text", ["", "4", "G", "4X", "-4G", "4.5G", "4 G", "٤G", "1M", "0G", "17T", "9" * 30 + "G"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ImageError, match="no size"):
        disk.parse_size(text)


@needs_tools
@pytest.mark.parametrize("kind", ["folder", "tar", "squashfs"])
def test_a_root_that_somebody_made_becomes_a_disk_too(tmp_path: Path, root: Path, kind: str) -> None:
    source = root if kind == "folder" else root.with_suffix(f".{kind}")
    if kind == "tar":
        subprocess.run(["tar", "-cf", source, "-C", root, "."], check=True)
    if kind == "squashfs":
        subprocess.run(["mksquashfs", root, source, "-no-progress", "-quiet"], check=True, capture_output=True)
    image = build.add(tmp_path / "images", "node", source, level=1, disk_bytes=SIZE, say=quiet)
    made = image.folder / "root.ext4"
    assert image.has_disk
    assert subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=image.folder).returncode == 0
    assert made.stat().st_size == SIZE
    assert made.stat().st_blocks * 512 < SIZE // 8
    assert subprocess.run(["e2fsck", "-fn", made], capture_output=True).returncode == 0
    assert debugfs(image, "cat etc/hostname") == "made-elsewhere\n"
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["by-sha256", "node"]
    assert [path.name for path in (tmp_path / "images/by-sha256").iterdir()] == [image.image_id]
    assert (root / "boot/vmlinuz-1.0").exists()


def test_an_image_has_no_disk_unless_asked_for(tmp_path: Path, root: Path) -> None:
    assert not build.add(tmp_path / "images", "node", root, level=1, say=quiet).has_disk


@needs_tools
def test_owners_modes_links_devices_attributes_and_capabilities_are_kept(tmp_path: Path, root: Path) -> None:
    (root / "bin").mkdir()
    (root / "bin/ping").write_bytes(b"ping")
    os.setxattr(root / "bin/ping", "security.capability", CAP_NET_RAW)
    os.setxattr(root / "bin/ping", "user.origin", b"here")
    (root / "bin/su").write_bytes(b"su")
    os.chown(root / "bin/su", 1000, 70_000)
    (root / "bin/su").chmod(0o4755)
    os.link(root / "bin/su", root / "bin/also-su")
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "dev").mkdir()
    os.mknod(root / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mkfifo(root / "dev/fifo")
    (root / "long").symlink_to("x" * 200)
    os.utime(root / "etc", (1, 987_654_321))
    with (root / "holes").open("wb") as file:
        file.truncate(64 << 20)
    image = build.add(tmp_path / "images", "node", root, level=1, disk_bytes=SIZE, say=quiet)
    assert subprocess.run(["e2fsck", "-fn", image.folder / "root.ext4"], capture_output=True).returncode == 0
    dumped = tmp_path / "capability"
    debugfs(image, f"ea_get -f {dumped} bin/ping security.capability")
    assert dumped.read_bytes() == CAP_NET_RAW
    assert "here" in debugfs(image, "ea_get bin/ping user.origin")
    su = debugfs(image, "stat bin/su")
    assert re.search(r"Mode: +04755(.|\n)*User: +1000 +Group: +70000(.|\n)*Links: 2", su)
    assert su == debugfs(image, "stat bin/also-su")
    assert re.search(r"Mode: +01777", debugfs(image, "stat tmp"))
    assert re.search(r"Type: character special(.|\n)*01:03", debugfs(image, "stat dev/null"))
    assert "Type: FIFO" in debugfs(image, "stat dev/fifo")
    assert f'"{"x" * 200}"' in debugfs(image, "stat long") or "x" * 200 in debugfs(image, "cat long")
    assert f"mtime: 0x{987_654_321:08x}" in debugfs(image, "stat etc")
    assert re.search(r"Size: 67108864\b", debugfs(image, "stat holes"))


@needs_tools
def test_a_machine_finds_nothing_reserved_and_nothing_left_to_initialise(tmp_path: Path, root: Path) -> None:
    image = build.add(tmp_path / "images", "node", root, level=1, disk_bytes=SIZE, say=quiet)
    argv = ["dumpe2fs", str(image.folder / "root.ext4")]
    told = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    assert re.search(r"Reserved block count: +0$", told, re.MULTILINE)
    assert re.search(r"Filesystem features: .*has_journal.*metadata_csum$", told, re.MULTILINE)
    groups = re.findall(r"^Group [0-9]+: .*$", told, re.MULTILINE)
    assert groups
    assert all("ITABLE_ZEROED" in group for group in groups)
    packed, vmlinuz, initrd = image.folder / "root.squashfs", root / "boot/vmlinuz-1.0", root / "boot/initrd.img-1.0"
    again = build.add(tmp_path / "again", "node", packed, kernel=vmlinuz, initrd=initrd, disk_bytes=SIZE, say=quiet)
    same = subprocess.run(["dumpe2fs", "-h", again.folder / "root.ext4"], capture_output=True, text=True).stdout
    for line in ("Filesystem UUID", "Directory Hash Seed", "Filesystem created"):
        (found,) = re.findall(rf"^{line}:.*$", told, re.MULTILINE)
        assert found in same


@needs_tools
def test_a_disk_that_is_too_small_is_refused_in_words(tmp_path: Path, root: Path) -> None:
    (root / "large").write_bytes(os.urandom(40 << 20))
    with pytest.raises(ImageError, match=r"root does not fit into 32 MiB: it takes 40 MiB, .*give --ext4 a larger"):
        build.add(tmp_path / "images", "node", root, level=1, disk_bytes=SIZE, say=quiet)
    assert [*(tmp_path / "images/by-sha256").iterdir()] == []
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["by-sha256"]


@needs_tools
def test_a_disk_with_too_few_inodes_is_refused_in_words(tmp_path: Path, root: Path) -> None:
    (root / "many").mkdir()
    for number in range(2100):
        (root / f"many/{number}").touch()
    with pytest.raises(ImageError, match=r"root does not fit into 32 MiB.*give --ext4 a larger size"):
        build.add(tmp_path / "images", "node", root, level=1, disk_bytes=SIZE, say=quiet)


def test_tools_for_a_disk_that_are_missing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ImageError, match=r"mke2fs.* not found; apt-get install e2fsprogs squashfs-tools"):
        disk.make_disk(tmp_path / "a", tmp_path / "b", SIZE, tmp_path, quiet)


@needs_tools
def test_who_is_not_root_is_told_before_anything_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ImageError, match=r"only root can make a root\.ext4"):
        disk.make_disk(tmp_path / "a", tmp_path / "b", SIZE, tmp_path, quiet)
