"""The screenshots of the README: `python -m tests.screenshots [FOLDER]`, into docs/screenshots unless told otherwise.

A made-up farm in the middle of an update, in Debian's Chromium. Names and addresses are nobody's. Needs root, for the
network namespaces in which server and browser are.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.browser import Browser, until
from tests.support.png import smaller
from tests.support.segment import Segment

ROOT = Path(__file__).parent.parent
SERVER, PORT = "10.77.0.1", 8067
WIDE = (1280, 860)
TALL = (390, 780)
MOST_BYTES = 150_000
"""A picture of the README is not larger."""
SHOTS: tuple[tuple[str, str, tuple[int, int], bool], ...] = (
    ("farm-light.png", "", WIDE, False),
    ("farm-dark.png", "", WIDE, True),
    ("farm-phone.png", "", TALL, False),
    ("machine-light.png", "machines/m1c24", WIDE, False),
    ("machine-dark.png", "machines/m1c7", WIDE, True),
)
"""File, path on the site, size, whether in the dark."""


def main(folder: Path) -> None:
    """Make all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    with Segment(f"{SERVER}/24", "10.77.0.9/24") as segment, tempfile.TemporaryDirectory() as scratch:
        site = segment.server.popen(
            *(sys.executable, "-m", "tests.support.serve_web", f"{SERVER}:{PORT}", "believable"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        if site.stdout is None or site.stdout.readline() != "ready\n":
            raise SystemExit("the site did not start")
        segment.client.run(
            "curl", "-sf", "--retry", "20", "--retry-connrefused", "-o", "/dev/null", f"http://{SERVER}:{PORT}/"
        )
        with Browser(segment.client, Path(scratch)) as browser:
            for name, path, size, dark in SHOTS:
                page = browser.open(f"http://{SERVER}:{PORT}/{path}", size, dark=dark, calm=True)
                until(page, "document.fonts.status === 'loaded'")
                if not path:
                    page.wait_for_selector("#live.on")
                page.wait_for_timeout(800)
                picture = smaller(page.screenshot())
                (folder / name).write_bytes(picture)
                size_bytes = len(picture)
                print(f"{folder / name}: {size_bytes // 1000} kB")
                if size_bytes > MOST_BYTES:
                    raise SystemExit(f"{name} is too large for a README")
                page.close()
        site.communicate(timeout=20)
        if browser.troubles:
            raise SystemExit("\n".join(browser.troubles))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs/screenshots")
