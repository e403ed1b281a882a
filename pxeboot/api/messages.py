"""GET /v1/machines/NAME/log: the newest lines of a machine, its own and ours about it, the oldest first.

`?boot=-1` are those since its newest boot began, `?boot=-2` those of the one before; without it, all that are kept.
"""

from collections.abc import Sequence
from math import inf

from aiohttp import web

from pxeboot.api.control import Route, answer
from pxeboot.messages import Line, Messages
from pxeboot.timeline import Timeline


def routes(timeline: Timeline, messages: Messages) -> Sequence[Route]:
    """Return the route that answers from `messages`."""

    async def log(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        since_s, until_s = -inf, inf
        if (wanted := request.query.get("boot")) is not None:
            machine = timeline.get(name)
            begins = [boot.started_s for boot in machine.boots] if machine is not None else []
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
