"""`pxeboot serve` as a user of its own, with the two capabilities that its systemd unit gives it."""

import os
import re
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pxeboot.cli.status import ask
from tests.support.fake_image import add_image
from tests.support.segment import Segment, requires

pytestmark = pytest.mark.net

ROOT = Path(__file__).parent.parent.parent
USER = 64998
"""Nobody's number."""
PATIENCE_S = 120.0
BOTH = ("net_bind_service", "net_raw")
MAC = "52:54:00:12:34:56"

AS_A_USER = """\
set -e
checkout=$1 python=$2 hidden=$3 folder=$4
shift 4
mount --bind "$checkout" "$folder/checkout"
if [ -n "$hidden" ]; then
	mount --bind "$python" "$folder/python"
	mount -t tmpfs -o mode=755 tmpfs "$hidden"
	mkdir -p "$python"
	mount --bind "$folder/python" "$python"
fi
for own in state run; do mount --bind "$folder/$own" "$folder/$own"; done
mount -t tmpfs tmpfs /tmp
mount -o remount,bind,ro /
for other in /run /var/tmp; do mountpoint -q $other && mount -o remount,bind,ro $other; done
cd "$folder/checkout"
exec "$@"
"""
"""As systemd would (ProtectSystem=strict, PrivateTmp), in the mounts of its own that `ip netns exec` has.

The checkout and Python may lie below a folder that is root's alone: the one is shown at another place, the other in
an empty folder of the same name.
"""


def hidden_by(path: Path) -> str:
    """Return the folder on the way to `path` that only its owner may enter, or ""."""
    return next((str(parent) for parent in reversed(path.parents) if not parent.stat().st_mode & stat.S_IXOTH), "")


class Unprivileged:
    """A daemon in the server's namespace of `segment`, as `USER`; its files are in `folder`."""

    def __init__(self, segment: Segment, folder: Path) -> None:
        self.segment = segment
        self.folder = folder
        self.control = folder / "run/control.sock"
        for name in ("checkout", "python", "state", "run"):
            (folder / name).mkdir()
        for name in ("state", "run"):
            os.chown(folder / name, USER, USER)
        add_image(folder / "images")
        farm = {
            "server": {"interfaces": ["eth1"], "state": str(folder / "state"), "control": str(self.control)},
            "dhcp": {"subnets": [{"subnet": "10.77.0.0/24", "pool": "10.77.0.100-10.77.0.110", "unknown": "all"}]},
            "images": {"node": {"path": str(folder / "images/node")}},
            "pools": [{"name": "all", "image": "node"}],
        }
        (folder / "farm.yaml").write_text(yaml.safe_dump(farm))

    def start(self, *capabilities: str) -> subprocess.Popen[str]:
        prefix = Path(sys.base_prefix)
        listed = "".join(f",+{name}" for name in capabilities)
        python = Path(sys.executable)
        if python.is_relative_to(ROOT):
            python = self.folder / "checkout" / python.relative_to(ROOT)
        with (self.folder / "log").open("w") as log:
            return self.segment.server.popen(
                *("sh", "-c", AS_A_USER, "sh", str(ROOT), str(prefix), hidden_by(prefix), str(self.folder)),
                *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"),
                *(f"--bounding-set=-all{listed}", f"--inh-caps=-all{listed}", f"--ambient-caps=-all{listed}"),
                *(str(python), "-m", "pxeboot", "serve", "-c", str(self.folder / "farm.yaml")),
                stdout=log,
                stderr=subprocess.STDOUT,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            )

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.log:
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self.log}"
            time.sleep(0.05)


@pytest.fixture
def unprivileged(segment: Segment) -> Iterator[Unprivileged]:
    with tempfile.TemporaryDirectory(prefix="pxeboot-", dir="/run") as folder:  # pytest's own is root's alone
        Path(folder).chmod(0o755)
        yield Unprivileged(segment, Path(folder))
        segment.server.stop()


@requires("setpriv", "busybox", "curl", "nbdinfo", "grub-mknetdir")
def test_two_capabilities_are_enough(segment: Segment, unprivileged: Unprivileged) -> None:
    """From the first start on, GRUB's images included, for every one of the four servers."""
    process = unprivileged.start(*BOTH)
    unprivileged.wait_for("ready in")
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert re.search(rf"^Uid:\t{USER}\t{USER}\t{USER}", status, re.MULTILINE)
    mounts = Path(f"/proc/{process.pid}/mounts").read_text()
    assert re.search(r"^\S+ / \S+ ro[, ]", mounts, re.MULTILINE), "only its own two folders can be written"
    assert re.search(r"^CapEff:\t0{12}2400$", status, re.MULTILINE), "NET_BIND_SERVICE is bit 10, NET_RAW bit 13"

    client = segment.host(mac=MAC)  # it has no address, so the answer to it is a raw packet
    got = client.run("busybox", "udhcpc", "-nq", "-t", "20", "-T", "2", "-i", "eth0", "-s", "/bin/true")
    found = re.search(r"lease of ([0-9.]+) obtained", got.stdout + got.stderr)
    assert found, got.stdout + got.stderr
    client.run("ip", "address", "add", f"{found[1]}/24", "dev", "eth0")
    core = unprivileged.folder / "core"
    client.run("curl", "-sS", "-o", str(core), "tftp://10.77.0.1/grub/i386-pc/core.0")
    assert core.read_bytes() == (unprivileged.folder / "state/boot/grub/own/10.77.0.1/i386-pc/core.0").read_bytes()
    menu = client.run("curl", "-sSf", f"http://10.77.0.1/grub/grub.cfg-01-{MAC.replace(':', '-')}").stdout
    assert "node.cpio" in menu
    assert client.run("nbdinfo", "--size", "nbd://10.77.0.1/node").stdout.strip().isdigit()
    assert [machine["mac"] for machine in ask(unprivileged.control, "/v1/status")["machines"]] == [MAC]
    assert MAC in (unprivileged.folder / "state/leases").read_text()

    process.terminate()
    assert process.wait(timeout=PATIENCE_S) == 0, unprivileged.log
    assert not unprivileged.control.exists()
    assert "Traceback" not in unprivileged.log


@requires("setpriv", "grub-mknetdir")
@pytest.mark.parametrize("missing", BOTH)
def test_one_capability_is_not_enough_and_the_log_says_so(unprivileged: Unprivileged, missing: str) -> None:
    process = unprivileged.start(*(name for name in BOTH if name != missing))
    assert process.wait(timeout=PATIENCE_S) == 1
    assert "CAP_NET_BIND_SERVICE and CAP_NET_RAW" in unprivileged.log
    assert "Traceback" not in unprivileged.log


@requires("setpriv")
def test_a_state_folder_of_somebody_else_is_named(unprivileged: Unprivileged) -> None:
    os.chown(unprivileged.folder / "state", 0, 0)
    process = unprivileged.start(*BOTH)
    assert process.wait(timeout=PATIENCE_S) == 1
    assert f"the state folder {unprivileged.folder / 'state'} cannot be used" in unprivileged.log
    assert "Traceback" not in unprivileged.log
