"""A thread that lasts as long as its context: a test's second pair of eyes."""

import threading
from typing import Self


class Lasting(threading.Thread):
    """Runs from the beginning of the context; `run` is over soon after `ended` is set, at the context's end."""

    def __init__(self) -> None:
        """Nothing runs yet."""
        super().__init__(daemon=True)
        self.ended = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join()
