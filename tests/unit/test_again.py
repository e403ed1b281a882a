"""What happens to tests that fail beside others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.again import MOST

ROOT = Path(__file__).parents[2]
FAILS_ONCE = """
from pathlib import Path
def test_busy():
    seen = Path(__file__).with_name("seen")
    before = seen.exists()
    seen.touch()
    assert before
"""
FAILS = "def test_broken():\n    assert False\n"
MANY = "".join(f"def test_{number}():\n    assert False\n" for number in range(MOST + 1))
BROKEN = "import nothing_of_this_name\n"


@pytest.mark.parametrize(
    ("text", "code", "again", "named"),
    [
        (FAILS_ONCE, 0, True, True),
        (FAILS, 1, True, False),
        (FAILS_ONCE + FAILS, 1, True, False),
        (MANY, 1, False, False),
        (BROKEN, 2, False, False),
        ("def test_fine():\n    pass\n", 0, False, False),
    ],
)
def test_what_failed_is_run_again_and_what_passes_then_is_named(
    text: str, code: int, again: bool, named: bool, tmp_path: Path
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "tests.again", "-p", "no:hypothesispytest", "test_it.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == code, done.stdout
    assert ("== once more, alone" in done.stdout) == again
    assert ("to be mended" in done.stdout and "test_it.py::test_busy" in done.stdout) == named
