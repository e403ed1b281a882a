import os
from pathlib import Path

import pytest

from config.durable import replace_file


def test_the_new_file_has_the_data_and_exactly_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "lts.conf"
    before = os.umask(0o077)
    try:
        replace_file(path, b"one")
        assert (path.read_bytes(), path.stat().st_mode & 0o7777) == (b"one", 0o640)
        replace_file(path, b"two", 0o664)
    finally:
        os.umask(before)
    assert (path.read_bytes(), path.stat().st_mode & 0o7777) == (b"two", 0o664)
    assert os.listdir(tmp_path) == ["lts.conf"]


def test_a_reader_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "lts.conf"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        replace_file(path, b"new and longer")
        assert reader.read() == b"old"


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"target")
    path = tmp_path / "link"
    path.symlink_to(target)
    replace_file(path, b"new")
    assert (target.read_bytes(), path.read_bytes(), path.is_symlink()) == (b"target", b"new", False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_owner_and_group_stay(tmp_path: Path) -> None:
    path = tmp_path / "lts.conf"
    path.write_bytes(b"old")
    os.chown(path, 12345, 54321)
    replace_file(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 54321)


@pytest.mark.parametrize("missing", ["folder/lts.conf", "file/lts.conf"])
def test_a_folder_that_is_none_is_an_error(tmp_path: Path, missing: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match=r"folder|file"):
        replace_file(tmp_path / missing, b"new")
    assert os.listdir(tmp_path) == ["file"]


def test_nothing_is_left_behind_when_the_rename_fails(tmp_path: Path) -> None:
    path = tmp_path / "lts.conf"
    (path / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        replace_file(path, b"new")
    assert os.listdir(tmp_path) == ["lts.conf"]
    assert path.is_dir()
