"""The control plane of the tests: it serves a segment, leaves nothing behind, and is waited for while it is built."""

import fcntl
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.control_plane import ROOT, ControlPlane
from tests.support.kube_thread import until
from tests.support.segment import Segment

pytestmark = pytest.mark.net

ASKS = "from tests.support.control_plane import programs; print(programs())"


def asking(cache: Path, **environment: str) -> subprocess.Popen[str]:
    """A test in a process of its own that needs the programs, which are in `cache`, or are not."""
    return subprocess.Popen(
        [sys.executable, "-c", ASKS],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PXEBOOT_CACHE": str(cache), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def alive(pid: int) -> bool:
    """Whether there is such a process, dead ones that nobody has reaped not counted."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_machine_on_the_segment_reaches_it_and_nothing_of_it_stays(segment: Segment, tmp_path: Path) -> None:
    segment.client.run("ip", "address", "add", "10.77.0.9/24", "dev", "eth0")
    with ControlPlane(tmp_path, segment.server, endpoint="api.test:6443") as plane:
        pids = plane.pids()
        assert set(pids) == {"etcd", "kube-apiserver", "kube-controller-manager"}
        ca = str(plane.pki / "ca.crt")
        told = segment.client.run("curl", "-sS", "--cacert", ca, f"{plane.url}/version").stdout
        assert "v1.20.2" in told
        named = ("--resolve", "api.test:6443:10.77.0.1", "https://api.test:6443/version")
        assert "v1.20.2" in segment.client.run("curl", "-sS", "--cacert", ca, *named).stdout
        info = plane.kubectl("-n", "kube-public", "get", "configmap", "cluster-info", "-o", "yaml")
        assert "server: https://api.test:6443" in info
        assert not plane.kubectl("get", "nodes")
        assert "bootstrap-token" not in plane.kubectl("-n", "kube-system", "get", "secrets")
        # What a thread of the test has started outlives the thread.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(plane.kill_api).result()
            thread.submit(plane.start_api).result()
        assert "v1.20.2" in segment.client.run("curl", "-sS", "--cacert", ca, f"{plane.url}/version").stdout
        pids = plane.pids()
    assert not [name for name, pid in pids.items() if alive(pid)]
    assert not segment.server.pids()


def test_a_control_plane_whose_test_is_killed_dies_with_it(tmp_path: Path) -> None:
    script = f"""
        import time
        from pathlib import Path
        from tests.support.control_plane import ControlPlane
        with ControlPlane(Path({str(tmp_path)!r})) as plane:
            print(*plane.pids().values(), flush=True)
            time.sleep(60)
    """
    test = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert test.stdout is not None
        pids = [int(pid) for pid in test.stdout.readline().split()]
        assert len(pids) == 3
    finally:
        test.send_signal(signal.SIGKILL)
        test.communicate()
    until(lambda: not any(map(alive, pids)), "they end")


@pytest.fixture
def building(tmp_path: Path) -> Iterator[Path]:
    """A cache that somebody else is building in; it has the lock until the file is removed."""
    folder = tmp_path / "kubernetes"
    folder.mkdir()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield tmp_path
        lock.flush()


def test_programs_that_are_being_built_are_waited_for(building: Path) -> None:
    test = asking(building, CI="true")
    with pytest.raises(subprocess.TimeoutExpired):
        test.wait(2)
    recipe = (ROOT / "tests/support/build-kubernetes").read_text().partition("\nRECIPE=")[2].split()[0]
    (building / "kubernetes/current").mkdir()
    (building / "kubernetes/current/recipe").write_text(recipe)
    said, _ = test.communicate(timeout=120)
    assert said.strip() == str(building / "kubernetes/current/bin")


@pytest.mark.parametrize(("environment", "outcome"), [({"CI": "true"}, "Failed"), ({}, "Skipped")])
def test_programs_that_nobody_builds_are_missed_loudly(
    tmp_path: Path, environment: dict[str, str], outcome: str
) -> None:
    said, _ = asking(tmp_path, **environment).communicate(timeout=120)  # and not for 20 minutes
    assert f"{outcome}: needs Kubernetes' programs: they are not built" in said
    assert "tests/support/build-kubernetes" in said
