"""Files of images by digest and by name, and the digests beside them."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from config.content import Made, OpenFile
from config.model import Image
from pxeboot.bootfiles import imagefiles
from pxeboot.bootfiles.imagefiles import ImageFiles
from pxeboot.bootfiles.root import Root
from pxeboot.image import store
from pxeboot.seldom import Seldom
from tests.support.fake_image import add_image, noise

EVERY_FILE = ("vmlinuz", "initrd.img", "root.squashfs", "SHA256SUMS")


@pytest.fixture
def image(tmp_path: Path) -> store.StoredImage:
    return add_image(tmp_path / "images")


@pytest.fixture
def files(tmp_path: Path, image: store.StoredImage) -> ImageFiles:
    return ImageFiles({"node": Image(path=tmp_path / "images/node")}, Seldom())


def opened(files: ImageFiles, which: str, file: str) -> OpenFile:
    found = files.find(which, file)
    assert isinstance(found, OpenFile)
    found.close()
    return found


def read(files: ImageFiles, which: str, file: str) -> bytes | None:
    found = files.find(which, file)
    if found is None:
        return None
    try:
        return found.pread(1 << 20, 0)
    finally:
        found.close()


def test_an_image_that_the_farm_has_no_more_is_found_by_its_digest_where_it_was(
    tmp_path: Path, image: store.StoredImage
) -> None:
    after = ImageFiles({}, Seldom(), [tmp_path / "images/node"])
    assert after.find("node", "vmlinuz") is None
    assert opened(after, image.image_id, "vmlinuz").immutable
    with pytest.raises(store.ImageError, match="no image node any more"):
        after.current("node")


@pytest.mark.parametrize("file", EVERY_FILE)
def test_a_name_is_the_current_version_and_its_validator_the_digest(
    files: ImageFiles, image: store.StoredImage, file: str
) -> None:
    data = (image.folder / file).read_bytes()
    by_name, by_digest = opened(files, "node", file), opened(files, image.image_id, file)
    assert read(files, "node", file) == read(files, image.image_id, file) == data
    assert by_name.etag == by_digest.etag == hashlib.sha256(data).hexdigest()
    assert (by_name.immutable, by_digest.immutable) == (False, True)
    assert by_name.modified_s is None, "two versions may have the same date"
    assert by_name.name == file


@pytest.mark.parametrize("file", EVERY_FILE)
def test_sha256sum_checks_a_file_by_what_lies_beside_it(
    files: ImageFiles, image: store.StoredImage, tmp_path: Path, file: str
) -> None:
    for which, immutable in ((image.image_id, True), ("node", False)):
        found = files.find(which, f"{file}.sha256")
        assert isinstance(found, Made)
        assert (found.immutable, found.secret) == (immutable, False)
        assert found.etag == hashlib.sha256(found.data).hexdigest()
        folder = tmp_path / which
        folder.mkdir()
        (folder / file).write_bytes(read(files, which, file) or b"")
        argv = ["sha256sum", "--strict", "-c"]
        said = subprocess.run(argv, input=found.data, cwd=folder, capture_output=True, check=True).stdout
        assert said == f"{file}: OK\n".encode()


def test_a_name_that_is_switched_has_another_validator_and_its_open_file_stays(
    files: ImageFiles, tmp_path: Path
) -> None:
    before = files.find("node", "root.squashfs")
    assert isinstance(before, OpenFile)
    digest_before = files.find("node", "root.squashfs.sha256")
    add_image(tmp_path / "images", "node", "two")
    after = opened(files, "node", "root.squashfs")
    assert after.etag != before.etag
    assert files.find("node", "root.squashfs.sha256") != digest_before
    assert before.pread(1 << 20, 0) == noise("root.squashfs one", 73_728)
    assert read(files, "node", "root.squashfs") == noise("root.squashfs two", 73_728)
    before.close()


@pytest.mark.parametrize(
    ("which", "file"),
    [
        ("node", "vmlinuz.sha256.sha256"),
        ("node", ".sha256"),
        ("node", "modules/00-squashfs.ko"),
        ("node", "secret"),
        ("node", "link"),
        ("node", ""),
        ("other", "vmlinuz"),
        ("", "vmlinuz"),
        ("..", "vmlinuz"),
        (".", "vmlinuz"),
        ("by-sha256", "vmlinuz"),
        ("0" * 64, "vmlinuz"),
        ("0" * 64, "vmlinuz.sha256"),
    ],
)
def test_anything_else_is_no_file_of_an_image(
    files: ImageFiles, image: store.StoredImage, which: str, file: str
) -> None:
    (image.folder / "secret").write_text("secret")
    (image.folder / "link").symlink_to("vmlinuz")
    assert files.find(which, file) is None


def test_a_digest_is_no_name_and_a_name_no_digest(tmp_path: Path, image: store.StoredImage) -> None:
    """An image may be named by 64 hex digits; the digest of another one still means that one."""
    other = add_image(tmp_path / "images", "other", "two")
    settings = {image.image_id: tmp_path / "images/other", "node": tmp_path / "images/node", "f" * 64: image.folder}
    files = ImageFiles({name: Image(path=path) for name, path in settings.items()}, Seldom())
    assert opened(files, image.image_id, "vmlinuz").etag == image.sums["vmlinuz"]
    assert opened(files, other.image_id, "vmlinuz").etag == other.sums["vmlinuz"]
    assert opened(files, "f" * 64, "vmlinuz").immutable is False


def test_a_folder_that_is_moved_away_as_it_is_read_never_lends_its_digest_to_others_bytes(
    tmp_path: Path, image: store.StoredImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image's own folder, in no store, may be swapped by two renames between its listing and its file."""
    other = add_image(tmp_path / "images", "other", "two")
    shutil.copytree(image.folder, tmp_path / "made")
    shutil.copytree(other.folder, tmp_path / "next")
    files = ImageFiles({"node": Image(path=tmp_path / "made")}, Seldom())

    class Swapping(Root):
        def open(self, name: str, *, etag: str | None = None, immutable: bool = False) -> OpenFile | None:
            if (tmp_path / "next").exists():
                os.rename(tmp_path / "made", tmp_path / "gone")
                os.rename(tmp_path / "next", tmp_path / "made")
            return super().open(name, etag=etag, immutable=immutable)

    monkeypatch.setattr(imagefiles, "Root", Swapping)
    found = files.find("node", "vmlinuz")
    assert isinstance(found, OpenFile)
    assert hashlib.sha256(found.pread(1 << 20, 0)).hexdigest() == found.etag == other.sums["vmlinuz"]
    found.close()


def test_an_image_that_is_not_there_has_no_files(files: ImageFiles, tmp_path: Path) -> None:
    (tmp_path / "images/node").unlink()
    assert files.find("node", "vmlinuz") is None
    assert files.find("node", "vmlinuz.sha256") is None
    assert files.whole() == []
    with pytest.raises(store.ImageError, match="no image here"):
        files.current("node")
