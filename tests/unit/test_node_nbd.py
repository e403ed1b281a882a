"""node/nbd, by the shells that run it: the copy into RAM, the Perl that is taken along, and node/let-go at the end."""

import errno
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.initramfs import busybox_root, run_inside
from tests.support.segment import requires

NODE = Path(__file__).parents[2] / "node"
IMAGE = b"0123456789abcdef"

# What node/nbd calls, made of functions: a dd that sends as much as the next line of /answers says, a mount that
# notes what it is to do, a chroot that tells of one library.
FAKES = """\
. /mountroot
. /nbd
NBD=/device NBD_IN_USE=/in-use KEEPER=/keeper TRIES=7 SIZE=16
ROOT=nbd NBD_HOST=10.0.0.1 NBD_PORT=10809 NBD_EXPORT=sha
mkdir -p /run/pxeboot
report() { echo "$*" >>/said; }
give_up() { echo "gave up: $*" >>/said; exit 1; }
sleep() { case $1 in 0.5 | 0.2) busybox sleep 0.02 ;; *) echo "$1" >>/slept ;; esac; }
wait_for_udev() { :; }
modprobe() { :; }
umount() { :; }
timeout() { shift; "$@"; }
answer() { sed -n "$(wc -l </asked)p" /answers; }
dd() {
	for word; do case $word in skip=*) skip=${word#skip=} ;; esac; done
	echo "$skip" >>/skipped
	what=$(answer)
	tail -c "+$((skip + 1))" /image | head -c "${what#sends }"
}
mount() {
	echo "$*" >>/mounted
	[ "$(answer)" != unreadable ]
}
chroot() {
	printf '\\t%s (0x00007f)\\n' "libm.so.6 => /lib/libm.so.6" /lib64/ld.so linux-vdso.so.1
}
"""

NBD_CLIENT = """\
#!/bin/sh
if [ "$1" = -d ]; then
	rm -f /in-use
	exit
fi
echo "$*" >>/asked
case $(sed -n "$(wc -l </asked)p" /answers) in
	refuses) echo "Error: Socket failed: Connection refused" >&2; exit 1 ;;
esac
echo Connected
: >/in-use
"""


