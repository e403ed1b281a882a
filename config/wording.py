"""What pydantic found, in words for the person who wrote the file."""

import re
from collections.abc import Collection, Iterable
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from config import dhcpoptions, hints, mistakes
from config.check import place_text
from config.check_options import OPTION_KEYS
from config.dhcp import AddressPool, Subnet
from config.mistakes import suggestion
from config.model import AddressRange, Farm, Image, NodeFile, Taint
from config.yamltree import Place

__all__ = ["PATTERNS", "PLAIN", "SECRETS", "place_text", "sentence", "shown", "united"]

SECRETS = frozenset(("root_password_hash", "ssh_authorized_keys"))
"""Settings whose value no message repeats: people write the password there, and the private key. `node.files`, too,
but for paths and modes."""

HOST_NAME = "^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$"
MOST_LISTED = 15
"""So many keys are listed where one is near to what was written: a list of more helps only who is nowhere near."""

PATTERNS = {
    "^([0-9a-f]{2}:){5}[0-9a-f]{2}$": "is not a MAC address; write six hex pairs, such as 94:57:a5:d3:ec:f2",
    "^RCFILE_[A-Z0-9_]+$": "is not such a key; write RCFILE_ and capitals, digits or underscores",
    "^[A-Z][A-Z0-9_]*$": "is not an lts.conf key; write capitals, digits and underscores, a letter first",
    HOST_NAME: "is not a host name; write at most 63 small letters, digits, "
    "hyphens and dots, with a letter or digit at both ends",
    "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$": "is not such a name; write small letters, digits and hyphens, with a letter or "
    "digit at both ends",
    "^[!-9;-~]+$": "is not a password's hash; write what `openssl passwd -6` prints",
    "^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$": "is not a name of the tz database, such as Europe/Prague",
    "^[a-z0-9][a-z0-9_.-]*$": "is no word of nbdkit; write small letters, digits, -, _ and dots",
    "^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$": "is not a name of Kubernetes; write small letters, digits, hyphens and "
    "dots, with a letter or digit at both ends",
    "^[-._a-zA-Z0-9]+$": "is not a key of such an object; write letters, digits, hyphens, underscores and dots",
    "^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?:[0-9]{1,5}$": "is not HOST:PORT, such as 10.28.0.10:6443",
    "^0?[0-7]{3}$": "is not a file mode; write three octal digits, such as 0644",
}
"""What a value that does not match one of the model's patterns is not; a test keeps this complete."""

PLAIN = {
    "missing": "is missing",
    "string_type": "is not a text",
    "int_parsing": "is not a whole number",
    "int_type": "is not a whole number",
    "int_from_float": "is not a whole number",
    "int_parsing_size": "is far too large a number",
    "float_parsing": "is not a number",
    "float_type": "is not a number",
    "string_too_short": "is too short",
    "uuid_parsing": "is not a UUID, such as 4c4c4544-0042-3510-8054-b4c04f4a4d32",
    "uuid_type": "is not a UUID, such as 4c4c4544-0042-3510-8054-b4c04f4a4d32",
    "bool_parsing": "is neither true nor false",
    "bool_type": "is neither true nor false",
    "ip_v4_address": "is not an IPv4 address, such as 10.28.0.1",
    "path_type": "is not a path",
    "dict_type": "is not a mapping of names and values",
    "model_type": "is not a mapping of keys and values",
}


def shown(value: object, place: Place = ()) -> str:
    """Return a value as it stands in a message: short, and nothing of a secret.

    >>> shown("10.0.0.256"), shown(["a"]), shown(None)
    ("'10.0.0.256'", 'a list', 'an empty value')
    """
    in_file = place[:2] == ("node", "files") and place[3:] not in (("mode",), ("from",))
    if in_file or SECRETS.intersection(place):
        return "this value"
    return mistakes.shown(value)


def sentence(error: ErrorDetails) -> str:
    """Return what is wrong, what is allowed, and perhaps what was meant."""
    place = tuple(part for part in error["loc"] if part != "[key]")
    kind, value, ctx = error["type"], error["input"], error.get("ctx", {})
    text, what = place_text(place), shown(error["input"], place)
    match kind:
        case "extra_forbidden":
            known = fields(settings_at(place[:-1]))
            near = _as_option(str(place[-1]), known) or hints.key_meant(str(place[-1]), known, Farm)
            if near and len(known) > MOST_LISTED:
                return f"{text} is not known{near}"
            return f"{text} is not known; here are allowed: {', '.join(known)}{near}"
        case "missing":
            return f"{text} is missing"
        case "value_error":
            return f"{text}: {'it' if isinstance(value, dict) else what} {ctx['error']}"
        case "model_type" if annotation_at(place) is AddressRange:
            return f"{text}: {what} is not a range; write it as 10.0.0.10-10.0.0.99"
        case "string_pattern_mismatch":
            near = hints.host_name_meant(value) if ctx["pattern"] == HOST_NAME else ""
            return f"{text}: {what} {PATTERNS[ctx['pattern']]}{near}"
        case "int_parsing" | "int_type" if others := words_at(place):
            near = hints.seconds_meant(place[-1], value) or suggestion(str(value), others)
            return f"{text}: {what} is neither a whole number nor {_either(others)}{near}"
        case "int_parsing" if seconds := hints.seconds_meant(place[-1], value):
            return f"{text}: {what} {PLAIN[kind]}{seconds}"
        case "ip_v4_address":
            return f"{text}: {what} {PLAIN[kind]}{hints.address_meant(value)}"
        case "greater_than_equal":
            return f"{text}: {value} is too little; the least allowed is {ctx['ge']}"
        case "less_than_equal":
            return f"{text}: {value} is too much; the most allowed is {ctx['le']}"
        case "less_than":
            return f"{text}: {value} is too much; the most allowed is {ctx['lt'] - 1}"
        case "literal_error" | "enum":
            allowed = _words(annotation_at(place))
            return f"{text}: {what} is not allowed; write {_either(allowed)}{suggestion(str(value), allowed)}"
        case "too_short":
            return f"{text} is empty; at least {ctx['min_length']} is needed"
        case "tuple_type":
            hint = (
                f"; write {_listed(value, place)}"
                if isinstance(value, str)
                else "; remove the line"
                if value is None
                else ""
            )
            return f"{text}: {what} is not a list{hint}"
        case "model_type" | "dict_type" if value is None:
            return f"{text}: {what} {PLAIN[kind]}; remove the line"
        case "model_type" if annotation_at(place) is Taint and (taint := _TAINT.fullmatch(str(value))):
            of_value = f", value: {taint['value']!r}" if taint["value"] else ""
            return f"{text}: {what} {PLAIN[kind]}; write {{key: {taint['key']}{of_value}, effect: {taint['effect']}}}"
        case "model_type" if key := _key_of_text(annotation_at(place), value):
            return f"{text}: {what} {PLAIN[kind]}; write {{{key}: {value}}}"
        case "model_type" if annotation_at(place) is NodeFile and isinstance(value, str):
            return f"{text}: {what} {PLAIN[kind]}; write {{from: FILE}} or {{content: TEXT}}"
        case "ip_v4_network":
            return f"{text}: {what} is not a network, such as 10.28.0.0/16{_network_hint(value)}"
        case _:
            words = error["msg"][:1].lower() + error["msg"][1:]
            return f"{text}: {what} {PLAIN.get(kind) or 'is wrong: ' + words}"


