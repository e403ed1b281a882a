"""Images are removed whole, and never under somebody who uses them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pxeboot.image import aside, removal, store
from pxeboot.image.removal import InUse
from pxeboot.image.store import ImageError, StoredImage
from tests.support.fake_image import add_image


def nobody(_: str) -> list[str]:
    return []


def used_at(*times: int) -> Callable[[str], Sequence[str]]:
    """Return who is asked, and finds a user at these times, counted from 0."""
    asked = iter(range(100))
    return lambda _: ["m1 reads it by NBD"] if next(asked) in times else []


def there(folder: Path) -> list[str]:
    """Return what is in a store, but for what is whole under its own name."""
    by_digest = [path.name for path in (folder / "by-sha256").iterdir()]
    return sorted(name for name in by_digest if name.startswith("."))


@pytest.fixture
def one(tmp_path: Path) -> StoredImage:
    """The version before."""
    return add_image(tmp_path, marker="one")


@pytest.fixture
def two(tmp_path: Path, one: StoredImage) -> StoredImage:
    """The version that the name `node` points to."""
    return add_image(tmp_path, marker="two")


def test_a_name_goes_with_its_version(tmp_path: Path, one: StoredImage, two: StoredImage) -> None:
    assert removal.remove(tmp_path, "node", nobody) == ["name node", f"version {two.image_id[:16]}"]
    assert not os.path.lexists(tmp_path / "node")
    assert removal.versions(tmp_path) == [one.image_id]
    assert there(tmp_path) == []


def test_a_version_that_has_another_name_stays(tmp_path: Path, two: StoredImage) -> None:
    (tmp_path / "test").symlink_to(f"by-sha256/{two.image_id}")
    said = removal.remove(tmp_path, "node", used_at(0, 1))
    assert said == ["name node", f"not its version {two.image_id[:16]}, which is test too"]
    assert store.open_image(tmp_path / "test") == two


@pytest.mark.parametrize("digits", [6, 16, 64])
def test_a_version_without_a_name_is_removed_by_its_id(
    tmp_path: Path, one: StoredImage, two: StoredImage, digits: int
) -> None:
    removal.remove(tmp_path, one.image_id[:digits], nobody)
    assert removal.versions(tmp_path) == [two.image_id]


@pytest.mark.parametrize("when", [0, 1])
@pytest.mark.parametrize("by_name", [True, False])
def test_what_somebody_uses_stays_also_when_he_comes_at_the_last_moment(
    tmp_path: Path, one: StoredImage, two: StoredImage, when: int, by_name: bool
) -> None:
    with pytest.raises(InUse, match="stays: m1 reads it by NBD"):
        removal.remove(tmp_path, "node" if by_name else one.image_id, used_at(when))
    assert store.open_image(tmp_path / "node") == two
    assert sorted(removal.versions(tmp_path)) == sorted([one.image_id, two.image_id])
    assert there(tmp_path) == []


def test_nobody_new_finds_it_when_it_is_asked_for_the_last_time(tmp_path: Path, one: StoredImage) -> None:
    seen = []

    def users(image_id: str) -> list[str]:
        seen.append((tmp_path / "by-sha256" / image_id).exists())
        return []

    removal.remove(tmp_path, "node", users)
    assert seen == [True, False]


def test_it_is_put_back_when_nobody_answers_the_second_time(tmp_path: Path, one: StoredImage) -> None:
    answers = iter((list[str](),))

    def users(_: str) -> list[str]:
        for answer in answers:
            return answer
        raise ImageError("no daemon")

    with pytest.raises(ImageError, match="no daemon"):
        removal.remove(tmp_path, "node", users)
    assert store.open_image(tmp_path / "node") == one


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("nodes", "has no image 'nodes'"),
        ("0" * 5, "has no image"),
        ("../node", "has no image"),
        (".hidden", "has no image"),
        ("", "has no image"),
        ("by-sha256", "has no image"),
    ],
)
def test_what_is_not_there_cannot_be_removed(tmp_path: Path, two: StoredImage, word: str, why: str) -> None:
    with pytest.raises(ImageError, match=why):
        removal.remove(tmp_path, word, nobody)


def test_a_version_with_a_name_is_removed_by_its_name(tmp_path: Path, one: StoredImage) -> None:
    with pytest.raises(ImageError, match="has the name node; remove that"):
        removal.remove(tmp_path, one.image_id, nobody)


def test_a_beginning_that_two_versions_have_is_not_enough(tmp_path: Path, one: StoredImage) -> None:
    (tmp_path / "by-sha256" / (one.image_id[:10] + "f" * 54)).mkdir()
    with pytest.raises(ImageError, match=r"2 images .* write more of it"):
        removal.remove(tmp_path, one.image_id[:10], nobody)


def test_a_name_that_leads_nowhere_is_removed(tmp_path: Path, one: StoredImage) -> None:
    (tmp_path / "old").symlink_to("by-sha256/gone")
    assert removal.remove(tmp_path, "old", nobody) == ["name old"]
    assert not os.path.lexists(tmp_path / "old")


def test_a_name_that_leads_out_of_the_store_takes_nothing_with_it(tmp_path: Path, one: StoredImage) -> None:
    elsewhere = add_image(tmp_path / "other", marker="elsewhere")
    (tmp_path / "far").symlink_to(elsewhere.folder)
    assert removal.remove(tmp_path, "far", nobody) == ["name far"]
    assert store.open_image(elsewhere.folder) == elsewhere


def test_no_store_is_told(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no image is in .*nowhere"):
        removal.remove(tmp_path / "nowhere", "node", nobody)


def test_prune_leaves_names_and_the_newest_and_what_is_used(tmp_path: Path) -> None:
    images = [add_image(tmp_path, marker=marker) for marker in ("a", "b", "c", "d", "e")]
    for age, image in enumerate(reversed(images)):
        os.utime(image.folder / "SHA256SUMS", (1000 - age, 1000 - age))
    a, b, c, d, e = (image.image_id for image in images)
    done = dict(removal.prune(tmp_path, 1, lambda image_id: ["m1 booted it"] if image_id == b else []))
    assert list(done) == [c, b, a]
    assert (done[c], str(done[b]), done[a]) == (None, f"{b[:16]} stays: m1 booted it", None)
    assert removal.versions(tmp_path) == [e, d, b]


def test_only_one_removes_at_a_time(tmp_path: Path, one: StoredImage) -> None:
    with aside.alone(tmp_path / "by-sha256"), pytest.raises(ImageError, match="another `pxeboot image`"):
        removal.remove(tmp_path, "node", nobody)


def test_a_version_is_not_removed_before_it_is_given_its_name(
    tmp_path: Path, one: StoredImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def in_between(folder: Path) -> None:
        with pytest.raises(ImageError, match="another `pxeboot image`") as told:
            list(removal.prune(tmp_path, 0, nobody))
        tried.append(told)

    monkeypatch.setattr(store, "sync_folder", in_between)
    assert add_image(tmp_path, marker="two").folder.is_dir()
    assert tried


KILLED = """
import os, signal, sys
from pathlib import Path
from pxeboot.image import aside, removal

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

