"""What a command fetches takes its place once it is complete."""

import os
from pathlib import Path

from pxeboot.cli.keeping import keeping


def test_what_is_kept_takes_its_place(tmp_path: Path) -> None:
    with keeping(tmp_path / "file") as kept:
        kept.file.write(b"new")
        assert not (tmp_path / "file").exists()
        kept.keep()
    assert (tmp_path / "file").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_what_lay_there_stays_until_then(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "file").chmod(0o604)
    with keeping(tmp_path / "file") as kept:
        kept.file.write(b"half")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
    with keeping(tmp_path / "file") as kept:
        kept.file.write(b"new")
        kept.keep()
    assert (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o604


def test_a_link_goes_on_leading_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    with keeping(tmp_path / "link") as kept:
        kept.file.write(b"new")
        kept.keep()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_device_is_written_to_as_it_is() -> None:
    with keeping(Path(os.devnull)) as kept:
        kept.file.write(b"gone")
        kept.keep()
    assert not Path(os.devnull).is_file()
    assert [name for name in os.listdir("/dev") if name.startswith(".null")] == []
