"""A control plane whose etcd can be put back to what it had at an earlier time."""

import shutil
import signal
from pathlib import Path

from tests.support.control_plane import ControlPlane


class RestorablePlane(ControlPlane):
    """One of which backups are made."""

    def back_up(self) -> Path:
        """Copy what etcd has on its disk now, for `restore`."""
        backup = self.folder / "etcd.backup"
        self.freeze("etcd")
        try:
            return Path(shutil.copytree(self._data, backup))
        finally:
            self.thaw("etcd")

    def restore(self, backup: Path) -> None:
        """Put etcd back to what it had then, as an operator does: the API server ends before, and starts after it."""
        self.stop_api()
        self._end("etcd", signal.SIGKILL)
        shutil.rmtree(self._data)
        shutil.copytree(backup, self._data)
        self._start("etcd")
        self.start_api()

    @property
    def _data(self) -> Path:
        return self._root / "var/lib/etcd"
