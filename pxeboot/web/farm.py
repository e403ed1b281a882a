"""GET /: the farm. Every machine with its stage, what it waits for, and why it is stuck, live."""

import asyncio
import gzip
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass

from aiohttp import web

from pxeboot.api.control import Route
from pxeboot.bootfiles.masked import mask
from pxeboot.stuck import State
from pxeboot.timeline import Timeline
from pxeboot.web import words
from pxeboot.web.board import Board, Changes
from pxeboot.web.facts import Facts, Sources, gather
from pxeboot.web.rows import Row
from pxeboot.web.static import takes_gzip
from pxeboot.web.stream import Made, Stream
from pxeboot.web.templates import Templates

log = logging.getLogger("pxeboot")

LOOK_S = 0.4
"""The board is looked at no more often, however many look at the page."""
PAUSE_S = 0.005
"""Between two goes, when many machines changed: others have the event loop meanwhile."""
LONG_PAUSE_S = 0.02
"""The same, once all machines were looked at: in a farm that boots at once, each changes every second."""
BEHIND_WAIT_S = 1.0
"""How long a page waits for what changed just now."""
MOST_SHOWN = 2000
"""Machines on one page, those first that need somebody. In a larger farm, a page asks anew for those that it shows;
it is not told of each change of each machine, which in a storm would be megabytes each second for each who looks."""
FACTS_S = 2.5
"""What stands beside the machines may be so old."""
FACTS_WAIT_S = 3.0
"""How long a page waits for it: a disk that hangs is no reason not to show the machines."""
AT_A_TIME = 2
"""Pages that are made at once: more would not be ready sooner, and each holds some MB meanwhile."""
LONGEST_SEARCH = 100
MOST_STALE = 500
"""Rows of machines that are gone whose HTML is still there."""
GROUPS = {
    State.STUCK: "Stuck",
    State.WAITING: "Waiting for their turn",
    State.BOOTING: "Booting",
    State.UP: "Up",
    State.QUIET: "Not seen booting",
}
"""In the order of the page."""
_PLACES = {state: place for place, state in enumerate(GROUPS)}
LABELS = {
    State.STUCK: "stuck",
    State.WAITING: "waiting",
    State.BOOTING: "booting",
    State.UP: "up",
    State.QUIET: "not seen",
}
_SINCE = "\0"
"""Where the time since goes into the HTML of a row, which is kept and outlives it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which machines somebody wants to see."""

    text: str = ""
    pool: str = ""
    state: str = ""

    def __bool__(self) -> bool:
        return bool(self.text or self.pool or self.state)

    def has(self, row: Row) -> bool:
        """Return whether `row` is among them."""
        if (self.state and row.state != self.state) or (self.pool and row.pool != self.pool):
            return False
        known = f"{row.name} {row.address} {row.pool} {row.intent} {row.stage}"
        told = row.words, row.detail, row.note, row.refused
        if not self.text or self.text in known.lower():
            return True
        # Who guesses a secret letter by letter learns no more from what is found than from what is shown.
        return all(self.text in " ".join([known, *map(seen, told)]).lower() for seen in (str, mask))


