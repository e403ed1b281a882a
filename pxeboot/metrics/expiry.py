"""When a certificate expires, out of its DER (RFC 5280 section 4.1). Pure."""

from datetime import UTC, datetime

_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x17, 0x18, 0xA0


class NoCertificate(ValueError):
    """The bytes are no certificate."""


def not_after(der: bytes) -> float:
    """Return when the certificate expires, in seconds since 1970. Raises `NoCertificate`."""
    _, certificate, _ = _element(der, _SEQUENCE)
    _, body, _ = _element(certificate, _SEQUENCE)
    tag, _, rest = _element(body)
    if tag == _VERSION:
        _, _, rest = _element(rest)  # the serial number
    for _ in range(2):  # the signature's algorithm, the issuer
        _, _, rest = _element(rest, _SEQUENCE)
    _, validity, _ = _element(rest, _SEQUENCE)
    _, _, rest = _element(validity)
    tag, time, _ = _element(rest)
    form = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}.get(tag)
    if form is None:
        raise NoCertificate("its validity is no time")
    try:
        # Two digits are a year from 1950 to 2049 (section 4.1.2.5.1); Python's pivot is 1969, which no certificate is.
        return datetime.strptime(time.decode("ascii"), form).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise NoCertificate("its validity is no time") from None


def _element(data: bytes, wanted: int | None = None) -> tuple[int, bytes, bytes]:
    """Return the tag and the content of the first element (X.690 section 8.1), and what follows it."""
    if len(data) < 2 or (wanted is not None and data[0] != wanted):
        raise NoCertificate("an element is missing")
    length, at = data[1], 2
    if length & 0x80:
        at += length & 0x7F
        length = int.from_bytes(data[2:at], "big")
    if length > len(data) - at:
        raise NoCertificate("it is cut off")
    return data[0], data[at : at + length], data[at + length :]
