"""Label and field selectors."""

import re
from collections.abc import Callable
from typing import Any

from tests.support.kube_stand_in.faults import Refusal
from tests.support.kube_stand_in.resources import Object

Matches = Callable[[Object], bool]


def selector(labels: str, fields: str) -> Matches:
    """Return whether an object is one of those that were asked for. Raises `Refusal` (400)."""
    terms = [*map(_label_term, _split(labels)), *map(_field_term, _split(fields))]
    return lambda found: all(term(found) for term in terms)


def _split(text: str) -> list[str]:
    """The terms of a selector; the commas inside brackets are none of its own."""
    return [term.strip() for term in re.split(r",(?![^(]*\))", text) if term.strip()]


def _label_term(term: str) -> Matches:
    def labels(found: Object) -> dict[str, str]:
        return found["metadata"].get("labels") or {}

    if among := re.fullmatch(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)", term):
        key, how, values = among[1], among[2], {value.strip() for value in among[3].split(",")}
        return lambda found: (labels(found).get(key) in values) == (how == "in")
    if equal := re.fullmatch(r"([^=!\s]+)\s*(==|=|!=)\s*(\S*)", term):
        key, how, value = equal.groups()
        return lambda found: (labels(found).get(key) == value) != (how == "!=")
    if exists := re.fullmatch(r"(!?)\s*([^=!\s]+)", term):
        key, absent = exists[2], bool(exists[1])
        return lambda found: (key in labels(found)) != absent
    raise Refusal(400, "BadRequest", f"unable to parse requirement: {term!r}")


def _field_term(term: str) -> Matches:
    equal = re.fullmatch(r"([A-Za-z.]+)\s*(==|=|!=)\s*(\S*)", term)
    if not equal:
        raise Refusal(400, "BadRequest", f"invalid field selector {term!r}")
    path, how, value = equal[1].split("."), equal[2], equal[3]

    def at(found: Any) -> str:
        for part in path:
            found = found.get(part, "") if isinstance(found, dict) else ""
        return str(found).lower() if isinstance(found, bool) else str(found)

    return lambda found: (at(found) == value) != (how == "!=")
