"""Tokens that are to be deleted, until they are. Pure; times are monotonic seconds."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pxeboot.controller.boot import Action, DeleteToken, TokenState
from pxeboot.controller.pause import pause_s

GRACE_S = 600.0
"""So long after its life is over a token is still tried to be deleted. It opens nothing then, and a cluster whose
`tokencleaner` runs deletes it as well."""


@dataclass(slots=True)
class _Doomed:
    """`due`: when to try to delete it; None while that is under way."""

    was: TokenState
    why: str
    due: float | None
    failures: int = 0


class Doom:
    """The tokens to be deleted, each tried again until it is gone or its own life is long over."""

    def __init__(self) -> None:
        """Begin with none."""
        self._doomed: dict[str, _Doomed] = {}

    def __contains__(self, token_id: str) -> bool:
        return token_id in self._doomed

    def __iter__(self) -> Iterator[TokenState]:
        return (replace(doomed.was, state="is being deleted") for doomed in self._doomed.values())

    def add(self, was: TokenState, why: str) -> list[Action]:
        """A token is to be deleted, now."""
        self._doomed[was.token_id] = _Doomed(was, why, None)
        return [DeleteToken(was.token_id, why)]

    def deleted(self, token_id: str) -> None:
        """It is gone."""
        self._doomed.pop(token_id, None)

    def failed(self, token_id: str, now: float, after_s: float | None) -> None:
        """It could not be deleted."""
        doomed = self._doomed.get(token_id)
        if doomed is not None:
            doomed.due = now + pause_s(doomed.failures, after_s)
            doomed.failures += 1

    @property
    def deadline(self) -> float | None:
        """When `expire` is due."""
        return min((doomed.due for doomed in self._doomed.values() if doomed.due is not None), default=None)

    def expire(self, now: float) -> list[Action]:
        """Try again what failed."""
        actions: list[Action] = []
        for token_id, doomed in list(self._doomed.items()):
            if doomed.due is None or doomed.due > now:
                continue
            if now > doomed.was.expires + GRACE_S:
                del self._doomed[token_id]
            else:
                doomed.due = None
                actions.append(DeleteToken(token_id, doomed.why))
        return actions
