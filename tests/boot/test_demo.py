"""The demonstration leaves nothing behind, however it ends."""

import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.support.lab import ROOT
from tests.support.machine import SOON_S
from tests.support.waiting import until

pytestmark = pytest.mark.boot


def namespaces(of: int) -> set[str]:
    """The network namespaces that the process `of` made; others may come and go on this host."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return {name for line in listed.splitlines() if re.match(rf"px{of}(?!\d)", name := line.split()[0])}


def children_of(mark: str) -> list[str]:
    """Return the command lines of processes in whose environment the demonstration of this mark is named."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"PXEBOOT_TEST_DEMO={mark}".encode() in path.read_bytes():
                found.append((path.parent / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demonstration_leaves_nothing_behind(number: signal.Signals) -> None:
    mark = uuid.uuid4().hex
    folders = set((ROOT / ".build").glob("demo-*"))
    demo = subprocess.Popen(
        [sys.executable, "-m", "tests.demo"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PXEBOOT_TEST_DEMO": mark, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert demo.stdout is not None
    for line in demo.stdout:
        if "powered on" in line:
            break
    assert namespaces(demo.pid)
    until(lambda: any("qemu" in command for command in children_of(mark)), "QEMU is there, which `ip` becomes")
    demo.send_signal(number)
    rest = demo.stdout.read()
    assert demo.wait(timeout=SOON_S) == 130, rest
    assert "interrupted" in rest
    assert not namespaces(demo.pid)
    assert children_of(mark) == []
    assert not set((ROOT / ".build").glob("demo-*")) - folders