class Initramfs:
    """A root with busybox in which functions of node/nbd run."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, command: str, *answers: str) -> int:
        """Run a command with the functions of node/nbd, where nbd-client meets `answers`; return its exit code."""
        for name in ("asked", "slept", "said", "skipped", "mounted", "root.squashfs", "in-use"):
            (self.root / name).unlink(missing_ok=True)
        shutil.rmtree(self.root / "keeper", ignore_errors=True)
        (self.root / "answers").write_text("".join(f"{answer}\n" for answer in answers))
        done = run_inside(self.root, "/bin/sh", "-c", FAKES + command)
        assert done.stderr == ""
        return done.returncode

    def lines(self, name: str) -> list[str]:
        """Return what was noted in a file."""
        path = self.root / name
        return path.read_text().splitlines() if path.exists() else []

    @property
    def said(self) -> list[str]:
        """What the server was told, but for how far the copy is, which is told each 5 s by a clock that runs fast."""
        return [line for line in self.lines("said") if " % of " not in line]

    def lower(self, *files: str) -> None:
        """Make the root that is mounted hold these files, and no others."""
        lower = self.root / "run/pxeboot/lower"
        shutil.rmtree(lower, ignore_errors=True)
        for file in files:
            (lower / file).parent.mkdir(parents=True, exist_ok=True)
            (lower / file).write_text(f"the image's {file}")


@pytest.fixture(scope="module", params=["busybox", "dash"])
def initramfs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Initramfs:
    root = busybox_root(tmp_path_factory.mktemp("initramfs"), request.param)
    for name in ("mountroot", "nbd", "let-go"):
        shutil.copy(NODE / name, root / name)
    (root / "image").write_bytes(IMAGE)
    (root / "bin/nbd-client").write_text(NBD_CLIENT)
    (root / "bin/nbd-client").chmod(0o755)
    return Initramfs(root)


def test_a_copy_by_nbd_goes_on_where_it_broke_off(initramfs: Initramfs) -> None:
    assert initramfs.run("copy_nbd /root.squashfs", "sends 5", "refuses", "sends 4", "sends 99") == 0
    assert (initramfs.root / "root.squashfs").read_bytes() == IMAGE
    assert initramfs.lines("skipped") == ["0", "5", "9"]
    assert initramfs.said == [
        "fetch connection lost after 0 of 0 MiB; trying again (1)",
        "fetch connection lost after 0 of 0 MiB; trying again (2): Socket failed: Connection refused",
        "fetch connection lost after 0 of 0 MiB; trying again (3)",
    ]
    assert not (initramfs.root / "in-use").exists(), "the device is let go of"


def test_a_copy_by_nbd_gives_up_at_last_and_says_why(initramfs: Initramfs) -> None:
    assert initramfs.run("copy_nbd /root.squashfs", *["refuses"] * 9) == 1
    assert len(initramfs.lines("asked")) == 7
    assert initramfs.said[-1] == (
        "gave up: NBD export sha of 10.0.0.1 cannot be fetched: Socket failed: Connection refused"
    )


def test_nothing_waits_for_a_dead_server_but_for_10_s(initramfs: Initramfs) -> None:
    initramfs.run("copy_nbd /root.squashfs", "sends 16")
    assert initramfs.lines("asked") == ["10.0.0.1 10809 -N sha /device -timeout 10"]


def test_perl_is_taken_out_of_the_root_with_its_libraries(initramfs: Initramfs) -> None:
    initramfs.lower("usr/bin/env", "usr/bin/perl", "lib/libm.so.6", "lib64/ld.so")
    assert initramfs.run("take_perl squashfs", "refuses", "reads") == 0
    keeper = initramfs.root / "keeper"
    assert {str(path.relative_to(keeper)) for path in keeper.rglob("*") if path.is_file()} == {
        "usr/bin/perl", "lib/libm.so.6", "lib64/ld.so",
    }  # fmt: skip
    assert (keeper / "usr/bin/perl").read_text() == "the image's usr/bin/perl"
    assert initramfs.lines("mounted") == ["-t squashfs -o ro /device /run/pxeboot/lower"]
    assert not (initramfs.root / "in-use").exists(), "the device is free for nbd-keeper"


def test_an_image_without_perl_boots_all_the_same_and_says_what_it_lacks(initramfs: Initramfs) -> None:
    initramfs.lower("usr/bin/env")
    assert initramfs.run("take_perl squashfs; keep_nbd", "reads", "reads") == 0
    assert not (initramfs.root / "keeper/usr/bin/perl").exists()
    assert "has no perl: this machine loses its root when the NBD server is restarted" in initramfs.said[-1]
    assert (initramfs.root / "in-use").exists()


def test_a_library_that_cannot_be_read_leaves_no_half_perl(initramfs: Initramfs) -> None:
    """The connection broke in the middle: the next one brings it."""
    initramfs.lower("usr/bin/env", "usr/bin/perl", "lib/libm.so.6")
    assert initramfs.run("take_perl squashfs 2>/dev/null", *["reads"] * 9) == 1
    assert not (initramfs.root / "keeper/usr/bin/perl").exists()


def test_an_export_that_is_no_file_system_is_given_up(initramfs: Initramfs) -> None:
    initramfs.lower()
    assert initramfs.run("take_perl ext4", *["unreadable"] * 9) == 1
    assert len(initramfs.lines("asked")) == 5
    assert initramfs.said[-1] == "gave up: NBD export sha cannot be read as ext4"


def test_a_server_that_was_away_for_long_does_not_make_its_export_unreadable(initramfs: Initramfs) -> None:
    """It was restarted, and its first connection broke off in the middle."""
    initramfs.lower("usr/bin/env")
    assert initramfs.run("take_perl squashfs", *["refuses"] * 5, "unreadable", "reads") == 0
    assert not [line for line in initramfs.said if line.startswith("gave up")]


MOUNTS = {
    "overlay": ("overlay / overlay rw,relatime 0 0", 138),
    "ext4-read-only": ("/dev/nbd0 / ext4 ro,relatime 0 0", 138),
    "ext4-still-written": ("/dev/nbd0 / ext4 rw,relatime 0 0", 0),
}


@pytest.mark.parametrize(("mounts", "status"), MOUNTS.values(), ids=MOUNTS)
def test_the_root_is_let_go_of_at_the_end_unless_it_may_still_be_written(
    initramfs: Initramfs, mounts: str, status: int
) -> None:
    """138: ended by SIGUSR1."""
    (initramfs.root / "proc/mounts").write_text(f"proc /proc proc rw 0 0\n{mounts}\ntmpfs /run tmpfs rw 0 0\n")
    script = (
        "mkdir -p /run/pxeboot; busybox sleep 0.5 & echo $! >/run/pxeboot/nbd-keeper.pid; "
        "/bin/sh /let-go; wait $!; echo status $?"
    )
    done = run_inside(initramfs.root, "/bin/sh", "-c", script)
    (initramfs.root / "proc/mounts").unlink()
    assert f"status {status}\n" in done.stdout


def test_a_machine_without_a_keeper_has_nothing_to_let_go_of(initramfs: Initramfs) -> None:
    done = run_inside(initramfs.root, "/bin/sh", "-c", "rm -f /run/pxeboot/nbd-keeper.pid; /bin/sh /let-go")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@requires("perl")
def test_nbd_keeper_is_perl_that_needs_no_file_once_it_runs(initramfs: Initramfs) -> None:
    """What it would load later lies on the device that does not answer."""
    script = NODE / "nbd-keeper.pl"
    said = subprocess.run(["perl", "-wc", script], capture_output=True, text=True, check=False).stderr
    assert said == f"{script} syntax OK\n"
    lines = script.read_text().splitlines()
    assert not [line for line in lines if line.split()[:1] in (["use"], ["require"]) or "system" in line.split("#")[0]]


def keeper(tail: str) -> str:
    """Return what nbd-keeper writes to /dev/kmsg, with `tail` in place of what it does."""
    script = (NODE / "nbd-keeper.pl").read_text().split("\n$SIG{")[0]
    command = ["perl", "-w", "-e", f"{script}\n{tail}", "0", "10.0.0.1", "10809", "sha"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


@requires("perl")
def test_what_the_server_says_is_one_line_on_the_console_even_if_it_is_long() -> None:
    said = keeper('cry("refuses\\nsha: " . "x" x 60000)')
    assert said.startswith("<3>pxeboot: nbd0: refuses sha: xxx")
    assert said.count("\n") == 1
    assert len(said) < 1000, "of a longer one the kernel takes nothing"


@requires("perl")
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EAGAIN, "no answer within 5 s"),
        (errno.EINPROGRESS, "no answer within 5 s"),
        (errno.ECONNREFUSED, "Connection refused"),
    ],
)
def test_who_reads_the_console_learns_why_there_is_no_connection(number: int, words: str) -> None:
    assert keeper(f"$! = {number}; eval {{ die why() . qq(\\n) }}; cry($@)") == f"<3>pxeboot: nbd0: {words}\n"
