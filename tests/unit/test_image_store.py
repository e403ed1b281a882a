import hashlib
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pxeboot.image import store
from pxeboot.image.store import ImageError
from tests.support.fake_image import add_image
from tests.support.segment import requires


def test_an_images_id_stands_for_every_byte_of_it(tmp_path: Path) -> None:
    image = add_image(tmp_path)
    assert image.folder == tmp_path / "by-sha256" / image.image_id
    assert image.image_id == hashlib.sha256((image.folder / "SHA256SUMS").read_bytes()).hexdigest()
    for name, digest in image.sums.items():
        assert store.sha256_of(image.folder / name) == digest
    found = {str(path.relative_to(image.folder)) for path in image.folder.rglob("*") if path.is_file()}
    assert found == {*image.sums, "SHA256SUMS"}
    assert image.size_bytes == 73_728
    assert image.squashfs_sha256 == image.sums["root.squashfs"]
    assert [path.name for path in image.modules] == ["00-squashfs.ko", "01-overlay.ko"]


@requires("sha256sum")
def test_sha256sum_checks_an_image(tmp_path: Path) -> None:
    image = add_image(tmp_path)
    subprocess.run(["sha256sum", "-c", "--quiet", "--strict", "SHA256SUMS"], cwd=image.folder, check=True)


def test_an_image_is_read_only_and_readable_by_all(tmp_path: Path) -> None:
    image = add_image(tmp_path)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in image.folder.rglob("*") if path.is_file()}
    assert modes == {0o444}
    assert stat.S_IMODE(image.folder.stat().st_mode) == 0o755


@pytest.fixture
def tight_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("tight_umask")
def test_another_user_may_read_an_image_whatever_the_umask_was(tmp_path: Path) -> None:
    image = add_image(tmp_path / "a/images")
    for path in (tmp_path / "a", *(tmp_path / "a").rglob("*")):
        assert path.is_symlink() or stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o444), path
    image.folder.chmod(0o700)
    (image.folder / store.MODULES).chmod(0o700)
    assert add_image(tmp_path / "a/images") == image
    assert {stat.S_IMODE(path.stat().st_mode) for path in image.folder.rglob("*")} == {0o755, 0o444}
    assert stat.S_IMODE(image.folder.stat().st_mode) == 0o755


@pytest.mark.usefixtures("tight_umask")
def test_a_folder_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    store.make_folder(tmp_path / "a/b")
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in (".", "a", "a/b")] == [0o750, 0o755, 0o755]


def test_a_name_is_switched_and_who_resolved_it_before_keeps_what_it_saw(tmp_path: Path) -> None:
    one = add_image(tmp_path, marker="one")
    seen = store.open_image(tmp_path / "node")
    two = add_image(tmp_path, marker="two")
    assert (tmp_path / "node").readlink() == Path("by-sha256") / two.image_id
    assert store.open_image(tmp_path / "node") == two
    assert seen == one
    assert (seen.folder / "vmlinuz").read_bytes() != (two.folder / "vmlinuz").read_bytes()
    assert store.open_image(seen.folder) == one


def test_a_name_is_never_absent_while_it_is_switched(tmp_path: Path) -> None:
    ids = {add_image(tmp_path, marker=marker).image_id for marker in ("one", "two")}
    seen = set()
    script = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path; from tests.support.fake_image import add_image\n"
        "for n in range(30): add_image(Path(sys.argv[1]), marker=('one', 'two')[n % 2], size_bytes=73_728)\n"
    )
    here = str(Path(__file__).parents[2])
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path), here]) as other:
        while other.poll() is None:
            seen.add(store.open_image(tmp_path / "node").image_id)
    assert other.returncode == 0
    assert seen <= ids


def test_the_same_image_twice_is_one_image_with_two_names(tmp_path: Path) -> None:
    one, two = add_image(tmp_path, "node"), add_image(tmp_path, "other")
    assert one == two
    assert [path.name for path in (tmp_path / "by-sha256").iterdir()] == [one.image_id]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["by-sha256", "node", "other"]


