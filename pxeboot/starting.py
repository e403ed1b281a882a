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


def stop_at_signals() -> asyncio.Event:
    """Return what is set when we are told to stop. A terminal that hangs up tells us so, unless run with nohup."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, stop.set)
    return stop


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
