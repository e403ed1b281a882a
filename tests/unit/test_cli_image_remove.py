"""`pxeboot image remove` and `prune`: what they ask the daemon, and what they do without an answer."""

import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from pxeboot.cli import main
from pxeboot.image import removal
from pxeboot.image.store import StoredImage
from tests.support.fake_image import add_image


@contextmanager
def daemon(path: Path, users: Mapping[str, Sequence[tuple[str, str]]], status: int = 200) -> Iterator[list[str]]:
    """Answer at `path` as the daemon does; yields what it was asked."""
    asked: list[str] = []
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                line = client.recv(4096).split(b"\r\n")[0].decode().split()
                asked.append(line[1])
                found = users.get(line[1].split("/")[3], ())
                body = json.dumps({"users": [{"who": who, "how": how} for who, how in found]})
                client.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield asked
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


class Store:
    """A store with a version that has no name any more."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "images"
        self.control = folder / "control.sock"
        self.old: StoredImage = add_image(self.folder, marker="one")
        self.new: StoredImage = add_image(self.folder, marker="two")

    def run(self, *argv: str) -> tuple[int, str, str]:
        words = ["image", *argv, "--store", str(self.folder), "--control", str(self.control)]
        result = CliRunner().invoke(main, words)
        return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def images(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_the_daemon_is_asked_twice_and_what_nobody_uses_goes(images: Store) -> None:
    with daemon(images.control, {}) as asked:
        assert images.run("remove", images.old.image_id) == (0, f"removed: version {images.old.image_id[:16]}\n", "")
    assert asked == [f"/v1/images/{images.old.image_id}/users"] * 2
    assert removal.versions(images.folder) == [images.new.image_id]


def test_what_somebody_uses_stays_and_they_are_named(images: Store) -> None:
    users = {images.old.image_id: [("m1", "booted it"), ("m2", "reads it by NBD as 'node/m2'")]}
    said = f"{images.old.image_id[:16]} stays: m1 booted it, m2 reads it by NBD as 'node/m2'\n"
    with daemon(images.control, users):
        assert images.run("remove", images.old.image_id) == (1, "", f"pxeboot image: {said}")
        assert images.run("prune") == (0, said, "")
        code, out, err = images.run("prune", "--force")
    assert (code, out) == (0, f"removed: version {images.old.image_id[:16]}\n")
    assert "goes although m1 booted it" in err


@pytest.mark.parametrize("there", ["nothing", "silence", "an error"])
def test_without_an_answer_nothing_is_removed_unless_it_is_forced(images: Store, there: str) -> None:
    if there == "silence":
        with socket.socket(socket.AF_UNIX) as closed:
            closed.bind(str(images.control))
    code, out, err = images.run("remove", "node") if there != "an error" else failing(images)
    assert (code, out) == (1, "")
    assert "Only it knows who reads an image; --force removes it all the same" in err
    assert removal.versions(images.folder) == [images.new.image_id, images.old.image_id]
    assert images.run("remove", "node", "--force")[0] == 0
    assert removal.versions(images.folder) == [images.old.image_id]


def failing(images: Store) -> tuple[int, str, str]:
    with daemon(images.control, {}, status=500):
        said = images.run("remove", "node")
    images.control.unlink()
    return said


def test_prune_keeps_as_many_as_one_wants(images: Store) -> None:
    with daemon(images.control, {}):
        assert images.run("prune", "--keep", "1") == (0, "", "")
        assert images.run("prune") == (0, f"removed: version {images.old.image_id[:16]}\n", "")


def test_an_image_that_is_not_there_is_told(images: Store) -> None:
    code, _, err = images.run("remove", "nodes")
    assert code == 1
    assert err.endswith("has no image 'nodes'; `pxeboot image list` shows what it has\n")