class FarmPage:
    """The page and its stream of changes."""

    def __init__(
        self,
        timeline: Timeline,
        sources: Sources,
        templates: Templates,
        closing: asyncio.Event,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Show `timeline` and what the `sources` say. `closing` ends the streams."""
        self._sources = sources
        self._templates = templates
        self._clock = clock
        self._began_s = clock()
        self.board = Board(sources.farm, timeline, sources.intent, sources.image)
        self.stream = Stream(self.look, self._made, closing)
        self._html: dict[str, tuple[Row, str, str]] = {}
        self._making = asyncio.Semaphore(AT_A_TIME)
        self._looked = -LOOK_S
        self._going_on = False
        self._facts = Facts()
        self._facts_version = 0
        self._facts_s = -FACTS_S
        self._gathering: asyncio.Task[None] | None = None

    @property
    def routes(self) -> Sequence[Route]:
        """What can be asked."""
        return (Route("GET", "/", self.answer), Route("GET", "/events", self.stream.answer))

    def look(self) -> int:
        """Take in what is new, and return the newest version."""
        now = asyncio.get_running_loop().time()
        if now - self._looked >= LOOK_S and not self._going_on:
            self._looked = now
            self._go_on()
            if len(self._html) > len(self.board) + MOST_STALE:
                self._html = {name: kept for name, kept in self._html.items() if self.board.get(name) is not None}
        is_gathering = self._gathering is not None and not self._gathering.done()
        if now - self._facts_s >= FACTS_S and not is_gathering and self.board.has_all:
            self._gathering = asyncio.create_task(self._gather(), name="facts of the page")
        return self.board.version

    def _go_on(self) -> None:
        """Look at the board, and go on after a pause as long as it is behind."""
        self.board.look(self._clock())
        self._going_on = self.board.behind > 0
        if self._going_on:
            pause_s = PAUSE_S if not self.board.has_all else LONG_PAUSE_S
            asyncio.get_running_loop().call_later(pause_s, self._go_on)

    async def _gather(self) -> None:
        try:
            facts = await gather(self._sources, list(self.board))
        except Exception:
            log.exception("the page goes on with what it knew before")
            facts = self._facts
        self._facts_s = asyncio.get_running_loop().time()
        if facts != self._facts:
            self._facts = facts
            self._facts_version = self.board.bump()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer GET /, as ?q=, pool= and state= say."""
        self.look()
        loop = asyncio.get_running_loop()
        until_s = loop.time() + BEHIND_WAIT_S
        while not self.board.has_all or (self.board.behind and loop.time() < until_s):  # noqa: ASYNC110 # seldom
            await asyncio.sleep(PAUSE_S)
        self.look()
        if self._gathering is not None and not self._gathering.done():
            await asyncio.wait([self._gathering], timeout=FACTS_WAIT_S)
        query = request.query
        wanted = Wanted(
            query.get("q", "").strip().lower()[:LONGEST_SEARCH], query.get("pool", ""), query.get("state", "")
        )
        async with self._making:
            rows, label = list(self.board), "" if wanted else self.stream.label(self.board.version)
            body, packed = await asyncio.to_thread(self._page, rows, self._facts, wanted, label, takes_gzip(request))
        headers = {"Vary": "Accept-Encoding", "Cache-Control": "no-store"}
        if packed:
            headers["Content-Encoding"] = "gzip"
        return web.Response(body=body, content_type="text/html", charset="utf-8", headers=headers)

    def _page(self, rows: Sequence[Row], facts: Facts, wanted: Wanted, label: str, packed: bool) -> tuple[bytes, bool]:
        """Return the page, compressed if that is wanted. In a thread: a thousand machines take 20 ms."""
        found = [row for row in rows if wanted.has(row)]
        found.sort(key=lambda row: (_PLACES[row.state], row.key, row.name))
        shown, of = found[:MOST_SHOWN], _counts(found)
        now_s = self._clock()
        text = self._templates.render(
            "farm.html",
            root="",
            groups=[
                (state.value, said, of[state.value], [self._row(row, now_s) for row in shown if row.state is state])
                for state, said in GROUPS.items()
            ],
            counts=_counts(rows),
            labels={state.value: said for state, said in LABELS.items()},
            total=len(rows),
            shown=len(shown),
            found=len(found),
            is_cut=_is_cut(rows),
            wanted=wanted,
            pools=sorted({row.pool for row in rows if row.pool}),
            facts=facts,
            label=label,
            now_s=now_s,
            began_s=self._began_s,
        )
        body = text.encode()
        return (gzip.compress(body, 1), True) if packed else (body, False)

    def _made(self, version: int) -> Made:
        """Return what makes the event that leads on from `version`."""
        changes = self.board.since(version)
        if _is_cut(self.board):
            changes = Changes(changes.version, [], [], whole=False)
        facts = self._facts if version == 0 or changes.whole or self._facts_version > version else None
        everybody = list(self.board)
        return lambda: self._changes(changes, everybody, facts)

    def _changes(self, changes: Changes, everybody: Sequence[Row], facts: Facts | None) -> Mapping[str, object]:
        now_s = self._clock()
        out: dict[str, object] = {
            "now": now_s,
            "whole": changes.whole,
            "gone": changes.gone,
            "counts": _counts(everybody),
            "cut": _is_cut(everybody),
            "rows": [[row.name, row.state.value, self._row(row, now_s)] for row in changes.rows],
        }
        if facts is not None:
            parts = self._templates.macros("parts.html")
            out["side"] = str(parts.side(facts, now_s))
            out["notices"] = str(parts.notices(facts.notices))
        return out

    def _row(self, row: Row, now_s: float) -> str:
        """Return the HTML of a row; all but how long ago that was is made once."""
        kept = self._html.get(row.name)
        if kept is None or kept[0] != row:
            before, _, after = str(self._templates.macros("parts.html").row(row, _SINCE)).partition(_SINCE)
            kept = self._html[row.name] = row, before, after
        _, before, after = kept
        return f"{before}{words.ago(now_s - row.since_s) if row.since_s else ''}{after}"


def _is_cut(rows: Sized) -> bool:
    """Return whether a farm has too many machines for one page."""
    return len(rows) > MOST_SHOWN


def _counts(rows: Sequence[Row]) -> dict[str, int]:
    states = Counter(row.state for row in rows)
    return {state.value: states[state] for state in GROUPS}
