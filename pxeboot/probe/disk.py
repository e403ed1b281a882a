"""Reads the beginning of an NBD export as a machine would: fixed newstyle, NBD_OPT_GO, one read."""

import struct
import time
from dataclasses import dataclass

from nbd.wire import Cmd, Info, Opt, Rep
from pxeboot.probe.transfer import Address
from pxeboot.probe.web import Stuck, connect, why_not

_INIT = struct.Struct(">QQH")
_MAGIC, _I_HAVE_OPT = 0x4E42444D41474943, 0x49484156454F5054
_OPTION = struct.Struct(">QII")
_REPLY = struct.Struct(">QIII")
_REPLY_MAGIC = 0x3E889045565A9
_REQUEST = struct.Struct(">IHHQQI")
_REQUEST_MAGIC = 0x25609513
_SIMPLE = struct.Struct(">IIQ")
_SIMPLE_MAGIC = 0x67446698
_FIXED, _NO_ZEROES = 1, 2
_MOST = 4096
"""No answer to an option that we know is longer."""


@dataclass(frozen=True, slots=True)
class Read:
    """What came of it."""

    stuck: Stuck | None = None
    why: str = ""
    """What the server said in place of the export, or what of it is no NBD."""
    refused: int = 0
    """The NBD_REP_ERR that it said; 0 for none."""
    size_bytes: int = 0
    head: bytes = b""
    seconds: float = 0.0

    @property
    def needs_tls(self) -> bool:
        """Whether it speaks TLS only."""
        return self.refused == Rep.ERR_TLS_REQD


class _NotNbdError(Exception):
    """The other side says what NBD does not."""


def read(server: Address, export: str | None, source: str | None = None, length: int = 4096) -> Read:
    """Return the size of an export and its first bytes. Without an export, only see that it is an NBD server."""
    began = time.monotonic()
    try:
        sock = connect(server, source)
    except OSError as error:
        return Read(why_not(error), error.strerror or str(error), seconds=time.monotonic() - began)
    with sock, sock.makefile("rb") as stream:

        def take(count: int) -> bytes:
            data = stream.read(count)
            if len(data) < count:
                raise ConnectionResetError("it closed the connection")
            return data

        try:
            magic, have, flags = _INIT.unpack(take(_INIT.size))
            if (magic, have) != (_MAGIC, _I_HAVE_OPT) or not flags & _FIXED:
                raise _NotNbdError("what answers there is no NBD server (of the fixed newstyle handshake)")
            if export is None:
                sock.sendall(struct.pack(">I", _FIXED | flags & _NO_ZEROES) + _OPTION.pack(_I_HAVE_OPT, Opt.ABORT, 0))
                return Read(seconds=time.monotonic() - began)
            name = export.encode()
            data = struct.pack(">I", len(name)) + name + struct.pack(">H", 0)
            sock.sendall(struct.pack(">I", _FIXED | flags & _NO_ZEROES))
            sock.sendall(_OPTION.pack(_I_HAVE_OPT, Opt.GO, len(data)) + data)
            size = 0
            while True:
                magic, option, kind, count = _REPLY.unpack(take(_REPLY.size))
                if (magic, option) != (_REPLY_MAGIC, Opt.GO) or count > _MOST:
                    raise _NotNbdError("it answers NBD_OPT_GO with what is no answer")
                content = take(count)
                if kind & 1 << 31:
                    return Read(None, content.decode("utf-8", "replace"), kind, seconds=time.monotonic() - began)
                if kind == Rep.ACK:
                    break
                if kind == Rep.INFO and count == 12 and content[:2] == Info.EXPORT.to_bytes(2, "big"):
                    size = int.from_bytes(content[2:10], "big")
            length = min(length, size)
            sock.sendall(_REQUEST.pack(_REQUEST_MAGIC, 0, Cmd.READ, 1, 0, length))
            magic, failed, cookie = _SIMPLE.unpack(take(_SIMPLE.size))
            if (magic, cookie) != (_SIMPLE_MAGIC, 1):
                raise _NotNbdError("it answers NBD_CMD_READ with what is no answer")
            if failed:
                why = f"a read fails with error {failed}"
                return Read(Stuck.BROKEN, why, size_bytes=size, seconds=time.monotonic() - began)
            head = take(length)
            sock.sendall(_REQUEST.pack(_REQUEST_MAGIC, 0, Cmd.DISC, 2, 0, 0))
        except TimeoutError:
            return Read(Stuck.SILENT, seconds=time.monotonic() - began)
        except _NotNbdError as error:
            return Read(Stuck.BROKEN, str(error), seconds=time.monotonic() - began)
        except OSError as error:
            return Read(Stuck.BROKEN, error.strerror or str(error), seconds=time.monotonic() - began)
    return Read(None, "", 0, size, head, time.monotonic() - began)
