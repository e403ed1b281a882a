"""The plugin that nbdkit runs, with the Python that it was built with: so nothing but the standard library in here.

It asks `pxeboot.nbdkit.door` for each export, and gets an open file with the answer. The connection on which it asked
stays open for as long as the client has its disk: its end is how we learn that the disk has no reader any more.
"""

import ctypes
import errno
import json
import os
import socket
import threading
import time
import traceback
from typing import Any, NoReturn

import nbdkit  # type: ignore[import-not-found]  # it is inside nbdkit only

API_VERSION = 2
ANSWER_S = 20.0
"""How long the answer of a daemon may take, in seconds; a disk may hang under it."""
LINGER_S = 0.5
"""How long clients may take to read their last replies, in seconds."""
LARGEST_BYTES = 32 << 20
ANSWER_BYTES = 1 << 16

_nbdkit = ctypes.CDLL(None)  # what its module for Python does not tell: who the client is, and whether it has TLS
_settings: dict[str, str] = {}


class Told(OSError):
    """What happens to a client in the course of things, and takes one line to tell."""


_format_exception = traceback.format_exception


def _shortly(kind: Any, error: Any, trace: Any) -> list[str]:
    """Return what nbdkit logs of an exception: no traceback for what is no mistake of ours."""
    return [str(error)] if isinstance(error, Told) else _format_exception(kind, error, trace)


traceback.format_exception = _shortly  # type: ignore[assignment]  # this interpreter is for nothing but this plugin


class Disk:
    """What one client has open."""

    def __init__(self, link: socket.socket, fd: int, told: dict[str, Any]) -> None:
        self.link = link
        self.fd = fd
        self.size_bytes = int(told["size_bytes"])
        self.file_bytes = int(told["file_bytes"])
        self.description = str(told["description"])
        self.stamp = stamp(fd)


def stamp(fd: int) -> tuple[int, int]:
    """Return what tells whether a file was truncated or rewritten."""
    status = os.fstat(fd)
    return status.st_size, status.st_mtime_ns


def ask(question: dict[str, object]) -> tuple[dict[str, Any], list[int], socket.socket]:
    """Ask the daemon; return its answer, the descriptors that came with it, and the connection.

    Raises `OSError` for no answer.
    """
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    fds: list[int] = []
    try:
        link.settimeout(ANSWER_S)
        link.connect(_settings["socket"])
        link.sendall(json.dumps(question).encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            data, more, _, _ = socket.recv_fds(link, ANSWER_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
            fds += more
            if not data:
                raise ConnectionError("pxeboot hung up")
            answer += data
        return json.loads(answer), fds, link
    except BaseException:
        for fd in fds:
            os.close(fd)
        link.close()
        raise


def client() -> str:
    """Return the address of the client that this thread serves; empty if it has none."""
    name, length = ctypes.create_string_buffer(128), ctypes.c_uint(128)
    if _nbdkit.nbdkit_peer_name(name, ctypes.byref(length)) != 0 or length.value < 8:
        return ""
    family = int.from_bytes(name.raw[:2], "little" if ctypes.c_uint16(1).value == 1 else "big")
    return socket.inet_ntop(socket.AF_INET, name.raw[4:8]) if family == socket.AF_INET else ""


def thread_model() -> Any:
    """Requests of one connection may run at the same time: a read lets go of the interpreter."""
    return nbdkit.THREAD_MODEL_PARALLEL


def config(key: str, value: str) -> None:
    """Take a parameter that no filter took. Raises `ValueError` for one that is none of ours."""
    if key != "socket":
        raise ValueError(f"no filter of `nbd.nbdkit.filters` takes the parameter {key!r}")
    _settings[key] = value


def config_complete() -> None:
    """All parameters were told. Raises `ValueError` if ours is not among them."""
    if "socket" not in _settings:
        raise ValueError("socket=PATH is missing; pxeboot starts this plugin itself")


def after_fork() -> None:
    """All is well, and clients are served from now on: tell the daemon. Raises `OSError` if there is none."""
    _, _, link = ask({"ask": "ready"})
    threading.Thread(target=end_with, args=(link,), daemon=True).start()


def end_with(link: socket.socket) -> None:
    """End this process soon after the daemon has ended, which the kernel tells by closing `link`.

    --exit-with-parent alone makes nbdkit wait for all its clients, for as long as they like, while it keeps the port.
    """
    link.settimeout(None)
    try:
        while link.recv(1):
            pass
    except OSError:
        pass
    time.sleep(LINGER_S)
    os._exit(0)


def list_exports(_readonly: int, is_tls: int) -> list[tuple[str, str]]:
    """Return name and description of the exports."""
    answer, _, link = ask({"ask": "list", "peer": client(), "secure": bool(is_tls)})
    link.close()
    return [(str(name), "") for name in answer["names"]]


def open(_readonly: int) -> Disk:
    """Open the export that the client named.

    Raises `Told` if there is none, or it may not have it; `OSError` if the daemon does not answer.
    """
    secure = bool(_nbdkit.nbdkit_is_tls())
    answer, fds, link = ask({"ask": "open", "name": nbdkit.export_name(), "peer": client(), "secure": secure})
    if "error" in answer or len(fds) != 1:
        link.close()
        raise Told(f"refused: {client()}: {nbdkit.export_name()!r}: {answer.get('error', 'pxeboot sent no file')}")
    return Disk(link, fds[0], answer)


def close(disk: Disk) -> None:
    """The client is gone."""
    os.close(disk.fd)
    disk.link.close()


def export_description(disk: Disk) -> str:
    """Return what people are told of an export."""
    return disk.description


def get_size(disk: Disk) -> int:
    """Return the size, in bytes."""
    return disk.size_bytes


def block_size(_: Disk) -> tuple[int, int, int]:
    """Return the least, the best and the largest size of a request: as our own engine says."""
    return 1, 4096, LARGEST_BYTES


def can_multi_conn(_: Disk) -> bool:
    """Several connections see the same: nobody writes."""
    return True


def is_rotational(_: Disk) -> bool:
    """A client need not sort what it asks for."""
    return False


def can_cache(_: Disk) -> Any:
    """CMD_CACHE is done by us."""
    return nbdkit.CACHE_NATIVE


def cache(disk: Disk, count: int, offset: int, _flags: int) -> None:
    """Bring a range into memory."""
    os.posix_fadvise(disk.fd, offset, count, os.POSIX_FADV_WILLNEED)


def pread(disk: Disk, buffer: bytearray, offset: int, _flags: int) -> None:
    """Fill `buffer` from `offset`; what follows the end of the file, up to the size that was told, is zeros.

    A file that was changed in place is an I/O error from then on, never a mixture of two images.
    """
    view = memoryview(buffer)
    wanted = max(min(len(view), disk.file_bytes - offset), 0)
    done = 0
    while done < wanted:
        try:
            got = os.preadv(disk.fd, [view[done:wanted]], offset + done)
        except OSError as error:
            fail(error.errno or errno.EIO, str(error))
        if got == 0:
            fail(errno.EIO, "the image has become shorter")
        done += got
    if wanted < len(view):
        view[wanted:] = bytes(len(view) - wanted)
    if stamp(disk.fd) != disk.stamp:
        fail(errno.EIO, "the image was changed")


def fail(number: int, text: str) -> NoReturn:
    """Tell the client the error `number`. Raises `Told`."""
    nbdkit.set_error(number)
    raise Told(text)