match sys.argv[3]:
    case "aside":
        asked = iter((lambda _: [], die))
        users = lambda image_id: next(asked)(image_id)
    case "deleting":
        users = lambda _: []
        def half(folder):
            next(path for path in folder.iterdir() if path.is_file()).unlink()
            die()
        aside.shutil.rmtree = half
removal.remove(Path(sys.argv[1]), sys.argv[2], users)
"""


@pytest.mark.parametrize("when", ["aside", "deleting"])
@pytest.mark.parametrize("then", ["remove", "add"])
def test_a_killed_remove_leaves_no_half_version(tmp_path: Path, one: StoredImage, when: str, then: str) -> None:
    two = add_image(tmp_path, marker="two")
    argv = [sys.executable, "-c", KILLED, str(tmp_path), one.image_id, when]
    assert subprocess.run(argv, check=False, timeout=30).returncode == -9
    assert not one.folder.exists()
    assert there(tmp_path) == [f".{when if when == 'aside' else 'gone'}-{one.image_id}"]
    if then == "add":
        add_image(tmp_path, marker="two")
    else:
        with pytest.raises(ImageError, match="has no image"):
            removal.remove(tmp_path, "nothing", nobody)
    assert there(tmp_path) == []
    assert one.folder.exists() == (when == "aside")
    assert [store.open_image(tmp_path / "by-sha256" / image_id).image_id for image_id in removal.versions(tmp_path)]
    assert store.open_image(tmp_path / "node") == two


def test_a_version_that_was_added_again_meanwhile_stays(tmp_path: Path, one: StoredImage) -> None:
    add_image(tmp_path, marker="two")

    def users(image_id: str) -> list[str]:
        if not one.folder.exists():
            shutil.copytree(tmp_path / "by-sha256" / f".aside-{image_id}", one.folder)
            return ["m1 reads it by NBD"]
        return []

    with pytest.raises(InUse):
        removal.remove(tmp_path, one.image_id, users)
    assert store.open_image(one.folder) == one
    assert there(tmp_path) == []
