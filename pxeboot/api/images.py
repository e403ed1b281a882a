"""GET /v1/images/ID/users: who uses this version of an image, so that `pxeboot image remove` leaves it."""

import asyncio
from collections.abc import Callable, Sequence

from aiohttp import web

from pxeboot.api.control import Route, answer

Users = Callable[[str], Sequence[tuple[str, str]]]
"""An image's id → (who, how) of each that uses it. Blocks on the disk."""


def routes(users: Users) -> Sequence[Route]:
    """Return the route that answers from `users`."""

    async def asked(request: web.Request) -> web.Response:
        image_id = request.match_info["id"]
        found = await asyncio.to_thread(users, image_id)
        return await answer({"id": image_id, "users": [{"who": who, "how": how} for who, how in found]})

    return [Route("GET", "/v1/images/{id}/users", asked)]
