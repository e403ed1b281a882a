"""What signals mean to a daemon."""

import asyncio
import os
import signal

import pytest

from pxeboot.starting import heed_signals

MEANINGS = [
    pytest.param(signal.SIGTERM, True, "stop", id="SIGTERM"),
    pytest.param(signal.SIGINT, True, "stop", id="SIGINT"),
    pytest.param(signal.SIGHUP, True, "read again", id="SIGHUP with a file"),
    pytest.param(signal.SIGHUP, False, "stop", id="SIGHUP without one"),
]


@pytest.mark.parametrize(("number", "has_file", "meaning"), MEANINGS)
def test_a_signal_stops_us_or_has_the_file_read_again(number: signal.Signals, has_file: bool, meaning: str) -> None:
    async def main() -> tuple[bool, bool]:
        stop = asyncio.Event()
        read_again = heed_signals(stop, has_file=has_file)
        waits = [asyncio.create_task(event.wait()) for event in (stop, read_again)]
        os.kill(os.getpid(), number)
        await asyncio.wait(waits, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        return stop.is_set(), read_again.is_set()

    assert asyncio.run(main()) == (meaning == "stop", meaning == "read again")


def test_a_hangup_that_nohup_has_us_ignore_is_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:

        async def main() -> bool:
            stop = asyncio.Event()
            heed_signals(stop, has_file=False)
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0)
            return stop.is_set()

        assert not asyncio.run(main())
    finally:
        signal.signal(signal.SIGHUP, before)
