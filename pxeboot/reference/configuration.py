"""docs/reference/configuration.md: every key of a farm's file, from the model."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin
from uuid import UUID

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from config.dhcp import DhcpOptions
from config.model import Farm
from config.setting import AddressRange

HEAD = """\
# Every key of a farm's file

Made by `python -m pxeboot.reference docs/reference` from `config/model.py`. An example with all of them, which is
checked: [farm.example.yaml](../farm.example.yaml). For an editor: `pxeboot check --schema`.

`[]` behind a name stands for each item of a list, `NAME` for a name that you choose. Where a table says
[DHCP options](#dhcp-options), all of those keys can stand there too.
"""
_WORDS = {
    int: "number", float: "number", bool: "true or false", str: "text", Path: "path", UUID: "UUID",
    IPv4Address: "address", IPv4Network: "network", AddressRange: "range of addresses",
}  # fmt: skip


def page() -> str:
    """Return the page."""
    options = ["", "## DHCP options", "", *_doc(DhcpOptions), "", *_table(DhcpOptions.model_fields, "")]
    tables = [line for section in _sections("", Farm) for line in section]
    return HEAD + "\n".join([*tables, *options]) + "\n"


def _doc(model: type[BaseModel]) -> list[str]:
    paragraphs = (model.__doc__ or "").strip().split("\n\n")
    return [line for text in paragraphs for line in (" ".join(text.split()), "")][:-1]


def _sections(path: str, model: type[BaseModel]) -> Iterator[list[str]]:
    """A heading and a table for a model, and for each that it holds."""
    own = {name: info for name, info in model.model_fields.items() if not _is_option(name, model)}
    if path:
        yield ["", f"## {path}", "", *_doc(model), "", *_table(own, path, more=_has_options(model))]
    else:
        yield ["", "## At the top", "", *_table(own, "")]
    for name, info in own.items():
        for ending, inner in _models(info.annotation, ""):
            if inner is not DhcpOptions:
                yield from _sections(f"{path}.{_key(name, info)}{ending}".lstrip("."), inner)


def _is_option(name: str, model: type[BaseModel]) -> bool:
    return model is not DhcpOptions and issubclass(model, DhcpOptions) and name in DhcpOptions.model_fields


def _has_options(model: type[BaseModel]) -> bool:
    return issubclass(model, DhcpOptions)


def _key(name: str, info: FieldInfo) -> str:
    return info.alias or name


def _table(fields: dict[str, FieldInfo], path: str, *, more: bool = False) -> list[str]:
    lines = ["| key | what it is | default | meaning |", "|---|---|---|---|"]
    for name, info in fields.items():
        own = info.annotation if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel) else None
        meaning = " ".join((info.description or (own and own.__doc__) or "").split())
        what = _type(info.annotation, info.metadata, f"{path}.{_key(name, info)}".lstrip("."))
        lines.append(f"| `{_key(name, info)}` | {_cell(what)} | {_cell(_default(info))} | {_cell(meaning)} |")
    if more:
        lines.append("| and | [DHCP options](#dhcp-options) | | |")
    return lines


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "must be given"
    value = info.get_default(call_default_factory=True)
    match value:
        case None:
            return "none"
        case bool():
            return f"`{str(value).lower()}`"
        case BaseModel():
            return ""
        case () | {}:
            return "none"
        case tuple():
            return ", ".join(f"`{item}`" for item in value)
        case "":
            return "empty"
        case _:
            return f"`{value}`"


def _type(annotation: Any, metadata: list[Any], path: str) -> str:
    """What a value is, in words."""
    bounds = _bounds(metadata)
    match get_origin(annotation):
        case origin if origin in (Union, UnionType):
            kinds = [_type(kind, metadata, path) for kind in get_args(annotation) if kind is not NoneType]
            return " or ".join(dict.fromkeys(kinds))
        case origin if origin is Literal:
            return ", ".join(f"`{word}`" for word in get_args(annotation))
        case origin if origin is tuple:
            return f"list: {_type(get_args(annotation)[0], [], f'{path}[]')}"
        case origin if origin is dict:
            return f"names, each with: {_type(get_args(annotation)[1], [], f'{path}.NAME')}"
        case None:
            pass
        case _:  # Annotated
            kind, *inner = get_args(annotation)
            return _type(kind, inner, path)
    if not isinstance(annotation, type):
        return "any value"
    if annotation is DhcpOptions:
        return "[DHCP options](#dhcp-options)"
    if issubclass(annotation, AddressRange):
        return _WORDS[AddressRange]
    if issubclass(annotation, BaseModel):
        return f"see [{path}](#{_anchor(path)})"
    return _WORDS.get(annotation, "any value" if annotation is object else "text") + bounds


def _bounds(metadata: list[Any]) -> str:
    low = next((one.ge for one in metadata if isinstance(one, Ge)), None)
    low = next((f"more than {one.gt}" for one in metadata if isinstance(one, Gt)), low)
    high = next((one.le for one in metadata if isinstance(one, Le)), None)
    high = next((f"below {one.lt}" for one in metadata if isinstance(one, Lt)), high)
    if low is not None and high is not None:
        return f", {low} to {high}"
    return f", at least {low}" if low is not None else f", at most {high}" if high is not None else ""


def _models(annotation: Any, ending: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """The models inside an annotation, with what their path has behind the key."""
    match get_origin(annotation):
        case None:
            is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
            if is_model and not issubclass(annotation, AddressRange):
                yield ending, annotation
        case origin if origin is tuple:
            yield from _models(get_args(annotation)[0], f"{ending}[]")
        case origin if origin is dict:
            yield from _models(get_args(annotation)[1], f"{ending}.NAME")
        case _:
            for inner in get_args(annotation):
                yield from _models(inner, ending)


def _anchor(path: str) -> str:
    return "".join(letter for letter in path.lower() if letter.isalnum() or letter in "_-")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
