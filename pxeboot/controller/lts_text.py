"""A shared join command in the text of an lts.conf: read, put in, taken out; every other byte stays. Pure.

Beside the join key, RCFILE_07_JOIN_K8S say, are ours in the same section: JOIN_K8S_EXPIRES, until when it is good;
JOIN_K8S_FOLLOWED, `ID TIME, ID TIME`, which tokens before it are deleted when; and, where the API server has a name,
HOSTS_07_JOIN_K8S, HOSTS_07_JOIN_K8S_2 ..., its addresses.
"""

import re
from dataclasses import dataclass
from itertools import count

from config.ltsconf import JOIN_EXPIRES_KEY, JOIN_FOLLOWED_KEY, LtsConf
from pxeboot.controller.engine import Followed, Published
from pxeboot.controller.join import JoinCommand
from pxeboot.controller.token import parse_rfc3339, rfc3339

_FOLLOWED = re.compile(r"([a-z0-9]{6}) (\S+)")


@dataclass(frozen=True, slots=True)
class Place:
    """A section of an lts.conf and the key in it that holds the join command.

    All raise `ValueError` for a text that is no lts.conf.
    """

    section: str
    key: str

    def read(self, text: str) -> Published | None:
        """Return what is published; None: there is no join command."""
        conf = LtsConf.parse(text)
        command = conf.get(self.section, self.key)
        if command is None:
            return None
        hosts = tuple(conf.get(self.section, key) or "" for key in self._host_keys(conf))
        expires = _seconds(conf.get(self.section, JOIN_EXPIRES_KEY))
        return Published(command, expires, hosts, _followed(conf.get(self.section, JOIN_FOLLOWED_KEY)))

    def publish(
        self,
        text: str,
        join: JoinCommand,
        expires: float,
        hosts: tuple[str, ...] = (),
        followed: tuple[Followed, ...] = (),
    ) -> str:
        """Return the text with the join command and what goes with it."""
        conf = LtsConf.parse(text).with_value(self.section, self.key, join.reveal())
        conf = conf.with_value(self.section, JOIN_EXPIRES_KEY, rfc3339(expires))
        if followed:
            noted = ", ".join(f"{token.id} {rfc3339(token.until)}" for token in followed)
            conf = conf.with_value(self.section, JOIN_FOLLOWED_KEY, noted)
        else:
            conf = conf.without(self.section, JOIN_FOLLOWED_KEY)
        for key in self._host_keys(conf)[len(hosts) :]:
            conf = conf.without(self.section, key)
        for line, number in zip(hosts, count(1), strict=False):
            conf = conf.with_value(self.section, self._host_key(number), line)
        return conf.text

    def retract(self, text: str) -> str:
        """Return the text without the join command and what goes with it."""
        conf = LtsConf.parse(text)
        for key in (self.key, JOIN_EXPIRES_KEY, JOIN_FOLLOWED_KEY, *self._host_keys(conf)):
            conf = conf.without(self.section, key)
        return conf.text

    def _host_key(self, number: int) -> str:
        """The key of one address: by the number of the join key, as HOSTS_07_JOIN_K8S and HOSTS_07_JOIN_K8S_2."""
        first = f"HOSTS_{self.key.removeprefix('RCFILE_')}"
        return first if number == 1 else f"{first}_{number}"

    def _host_keys(self, conf: LtsConf) -> list[str]:
        """The keys of the addresses that stand there."""
        keys: list[str] = []
        while conf.get(self.section, key := self._host_key(len(keys) + 1)) is not None:
            keys.append(key)
        return keys


def _followed(text: str | None) -> tuple[Followed, ...]:
    """Read the note; what is no part of one is left out."""
    notes = [_FOLLOWED.fullmatch(part.strip()) for part in (text or "").split(",")]
    pairs = [(note[1], _seconds(note[2])) for note in notes if note]
    return tuple(Followed(token_id, until) for token_id, until in pairs if until is not None)


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else parse_rfc3339(text)
    except ValueError:
        return None
