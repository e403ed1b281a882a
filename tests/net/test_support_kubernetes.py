"""tests/support/build-kubernetes: half a build leaves nothing, two at once build once, and what is wrong is said.

The compilers are real in `make test` only; here a script in place of apt-get says where a build stands.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.kube_thread import until
from tests.support.segment import requires

pytestmark = pytest.mark.net

SCRIPT = Path(__file__).parents[1] / "support/build-kubernetes"

Begin = Callable[[], subprocess.Popen[str]]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """What is $PXEBOOT_CACHE/kubernetes."""
    return tmp_path / "cache/kubernetes"


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Begin a build whose apt-get notes that it runs, and then does what the file `apt` says."""
    (tmp_path / "bin").mkdir()
    apt_get = tmp_path / "bin/apt-get"
    apt_get.write_text(f"#!/bin/sh\necho run >>{tmp_path}/runs\n. {tmp_path}/apt\n")
    apt_get.chmod(0o755)
    begun: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        environment = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "PXEBOOT_CACHE": str(tmp_path / "cache")}
        process = subprocess.Popen(
            [SCRIPT],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        begun.append(process)
        return process

    yield start
    for process in begun:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def runs(folder: Path) -> int:
    """How often apt-get has been asked for something."""
    path = folder / "runs"
    return len(path.read_text().splitlines()) if path.exists() else 0


def half_made(cache: Path) -> list[Path]:
    """What builds have left."""
    return [path for path in cache.iterdir() if path.name != "lock"] if cache.exists() else []


@requires("dpkg-source", "/usr/lib/go-1.19/bin/go")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_interrupted_build_leaves_nothing(tmp_path: Path, cache: Path, begin: Begin, number: int) -> None:
    (tmp_path / "apt").write_text("exec sleep 60")
    build = begin()
    until(lambda: bool(runs(tmp_path)), "it begins")
    assert half_made(cache)
    os.killpg(build.pid, number)
    build.wait(90)
    assert build.returncode
    assert not half_made(cache)


@requires("dpkg-source", "/usr/lib/go-1.19/bin/go")
def test_after_a_build_that_was_killed_the_next_begins_anew(tmp_path: Path, cache: Path, begin: Begin) -> None:
    (tmp_path / "apt").write_text("exec sleep 60")
    build = begin()
    until(lambda: bool(runs(tmp_path)), "it begins")
    os.killpg(build.pid, signal.SIGKILL)
    build.wait(90)
    left = half_made(cache)
    assert left
    begin()
    until(lambda: runs(tmp_path) == 2, "the next begins")
    now = half_made(cache)
    assert len(now) == 1
    assert now != left


@requires("dpkg-source", "/usr/lib/go-1.19/bin/go")
def test_of_two_builds_at_once_one_waits_and_finds_it_done(tmp_path: Path, cache: Path, begin: Begin) -> None:
    """The first is made to look done when it ends; the second must have asked apt-get for nothing."""
    done = f"mkdir -p {cache}/current; sed -n 's/^RECIPE=\\([0-9]*\\).*/\\1/p' {SCRIPT} >{cache}/current/recipe"
    (tmp_path / "apt").write_text(f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; {done}; exit 1")
    first = begin()
    until(lambda: bool(runs(tmp_path)), "the first begins")
    second = begin()
    assert second.stdout is not None
    assert "somebody else is building it" in second.stdout.readline()
    time.sleep(0.2)
    assert second.poll() is None
    (tmp_path / "go").touch()
    assert first.wait(90) == 1
    assert second.wait(90) == 0
    assert runs(tmp_path) == 1


@requires("dpkg-source", "/usr/lib/go-1.19/bin/go")
def test_a_broken_network_is_said(tmp_path: Path, cache: Path, begin: Begin) -> None:
    (tmp_path / "apt").write_text("echo 'E: Could not resolve' >&2; exit 100")
    said, _ = begin().communicate(timeout=120)
    assert "Could not resolve" in said
    assert "is there a network?" in said
    assert not half_made(cache)


def test_whether_it_is_done_is_asked_without_building(tmp_path: Path) -> None:
    asked = subprocess.run(
        [SCRIPT, "--is-done"], env={**os.environ, "PXEBOOT_CACHE": str(tmp_path / "cache")}, timeout=90, check=False
    )
    assert asked.returncode == 1
    assert not (tmp_path / "cache").exists()


@requires("make")
def test_make_test_begins_to_build_it_in_the_background_before_all_else() -> None:
    """Lint and the unit tests go on meanwhile, and who needs it waits for it."""
    root = SCRIPT.parents[2]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    said = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "test"], cwd=root, env=environment, capture_output=True,
        text=True, timeout=90, check=True,
    ).stdout  # fmt: skip
    build = "setsid -f nice -n 19 tests/support/build-kubernetes"
    begun, lint, unit = (said.find(what) for what in (build, "== lint", "== unit tests"))
    assert 0 <= begun < lint < unit
