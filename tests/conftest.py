"""Fixtures that several folders of tests use."""

import os
import shutil
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support.segment import Segment, lacking

# A shared machine may be busy for longer than one example should take; slowness has tests of its own.
settings.register_profile("pxeboot", deadline=None)
settings.load_profile("pxeboot")


@pytest.fixture
def segment() -> Iterator[Segment]:
    """A server and a client on a wire of their own; see `tests.support.segment`."""
    if os.geteuid() != 0:
        lacking("needs root, to make network namespaces")
    if shutil.which("ip") is None:
        lacking("needs ip (package iproute2)")
    with Segment() as made:
        yield made
