"""The protocol of one connection: bytes and answers in, actions out.

    session = Session(TlsMode.OFFERED)
    actions = session.start(now)                # then, for what arrives: session.receive(data, now)

First the client and we haggle (`nbd.haggling`): it may ask, and at last chooses an export. Then it sends commands
(`nbd.transmission`). Three actions ask a question, and bytes are only kept until it is answered:

    OpenExport      export_opened or export_refused
    ListExports     exports_listed
    StartTls        secured
"""

from collections.abc import Sequence

from nbd import wire
from nbd.actions import Action, Close, ExportInfo, Send, TlsMode
from nbd.exports import Refused
from nbd.haggling import Haggling, Phase
from nbd.inbox import Inbox
from nbd.replies import Replies
from nbd.wire import HandshakeFlag

__all__ = ["HANDSHAKE_S", "Phase", "Session"]

HANDSHAKE_S = 10.0
"""How long a client may take to choose an export, in seconds (QEMU's answer to CVE-2024-7409)."""


class Session:
    """One connection, as seen by the server.

    It keeps at most one option, or one piece of a WRITE, beyond what one `receive` brought.
    """

    def __init__(self, tls: TlsMode = TlsMode.NONE) -> None:
        self.deadline: float | None = None
        """When `expire` is due; None once an export was chosen."""
        self._inbox = Inbox()
        self._haggling = Haggling(self._inbox, tls)
        self._closed = False

    @property
    def phase(self) -> Phase:
        """How far it is."""
        return Phase.CLOSED if self._closed else self._haggling.phase

    @property
    def secure(self) -> bool:
        """Whether the connection has TLS."""
        return self._haggling.secure

    @property
    def replies(self) -> Replies:
        """The form of the answers to commands; settled once an export was chosen."""
        return self._haggling.replies

    @property
    def at_boundary(self) -> bool:
        """Whether an export was chosen, and all requests that have begun to arrive have arrived whole.

        Then whoever knows `replies` may take the next requests, as long as they are plain READs, past this session.
        """
        chosen = self._haggling.chosen
        return not self._closed and chosen is not None and chosen.at_boundary

    @property
    def buffered(self) -> int:
        """How many bytes are kept of what has not arrived whole, or waits for an answer."""
        return len(self._inbox.data)

    def start(self, now: float) -> list[Action]:
        """Greet the client, which then has ten seconds to choose an export."""
        self.deadline = now + HANDSHAKE_S
        return [Send(wire.Greeting(HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES).encode())]

    def receive(self, data: bytes | memoryview, now: float) -> list[Action]:
        """Take what arrived, in pieces of any size."""
        if self._closed:
            return []
        self._inbox.add(data)
        return self._advance([])

    def expire(self, now: float) -> list[Action]:
        """Act on silence: close, if the deadline has passed."""
        if self.deadline is None or now < self.deadline:
            return []
        self._end()
        return [Close(f"no export chosen within {HANDSHAKE_S:.0f} s")]

    def stopping(self) -> None:
        """Take no new clients: from now on options are answered with ERR_SHUTDOWN.

        Commands are not answered with ESHUTDOWN, though the specification would like that: to a machine it is an I/O
        error of its root. After a plain close the kernel's client connects again, and asks again.
        """
        self._haggling.stopping = True

    def export_opened(self, info: ExportInfo) -> list[Action]:
        """Go on after `OpenExport`: there is such an export."""
        if self.phase is not Phase.WAITING:
            return []
        actions = self._haggling.opened(info)
        if self._haggling.chosen is not None:
            self.deadline = None
        return self._advance(actions)

    def export_refused(self, why: Refused) -> list[Action]:
        """Go on after `OpenExport`: there is no such export for this client."""
        return self._advance(self._haggling.refused(why)) if self.phase is Phase.WAITING else []

    def exports_listed(self, names: Sequence[str]) -> list[Action]:
        """Go on after `ListExports`."""
        return self._advance(self._haggling.listed(names)) if self.phase is Phase.WAITING else []

    def secured(self) -> list[Action]:
        """Go on after `StartTls`: the connection has TLS, and what is received from now on came through it."""
        if self.phase is not Phase.SECURING:
            return []
        self._haggling.secured()
        return self._advance([])

    def _advance(self, actions: list[Action]) -> list[Action]:
        """Take whole messages out of the inbox until it, or the phase, ends. Returns `actions` with what they need."""
        haggling = self._haggling
        try:
            while self._inbox.dropped(actions) and not _over(actions):
                if not (haggling.chosen or haggling).step(actions):
                    break
        except wire.MalformedPacket as error:
            actions.append(Close(str(error)))
        if _over(actions):
            self._end()
        return actions

    def _end(self) -> None:
        self._closed = True
        self.deadline = None
        self._inbox.clear()


def _over(actions: list[Action]) -> bool:
    """Return whether nothing comes after these."""
    return bool(actions) and isinstance(actions[-1], Close)
