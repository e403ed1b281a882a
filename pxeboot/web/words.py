"""Times and sizes as a person says them. Pure."""

from datetime import UTC, datetime


def ago(seconds: float) -> str:
    """Return a duration, rounded so that it seldom changes while somebody looks.

    >>> ago(7.9), ago(75), ago(3 * 3600), ago(40 * 3600)
    ('7 s', '1 min', '3 h', '40 h')
    >>> ago(3 * 86400)
    '3 d'
    """
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 48 * 3600:
        return f"{whole // 3600} h"
    return f"{whole // 86400} d"


def took(seconds: float) -> str:
    """Return how long something took, to the second.

    >>> took(4.26), took(64.7), took(605), took(7500)
    ('4.3 s', '65 s', '10 min 5 s', '2 h 5 min')
    """
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def moment(at_s: float) -> str:
    """Return a moment, given in seconds since 1970, for a title: in UTC, which needs no guess whose clock it is.

    >>> moment(0)
    '1970-01-01 00:00:00 UTC'
    """
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S} UTC"


def clock(at_s: float) -> str:
    """Return a moment as the `datetime` of HTML's time element.

    >>> clock(0.0)
    '1970-01-01T00:00:00Z'
    """
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


def size(size_bytes: float) -> str:
    """Return a number of bytes in powers of ten.

    >>> size(923), size(16_421_955), size(84_791_296)
    ('923 B', '16.4 MB', '84.8 MB')
    """
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
