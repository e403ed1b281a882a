"""GET /v1/machines/NAME/log: the newest lines of a machine, its own and ours about it, the oldest first.

NAME may be a MAC or an address, too (`pxeboot.meant`).
`?boot=-1` are those since its newest boot began, `?boot=-2` those of the one before; without it, all that are kept.
"""

from collections.abc import Sequence
from math import inf

from aiohttp import web

from pxeboot.api.control import Find, Route, answer, by_name
from pxeboot.messages import Line, Messages
from pxeboot.timeline import Machine, Timeline


def routes(timeline: Timeline, messages: Messages, find: Find | None = None) -> Sequence[Route]:
    """Return the route that answers from `messages`; `find` knows machines by more than their names."""
    find = find or by_name(timeline)

    async def log(request: web.Request) -> web.Response:
        name, wanted = request.match_info["name"], request.query.get("boot")
        since_s, until_s = -inf, inf
        machine = find(name)
        if isinstance(machine, Machine):
            name = machine.name
        elif wanted is not None or not messages.of(name):  # there may be lines of one that is forgotten
            return await answer(machine, 404)
        if isinstance(machine, Machine) and wanted is not None:
            begins = [boot.started_s for boot in machine.boots]
            if wanted not in [str(-1 - n) for n in range(len(begins))]:
                return await answer({"error": f"no boot {wanted!r} of {name!r} is known"}, 404)
            number = len(begins) + int(wanted)
            since_s, until_s = begins[number], begins[number + 1] if number + 1 < len(begins) else inf
        lines = messages.of(name, since_s, until_s)
        return await answer({"name": name, "lines": [line_json(line) for line in lines]})

    return [Route("GET", "/v1/machines/{name}/log", log)]


def line_json(line: Line) -> dict[str, object]:
    """Return one line as JSON values; its time is in seconds since 1970."""
    return {"at_s": line.at_s, "source": line.source, "severity": line.severity.name.lower(), "text": line.text}
