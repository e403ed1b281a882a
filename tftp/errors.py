"""Requests that are lawful and not granted. Each carries the code and the words that the client is told."""

from tftp.wire import ErrorCode


class Refused(Exception):
    """The client is told `code` and `message`: short, and without a path or a word of its own (T-23).

    The exception's text is for our log; it shows what the client sent as `%r`.
    """

    code = ErrorCode.NOT_DEFINED
    message = "refused"


class NotFound(Refused):
    """There is no such file for this machine."""

    code = ErrorCode.FILE_NOT_FOUND
    message = "file not found"


class OutsideRoot(Refused):
    """The name leads out of what we serve. The client learns nothing about what is there."""

    code = ErrorCode.ACCESS_VIOLATION
    message = "access violation"


class WriteRefused(Refused):
    """Nobody writes here."""

    code = ErrorCode.ACCESS_VIOLATION
    message = "read only"


class UnknownMode(Refused):
    """The mode is neither octet nor netascii (RFC 1350 section 5; `mail` is obsolete)."""

    code = ErrorCode.ILLEGAL_OPERATION
    message = "unknown mode"


class TooLarge(Refused):
    """The file is to be sent as text and is none: to convert it, all of it would be read before the first block."""

    code = ErrorCode.ILLEGAL_OPERATION
    message = "too large for netascii"


class Busy(Refused):
    """There are as many transfers as we run at once, in all or for this client."""

    message = "busy, try again"
