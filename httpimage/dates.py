"""HTTP dates ⇄ seconds since 1970 (RFC 9110 section 5.6.7). Pure: no locale and no clock."""

import re
from datetime import UTC, datetime

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})"
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DAY = "|".join(_DAYS)
_LONG_DAY = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
_FORMS = (
    re.compile(rf"(?:{_DAY}), (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    re.compile(rf"(?:{_LONG_DAY}), (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"),
    re.compile(rf"(?:{_DAY}) {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)


def format_date(seconds: float) -> str:
    """Return the preferred form, IMF-fixdate, of a time in seconds since 1970; a fraction is cut off.

    >>> format_date(784111777.9)
    'Sun, 06 Nov 1994 08:49:37 GMT'
    """
    moment = datetime.fromtimestamp(int(seconds), UTC)
    return f"{_DAYS[moment.weekday()]}, {moment.day:02} {_MONTHS[moment.month - 1]} {moment:%Y %H:%M:%S} GMT"


def parse_date(text: str) -> int | None:
    """Return the seconds since 1970 of a date in any of the three forms that HTTP knows; None for anything else.

    A year of two digits means 1970 to 2069. The name of the day is not compared with the date.

    >>> parse_date("Sunday, 06-Nov-94 08:49:37 GMT")
    784111777
    """
    match = next((match for form in _FORMS if (match := form.fullmatch(text))), None)
    if match is None:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        year += 2000 if year < 70 else 1900
    second = min(int(match["second"]), 59)  # a leap second is the second before it
    try:
        moment = datetime(
            year,
            _MONTHS.index(match["month"]) + 1,
            int(match["day"]),
            int(match["hour"]),
            int(match["minute"]),
            second,
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return int(moment.timestamp())
