import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pxeboot.bootfiles.cpio import Entry, archive
from tests.support.cpio_reader import unpack
from tests.support.segment import requires

part = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=12)
paths = st.lists(part.filter(lambda p: p not in (".", "..")), min_size=1, max_size=4).map("/".join)
entries = st.builds(
    Entry,
    path=paths,
    data=st.binary(max_size=70),
    mode=st.sampled_from([0o600, 0o644, 0o755]),
    target=st.none() | st.text("abc/.", min_size=1, max_size=9),
    folder_mode=st.sampled_from([0o700, 0o755]),
)


@given(st.lists(entries, max_size=12))
def test_an_archive_holds_its_entries_and_their_folders(wanted: list[Entry]) -> None:
    try:
        made = archive(wanted)
    except ValueError:
        files = {entry.path for entry in wanted}
        assert any(other.startswith(f"{path}/") for path in files for other in files)
        return
    found = unpack(made)
    last = {entry.path: entry for entry in wanted}
    assert {path for path, entry in found.items() if not entry.is_folder} == last.keys()
    for path, entry in last.items():
        if entry.target is not None:
            assert found[path].target == entry.target
        else:
            assert (found[path].data, found[path].mode) == (entry.data, stat.S_IFREG | entry.mode)
    inodes = [entry.inode for entry in found.values()]
    assert len(set(inodes)) == len(inodes)  # two with one inode and two links would be one file to the kernel
    assert all(entry.links == (2 if entry.is_folder else 1) for entry in found.values())


@given(st.lists(entries, max_size=8, unique_by=lambda entry: entry.path), st.randoms(use_true_random=False))
def test_the_same_entries_are_the_same_bytes_in_whatever_order(wanted: list[Entry], random: object) -> None:
    same_folders = [Entry(e.path, e.data, e.mode, e.target) for e in wanted]
    shuffled = list(same_folders)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    try:
        made = archive(same_folders)
    except ValueError:
        return
    assert archive(shuffled) == made


@pytest.mark.parametrize("path", ["", ".", "/", "/etc/shadow", "..", "../a", "a/../../b", "a/..", "//a", "a\0b", "\0"])
def test_a_path_that_is_not_inside_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="is not a path inside"):
        archive([Entry(path)])


def test_a_path_cannot_be_a_file_and_a_folder() -> None:
    with pytest.raises(ValueError, match="'a' is a file and a folder"):
        archive([Entry("a"), Entry("a/b")])


def test_of_two_with_one_path_the_later_counts() -> None:
    assert unpack(archive([Entry("a/b", b"1"), Entry("a//./b", b"2")]))["a/b"].data == b"2"


def test_only_the_nearest_folder_has_the_mode_that_is_asked_for() -> None:
    found = unpack(archive([Entry("root/.ssh/keys", b"", 0o600, folder_mode=0o700)]))
    assert (found["root"].permissions, found["root/.ssh"].permissions) == (0o755, 0o700)


@requires("cpio")
@settings(max_examples=15)
@given(st.dictionaries(st.text("ab -_'$é", min_size=1, max_size=9), st.binary(max_size=9), max_size=6))
def test_the_cpio_command_lists_the_same(wanted: dict[str, bytes]) -> None:
    made = archive(Entry(f"folder/{name}", data) for name, data in wanted.items())
    said = subprocess.run(["cpio", "-t", "--quiet"], input=made, capture_output=True, check=True)
    assert said.stdout.decode().splitlines() == [*unpack(made)]


@requires("cpio")
def test_the_cpio_command_finds_bytes_modes_and_links(tmp_path: Path) -> None:
    made = archive([Entry("a/b", b"hello", 0o640, folder_mode=0o700), Entry("a/c", target="/etc/x"), Entry("d", b"")])
    subprocess.run(["cpio", "-i", "--quiet", "-d", "-m"], input=made, cwd=tmp_path, check=True)
    assert (tmp_path / "a/b").read_bytes() == b"hello"
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert (tmp_path / "a/c").readlink() == Path("/etc/x")
