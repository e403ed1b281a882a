"""Pages that follow a machine have places, and give them back."""

import asyncio
from types import SimpleNamespace
from typing import cast
from unittest.mock import Mock

from aiohttp.test_utils import make_mocked_request

from pxeboot.hub import Hub
from pxeboot.intents import Boot, Intent
from pxeboot.messages import Messages
from pxeboot.reloading.state import Reloads
from pxeboot.timeline import Timeline
from pxeboot.web.ground import stamp
from pxeboot.web.machine import FOLLOWS_S, Machines
from pxeboot.web.static import Static
from pxeboot.web.templates import Templates
from pxeboot.web.users import Users


def test_who_left_a_page_does_not_keep_its_place() -> None:
    """Somebody who looks at one machine after another would otherwise fill all places for a while."""
    nodes = SimpleNamespace(intent=lambda _: Intent(Boot.NETBOOT))
    parts = SimpleNamespace(timeline=Timeline(), messages=Messages(), nodes=nodes, reloads=Reloads(None, 0.0))
    hub = cast(Hub, parts)
    gone = Mock(spec=asyncio.Transport)
    gone.is_closing.return_value = True

    async def ask() -> int:
        machines = Machines(hub, Templates(Static()), cast(Users, None))
        path = f"/machines/m1/changed?since={stamp(hub, 'm1')}"
        request = make_mocked_request("GET", path, match_info={"name": "m1"}, transport=gone)
        async with asyncio.timeout(FOLLOWS_S / 2):
            return (await machines.changed(request)).status

    assert asyncio.run(ask()) == 204
