"""A copy of a pushed lts.conf, as the file that the daemon on this host reads.

Every controller keeps one, whoever of them leads. The file is then ours alone, and says so in its first line; what was
there before is kept beside it, once. While the API is away it stays as it is: the daemon itself leaves out what has
expired. When the object is gone, so is the join command, since somebody wanted it gone.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

from config.clusters import Push
from config.durable import replace_file
from pxeboot.controller.engine import Published
from pxeboot.controller.lts_file import LtsFile
from pxeboot.kube.api import Api
from pxeboot.kube.cache import Change
from pxeboot.kube.objects import Text, decode_text, read_text, resource
from pxeboot.kube.watching import Watch

log = logging.getLogger("controller")

RETRY_S = 5.0
"""How soon a file that could not be written is tried again."""
_MARK = "# A copy, kept by pxeboot controller; change the original, "


class Mirror:
    """Keeps one file. `on_published` is told at each change what is published."""

    def __init__(
        self,
        name: str,
        api: Api,
        push: Push,
        file: LtsFile,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._api = api
        self._push = push
        self._file = file
        self.on_published: Callable[[Published | None], None] = lambda published: None
        self._clock = clock
        self._original = f"{push.kind} {push.namespace}/{push.name}, {push.key}"
        self._text: str | None = None
        self._changed = asyncio.Event()
        self._trouble = ""
        self._watch = Watch(
            api,
            resource(push),
            partial(decode_text, push=push),
            self._on_change,
            on_sync=self._on_sync,
            namespace=push.namespace,
            fields=f"metadata.name={push.name}",
        )

    async def run(self) -> None:
        """Watch, and write, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch.run(), name=f"{self._name}: watch of {self._original}")
            tasks.create_task(self._write(), name=f"{self._name}: copy of {self._original}")

    async def once(self) -> bool:
        """Copy what is there now; return whether that worked. Raises `Unavailable`."""
        held = await read_text(self._api, self._push)
        self._text = None if held is None else held.text
        return await self._copy()

    def original(self) -> str:
        """The file's text without our mark: what a new object begins with.

        Raises `OSError`, and `ValueError` for bytes that an object cannot hold; waits for the disk.
        """
        text = self._file.text()
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{self._file.path} is not UTF-8, as what begins from it has to be") from None
        return text.partition("\n")[2] if text.startswith(_MARK) else text

    def _on_change(self, change: Change[Text]) -> None:
        self._text = change.new.text if change.new else None
        self._changed.set()

    def _on_sync(self, in_sync: bool, _why: str) -> None:
        if in_sync:
            # Also when there is no object and there never was: the file may hold one's command still.
            self._changed.set()

    async def _write(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not await self._copy():
                await asyncio.sleep(RETRY_S)
                self._changed.set()

    async def _copy(self) -> bool:
        """Make the file what the object says; return whether it is worth no second try."""
        trouble = ""
        try:
            text = self._text
            published = None if text is None else self._file.place.read(text)
            self.on_published(published)
            await asyncio.to_thread(self._store, text, published)
            if published is None:
                trouble = "holds no join command" if text is not None else "is not there, or has no such key"
                trouble = f"{trouble}; machines are given none"
        except ValueError as error:  # what is there stays: a broken text never replaces one that works
            trouble = f"is not copied to {self._file.path}, because it is no lts.conf: {error}"
        except OSError as error:
            self._tell(f"cannot be copied to {self._file.path}: {error}")
            return False
        self._tell(trouble)
        return True

    def _store(self, text: str | None, published: Published | None) -> None:
        """Write the file, if it has to change. Raises `OSError` and `ValueError`."""
        before = self._file.text()
        ours = before.startswith(_MARK)
        if text is None:
            held = self._file.read()
            if ours or (held is not None and held.expires is not None):  # a command without its end is a person's
                self._file.retract()
            return
        if published and published.expires is not None and published.expires <= self._clock():
            text = self._file.place.retract(text)  # an expired token is never written
        wanted = f"{_MARK}{self._original}.\n{text}"
        if before == wanted:
            return
        if before and not ours:
            beside = self._file.path.with_name(f"{self._file.path.name}.before-push")
            if not beside.exists():
                replace_file(beside, before.encode("utf-8", "surrogateescape"), mode=0o600)
                log.info("%s: what was in %s is kept as %s", self._name, self._file.path, beside.name)
        self._file.store(wanted)
        log.info("%s: copied %s to %s", self._name, self._original, self._file.path)

    def _tell(self, trouble: str) -> None:
        """Say what is wrong when it begins or changes, and that it ended."""
        if trouble and trouble != self._trouble:
            log.warning("%s: %s %s", self._name, self._original, trouble)
        elif self._trouble and not trouble:
            log.info("%s: %s is copied to %s again", self._name, self._original, self._file.path)
        self._trouble = trouble
