"""The join command in lts.conf: read, replaced, taken out; every other byte of the file stays as it is."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from config.durable import replace_file
from config.ltsconf import JOIN_EXPIRES_KEY, LtsConf
from pxeboot.controller.engine import Published
from pxeboot.controller.join import JoinCommand
from pxeboot.controller.token import parse_rfc3339, rfc3339

MODE = 0o640
"""No tighter than the administrator's own choice, and never readable by everybody."""


@dataclass(frozen=True, slots=True)
class LtsFile:
    """One join command's place: a file, a section in it and a key in that.

    Every method reads the file anew, because its owner edits it too. Writing keeps its group, and tightens its mode
    to 0640 or what it was. All raise `OSError`, and `ValueError` for a file that is no lts.conf; it is then not
    touched.
    """

    path: Path
    section: str
    key: str

    def read(self) -> Published | None:
        """Return what is published now, or None."""
        conf = self._load()
        text = conf.get(self.section, self.key)
        if text is None:
            return None
        expires = conf.get(self.section, JOIN_EXPIRES_KEY)
        return Published(text, _seconds(expires))

    def publish(self, join: JoinCommand, expires: float) -> None:
        """Write the join command and its end, both or neither."""
        conf = self._load().with_value(self.section, self.key, join.reveal())
        self._store(conf.with_value(self.section, JOIN_EXPIRES_KEY, rfc3339(expires)))

    def retract(self) -> None:
        """Take the join command and its end out."""
        self._store(self._load().without(self.section, self.key).without(self.section, JOIN_EXPIRES_KEY))

    def _load(self) -> LtsConf:
        try:
            text = self.path.read_bytes().decode("utf-8", "surrogateescape")
        except FileNotFoundError:
            text = ""
        return LtsConf.parse(text)

    def _store(self, conf: LtsConf) -> None:
        target = Path(os.path.realpath(self.path))  # a link stays one
        data = conf.text.encode("utf-8", "surrogateescape")
        try:
            before = target.stat()
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            replace_file(target, data, mode=MODE)
            return
        replace_file(target, data, mode=stat.S_IMODE(before.st_mode) & MODE)


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else parse_rfc3339(text)
    except ValueError:
        return None
