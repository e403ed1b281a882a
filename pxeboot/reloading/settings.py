"""Which settings differ between two values of the same kind. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from config.model import Setting

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was, and is now; None: it is not there."""

    what: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is not None and self.before.startswith("withheld-"):
            return f"{self.what}: {'another one' if self.after is not None else 'none any more'}"
        if self.after is not None and self.after.startswith("withheld-"):
            return f"{self.what}: it is new"
        return f"{self.what}: {_or_none(self.before)} -> {_or_none(self.after)}"


def _or_none(text: str | None) -> str:
    return "none" if text is None else text


def until_a_restart(change: Change) -> str:
    """Return a line about a setting that keeps its value.

    >>> until_a_restart(Change("server.http_port", "80", "8080"))
    'server.http_port: 8080 in the file, 80 until a restart'
    """
    return f"{change.what}: {_or_none(change.after)} in the file, {_or_none(change.before)} until a restart"


def differences(old: object, new: object, path: Path = ()) -> Iterator[Change]:
    """Yield each setting that differs, by its place in the farm's file."""
    if old == new:
        return
    if isinstance(old, Setting) and isinstance(new, Setting):
        before, after = dict(old), dict(new)
    elif isinstance(old, dict) and isinstance(new, dict):
        before, after = old, new
    else:
        yield Change(".".join(path), shown(old), shown(new))
        return
    for key in {**before, **after}:
        yield from differences(before.get(key), after.get(key), (*path, str(key)))


def shown(value: object) -> str | None:
    """Return a value as a person reads it; None: it is not there."""
    match value:
        case None:
            return None
        case bool():
            return str(value).lower()
        case tuple() | list():
            return ", ".join(str(shown(item)) for item in value) or "none"
        case dict():
            return ", ".join(f"{key}={shown(inner)}" for key, inner in value.items()) or "none"
        case Setting():
            said = ", ".join(f"{key}={shown(inner)}" for key, inner in value if key in value.model_fields_set)
            return said or "as its defaults are"
        case _:
            return str(value)
