"""Keeps one cluster's shared join command: looks, asks its engine, and does what it says."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from pxeboot.controller import engine
from pxeboot.controller.hosts import HostLines
from pxeboot.controller.join import JoinCommand
from pxeboot.controller.lts_file import MadeFile
from pxeboot.controller.mirror import Mirror
from pxeboot.controller.token import GROUP, Token, rfc3339
from pxeboot.joining.talk import TokenSeen
from pxeboot.kube.api import Api
from pxeboot.kube.cache import Change
from pxeboot.kube.elector import Elector
from pxeboot.kube.errors import Held, Unavailable
from pxeboot.kube.paths import CONFIG_MAPS, Object
from pxeboot.kube.tokens import cluster_info, create_token, delete_token
from pxeboot.kube.watching import Watch

log = logging.getLogger("controller")

LONGEST_SLEEP_S = 60.0
"""However far away the next look seems: the wall clock may have been set back."""
WAKE_S = 0.5
"""How soon after a look a change under us may cause another: something else may be writing all the time."""


class Published(Protocol):
    """Where the join command is published: an lts.conf of some kind."""

    async def read(self) -> engine.Published | None:
        """Return what is there. Raises `Unavailable`, `OSError` and `ValueError`, as the others do."""

    async def publish(
        self, join: JoinCommand, expires: float, hosts: tuple[str, ...], followed: tuple[engine.Followed, ...]
    ) -> None:
        """Write the join command and what goes with it."""

    async def retract(self) -> None:
        """Take it out."""


class NotLeading(Exception):
    """Another controller does this now."""


class Keeper:
    """Keeps the join command of one cluster.

    Where it is `led_by` an elector, only the leader makes tokens and writes; with a `mirror` what is written is copied
    to a file here. `clock` tells seconds since 1970.
    """

    def __init__(
        self,
        name: str,
        api: Api,
        place: Published,
        made: MadeFile,
        terms: engine.Terms,
        hosts: HostLines,
        *,
        mirror: Mirror | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._api = api
        self._place = place
        self._made = made
        self._hosts = hosts
        self._mirror = mirror
        self._elector: Elector | None = None
        self._engine = engine.Engine(terms)
        self._terms = terms
        self._clock = clock
        self._trouble = ""
        self._published: engine.Published | None = None
        self._woken = asyncio.Event()
        self._worked = asyncio.Event()
        self._looked_at = 0.0
        self._watch = Watch(
            api,
            CONFIG_MAPS,
            _data,
            self._on_cluster_info,
            namespace="kube-public",
            fields="metadata.name=cluster-info",
        )

    def led_by(self, elector: Elector) -> None:
        """From now on do nothing but as the leader."""
        self._elector = elector

    def wake(self) -> None:
        """Look again soon: something has changed."""
        self._woken.set()

    def published(self, published: engine.Published | None) -> None:
        """Be told what is published now."""
        if published != self._published:
            self._published = published
            self.wake()

    async def run(self) -> None:
        """Look and act until cancelled, which leaves lts.conf whole."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep(), name=f"{self._name}: join command")
                tasks.create_task(self._watch_cluster_info(), name=f"{self._name}: cluster-info")
                if self._elector:
                    tasks.create_task(self._elector.run(), name=f"{self._name}: elector")
                if self._mirror:
                    tasks.create_task(self._mirror.run(), name=f"{self._name}: copy")
        finally:
            await self._api.close()

    async def run_once(self) -> bool:
        """Look and act until lts.conf holds a fresh token; return False at the first failure.

        It seeks no lead: a command that is still good is left alone, and of two writers one has to read again.
        """
        self._elector = None
        try:
            while await self._round():
                if self._engine.settled:
                    return self._mirror is None or await self._mirror.once()
                await self._sleep()
            return False
        except Unavailable as error:
            self._tell(f"the Kubernetes API: {error}")
            return False
        finally:
            await self._api.close()

    def tokens(self) -> tuple[TokenSeen, ...]:
        """Our tokens, as far as is known, for people."""
        if self._published is None:
            return ()
        made, now = self._published.made, self._clock()
        current = [(made.token.id, made.expires, "machines join with it")] if made else []
        followed = [(old.id, old.until, "another follows it") for old in self._published.followed if now < old.until]
        return tuple(
            TokenSeen(self._name, token_id, "", "", expires - self._terms.ttl_s, expires, state)
            for token_id, expires, state in (*current, *followed)
        )

    async def revoke(self, token_id: str) -> bool:
        """Delete one of our tokens now; another is made if machines join with it. Raises `Unavailable`."""
        if token_id not in {seen.id for seen in self.tokens()}:
            return False
        gone = await delete_token(self._api, token_id)
        log.warning("%s: token %s was revoked", self._name, token_id)
        self.wake()
        return gone

    def status(self) -> dict[str, object]:
        """How things stand, for people."""
        made = self._published.made if self._published else None
        return {
            "tokens": "shared",
            "published_to": str(self._place),
            "token": made.token.id if made else None,
            "expires": rfc3339(made.expires) if made else None,
            "leads": self._leads,
            "trouble": self._trouble or None,
        }

    @property
    def _leads(self) -> bool:
        return self._elector is None or self._elector.leads

    async def _keep(self) -> None:
        while True:
            if self._leads:
                await self._round()
                await self._sleep()
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LONGEST_SLEEP_S):
                        await self._woken.wait()
                self._woken.clear()

    async def _watch_cluster_info(self) -> None:
        """Look again when cluster-info changes; not before we have published something from it."""
        await self._worked.wait()
        await self._watch.run()

    def _on_cluster_info(self, _change: Change[dict[str, str]]) -> None:
        self.wake()

    async def _sleep(self) -> None:
        """Wait until the engine wants to look again, or something has changed; after a failure that does not count."""
        rest_s = min(max(0.0, self._engine.deadline - self._clock()), LONGEST_SLEEP_S)
        if self._trouble:
            await asyncio.sleep(rest_s)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(rest_s):
                await self._woken.wait()
                await asyncio.sleep(self._looked_at + WAKE_S - time.monotonic())

    async def _round(self) -> bool:
        """One look and what follows from it. Return whether nothing failed; the engine has set when to come back."""
        published: engine.Published | None = None
        failure: Unavailable | None = None
        self._looked_at = time.monotonic()
        self._woken.clear()
        failed = True
        try:
            published = await self._place.read()
            self._published = published
            await self._obey(self._engine.expire(published, self._clock(), self._api.skew_s))
            seen = await self._look(published)
            trouble = await self._obey(self._engine.observe(seen, self._clock(), self._api.skew_s))
            failed = False
        except NotLeading:
            self._engine.failed(None, self._clock(), 0.0)  # what it asked for was not done
            return True
        except Unavailable as error:
            failure = error
            trouble = self._trouble if isinstance(error, Held) and self._trouble else f"the Kubernetes API: {error}"
        except (OSError, ValueError) as error:
            trouble = f"{self._place}: {error}"
        except Exception as error:
            log.exception("%s: a fault of the controller itself", self._name)
            trouble = f"a fault of the controller itself ({type(error).__name__})"
        if failed:
            await self._back_off(published, failure)
        elif self._engine.settled:
            self._worked.set()
        self._tell(trouble)
        return not trouble

    async def _back_off(self, published: engine.Published | None, failure: Unavailable | None) -> None:
        now, ahead_s = self._clock(), self._api.skew_s
        asked_s = failure.retry_after_s if failure else None
        if isinstance(failure, Held):
            actions = self._engine.held(published, now, asked_s or 0.0, ahead_s)
        else:
            actions = self._engine.failed(published, now, random.random(), asked_s, ahead_s)
        try:
            await self._obey(actions)
        except (OSError, ValueError, Unavailable, NotLeading) as error:
            log.error("%s: the expired join command could not be taken out: %s", self._name, error)

    async def _look(self, published: engine.Published | None) -> engine.Observation:
        """Ask the API for all that the engine wants to know. Raises `Unavailable` and `OSError`."""
        seen = engine.Observation(
            published=published,
            made=await asyncio.to_thread(self._made.read),
            cluster_info=await cluster_info(self._api),
            own=await self._api.own(),
        )
        gone = set()
        for token in self._engine.doubtful(seen, self._clock(), self._api.skew_s):
            if await self._create(token, self._clock() + self._terms.ttl_s, dry_run=True):
                gone.add(token.id)
        hosts = {server: await self._hosts.lines(server) for server in self._engine.servers(seen)}
        return replace(seen, gone=frozenset(gone), hosts=hosts)

    async def _create(self, token: Token, expires: float, *, dry_run: bool) -> bool:
        """Make a token; False: there is one of its id. Raises `Unavailable`."""
        description = f"made by pxeboot: machines of cluster {self._name} join with it"
        groups = (GROUP,)
        return await create_token(
            self._api, token, expires, groups, signing=True, description=description, dry_run=dry_run
        )

    async def _mint(self, expires: float, api_expires: float) -> None:
        """Make a token, having written it down before. Raises `Unavailable` and `OSError`."""
        for _ in range(3):
            made = engine.Made(Token.make(), expires)
            await asyncio.to_thread(self._made.write, made)
            self._must_lead()
            if await self._create(made.token, api_expires, dry_run=False):
                log.info("%s: made token %s, good until %s", self._name, made.token.id, rfc3339(expires))
                return
        raise Unavailable("three new token ids in a row were taken", 409)

    def _must_lead(self) -> None:
        if not self._leads:
            raise NotLeading

    async def _obey(self, actions: Sequence[engine.Action]) -> str:
        """Carry out the actions in order; the first that fails ends it. Return what the engine complained of.

        Raises `Unavailable`, `OSError`, `ValueError` and `NotLeading`.
        """
        complaint = ""
        for action in actions:
            self._must_lead()
            match action:
                case engine.Mint(expires, api_expires):
                    await self._mint(expires, api_expires)
                case engine.Push(join, expires, hosts, followed, doubt):
                    await self._place.publish(join, expires, hosts, followed)
                    self._published = action.published
                    log.info(
                        "%s: machines join %s with token %s until %s: written to %s",
                        *(self._name, join.discovery.server, join.token.id, rfc3339(expires), self._place),
                    )
                    if doubt:
                        log.warning("%s: the CA is that of our own kubeconfig, because %s", self._name, doubt)
                case engine.Delete(token_id):
                    await delete_token(self._api, token_id)
                    log.info("%s: deleted token %s, which no machine holds any more", self._name, token_id)
                case engine.Retract(expired):
                    await self._place.retract()
                    self._published = None
                    log.warning(
                        "%s: machines cannot join: the command expired at %s and is out of %s",
                        *(self._name, rfc3339(expired), self._place),
                    )
                case engine.Complain(reason):
                    complaint = reason
        return complaint

    def _tell(self, trouble: str) -> None:
        """Say what goes wrong when it begins or changes, and that it ended; not at every round between."""
        if trouble and trouble != self._trouble:
            log.warning("%s: no fresh join command: %s", self._name, trouble)
        elif self._trouble and not trouble:
            log.info("%s: works again", self._name)
        self._trouble = trouble


def _data(raw: Object) -> dict[str, str]:
    """What a ConfigMap holds."""
    return dict(raw.get("data") or {})
