"""The safe root: a name never leaves the folder, not by `..`, not by a link, not by a race (T-24, A-20, A-21)."""

import ctypes
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.bootfiles.root import Root, components


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A served folder, a secret beside it, and a sibling whose name begins with the folder's."""
    root = tmp_path / "tftp"
    (root / "grub" / "x86_64-efi").mkdir(parents=True)
    (root / "grub" / "x86_64-efi" / "core.efi").write_bytes(b"loader")
    (root / "empty").write_bytes(b"")
    (root / "čárka.cfg").write_bytes(b"utf-8")
    (root / "a\\b").write_bytes(b"a backslash in a name")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "tftp2").mkdir()
    (tmp_path / "tftp2" / "secret").write_bytes(b"secret")
    return root


def read(root: Path, name: str) -> bytes | None:
    found = Root(root).open(name)
    if found is None:
        return None
    try:
        return found.pread(100, 0)
    finally:
        found.close()


@pytest.mark.parametrize(
    ("name", "content"),
    [("grub/x86_64-efi/core.efi", b"loader"), ("empty", b""), ("čárka.cfg", b"utf-8")],
)
def test_a_regular_file_below_the_folder_is_served(tree: Path, name: str, content: bytes) -> None:
    assert read(tree, name) == content


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "/",
        "../secret",
        "../tftp2/secret",
        "grub/../../secret",
        "grub/./x86_64-efi/core.efi",
        "grub//x86_64-efi/core.efi",
        "/grub/x86_64-efi/core.efi",
        "/etc/passwd",
        "grub/x86_64-efi/core.efi/",
        "empty/",
        "empty/x",
        "grub",
        "grub/",
        "%2e%2e/secret",
        "..\\secret",
        "grub\\x86_64-efi\\core.efi",
        "grub\\..\\..\\secret",
        "a\\b",
        "empty\0",
        "\0",
        "empty\n",
        "empt\udc80y",
        "e" * 256,
        "e/" * 600 + "e",
        "missing",
    ],
)
def test_any_other_name_is_no_file(tree: Path, name: str) -> None:
    assert read(tree, name) is None


@pytest.mark.parametrize(
    "name",
    [
        ".hidden",
        ".git/config",
        "a.tmp",
        "a.part",
        "a~",
        "#a#",
        ".a.swp",
        "sub.tmp/a",
        "A.TMP",
        "a.dpkg-new",
        "a.filepart",
        "a.swo",
    ],
)
def test_hidden_and_temporary_files_are_not_served(tree: Path, name: str) -> None:
    (tree / name).parent.mkdir(exist_ok=True)
    (tree / name).write_bytes(b"x")
    assert read(tree, name) is None


@pytest.mark.parametrize("target", ["../secret", "/etc/passwd", "empty", "grub/x86_64-efi/core.efi", "missing"])
def test_a_link_is_not_followed_wherever_it_leads(tree: Path, target: str) -> None:
    (tree / "link").symlink_to(target)
    assert read(tree, "link") is None


def test_a_linked_folder_in_the_middle_is_not_followed(tree: Path) -> None:
    (tree / "out").symlink_to(tree.parent)
    (tree / "grub" / "in").symlink_to(tree / "grub" / "x86_64-efi")
    assert read(tree, "out/secret") is None
    assert read(tree, "grub/in/core.efi") is None


def test_the_folder_itself_may_be_a_link_and_may_move(tree: Path) -> None:
    name = tree.parent / "current"
    name.symlink_to(tree)
    root = Root(name)
    found = root.open("empty")
    assert found is not None
    found.close()
    name.unlink()
    assert root.open("empty") is None
    name.symlink_to(tree.parent)
    found = root.open("secret")
    assert found is not None
    found.close()


def test_fifos_sockets_and_devices_are_no_files_and_do_not_block(tree: Path) -> None:
    os.mkfifo(tree / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tree / "socket"))
        assert read(tree, "fifo") is None
        assert read(tree, "socket") is None
    if os.geteuid() == 0:
        os.mknod(tree / "null", 0o20666, os.makedev(1, 3))
        assert read(tree, "null") is None
    assert read(Path("/dev"), "null") is None


def test_a_name_is_utf_8_whatever_the_locale_says(tree: Path) -> None:
    """In a Latin-1 locale, Python would look for other bytes, and raise for what Latin-1 has no letter for."""
    program = (
        "import sys; from tests.unit.test_pxeboot_bootfiles_root import *; print(read(Path(sys.argv[1]), 'čárka.cfg'))"
    )
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    argv = [sys.executable, "-X", "utf8=0", "-c", program.replace("č", "\\u010d").replace("á", "\\xe1"), str(tree)]
    assert subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout == "b'utf-8'\n"


