"""Fixtures of the boot tests."""

import shutil
from pathlib import Path

import pytest

from tests.support.lab import IMAGES
from tests.support.segment import lacking


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
