"""node/mountroot's download, by the shells that run it: it waits for its turn, resumes, and gives up at last."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.initramfs import busybox_root, run_inside

NODE = Path(__file__).parents[2] / "node"
IMAGE = b"0123456789abcdef"

# What mountroot calls, made of functions: a wget that does what the next line of /answers says, and notes how much
# there was when it was called; a sleep that takes hardly any time, but more than a wget that sends nothing.
RUN = """\
. /mountroot
WGET_SAID=/wget TRIES=4
IMAGE_URL=http://10.0.0.1/images/sha/root.squashfs SIZE=16
report() { echo "$*" >>/said; }
give_up() { echo "gave up: $*" >>/said; exit 1; }
sleep() { if [ "$1" = 0.5 ]; then busybox sleep 0.02; else echo "$1" >>/slept; fi; }
wget() {
	[ "$1 $2 $3 $5" = "-q -c -O $IMAGE_URL" ] || exit 2
	have=$(size "$4")
	echo "$have" >>/asked
	what=$(sed -n "$(wc -l </asked)p" /answers)
	case $what in
		sends*) tail -c "+$((have + 1))" /image | head -c "${what#sends }" >>"$4" ;;
		*) echo "wget: server returned error: HTTP/1.1 $what" >&2; return 1 ;;
	esac
	[ "$(size "$4")" -eq "$SIZE" ] || { echo "wget: connection closed prematurely" >&2; return 1; }
}
download /root.squashfs
"""


def turn(seconds: object) -> str:
    """The status line with which a machine is told to wait, without its version."""
    return f"503 Service Unavailable, Retry-After: {seconds}"


class Initramfs:
    """A root with busybox in which the download runs."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def download(self, *answers: str) -> tuple[int, str]:
        """Run it against a server that gives `answers`; return its exit code and what the console showed."""
        for name in ("asked", "slept", "said", "root.squashfs", "wget"):
            (self.root / name).unlink(missing_ok=True)
        (self.root / "answers").write_text("".join(f"{answer}\n" for answer in answers))
        done = run_inside(self.root, "/bin/sh", "-c", RUN)
        assert done.stderr == ""
        return done.returncode, done.stdout

    def lines(self, name: str) -> Sequence[str]:
        """Return what was noted in a file."""
        path = self.root / name
        return path.read_text().splitlines() if path.exists() else []

    @property
    def got(self) -> bytes:
        """The image as it was fetched."""
        return (self.root / "root.squashfs").read_bytes()


@pytest.fixture(scope="module", params=["busybox", "dash"])
def initramfs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Initramfs:
    root = busybox_root(tmp_path_factory.mktemp("initramfs"), request.param)
    shutil.copy(NODE / "mountroot", root / "mountroot")
    (root / "image").write_bytes(IMAGE)
    return Initramfs(root)


def test_a_machine_that_is_told_to_wait_waits_as_long_and_a_moment_more(initramfs: Initramfs) -> None:
    code, console = initramfs.download(turn(7), turn(12), "sends 16")
    assert (code, initramfs.got) == (0, IMAGE)
    assert [re.sub(r"\.\d{0,2}$", "", slept) for slept in initramfs.lines("slept")] == ["7", "12"]
    assert console.splitlines() == [
        f"pxeboot: waiting: too many machines fetch their root now; asking again in {seconds} s" for seconds in (7, 12)
    ]
    said = [line for line in initramfs.lines("said") if " % of " not in line]  # each 5 s, by this clock
    assert said == [], "it is the server that told it, and knows"


@pytest.mark.parametrize(
    ("told", "waits"), [(0, "1"), (1, "1"), (60, "60"), (61, "60"), (86400, "60"), ("9" * 40, "60")]
)
def test_no_wait_is_longer_than_a_minute_or_none_at_all(initramfs: Initramfs, told: object, waits: str) -> None:
    assert initramfs.download(turn(told), "sends 16")[0] == 0
    assert [slept.split(".")[0] for slept in initramfs.lines("slept")] == [waits]


def test_what_a_machine_has_it_keeps_while_it_waits(initramfs: Initramfs) -> None:
    assert initramfs.download("sends 5", turn(3), turn(3), "sends 4", turn(3), "sends 99")[0] == 0
    assert initramfs.lines("asked") == ["0", "5", "5", "5", "9", "9"]
    assert initramfs.got == IMAGE


def test_waiting_uses_up_no_tries(initramfs: Initramfs) -> None:
    assert initramfs.download(*[turn(1)] * 6, "sends 16")[0] == 0
    assert initramfs.got == IMAGE


@pytest.mark.parametrize(
    "answer", ["503 Service Unavailable", "500 Internal Server Error, Retry-After: 5", "404 Not Found"]
)
def test_other_errors_are_failed_tries_and_say_why(initramfs: Initramfs, answer: str) -> None:
    assert initramfs.download(answer, "sends 16")[0] == 0
    assert initramfs.lines("slept") == ["2"]
    reason = f"server returned error: HTTP/1.1 {answer}"
    said = [
        line for line in initramfs.lines("said") if " % of " not in line
    ]  # said when 5 s have passed, by this clock
    assert said == [f"fetch connection lost after 0 of 0 MiB; trying again (1): {reason}"]


def test_a_machine_gives_up_at_last_and_says_why(initramfs: Initramfs) -> None:
    assert initramfs.download(*["404 Not Found"] * 9)[0] == 1
    assert len(initramfs.lines("asked")) == 4
    assert initramfs.lines("said")[-1].startswith("gave up: http://10.0.0.1/")
    assert initramfs.lines("said")[-1].endswith("cannot be fetched: server returned error: HTTP/1.1 404 Not Found")


def test_more_bytes_than_the_image_has_are_thrown_away(initramfs: Initramfs) -> None:
    (initramfs.root / "image").write_bytes(IMAGE + b"too long")
    try:
        assert initramfs.download("sends 20", "sends 16")[0] == 0
    finally:
        (initramfs.root / "image").write_bytes(IMAGE)
    assert initramfs.lines("asked") == ["0", "0"]
    assert initramfs.got == IMAGE
