"""A root that systemd really runs in, as the first process of namespaces of its own: no emulator, so in seconds."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.segment import CommandFailed, Host

MASKED = ("systemd-udevd.service", "systemd-udevd-kernel.socket", "systemd-udevd-control.socket",
          "systemd-networkd.service", "systemd-resolved.service")  # fmt: skip
"""What has nothing to do in a container, or would touch its network."""

INSIDE = """\
set -e
root=$1
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
	mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
	mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
	mkdir "$root/sys/fs/cgroup/systemd"
	mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
fi
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
	: >"$root/dev/$device"
	mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount --make-rshared "$root" # as on a host, or no unit sees the credentials that systemd mounts for it
cd "$root"
exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . /lib/systemd/systemd --log-target=console
"""
"""What makes the mounts of a container, and becomes its first process."""


class SystemdRoot:
    """A root in which systemd is up; all of it ends with the context."""

    def __init__(self, host: Host, root: Path, log: Path) -> None:
        """Run in the network of `host`; what systemd says comes to `log`."""
        self._host, self._root, self._log = host, root, log

    def __enter__(self) -> Self:
        for unit in MASKED:
            path = self._root / "etc/systemd/system" / unit
            path.unlink(missing_ok=True)
            path.symlink_to("/dev/null")
        spaces = ("--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--cgroup")
        with self._log.open("w") as log:
            self._outer = self._host.popen(
                *("unshare", *spaces, "--propagation", "private", "sh", "-c", INSIDE, "sh", str(self._root)),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 300
        while True:
            children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
            if children:
                self._first = int(children[0])
                with suppress(CommandFailed, subprocess.TimeoutExpired):
                    if self.run("systemctl", "is-system-running", check=False).strip() in ("running", "degraded"):
                        return self
            if time.monotonic() > deadline or self._outer.poll() is not None:
                raise TimeoutError(f"systemd is not up:\n{self._log.read_text()}")
            time.sleep(0.2)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._first, signal.SIGKILL)  # and so everything in there
        self._outer.wait(timeout=120)

    def run(self, *argv: str, check: bool = True, timeout: float = 180) -> str:
        """Run a command in there; return what it says. Raises `CommandFailed`."""
        inside = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd=/")
        path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        done = subprocess.run(
            ["nsenter", f"--target={self._first}", *inside, "env", "-i", path, "LC_ALL=C.UTF-8", *argv],
            capture_output=True, text=True, check=False, timeout=timeout, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if check and done.returncode:
            raise CommandFailed(done.returncode, argv, done.stdout, done.stderr)
        return done.stdout + done.stderr
