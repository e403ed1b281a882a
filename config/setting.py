"""What all settings are made of: the base class, and the values that several of them share."""

import re
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_MAC = re.compile("(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")


def parse_mac(value: object) -> str:
    """Return a MAC as six lower-case hex pairs with colons.

    Accepts aa:bb:cc:dd:ee:ff, aa-bb-cc-dd-ee-ff, aabb.ccdd.eeff and bare hex, in either case.
    Raises `ValueError` for anything else.

    >>> parse_mac("94-57-A5-D3-EC-F2")
    '94:57:a5:d3:ec:f2'
    """
    if isinstance(value, str) and _MAC.fullmatch(value):
        return value  # as nearly all are written
    digits = "".join(c for c in value if c not in ":-.").lower() if isinstance(value, str) else ""
    if len(digits) != 12 or any(c not in "0123456789abcdef" for c in digits):
        raise ValueError("is not a MAC address; write six hex pairs, such as 94:57:a5:d3:ec:f2")
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2))


Mac = Annotated[str, BeforeValidator(parse_mac), Field(pattern="^([0-9a-f]{2}:){5}[0-9a-f]{2}$")]


class Setting(BaseModel):
    """What all settings share: frozen, and no key that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class AddressRange(Setting):
    """Addresses from `first` to `last`, both included; written `10.0.0.10-10.0.0.99`."""

    first: IPv4Address
    last: IPv4Address

    def __contains__(self, address: IPv4Address) -> bool:
        return self.first <= address <= self.last

    def __len__(self) -> int:
        return int(self.last) - int(self.first) + 1

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


def parse_range(value: object) -> object:
    """Turn `10.0.0.10-10.0.0.99` (or one address) into an `AddressRange`.

    Raises `ValueError` if an end is no address or the last one comes before the first.
    """
    if not isinstance(value, str):
        return value
    first_text, _, last_text = value.partition("-")
    try:
        first = IPv4Address(first_text.strip())
        last = IPv4Address((last_text or first_text).strip())
    except ValueError:
        raise ValueError(f"is not a range; write it as {_whole(first_text.strip(), last_text.strip())}") from None
    if last < first:
        raise ValueError(f"ends at {last}, before it begins at {first}")
    return AddressRange(first=first, last=last)


def _whole(first: str, last: str) -> str:
    """Return how a range is written: the one that was meant, where its end has the last number only.

    >>> _whole("10.0.0.100", "200"), _whole("a", "b")
    ('10.0.0.100-10.0.0.200', '10.0.0.10-10.0.0.99')
    """
    try:
        meant = IPv4Address(f"{IPv4Address(first)}".rpartition(".")[0] + f".{last}")
    except ValueError:
        return "10.0.0.10-10.0.0.99"
    return f"{first}-{meant}"


Range = Annotated[AddressRange, BeforeValidator(parse_range, json_schema_input_type=str)]
Prefix = Annotated[IPv4Network, Field(description="A network such as 10.28.0.0/16.")]
