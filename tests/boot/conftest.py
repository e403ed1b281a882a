"""Fixtures of the boot tests, and in which order they run."""

import shutil
from pathlib import Path

import pytest

from tests.support.lab import IMAGES
from tests.support.segment import lacking

HERE = Path(__file__).parent
TEST_S = 2400
"""What a test may take whose machine boots four times on a host that is three times as slow as ours."""
LONGEST_FIRST = (
    "test_kubernetes.py",
    "test_nbd_root.py",
    "test_boot.py",
    "test_firmware.py",
    "test_intent.py",
    "test_pod.py",
)
"""Files that take minutes. Where two run at a time (`-n 2 --dist loadfile --no-loadscope-reorder`), no long one is
left for the end, when the other half of the host has nothing to do. Any two may run beside each other: each test has
namespaces, folders and machines of its own, and what `make` has built is only read."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests of this folder, and give them time."""
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.timeout(TEST_S))
    rank = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)) if item.path.parent == HERE else -1)


@pytest.fixture(autouse=True)
def _needs_an_emulator_and_an_image() -> None:
    """A boot needs QEMU, and the node image that `make` builds."""
    if shutil.which("qemu-system-x86_64") is None:
        lacking("needs qemu-system-x86_64 (package qemu-system-x86)")
    if not (IMAGES / "node").exists():
        lacking("needs the node image; make boot builds it")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a farm's files lie; what the machine and the servers said stays there when a test fails."""
    return tmp_path
