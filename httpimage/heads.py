"""How long a request's head has become, while it comes in pieces. Pure."""


class Measure:
    """One head. Empty lines before it are the request line's."""

    __slots__ = ("_line_bytes", "_tail", "_total", "_whole_line", "is_whole")

    def __init__(self) -> None:
        self.is_whole = False
        self._total = 0
        self._line_bytes = 0
        self._whole_line = False
        self._tail = b""

    @property
    def has_begun(self) -> bool:
        """Whether anything was fed."""
        return self._total > 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes; what follows the head does not count.

        >>> measure = Measure()
        >>> for piece in (b"GET / HT", b"TP/1.1\\r\\nHost: a\\r\\n\\r", b"\\nGET "):
        ...     measure.feed(piece)
        >>> measure.is_whole, measure.exceeds(16, 7), measure.exceeds(15, 7), measure.exceeds(16, 6)
        (True, False, True, True)
        """
        if not self._whole_line:
            rest = data if self._line_bytes else data.lstrip(b"\r\n")
            end = rest.find(b"\n") + 1
            self._line_bytes += len(data) - len(rest) + (end or len(rest))
            self._whole_line = end > 0
        joined = self._tail + data
        end = joined.find(b"\r\n\r\n")
        self._total += len(data) if end < 0 else end - len(self._tail)
        self._tail = joined[-3:]
        self.is_whole = end >= 0

    def exceeds(self, line_bytes: int, fields_bytes: int) -> bool:
        """Tell whether the request line or the headers are longer."""
        return self._line_bytes > line_bytes or self._total - self._line_bytes > fields_bytes