_TAINT = re.compile("(?P<key>[^=:]+)(?:=(?P<value>[^=:]*))?:(?P<effect>NoSchedule|PreferNoSchedule|NoExecute)")
"""As kubectl writes a taint."""


def _listed(value: str, place: Place) -> str:
    return "[ssh-ed25519 AAAA... you@host]" if SECRETS.intersection(place) else hints.as_list(place[-1], value)


def _key_of_text(model: Any, value: object) -> str | None:
    """The key that a text is surely meant for where it stands in place of settings: a network's or a range's."""
    if not isinstance(value, str):
        return None
    if model is Image:
        return "path"
    try:
        if model is Subnet:
            IPv4Network(value, strict=False)
            return "subnet"
        if model is AddressPool:
            IPv4Address(value.split("-")[0].strip())
            return "range"
    except ValueError:
        pass
    return None


def _as_option(key: str, known: Collection[str]) -> str:
    """What to write for a key that is a DHCP option without one of its own, where options can stand."""
    if "options" not in known or (code := dhcpoptions.code_of(key)) is None or code in dhcpoptions.OWN_OPTIONS:
        return ""
    if code in OPTION_KEYS:
        return f"; did you mean {OPTION_KEYS[code]!r}?"
    return f"; an option such as {dhcpoptions.name_of(code)} stands in `options`"


def united(errors: Iterable[ErrorDetails]) -> list[ErrorDetails]:
    """Return the errors with one for each value that may be of several types, where pydantic has one for each type.

    It is the first type's, and at the value's place: pydantic adds the type to it.
    """
    out: dict[tuple[int | str, ...] | int, ErrorDetails] = {}
    for number, error in enumerate(errors):
        place = error["loc"][:-1]
        if words_at(place):
            out.setdefault(place, {**error, "loc": place})
        else:
            out[number] = error
    return [*out.values()]


def words_at(place: Place) -> tuple[str, ...]:
    """Return the words that may stand at `place` instead of a value of its type, such as `infinite`."""
    holder = settings_at(place[:-1])
    if holder is None or not place:
        return ()
    members = get_args(holder.model_fields[str(place[-1])].annotation) if place[-1] in holder.model_fields else ()
    return tuple(word for member in members if get_origin(member) is Literal for word in get_args(member))


def _words(annotation: Any) -> tuple[str, ...]:
    """The words that a value must be one of."""
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return tuple(str(member.value) for member in annotation)
    return get_args(annotation)


def _either(words: tuple[str, ...]) -> str:
    """
    >>> _either(("a", "b", "c"))
    'a, b or c'
    """
    return " or ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else words[0]


def fields(model: type[BaseModel] | None) -> list[str]:
    """The keys of a part of the configuration, as they are written there."""
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def settings_at(place: Place) -> type[BaseModel] | None:
    """Return the class of the settings at `place`, or None if there is something else."""
    found = annotation_at(place)
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def annotation_at(place: Place) -> Any:
    """Return the type of the value at `place`, without `None` and without its constraints; None if unknown."""
    current: Any = Farm
    for part in place:
        if get_origin(current) in (tuple, dict):
            current = get_args(current)[-1 if get_origin(current) is dict else 0]
        elif isinstance(current, type) and issubclass(current, BaseModel):
            by_name = {field.alias or name: field.annotation for name, field in current.model_fields.items()}
            current = by_name.get(str(part))
        else:
            return None
        current = bare(current)
    return current


def bare(annotation: Any) -> Any:
    """Take `Annotated[...]` and `... | None` off a type."""
    while get_origin(annotation) in (Annotated, Union, UnionType):
        annotation = next((arg for arg in get_args(annotation) if arg is not type(None)), None)
    return annotation


def _network_hint(value: object) -> str:
    try:
        network = IPv4Interface(str(value)).network
    except ValueError:
        return ""
    return f"; did you mean {network}?"
