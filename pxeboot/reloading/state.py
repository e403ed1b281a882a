"""How the farm's file stands: which version of it is served, and why the newest is not. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class Reloads:
    """What people are told of the farm's file."""

    path: str | None
    """The file; None: we were started without one."""
    at_s: float
    """Since when the farm is served that is served now, in seconds since 1970."""
    generation: int = 1
    """Counts the farms that were served since the start, from 1."""
    refused: Sequence[str] | None = None
    """What is wrong in the file as it is now, a line for each; None: it is what is served."""
    refused_s: float | None = None
    """Since when it is wrong."""
    needs_restart: Sequence[str] = ()
    """What the file says otherwise than what is served, until a restart: a line for each setting."""

    def taken(self, at_s: float, needs_restart: Sequence[str]) -> None:
        """Take note that another farm is served."""
        self.generation += 1
        self.at_s = at_s
        self.unchanged(needs_restart)

    def unchanged(self, needs_restart: Sequence[str]) -> None:
        """Take note that the file says what is served."""
        self.refused = self.refused_s = None
        self.needs_restart = tuple(needs_restart)

    def refuse(self, mistakes: Sequence[str], at_s: float) -> bool:
        """Take note that the file is wrong; return whether that is new."""
        if self.refused == tuple(mistakes):
            return False
        self.refused = tuple(mistakes)
        self.refused_s = at_s
        return True

    def as_json(self) -> dict[str, object]:
        """Return it as JSON values."""
        return {
            "path": self.path,
            "generation": self.generation,
            "loaded_s": self.at_s,
            "refused": None if self.refused is None else list(self.refused),
            "refused_s": self.refused_s,
            "needs_restart": list(self.needs_restart),
        }
