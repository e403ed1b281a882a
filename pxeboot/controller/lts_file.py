"""An lts.conf that is a file, with the join command in it; and the file beside it that only the controller reads."""

import asyncio
import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from config.durable import replace_file
from pxeboot.controller.engine import Followed, Made, Published
from pxeboot.controller.join import JoinCommand
from pxeboot.controller.lts_text import Place
from pxeboot.controller.token import NotAToken, Token

MODE = 0o640
"""No tighter than the administrator's own choice, and never readable by everybody."""


@dataclass(frozen=True, slots=True)
class LtsFile:
    """One join command's place: a file, a section in it and a key in that.

    Every method reads the file anew, because its owner edits it too. Writing keeps its group, and tightens its mode
    to 0640 or what it was. All raise `OSError`, and `ValueError` for a file that is no lts.conf; it is then not
    touched. All wait for the disk.
    """

    path: Path
    section: str
    key: str

    @property
    def place(self) -> Place:
        """Where in the text."""
        return Place(self.section, self.key)

    def read(self) -> Published | None:
        """Return what is published now, or None."""
        return self.place.read(self.text())

    def publish(
        self, join: JoinCommand, expires: float, hosts: tuple[str, ...] = (), followed: tuple[Followed, ...] = ()
    ) -> None:
        """Write the join command, its end and what goes with it, all or nothing."""
        self.store(self.place.publish(self.text(), join, expires, hosts, followed))

    def retract(self) -> None:
        """Take the join command and what goes with it out."""
        before = self.text()
        after = self.place.retract(before)
        if after != before:
            self.store(after)

    def text(self) -> str:
        """The whole file; nothing if it is not there."""
        try:
            return self.path.read_bytes().decode("utf-8", "surrogateescape")
        except FileNotFoundError:
            return ""

    def store(self, text: str) -> None:
        """Replace the whole file."""
        target = Path(os.path.realpath(self.path))  # a link stays one
        data = text.encode("utf-8", "surrogateescape")
        try:
            before = target.stat()
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            replace_file(target, data, mode=MODE)
            return
        replace_file(target, data, mode=stat.S_IMODE(before.st_mode) & MODE)


@dataclass(frozen=True, slots=True)
class FilePlace:
    """The same for who must not wait for the disk: in threads. What a thread has begun it ends, whoever gives up."""

    file: LtsFile

    def __str__(self) -> str:
        return str(self.file.path)

    async def read(self) -> Published | None:
        """As `LtsFile.read`."""
        return await asyncio.to_thread(self.file.read)

    async def publish(
        self, join: JoinCommand, expires: float, hosts: tuple[str, ...] = (), followed: tuple[Followed, ...] = ()
    ) -> None:
        """As `LtsFile.publish`."""
        await asyncio.to_thread(self.file.publish, join, expires, hosts, followed)

    async def retract(self) -> None:
        """As `LtsFile.retract`."""
        await asyncio.to_thread(self.file.retract)


@dataclass(frozen=True, slots=True)
class MadeFile:
    """The token that this controller makes: written down before it is made, so that it is not made twice.

    A controller that was killed after the API made the token, and before it was published, finds it here. Nobody else
    may read it. Raises `OSError`; waits for the disk.
    """

    path: Path

    @classmethod
    def beside(cls, lts_conf: Path, cluster: str) -> "MadeFile":
        """The one of a cluster: clusters may share an lts.conf."""
        digest = hashlib.sha256(cluster.encode()).hexdigest()[:12]
        return cls(lts_conf.with_name(f".{lts_conf.name}.{digest}.token"))

    def read(self) -> Made | None:
        """Return it, or None when there is none that can be read."""
        try:
            said = json.loads(self.path.read_bytes())
            return Made(Token.parse(str(said["token"])), float(said["expires"]))
        except FileNotFoundError:
            return None
        except (NotAToken, ValueError, TypeError, KeyError, RecursionError):
            return None  # somebody wrote over it; another token is made

    def write(self, made: Made) -> None:
        """Put it on disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"token": made.token.reveal(), "expires": made.expires})
        replace_file(self.path, text.encode(), mode=0o600)
