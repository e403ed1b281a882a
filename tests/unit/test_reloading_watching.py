"""When a file is read again: once it is another one, and stands still."""

import os
from pathlib import Path

import pytest

from pxeboot.reloading.watching import Facts, Source, Watched, facts

ONE, TWO, THREE = (1, 1, 10, 0, 0), (1, 2, 10, 0, 0), (1, 2, 11, 0, 0)

HISTORIES = [
    pytest.param([ONE, ONE, ONE], [False, False, False], id="it stays as it is"),
    pytest.param([TWO, TWO], [False, True], id="it is another one, and stands still"),
    pytest.param([TWO, THREE, THREE], [False, False, True], id="somebody still writes it"),
    pytest.param([None, ONE], [False, False], id="an editor takes it away for a moment"),
    pytest.param([None, None], [False, True], id="it is gone"),
    pytest.param([TWO, ONE, ONE], [False, False, False], id="a change that was taken back"),
]


@pytest.mark.parametrize(("looks", "read"), HISTORIES)
def test_a_file_is_read_again_when_it_changed_and_stands_still(looks: list[Facts], read: list[bool]) -> None:
    watched = Watched(ONE)
    assert [watched.look(look) for look in looks] == read


def test_a_version_that_was_read_is_not_read_again_though_it_was_refused() -> None:
    watched = Watched(ONE)
    watched.look(TWO)
    assert watched.moves
    watched.was_read(TWO)
    assert not watched.moves
    assert not watched.look(TWO)
    assert [watched.look(THREE), watched.look(THREE)] == [False, True]


def test_a_file_is_another_one_whichever_link_on_the_way_to_it_changes(tmp_path: Path) -> None:
    # As a kubelet mounts a ConfigMap: farm.yaml -> ..data/farm.yaml, ..data -> ..2026_11_22
    for day in ("..2026_11_21", "..2026_11_22"):
        (tmp_path / day).mkdir()
        (tmp_path / day / "farm.yaml").write_text("pools: []\n")
    (tmp_path / "..data").symlink_to("..2026_11_21")
    (tmp_path / "farm.yaml").symlink_to("..data/farm.yaml")
    before = facts(tmp_path / "farm.yaml")
    (tmp_path / "..data_tmp").symlink_to("..2026_11_22")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert before is not None
    assert facts(tmp_path / "farm.yaml") != before


def test_a_file_that_is_written_over_with_as_many_bytes_is_another_one(tmp_path: Path) -> None:
    file = tmp_path / "farm.yaml"
    file.write_text("http_port: 80\n")
    os.utime(file, ns=(1, 1))
    before = facts(file)
    file.write_text("http_port: 81\n")
    assert facts(file) != before


def test_a_source_is_an_absolute_path_whatever_folder_we_are_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Source.of(Path("farm.yaml")) == Source(tmp_path / "farm.yaml", None)
