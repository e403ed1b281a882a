"""The boots of one cluster's machines: carries out what `pxeboot.controller.boots` decides.

How much is sent to an API server that fails is limited by the cluster's `Api`, for everybody who speaks to it.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from ipaddress import IPv4Address

from pxeboot.controller import boot as acts
from pxeboot.controller.boots import Boots, Terms
from pxeboot.controller.filing import named_boot
from pxeboot.controller.hosts import HostLines
from pxeboot.controller.request import KUBELET_SIGNER
from pxeboot.controller.token import rfc3339
from pxeboot.joining.talk import BootBegun, JoinGiven, Refused, TokenAsked, TokenSeen, Told
from pxeboot.kube.api import Api
from pxeboot.kube.cache import Change
from pxeboot.kube.errors import Conflict, Unavailable
from pxeboot.kube.nodes import apply_owned, heartbeat, node, set_unknown
from pxeboot.kube.paths import REQUESTS, Object
from pxeboot.kube.requests import approve, decode_request, deny
from pxeboot.kube.times import running_clock
from pxeboot.kube.tokens import cluster_info, create_token, delete_token
from pxeboot.kube.values import Request
from pxeboot.kube.watching import Watch

log = logging.getLogger("controller")

ANSWER_S = 8.0
"""How long who asks for a token is kept waiting; the daemon waits for 10 s."""
REVOKE_S = 8.0
AT_ONCE = 16
"""How many requests for boots are sent at a time."""
DENIALS_AT_ONCE = 2
"""A thief who asks again and again does not keep the others waiting."""
MOST_TIMES = 20_000
"""Of things that were told, for when they are told again."""
AGAIN_S = 1.0
"""After a fault of our own, what is due is not tried again before."""


class BootKeeper:
    """The tokens of the boots of one cluster. `tell` hears what happens to them.

    `clock` tells seconds of a clock that nobody sets, `wall` seconds since 1970, and neither is believed about the
    other: what lives for so many seconds does so by the first, and the API server is told by its own clock until when.
    """

    def __init__(
        self,
        api: Api,
        terms: Terms,
        tell: Callable[[Told], None],
        api_address: IPv4Address | None = None,
        clock: Callable[[], float] = running_clock,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.name = api.name
        self._api = api
        self._boots = Boots(terms)
        self._tell = tell
        self._hosts = HostLines(api_address)
        self._clock = clock
        self._wall = wall
        self._watch = Watch(api, REQUESTS, _decode, self._changed, on_sync=self._in_sync)
        self._tasks: set[asyncio.Task[None]] = set()
        self._working = asyncio.Semaphore(AT_ONCE)
        self._denying = asyncio.Semaphore(DENIALS_AT_ONCE)
        self._asking: dict[str, list[asyncio.Future[JoinGiven | Refused]]] = {}
        self._revoking: dict[str, list[asyncio.Future[None]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._trouble = ""
        self._times: dict[tuple[str, float], float] = {}

    async def run(self) -> None:
        """Keep them until cancelled. After a fault of our own it can be run again; what is under way goes on."""
        try:
            self._arm()
            await self._watch.run()
        except asyncio.CancelledError:
            if self._timer is not None:
                self._timer.cancel()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            raise

    # What the daemon says

    def begun(self, machine: str, said: BootBegun) -> None:
        """A machine was told what to boot."""
        left_s = said.expires_s - self._wall()
        self._feed(lambda now: self._boots.begun(machine, said, now, left_s))

    def ended(self, machine: str, boot: str) -> None:
        """A machine was told to boot something that does not join here."""
        self._feed(lambda now: self._boots.ended(machine, boot, now))

    async def give(self, machine: str, said: TokenAsked) -> JoinGiven | Refused:
        """Return the join command of a boot, or why there is none (now, if it says when to ask again)."""
        answer: asyncio.Future[JoinGiven | Refused] = asyncio.get_running_loop().create_future()
        self._asking.setdefault(said.boot, []).append(answer)
        try:
            self._feed(lambda now: self._boots.asked(machine, said, now))
            async with asyncio.timeout(ANSWER_S):
                return await answer
        except TimeoutError:
            return Refused(self._boots.obstacle(said.boot), 1.0)
        finally:
            if said.boot in self._asking and answer in self._asking[said.boot]:
                self._asking[said.boot].remove(answer)
                if not self._asking[said.boot]:
                    del self._asking[said.boot]

    def tokens(self) -> Sequence[TokenSeen]:
        """The tokens of boots that are there, as far as we know."""
        return [
            TokenSeen(
                *(self.name, state.token_id, state.node, state.boot),
                made_s=self._since_1970(state.made),
                expires_s=self._since_1970(state.expires),
                state=state.state,
            )
            for state in self._boots.tokens()
        ]

    async def revoke(self, token_id: str) -> bool:
        """Delete a token, and grant nothing more to its boot. False: there is no such. Raises `Unavailable`.

        When that is raised the boot is over nevertheless, and the token is deleted when the API answers.
        """
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._revoking.setdefault(token_id, []).append(gone)
        try:
            actions = self._boots.revoke(token_id, self._clock())
            if actions is None:
                return False
            log.info("%s: token %s is revoked", self.name, token_id)
            self._feed(lambda now: actions)
            async with asyncio.timeout(REVOKE_S):
                await gone
        except TimeoutError:
            raise Unavailable(f"it is deleted once the API answers: {self._trouble}", None, 5.0) from None
        finally:
            self._revoking[token_id].remove(gone)
            if not self._revoking[token_id]:
                del self._revoking[token_id]
        return True

    def status(self) -> dict[str, object]:
        """How it is doing, for people."""
        return {
            "tokens": "boot",
            "boots": self._boots.counts(),
            "in_sync": self._watch.in_sync,
            "trouble": self._trouble,
        }

    # What the API says

    def _changed(self, change: Change[Request]) -> None:
        """A certificate request is there, or another, or gone."""
        if change.new is not None:
            request = change.new
            self._feed(lambda now: self._boots.request_seen(request, now))
        elif change.old is not None:
            self._boots.request_gone(change.old.uid)

    def _in_sync(self, in_sync: bool, why: str) -> None:
        if in_sync:
            self._feed(self._boots.synced)
            self._note_trouble("")
        else:
            self._note_trouble(why)

    # Carrying out

    def _feed(self, decide: Callable[[float], Sequence[acts.Action] | None]) -> None:
        """Ask the engine, and carry out what it says. A fault of our own is logged; the others' boots go on."""
        least_s = 0.0
        try:
            for action in decide(self._clock()) or ():
                self._carry_out(action)
        except Exception:
            log.exception("%s: a fault of the controller itself", self.name)
            least_s = AGAIN_S
        self._arm(least_s)

    def _arm(self, least_s: float = 0.0) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._boots.deadline
        if deadline is not None:
            wait_s = max(least_s, deadline - self._clock(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._feed, self._boots.expire)

    def _carry_out(self, action: acts.Action) -> None:
        match action:
            case acts.Give():
                self._start(self._answer(action))
            case acts.Refuse():
                self._refuse(action)
            case acts.Tell():
                self._told(action)
            case acts.Deny():
                self._start(self._deny(action))
            case acts.Approve():
                self._start(self._approve(action))
            case acts.DeleteToken():
                self._start(self._delete(action))
            case acts.LookInfo():
                self._start(self._look_at_info())
            case acts.Look() | acts.SetUnknown() | acts.Mint() | acts.ApplyOwned():
                self._start(self._work(action))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s: a fault of the controller itself", self.name, exc_info=error)

    async def _work(self, work: acts.Work) -> None:
        """One step of one boot."""
        try:
            async with self._working:
                self._feed(await self._done(work))
                self._note_trouble("")
        except Unavailable as error:
            reason, after_s = f"the Kubernetes API: {error}", error.retry_after_s
            self._note_trouble(reason)
            self._feed(lambda now: self._boots.failed(work.boot, reason, now, after_s))
        except Exception as error:
            log.exception("%s: a fault of the controller itself", self.name)
            fault = f"a fault of the controller itself ({type(error).__name__})"
            self._feed(lambda now: self._boots.failed(work.boot, fault, now))

    async def _done(self, work: acts.Work) -> Callable[[float], Sequence[acts.Action]]:
        """Do it, and return what to tell the engine. Raises `Unavailable`."""
        match work:
            case acts.Look(boot, machine, wants_beat):
                beat = await heartbeat(self._api, machine) if wants_beat else None
                seen = await node(self._api, machine)
                return lambda now: self._boots.looked(boot, seen, beat, now)
            case acts.SetUnknown(boot, machine, was):
                try:
                    await set_unknown(self._api, was, "PxebootBoot", f"The machine boots again (boot {boot}).")
                    log.info("%s: %s boots again: its old Node is Unknown", self.name, machine)
                except Unavailable as error:
                    if error.status != 404:
                        raise
                return lambda now: self._boots.cleared(boot, now)
            case acts.Mint():
                await self._mint(work)
                return lambda now: self._boots.minted(work.boot, now)
            case acts.ApplyOwned(boot, machine, labels, taints):
                if await apply_owned(self._api, machine, labels, taints):
                    log.info("%s: Node %s got its labels and taints", self.name, machine)
                return lambda now: self._boots.applied(boot, now)

    async def _mint(self, mint: acts.Mint) -> None:
        """Make the token; one that is there was made from this seed before, and nobody knows until when it lives."""
        for _ in range(2):
            expires_s = self._wall() + self._api.skew_s + mint.ttl_s
            description = f"made by pxeboot for boot {mint.boot} of {mint.node}"
            if await create_token(
                self._api, mint.token, expires_s, mint.groups, signing=True, description=description
            ):
                log.info("%s: made token %s for %s, good until %s", *self._about(mint, expires_s))
                return
            await delete_token(self._api, mint.token.id)
        raise Conflict(f"token {mint.token.id} is there again as soon as it is deleted", 409)

    def _about(self, mint: acts.Mint, expires_s: float) -> tuple[str, ...]:
        return self.name, mint.token.id, mint.node, rfc3339(expires_s)

    async def _look_at_info(self) -> None:
        try:
            data, own = await cluster_info(self._api), await self._api.own()
            self._feed(lambda now: self._boots.informed(data, own, now))
        except Unavailable as error:
            reason, after_s = f"the Kubernetes API: {error}", error.retry_after_s
            self._note_trouble(reason)
            self._feed(lambda now: self._boots.info_failed(reason, now, after_s))

    async def _approve(self, verdict: acts.Approve) -> None:
        request = verdict.request
        message = f"The kubelet of {verdict.node}, in its boot {verdict.boot}."
        async with self._working:
            if not self._boots.stands(verdict, self._clock()):
                # Its boot has ended meanwhile: it is decided anew.
                self._feed(lambda now: self._boots.decision_failed(request.uid, now, None))
                return
            done = await self._decided(request, approve(self._api, request, "PxebootBoot", message))
        if done:
            log.info("%s: approved certificate request %r of %s", self.name, request.name, verdict.node)
            self._feed(lambda now: self._boots.request_approved(request, now))

    async def _deny(self, verdict: acts.Deny) -> None:
        request = verdict.request
        async with self._denying:
            done = await self._decided(
                request, deny(self._api, request, "PxebootDenied", f"Denied: {verdict.reason}.")
            )
        if done:
            self._boots.request_gone(request.uid)

    async def _decided(self, request: Request, deciding: Awaitable[bool]) -> bool:
        """Whether it was done as we wanted; the engine is told that it was not."""
        try:
            if await deciding:
                return True
            self._boots.request_gone(request.uid)
        except Unavailable as error:
            self._note_trouble(f"the Kubernetes API: {error}")
            after_s = error.retry_after_s
            self._feed(lambda now: self._boots.decision_failed(request.uid, now, after_s))
        return False

    async def _delete(self, doomed: acts.DeleteToken) -> None:
        token_id = doomed.token_id
        try:
            async with self._working:
                was_there = await delete_token(self._api, token_id)
        except Unavailable as error:
            self._note_trouble(f"the Kubernetes API: {error}")
            after_s = error.retry_after_s
            self._feed(lambda now: self._boots.delete_failed(token_id, now, after_s))
            return
        log.info("%s: token %s is %s: %s", self.name, token_id, "deleted" if was_there else "gone", doomed.why)
        self._feed(lambda now: self._boots.deleted(token_id))
        for waiting in self._revoking.get(token_id, ()):
            if not waiting.done():
                waiting.set_result(None)

    async def _answer(self, give: acts.Give) -> None:
        """Answer those who ask for a token with the join command."""
        if give.doubt:
            log.warning("%s: the CA is that of our own kubeconfig, because %s", self.name, give.doubt)
        hosts = await self._hosts.lines(give.join.discovery.server) or ()
        expires_s = self._since_1970(give.expires)
        self._settle(give.boot, JoinGiven(give.join.reveal(), give.join.token.id, expires_s, hosts))

    def _refuse(self, refusal: acts.Refuse) -> None:
        if refusal.after_s is None:
            log.warning("%s: no token for %s: %s", self.name, refusal.node, refusal.reason)
        self._settle(refusal.boot, Refused(refusal.reason, refusal.after_s))

    def _settle(self, boot: str, answer: JoinGiven | Refused) -> None:
        for waiting in self._asking.pop(boot, ()):
            if not waiting.done():
                waiting.set_result(answer)

    def _told(self, tell: acts.Tell) -> None:
        if not tell.again:
            log.info("%s: %s: %s: %s", self.name, tell.node or f"boot {tell.boot}", tell.stage.value, tell.detail)
        # Told again, its time is the same to the last digit, whatever the clocks did: the daemon drops repetitions.
        at_s = self._times.setdefault((tell.boot, tell.at), self._since_1970(tell.at))
        if len(self._times) > MOST_TIMES:
            del self._times[next(iter(self._times))]
        self._tell(Told(self.name, tell.node, tell.boot, tell.stage, at_s, tell.detail))

    def _since_1970(self, moment: float) -> float:
        """When that was, or will be, by the wall clock as it is now."""
        return self._wall() + (moment - self._clock())

    def _note_trouble(self, trouble: str) -> None:
        """Say what goes wrong when it begins, and that it ended; not every time."""
        if trouble and not self._trouble:
            log.warning("%s: boots wait: %s", self.name, trouble)
        elif self._trouble and not trouble:
            log.info("%s: works again", self.name)
        self._trouble = trouble


def _decode(raw: Object) -> Request | None:
    """Keep requests that were made with the token of a boot and are not denied; of others nothing.

    A thief is denied as many as he makes, and the API keeps those for an hour; those to other signers, which we leave
    alone, for a day.
    """
    request = decode_request(raw)
    if named_boot(request) is None or request.denied:
        return None
    return request if request.signer == KUBELET_SIGNER else replace(request, pem=b"")
