import gzip
import lzma
import shutil
import subprocess
from pathlib import Path

import pytest

from pxeboot.bootfiles.cpio import Entry, archive
from pxeboot.image import build, modules
from pxeboot.image.store import ImageError
from tests.support.fake_image import VERSION, make_root
from tests.support.segment import requires

ALL = {
    "fs/squashfs/squashfs.ko": ("", b"squashfs module"),
    "fs/overlayfs/overlay.ko": ("", b"overlay module"),
    "fs/ext4/ext4.ko.xz": ("fs/mbcache.ko fs/jbd2/jbd2.ko lib/crc16.ko", lzma.compress(b"ext4 module")),
    "fs/jbd2/jbd2.ko": ("", b"jbd2 module"),
    "fs/mbcache.ko": ("", b"mbcache module"),
    "lib/crc16.ko": ("", b"crc16 module"),
    "crypto/crc32c_generic.ko": ("", b"crc32c module"),
}
HOME = f"usr/lib/modules/{VERSION}/kernel"
INITRD = archive([Entry(f"{HOME}/fs/ext4/ext4.ko", b"x" * 999), Entry(f"{HOME}/crypto/crc32c-generic.ko.zst", b"y")])
MICROCODE = archive([Entry("kernel/x86/microcode/GenuineIntel.bin", b"m" * 777)])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root whose kernel has ext4 as a module, as Debian's linux-image-amd64."""
    root = make_root(tmp_path / "root", modules=ALL)
    (root / "lib/modules" / VERSION / "modules.builtin").write_text("")
    return root


def stems(paths: list[Path]) -> list[str]:
    return [path.name.partition(".")[0] for path in paths]


def test_a_disk_brings_ext4_and_what_it_needs_when_the_initrd_lacks_them(root: Path) -> None:
    found = stems(modules.module_closure(root, VERSION, disk=True))
    assert found == ["squashfs", "overlay", "crc32c_generic", "crc16", "jbd2", "mbcache", "ext4"]


def test_what_the_initrd_has_is_not_brought(root: Path) -> None:
    held = {"ext4", "jbd2", "mbcache", "crc16", "crc32c_generic"}
    assert stems(modules.module_closure(root, VERSION, disk=True, in_initrd=held)) == ["squashfs", "overlay"]


def test_an_image_without_a_disk_brings_no_ext4(root: Path) -> None:
    assert stems(modules.module_closure(root, VERSION)) == ["squashfs", "overlay"]


def test_a_kernel_with_ext4_built_in_needs_no_module(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    assert stems(modules.module_closure(root, VERSION, disk=True)) == ["squashfs", "overlay"]


def test_a_kernel_without_ext4_is_refused_where_a_disk_is_wanted(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    (root / "lib/modules" / VERSION / "modules.builtin").write_text("")
    with pytest.raises(ImageError, match="has no module ext4; an ext4 root needs it"):
        modules.module_closure(root, VERSION, disk=True)


@requires("zstd")
@pytest.mark.parametrize("packed", ["plain", "gz", "xz", "lzma", "zst"])
@pytest.mark.parametrize("microcode", [b"", MICROCODE, MICROCODE + bytes(512)], ids=["", "microcode", "padded"])
def test_the_modules_of_an_initrd_are_seen(tmp_path: Path, packed: str, microcode: bytes) -> None:
    match packed:
        case "gz":
            data = gzip.compress(INITRD)
        case "xz":
            data = lzma.compress(INITRD, check=lzma.CHECK_CRC32)
        case "lzma":
            data = lzma.compress(INITRD, format=lzma.FORMAT_ALONE)
        case "zst":
            data = subprocess.run(["zstd", "-q"], input=INITRD, check=True, capture_output=True).stdout
        case _:
            data = INITRD
    path = tmp_path / "initrd.img"
    path.write_bytes(microcode + data)
    assert modules.in_initrd(path) == {"ext4", "crc32c_generic"}


@requires("zstd")
@pytest.mark.parametrize(
    "data",
    [b"", b"junk", INITRD[:150], INITRD[:50], b"\x1f\x8bjunk", b"\x28\xb5\x2f\xfdjunk", b"\xfd7zXZ\0junk", MICROCODE],
    ids=["empty", "junk", "cut", "cut-header", "gz", "zst", "xz", "microcode-only"],
)
def test_an_initrd_that_we_cannot_read_counts_as_one_without_modules(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "initrd.img"
    path.write_bytes(data)
    assert modules.in_initrd(path) == set()
    assert modules.in_initrd(tmp_path / "missing") == set()


@requires("mksquashfs", "unsquashfs", "mke2fs")
@pytest.mark.parametrize("initrd_has_it", [False, True])
def test_an_image_with_a_disk_brings_only_what_its_initrd_lacks(
    tmp_path: Path, root: Path, initrd_has_it: bool
) -> None:
    if initrd_has_it:
        (root / f"boot/initrd.img-{VERSION}").write_bytes(INITRD)
    image = build.add(tmp_path / "images", "node", root, level=1, disk_bytes=32 << 20, say=lambda _: None)
    brought = [path.name for path in image.modules]
    more = ["02-crc32c_generic.ko", "03-crc16.ko", "04-jbd2.ko", "05-mbcache.ko", "06-ext4.ko"]
    assert brought == ["00-squashfs.ko", "01-overlay.ko", *([] if initrd_has_it else more)]
    if not initrd_has_it:
        assert (image.folder / "modules/06-ext4.ko").read_bytes() == b"ext4 module"
    shutil.rmtree(tmp_path / "images")