def test_an_image_that_is_there_already_is_not_touched(tmp_path: Path) -> None:
    one = add_image(tmp_path)
    inode = (one.folder / "vmlinuz").stat().st_ino
    add_image(tmp_path)
    assert (one.folder / "vmlinuz").stat().st_ino == inode


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "../a", "by-sha256", "a b", "-a", "ä", "a\n", "a\0"]
)
def test_a_name_that_cannot_be_one_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match="cannot be an image's name"):
        add_image(tmp_path, name)


@pytest.mark.parametrize("name", ["node", "node-12.1", "N_1", "0"])
def test_a_name_may_hold_letters_digits_dots_and_hyphens(tmp_path: Path, name: str) -> None:
    add_image(tmp_path, name)
    store.open_image(tmp_path / name)


@pytest.mark.parametrize("missing", ["vmlinuz", "initrd.img", "root.squashfs"])
def test_an_image_that_lacks_a_file_is_refused(tmp_path: Path, missing: str) -> None:
    image = add_image(tmp_path)
    (image.folder / missing).unlink()
    with pytest.raises(ImageError, match=rf"{missing} missing; add the image again"):
        store.open_image(tmp_path / "node")


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe\n", b"junk\n", b"0" * 64 + b"  vmlinuz\n"])
def test_an_image_whose_list_was_changed_is_refused(tmp_path: Path, damage: bytes) -> None:
    image = add_image(tmp_path)
    (image.folder / "SHA256SUMS").chmod(0o644)
    (image.folder / "SHA256SUMS").write_bytes(damage)
    with pytest.raises(ImageError, match="SHA256SUMS is not what it was"):
        store.open_image(tmp_path / "node")


@pytest.mark.parametrize("name", ["../secret", "modules/../../secret", "/etc/shadow", "modules/a/b", "x\ty", ""])
def test_a_list_that_names_files_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "an-image"
    folder.mkdir()
    for file in ("vmlinuz", "initrd.img", "root.squashfs"):
        (folder / file).write_bytes(b"")
    digest = "0" * 64
    names = ["vmlinuz", "initrd.img", "root.squashfs", name]
    (folder / "SHA256SUMS").write_text("".join(f"{digest}  {file}\n" for file in names))
    with pytest.raises(ImageError, match="does not write"):
        store.open_image(folder)


@pytest.mark.parametrize("damage", ["none", "file", "loop", "dangling"])
def test_where_there_is_no_image_the_error_says_how_to_make_one(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "node"
    match damage:
        case "file":
            path.write_text("no folder")
        case "dangling":
            path.symlink_to("by-sha256/gone")
        case "loop":
            path.symlink_to("node")
        case _:
            pass
    with pytest.raises(ImageError, match="no image here"):
        store.open_image(path)


def test_what_a_killed_publish_left_is_removed_a_day_later(tmp_path: Path) -> None:
    image = add_image(tmp_path)
    left = [tmp_path / "by-sha256/.new-12345", tmp_path / ".build-abc"]
    for folder in left:
        (folder / "modules").mkdir(parents=True)
        (folder / "root.squashfs").write_bytes(b"half")
    link = tmp_path / ".node.12345"
    link.symlink_to("by-sha256/x")
    kept = tmp_path / ".git"
    kept.mkdir()
    add_image(tmp_path, marker="young")
    assert all(path.is_dir() for path in left)  # perhaps somebody is at work there
    old = time.time() - 90_000
    for path in (*left, link, kept, image.folder):
        os.utime(path, (old, old), follow_symlinks=False)
    add_image(tmp_path, marker="later")
    assert not any(os.path.lexists(path) for path in (*left, link))
    assert kept.is_dir()
    assert store.open_image(image.folder) == image


def test_a_publish_that_fails_leaves_the_name_as_it_was(tmp_path: Path) -> None:
    image = add_image(tmp_path)
    staged = store.staging(tmp_path)
    (staged / "vmlinuz").write_bytes(b"alone")
    with pytest.raises(ImageError, match=r"initrd.img, root.squashfs missing"):
        store.publish(tmp_path, "node", staged)
    assert store.open_image(tmp_path / "node") == image


def test_a_name_that_is_a_folder_of_somebody_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    with pytest.raises(OSError, match="directory"):
        add_image(tmp_path)
    assert (tmp_path / "node").is_dir()
