"""The boots of a farm while the API server is away: against the stand-in API, behind a line that counts."""

import asyncio
import secrets
import time
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from pxeboot.controller.boot_service import BootKeeper
from pxeboot.controller.boots import Terms
from pxeboot.joining.talk import BootBegun, JoinGiven, TokenAsked, Told
from pxeboot.kube.api import Api
from tests.support.kube_api import KubeApi

pytestmark = pytest.mark.net

RULES = Path(__file__).parents[2] / "deploy/kubernetes/rbac.yaml"


class Line:
    """What lies between the controller and the API server: it counts connections, and can be cut."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.cut = True
        self.tries: list[float] = []
        self.port = 0

    async def __aenter__(self) -> "Line":
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tries.append(time.monotonic())
        with suppress(OSError):
            if not self.cut:
                there, back = await asyncio.open_connection("127.0.0.1", self._to)
                await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


async def join(keeper: BootKeeper, node: str, seed: str) -> JoinGiven:
    """Boot a machine up to its command, however often it has to ask."""
    boot = secrets.token_hex(8)
    keeper.begun(node, BootBegun(boot, IPv4Address("10.77.0.9"), time.time()))
    while True:
        answer = await keeper.give(node, TokenAsked(boot, seed))
        if isinstance(answer, JoinGiven):
            return answer
        assert answer.retry_after_s is not None, answer.error
        await asyncio.sleep(5)  # as `node/rcfile` does


def test_a_farm_that_boots_while_the_api_is_away_is_no_storm_and_then_all_get_their_tokens(tmp_path: Path) -> None:
    machines = 200

    async def run() -> tuple[int, float, list[JoinGiven], list[str]]:
        api = KubeApi(tmp_path)
        await api.start()
        await api.apply(RULES.read_text())
        text = api.controller_kubeconfig().read_text()
        async with Line(api.port) as line:
            kubeconfig = tmp_path / "through-the-line"
            kubeconfig.write_text(text.replace(f":{api.port}", f":{line.port}"))
            told: list[Told] = []
            keeper = BootKeeper(Api("prod", kubeconfig), Terms(600.0), told.append)
            keeping = asyncio.create_task(keeper.run())
            joins = [asyncio.create_task(join(keeper, f"m{n}", secrets.token_hex(32))) for n in range(machines)]
            began = time.monotonic()
            while len(line.tries) < 3 or time.monotonic() < began + 10:
                assert time.monotonic() < began + 120
                await asyncio.sleep(0.1)
            tries, away_s = len(line.tries), time.monotonic() - began
            line.cut = False
            given = await asyncio.wait_for(asyncio.gather(*joins), 300)
            made = [name for name in api.secrets if name.startswith("bootstrap-token-")]
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        await api.stop()
        return tries, away_s, given, made

    tries, away_s, given, made = asyncio.run(run())
    assert tries <= 10 + away_s, f"{tries} requests in {away_s:.0f} s"
    assert len({answer.token_id for answer in given}) == machines
    assert len(made) == machines
