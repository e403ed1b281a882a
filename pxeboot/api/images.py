"""GET /v1/images/ID/users: who uses this version of an image, so that `pxeboot image remove` leaves it."""

from collections.abc import Sequence
from functools import partial

from aiohttp import web

from pxeboot.api.control import Route, answer
from pxeboot.exports.roots import Roots


def routes(roots: Roots) -> Sequence[Route]:
    """Return the route that answers from `roots`; 503 while its disks do not."""

    async def asked(request: web.Request) -> web.Response:
        image_id = request.match_info["id"]
        try:
            found = await roots.looked_up(partial(roots.users, image_id))
        except OSError as error:
            why = error.strerror or str(error) or "a disk does not answer"
            return await answer({"error": f"who uses images is not known: {why}"}, 503)
        return await answer({"id": image_id, "users": [{"who": who, "how": how} for who, how in found]})

    return [Route("GET", "/v1/images/{id}/users", asked)]
