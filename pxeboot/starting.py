"""What a process that serves does first: hear signals, take descriptors, and have its state folder to itself."""

import asyncio
import fcntl
import os
import resource
import signal
from contextlib import ExitStack
from pathlib import Path


class StartError(Exception):
    """The daemon cannot start; the text says what to do."""


def heed_signals(stop: asyncio.Event, *, has_file: bool) -> asyncio.Event:
    """Set `stop` at SIGTERM and SIGINT; return what is set at a SIGHUP that asks us to read the farm's file again.

    A terminal that hangs up sends SIGHUP as well: that stops us, unless run with nohup. So does one from anybody when
    there is no file.
    """
    hangup = asyncio.Event()
    loop = asyncio.get_running_loop()
    terminal = has_terminal()

    def hung_up() -> None:
        if not has_file or (terminal and not has_terminal()):
            stop.set()
        else:
            hangup.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, hung_up)
    return hangup


def has_terminal() -> bool:
    """Return whether a terminal controls us, and has not hung up."""
    try:
        os.close(os.open(os.ctermid(), os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def raise_descriptor_limit() -> None:
    """Allow ourselves every descriptor that we may have: a transfer takes up to three, and a farm boots at once."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def lock(state: Path, cleanup: ExitStack) -> None:
    """Make the state folder ours alone while we run. Raises `StartError` if another pxeboot has it."""
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o750)
        fd = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        cleanup.callback(os.close, fd)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StartError(f"another pxeboot serve uses {state}") from None
    except OSError as error:
        raise StartError(f"the state folder {state} cannot be used: {error.strerror}") from None
