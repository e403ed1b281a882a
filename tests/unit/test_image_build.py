import gzip
import lzma
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pxeboot.image import build, modules, tools
from pxeboot.image.store import ImageError
from tests.support.fake_image import VERSION, make_root, noise
from tests.support.segment import requires

needs_squashfs = requires("mksquashfs", "unsquashfs")


def quiet(_: str) -> None:
    """Say nothing."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_root(tmp_path / "root")


@pytest.mark.parametrize(
    ("names", "newest"),
    [
        (["vmlinuz-6.1.0-9-amd64", "vmlinuz-6.1.0-10-amd64"], "vmlinuz-6.1.0-10-amd64"),
        (["vmlinuz-6.1.0-9-amd64", "vmlinuz-6.12.0-1-amd64", "vmlinuz-6.2.0-1-amd64"], "vmlinuz-6.12.0-1-amd64"),
        (["vmlinux-6.1", "vmlinuz-5.9"], "vmlinux-6.1"),
        (["vmlinuz-6", "vmlinuz"], "vmlinuz-6"),
        (["vmlinuz-custom", "vmlinuz-6.1"], "vmlinuz-6.1"),
    ],
)
def test_the_kernel_of_the_highest_version_is_taken(tmp_path: Path, names: list[str], newest: str) -> None:
    (tmp_path / "boot").mkdir()
    for name in names:
        (tmp_path / "boot" / name).write_bytes(b"")
    assert build.newest(tmp_path, "vmlinu?-*").name == newest


def test_a_root_without_a_kernel_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="install a kernel in it, or give --kernel and --initrd"):
        build.newest(tmp_path, "vmlinu?-*")


def test_modules_come_after_what_they_need(tmp_path: Path) -> None:
    root = make_root(
        tmp_path,
        modules={
            "fs/squashfs/squashfs.ko.xz": ("lib/zstd.ko lib/common.ko lib/xxhash.ko", b""),
            "fs/overlayfs/overlay.ko": ("lib/common.ko", b""),
            "lib/zstd.ko": ("lib/xxhash.ko", b""),
            "lib/xxhash.ko": ("", b""),
            "lib/common.ko": ("", b""),
            "drivers/other.ko": ("", b""),
        },
    )
    names = [path.name for path in modules.module_closure(root, VERSION)]
    assert names == ["xxhash.ko", "common.ko", "zstd.ko", "squashfs.ko.xz", "overlay.ko"]


def test_what_is_built_into_the_kernel_is_no_module(root: Path) -> None:
    base = root / "lib/modules" / VERSION
    (base / "modules.builtin").write_text("kernel/fs/squashfs/squashfs.ko\n")
    assert [path.name for path in modules.module_closure(root, VERSION)] == ["overlay.ko"]


@pytest.mark.parametrize("name", ["squashfs", "overlay"])
def test_a_kernel_without_a_module_that_is_needed_is_refused(root: Path, name: str) -> None:
    index = root / "lib/modules" / VERSION / "modules.dep"
    index.write_text("".join(line + "\n" for line in index.read_text().splitlines() if name not in line))
    with pytest.raises(ImageError, match=f"kernel {VERSION} has no module {name}"):
        modules.module_closure(root, VERSION)


def test_a_root_without_modules_for_its_kernel_is_refused(root: Path) -> None:
    with pytest.raises(ImageError, match=r"no kernel modules for 9\.9"):
        modules.module_closure(root, "9.9")


def test_modules_are_found_where_lib_is_usr_lib(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    (root / "usr").mkdir()
    (root / "lib").rename(root / "usr/lib")
    (root / "lib").symlink_to("usr/lib")
    assert [path.name for path in modules.module_closure(root, VERSION)] == ["squashfs.ko", "overlay.ko"]
    assert modules.only_modules(root) == VERSION


@requires("zstd")
@pytest.mark.parametrize("suffix", ["", ".xz", ".gz", ".zst"])
def test_a_module_is_unpacked(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.ko{suffix}"
    match suffix:
        case ".xz":
            path.write_bytes(lzma.compress(b"ELF"))
        case ".gz":
            path.write_bytes(gzip.compress(b"ELF"))
        case ".zst":
            subprocess.run(["zstd", "-q", "-o", path], input=b"ELF", check=True)
        case _:
            path.write_bytes(b"ELF")
    assert modules.unpacked(path) == b"ELF"


@requires("zstd")
@pytest.mark.parametrize("suffix", [".xz", ".gz", ".zst"])
def test_a_module_that_cannot_be_unpacked_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.ko{suffix}"
    for junk in (b"junk", b""):
        path.write_bytes(junk)
        if junk or suffix == ".xz":
            with pytest.raises(ImageError, match=r"a\.ko.* cannot be unpacked"):
                modules.unpacked(path)
    path.unlink()
    with pytest.raises(ImageError, match="cannot be unpacked"):
        modules.unpacked(path)


@pytest.mark.parametrize("name", ["initrd.img-1.0", "initramfs-1.0.img", "initrd-1.0"])
def test_the_initrd_is_the_kernels_own_whatever_a_distribution_calls_it(root: Path, name: str) -> None:
    (root / "boot/initrd.img-1.0").rename(root / "boot" / name)
    (root / "boot/initrd.img-2.0").write_bytes(b"another kernel's")
    assert build.matching_initrd(root, "1.0").name == name


def test_a_kernel_without_its_initrd_is_refused(root: Path) -> None:
    (root / "boot/initrd.img-1.0").unlink()
    with pytest.raises(ImageError, match=r"no initrd for kernel 1\.0 in /boot; run update-initramfs"):
        build.add_root(root, root.parent / "images", "node", say=quiet)


@pytest.mark.parametrize("kind", ["folder", "tar", "tar.gz", "squashfs"])
@requires("mksquashfs", "unsquashfs", "tar")
def test_a_root_that_somebody_made_becomes_an_image(tmp_path: Path, root: Path, kind: str) -> None:
    make_root(root, "0.9")  # an older kernel beside it
    (root / "boot/config-1.0").write_text("CONFIG_CGROUPS=y\n")
    source = pack(root, kind)
    image = build.add(tmp_path / "images", "node", source, level=1, say=quiet)
    assert (image.folder / "vmlinuz").read_bytes() == noise("kernel 1.0", 2000)
    assert (image.folder / "initrd.img").read_bytes() == noise("initrd 1.0", 2000)
    assert [path.name for path in image.modules] == ["00-squashfs.ko", "01-overlay.ko"]
    assert (image.folder / "modules/00-squashfs.ko").read_bytes() == b"squashfs module"
    if kind == "squashfs":
        assert (image.folder / "root.squashfs").read_bytes() == source.read_bytes()
    unpacked = tmp_path / "unpacked"
    subprocess.run(["unsquashfs", "-q", "-n", "-d", unpacked, image.folder / "root.squashfs"], check=True)
    assert (unpacked / "etc/hostname").read_text() == "made-elsewhere\n"
    assert kind == "squashfs" or [path.name for path in (unpacked / "boot").iterdir()] == ["config-1.0"]
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["by-sha256", "node"]
    assert [path.name for path in (tmp_path / "images/by-sha256").iterdir()] == [image.image_id]
    assert (root / "boot/vmlinuz-1.0").exists()  # somebody's folder stays as it is


def pack(root: Path, kind: str) -> Path:
    """Return `root` packed as `kind`."""
    packed = root.with_suffix(f".{kind}")
    match kind:
        case "folder":
            return root
        case "squashfs":
            subprocess.run(["mksquashfs", root, packed, "-no-progress", "-quiet"], check=True, capture_output=True)
        case _:
            subprocess.run(["tar", "-caf", packed, "-C", root, "."], check=True)
    return packed


@needs_squashfs
def test_a_squashfs_whose_lib_is_usr_lib_becomes_an_image(tmp_path: Path, root: Path) -> None:
    (root / "usr").mkdir()
    (root / "lib").rename(root / "usr/lib")
    (root / "lib").symlink_to("usr/lib")
    image = build.add(tmp_path / "images", "node", pack(root, "squashfs"), say=quiet)
    assert [path.name for path in image.modules] == ["00-squashfs.ko", "01-overlay.ko"]


@needs_squashfs
def test_a_kernel_and_initrd_from_elsewhere_need_no_boot_folder(tmp_path: Path, root: Path) -> None:
    kernel, initrd = tmp_path / "bzImage", tmp_path / "my-initrd"
    kernel.write_bytes(b"kernel")
    initrd.write_bytes(b"initrd")
    shutil.rmtree(root / "boot")
    image = build.add(
        tmp_path / "images", "node", pack(root, "squashfs"), kernel=kernel, initrd=initrd, level=1, say=quiet
    )
    assert (image.folder / "vmlinuz").read_bytes() == b"kernel"
    assert (image.folder / "initrd.img").read_bytes() == b"initrd"
    assert (image.folder / "modules/01-overlay.ko").read_bytes() == b"overlay module"


def test_a_kernel_without_a_version_in_its_name_needs_modules_of_one_version(tmp_path: Path, root: Path) -> None:
    (root / "boot/vmlinuz-1.0").rename(root / "boot/vmlinuz")
    with pytest.raises(ImageError, match="give --kernel and --initrd"):
        build.add_root(root, tmp_path / "images", "node", say=quiet)
    make_root(root, "2.0")
    with pytest.raises(ImageError, match=r"says no version and the root has modules for: 1\.0, 2\.0"):
        build.add_root(root, tmp_path / "images", "node", kernel=root / "boot/vmlinuz", say=quiet)
    shutil.rmtree(root / "lib")
    with pytest.raises(ImageError, match=r"has modules for: none"):
        build.add_root(root, tmp_path / "images", "node", kernel=root / "boot/vmlinuz", say=quiet)


@requires("mksquashfs")
def test_a_kernel_without_a_version_in_its_name_is_that_of_the_modules(tmp_path: Path, root: Path) -> None:
    (root / "boot/vmlinuz-1.0").rename(root / "boot/vmlinuz")
    image = build.add(tmp_path / "images", "node", root, kernel=root / "boot/vmlinuz", level=1, say=quiet)
    assert (image.folder / "initrd.img").read_bytes() == noise("initrd 1.0", 2000)


@pytest.mark.parametrize(
    "link",
    [
        "boot/vmlinuz-9.9",
        "boot/initrd.img-1.0",
        "lib/modules/1.0/modules.dep",
        "lib/modules/1.0/kernel/fs/squashfs/squashfs.ko",
        "lib/modules/1.0/kernel",
        "boot",
    ],
)
@requires("mksquashfs")
def test_a_link_in_a_root_does_not_publish_a_file_of_ours(tmp_path: Path, root: Path, link: str) -> None:
    ours = tmp_path / "ours"
    shutil.copytree(root / link, ours) if (root / link).is_dir() else ours.write_text("secret")
    if (root / link).is_dir():
        shutil.rmtree(root / link)
    (root / link).unlink(missing_ok=True)
    (root / link).symlink_to(ours)
    if link == "boot/vmlinuz-9.9":  # a link beside the kernel is not the kernel
        image = build.add(tmp_path / "images", "node", root, level=1, say=quiet)
        assert (image.folder / "vmlinuz").read_bytes() == noise("kernel 1.0", 2000)
        return
    with pytest.raises(ImageError, match="leads out of the root"):
        build.add(tmp_path / "images", "node", root, level=1, say=quiet)


def test_an_absolute_path_in_the_module_index_is_refused(root: Path) -> None:
    index = root / "lib/modules" / VERSION / "modules.dep"
    index.write_text("/etc/squashfs.ko:\nkernel/fs/overlayfs/overlay.ko: /etc/shadow\n")
    with pytest.raises(ImageError, match="leads out of the root"):
        modules.module_closure(root, VERSION)


def test_a_name_that_cannot_be_one_is_refused_before_anything_is_packed(tmp_path: Path, root: Path) -> None:
    with pytest.raises(ImageError, match="cannot be an image's name"):
        build.add(tmp_path / "images", "a/b", root, say=quiet)
    assert not (tmp_path / "images/by-sha256").exists()


@requires("tar")
def test_what_is_no_archive_is_refused_with_what_the_tool_said(tmp_path: Path) -> None:
    junk = tmp_path / "junk.squashfs"
    junk.write_bytes(b"neither")
    with pytest.raises(ImageError, match=r"tar failed with status 2:\n(.|\n)*not look like a tar"):
        build.add(tmp_path / "images", "node", junk, say=quiet)
    assert [*(tmp_path / "images").iterdir()] == []  # the workspace is gone
    with pytest.raises(ImageError, match="no such file or folder"):
        build.add(tmp_path / "images", "node", tmp_path / "missing", say=quiet)


@needs_squashfs
def test_a_broken_squashfs_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.squashfs"
    broken.write_bytes(b"hsqs" + bytes(100))
    with pytest.raises(ImageError, match="unsquashfs failed"):
        build.add(tmp_path / "images", "node", broken, say=quiet)


def test_tools_that_are_missing_are_named_with_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(
        ImageError, match="mksquashfs, mmdebstrap not found; apt-get install mmdebstrap squashfs-tools"
    ):
        tools.require_tools("mksquashfs", "mmdebstrap")


@needs_squashfs
@pytest.mark.parametrize("kind", ["folder", "squashfs"])
def test_ssh_host_keys_of_a_root_that_somebody_made_are_named(tmp_path: Path, root: Path, kind: str) -> None:
    said: list[str] = []
    source = root if kind == "folder" else pack(root, kind)
    build.add(tmp_path / "images", "node", source, level=1, say=said.append)
    assert not [line for line in said if "warning" in line]
    (root / "etc/ssh").mkdir()
    for name in ("ssh_host_rsa_key", "ssh_host_rsa_key.pub", "ssh_host_ed25519_key", "sshd_config"):
        (root / "etc/ssh" / name).write_text("x")
    if kind != "folder":
        source.unlink()
        source = pack(root, kind)
    build.add(tmp_path / "images", "node", source, level=1, say=said.append)
    (warning,) = [line for line in said if "warning" in line]
    assert "image: etc/ssh/ssh_host_ed25519_key, etc/ssh/ssh_host_rsa_key; who" in warning


def test_clean_takes_out_what_must_differ(tmp_path: Path) -> None:
    for name in (
        "etc/machine-id",
        "etc/ssh/ssh_host_rsa_key",
        "etc/ssh/sshd_config",
        "tmp/.x/y",
        "tmp/z",
        "var/tmp/a",
        "var/cache/apt/archives/a.deb",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "tmp/link").symlink_to(tmp_path / "etc")
    (tmp_path / "var/lib/apt/lists").mkdir(parents=True)
    (tmp_path / "var/lib/apt/lists/partial").mkdir()
    build.clean(tmp_path)
    assert (tmp_path / "etc/machine-id").read_text() == ""
    assert sorted(os.listdir(tmp_path / "etc/ssh")) == ["sshd_config"]
    for folder in ("tmp", "var/tmp", "var/lib/apt/lists", "var/cache/apt/archives"):
        assert os.listdir(tmp_path / folder) == []


def test_a_workspace_is_gone_whatever_happens(tmp_path: Path) -> None:
    def fail() -> None:
        with build.workspace(tmp_path / "images") as work:
            (work / "root").mkdir()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [*(tmp_path / "images").iterdir()] == []
