"""Keeps or seeks the lead among controllers by one Lease object, and says truly whether we have it."""

import asyncio
import logging
import random
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from pxeboot.kube.api import Api
from pxeboot.kube.election import Candidate, Create, Replace, Wait
from pxeboot.kube.errors import Unavailable
from pxeboot.kube.leases import Lease, create_lease, get_lease, replace_lease
from pxeboot.kube.times import running_clock

log = logging.getLogger("controller")

DURATION_S = 15
"""How long the lead of a controller that has vanished stays unclaimed."""
_RELEASE_S = 2.0
_LEAST_REST_S = 0.05


def own_identity() -> str:
    """Return a name for this process that no other has, not even the one that it follows in the same pod."""
    return f"{socket.gethostname()}_{secrets.token_hex(8)}"


class Elector:
    """Seeks the Lease `name` for `identity`, which must be this process's alone (`own_identity`).

    `on_change` is told whenever `leads` changes; but only `leads` itself is true at the very moment, so look at it
    before each thing that only the leader may do.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        identity: str,
        *,
        on_change: Callable[[bool], None] = lambda leads: None,
        duration_s: int = DURATION_S,
        clock: Callable[[], float] = running_clock,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._candidate = Candidate(name, identity, duration_s)
        self._on_change = on_change
        self._clock = clock
        self._told = False
        self._trouble = ""

    @property
    def leads(self) -> bool:
        """Whether we are the leader at this moment; false also when we were stopped for too long to know."""
        return self._candidate.leads(self._clock())

    @property
    def holder(self) -> str:
        """Who leads, as far as is known; "" for nobody."""
        return self._candidate.holder

    async def run(self) -> None:
        """Seek and keep the lead until cancelled; then give it up, so that the next one need not wait."""
        try:
            while True:
                await self._attempt()
                self._tell()
                await asyncio.sleep(self._rest_s())
                self._tell()
        finally:
            await self._release()

    def _rest_s(self) -> float:
        """How long until the next attempt: not all at once, and while we still lead."""
        wait_s = self._candidate.retry_s * (0.8 + 0.4 * random.random())
        left_s = self._candidate.until - self._clock()
        return min(wait_s, max(left_s / 2, _LEAST_REST_S)) if left_s > 0 else wait_s

    async def _attempt(self) -> None:
        """Renew or take the lead if it is ours to take. While we lead it ends no later than the lead does."""
        left_s = self._candidate.until - self._clock()
        try:
            async with asyncio.timeout(left_s if left_s > 0 else None):
                renewal = self._candidate.renew(time.time())
                if renewal is None or not await self._write(renewal):
                    record = await get_lease(self._api, self._namespace, self._name)
                    await self._write(self._candidate.observe(record, self._clock(), time.time()))
        except TimeoutError:
            self._complain(f"the lead could not be renewed within {self._candidate.renew_s:g} s")
        except Unavailable as error:
            self._complain(str(error))
        else:
            self._trouble = ""

    async def _write(self, action: Create | Replace | Wait) -> bool:
        """Carry it out; False if somebody else was faster. Raises `Unavailable`."""
        sent = self._clock()
        written: Lease | None
        match action:
            case Create(lease):
                written = await create_lease(self._api, self._namespace, lease)
            case Replace(lease):
                written = await replace_lease(self._api, self._namespace, lease)
            case Wait():
                return True
        if written is None:
            return False
        self._candidate.wrote(written, sent)
        return True

    async def _release(self) -> None:
        give_up = self._candidate.release(time.time())
        self._tell()
        if give_up is not None:
            with suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(_RELEASE_S):
                    await replace_lease(self._api, self._namespace, give_up.lease)

    def _tell(self) -> None:
        leads = self.leads
        if leads == self._told:
            return
        self._told = leads
        log.info("%s: %s", self._api.name, "we lead now" if leads else "we do not lead any more")
        try:
            self._on_change(leads)
        except Exception:
            log.exception("%s: a fault of the controller itself", self._api.name)

    def _complain(self, trouble: str) -> None:
        if not self._trouble:
            log.warning("%s: who leads cannot be settled: %s", self._api.name, trouble)
        self._trouble = trouble
