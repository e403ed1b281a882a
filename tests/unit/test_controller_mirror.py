"""controller.mirror: what becomes of a file that a pushed lts.conf is copied to; the rest is in tests/net."""

from pathlib import Path

import pytest

from config.clusters import Push
from pxeboot.controller.lts_file import LtsFile
from pxeboot.controller.mirror import Mirror
from pxeboot.controller.token import parse_rfc3339
from pxeboot.kube.api import Api

KEY = "RCFILE_07_JOIN_K8S"
THEIRS = f'[Default]\n{KEY}="kubeadm join theirs:6443"\n'
OURS = f'{THEIRS}JOIN_K8S_EXPIRES="2026-01-01T00:00:00Z"\n'


def mirror(path: Path) -> Mirror:
    return Mirror("prod", Api("prod", None), Push(name="pxeboot-lts"), LtsFile(path, "Default", KEY))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (THEIRS, THEIRS),
        (OURS, "[Default]\n"),
        (f"# A copy, kept by pxeboot controller; change the original, Secret x, y.\n{THEIRS}", None),
    ],
    ids=["a person's", "ours, of a time before `push`", "a copy of an object that is gone"],
)
def test_without_an_object_only_a_command_that_we_wrote_leaves_the_file(
    tmp_path: Path, before: str, after: str | None
) -> None:
    file = tmp_path / "lts.conf"
    file.write_text(before)
    mirror(file)._store(None, None)
    assert file.read_text() == (before.replace(THEIRS, "[Default]\n") if after is None else after)


@pytest.mark.parametrize(("late_s", "is_there"), [(-1, True), (0, False)])
def test_a_command_that_has_expired_is_not_copied(tmp_path: Path, late_s: int, is_there: bool) -> None:
    file = tmp_path / "lts.conf"
    now = parse_rfc3339("2026-01-01T00:00:00Z") + late_s
    copying = Mirror("prod", Api("prod", None), Push(name="pxeboot-lts"), LtsFile(file, "Default", KEY), lambda: now)
    copying._store(OURS, LtsFile(file, "Default", KEY).place.read(OURS))
    assert ("kubeadm join" in file.read_text()) == is_there
    assert "[Default]" in file.read_text()


def test_a_file_that_an_object_cannot_hold_is_told_and_not_changed_on_its_way(tmp_path: Path) -> None:
    """A ConfigMap would hold U+FFFD in place of each such byte."""
    file = tmp_path / "lts.conf"
    file.write_bytes(b"# caf\xe9\n[Default]\n")
    with pytest.raises(ValueError, match="is not UTF-8"):
        mirror(file).original()
