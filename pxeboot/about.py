"""Which machine a line of our log is about; what is known of it is kept beside what the machine itself sends."""

import logging
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address

from pxeboot.joining.text import hide_names
from pxeboot.messages import Messages, Severity

SOURCE = "pxeboot"
"""Who wrote it, of a line of ours."""

_SEVERITIES = {
    logging.DEBUG: Severity.DEBUG,
    logging.INFO: Severity.INFORMATIONAL,
    logging.WARNING: Severity.WARNING,
    logging.ERROR: Severity.ERROR,
    logging.CRITICAL: Severity.CRITICAL,
}


class About(logging.Filter):
    """Adds `machine` to records that say a MAC or an address, and lets all through. For use from several threads.

    The protocols know no machines: their records say `mac` or `ip`. Records of `pxeboot` itself that are about a
    machine begin with its name.
    """

    def __init__(
        self,
        at: Callable[[IPv4Address], str | None],
        of_card: Callable[[str], str | None],
        is_machine: Callable[[str], bool],
    ) -> None:
        """`at` knows whose an address is now, `of_card` whose a MAC is, `is_machine` which names are machines'."""
        super().__init__()
        self._at = at
        self._of_card = of_card
        self._is_machine = is_machine

    def filter(self, record: logging.LogRecord) -> bool:
        """Add `machine`, if it is about one."""
        fields = record.__dict__
        if "machine" not in fields:
            name = self._whose(record, fields.get("mac"), fields.get("ip"))
            if name is not None:
                record.machine = name
        return True

    def _whose(self, record: logging.LogRecord, mac: object, ip: object) -> str | None:
        if isinstance(mac, str):
            return self._of_card(mac)
        if isinstance(ip, str):
            try:
                return self._at(IPv4Address(ip))
            except AddressValueError:
                return None
        if record.name.partition(".")[0] == "pxeboot" and isinstance(record.args, tuple) and record.args:
            first = record.args[0]
            if isinstance(first, str) and self._is_machine(first):
                return first
        return None


class Kept(logging.Handler):
    """Keeps the lines about machines in `messages`."""

    def __init__(self, messages: Messages) -> None:
        """From level INFO on: what is said of each packet is nothing that one reads later."""
        super().__init__(logging.INFO)
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it, if it is about a machine."""
        machine = record.__dict__.get("machine")
        if not isinstance(machine, str):
            return
        try:
            severity = _SEVERITIES.get(record.levelno, Severity.NOTICE)
            self._messages.add(machine, record.created, SOURCE, hide_names(record.getMessage()), severity)
        except Exception:
            self.handleError(record)


class Listening:
    """While it is entered, records get their machine, and lines about machines are kept in `messages`."""

    def __init__(self, about: About, messages: Messages) -> None:
        """Nothing is heard yet."""
        self._about = about
        self._kept = Kept(messages)
        self._kept.addFilter(about)
        self._others: list[logging.Handler] = []

    def __enter__(self) -> None:
        root = logging.getLogger()
        self._others = list(root.handlers)
        for handler in self._others:
            handler.addFilter(self._about)
        root.addHandler(self._kept)

    def __exit__(self, *_: object) -> None:
        root = logging.getLogger()
        root.removeHandler(self._kept)
        for handler in self._others:
            handler.removeFilter(self._about)