def test_what_we_may_not_read_is_no_file_and_a_person_hears_of_it() -> None:
    denied: list[str] = []
    with TemporaryDirectory() as folder, ThreadPoolExecutor(1) as thread:
        (Path(folder) / "private").touch(0)
        Path(folder).chmod(0o755)
        root = Root(Path(folder), denied.append)
        thread.submit(ctypes.CDLL(None).setfsuid, 65534).result()  # nobody, for the file accesses of this thread
        assert thread.submit(root.open, "missing").result() is None
        assert denied == []
        assert thread.submit(root.open, "private").result() is None
        assert denied == ["private"]


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def swapping(path: Path, other: Path) -> Iterator[None]:
    """Replace `path` by a link to `other` and put it back, over and over, for as long as the block runs."""
    aside, stop = path.with_name("aside"), threading.Event()

    def swap() -> None:
        while not stop.is_set():
            os.rename(path, aside)
            os.symlink(other, path)
            os.unlink(path)
            os.rename(aside, path)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_swap_for_a_link_while_we_open_leads_nowhere(tree: Path, what: str) -> None:
    (tree.parent / "core.efi").write_bytes(b"secret")
    folder = tree / "grub" / "x86_64-efi"
    before = open_descriptors()
    path, other = (folder, tree.parent) if what == "folder" else (folder / "core.efi", tree.parent / "core.efi")
    with swapping(path, other):
        seen = {read(tree, "grub/x86_64-efi/core.efi") for _ in range(3000)}
        for _ in range(100_000):  # on a busy machine every look may have met the link
            if b"loader" in seen:
                break
            seen.add(read(tree, "grub/x86_64-efi/core.efi"))
    assert b"loader" in seen
    assert seen <= {b"loader", None}
    assert open_descriptors() == before


def test_refusals_leave_no_descriptor_open(tree: Path) -> None:
    (tree / "link").symlink_to("empty")
    before = open_descriptors()
    for name in ("link", "grub", "grub/missing/x", "missing", "empty/x", "../secret"):
        assert Root(tree).open(name) is None
    assert open_descriptors() == before


def test_what_is_open_outlives_its_name(tree: Path) -> None:
    found = Root(tree).open("grub/x86_64-efi/core.efi")
    assert found is not None
    (tree / "new").write_bytes(b"update")
    os.rename(tree / "new", tree / "grub" / "x86_64-efi" / "core.efi")
    assert found.pread(100, 0) == b"loader"
    found.close()


def etag(root: Path, name: str, now_ns: int = 0) -> str:
    found = Root(root, clock_ns=lambda: now_ns).open(name)
    assert found is not None
    found.close()
    return found.etag


def test_the_etag_stays_while_the_file_does_and_changes_with_it(tree: Path) -> None:
    first = etag(tree, "empty")
    assert etag(tree, "empty") == first
    assert '"' not in first
    assert etag(tree, "čárka.cfg") != first
    (tree / "empty").write_bytes(b"1")
    second = etag(tree, "empty")
    assert second != first
    (tree / "empty").write_bytes(b"2")
    os.utime(tree / "empty", ns=(1, 1))
    third = etag(tree, "empty")
    (tree / "empty").write_bytes(b"3")
    os.utime(tree / "empty", ns=(1, 1))
    assert len({first, second, third, etag(tree, "empty")}) >= 3


def test_a_file_that_was_just_changed_has_a_validator_that_is_never_given_again(tree: Path) -> None:
    """Changed again at once, at the same size, it has the same times on kernels before 6.13 (H-17)."""
    changed_ns = (tree / "empty").stat().st_ctime_ns
    for soon_ns in (0, 1_000_000, 20_000_000):
        assert etag(tree, "empty", changed_ns + soon_ns) != etag(tree, "empty", changed_ns + soon_ns + 1)
    settled_ns = changed_ns + 10**9
    assert etag(tree, "empty", settled_ns) == etag(tree, "empty", settled_ns + 1)
    assert etag(tree, "empty", 0) == etag(tree, "empty", settled_ns), "a clock that was set back does not matter"


def test_a_digest_may_stand_for_the_etag(tree: Path) -> None:
    found = Root(tree).open("empty", etag="sha256-e3b0", immutable=True)
    assert found is not None
    found.close()
    assert (found.etag, found.immutable, found.size_bytes, found.name) == ("sha256-e3b0", True, 0, "empty")


def test_our_own_trouble_is_an_error_and_not_a_missing_file(tree: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            Root(tree).open("empty")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@given(st.text(max_size=40) | st.lists(st.sampled_from(["..", ".", "", "a", "a.tmp", ".a", "~"])).map("/".join))
def test_accepted_parts_join_to_the_name_and_none_is_special(name: str) -> None:
    parts = components(name)
    if parts is not None:
        assert "/".join(parts) == name
        assert all(part not in {"", ".", ".."} and "\0" not in part for part in parts)
