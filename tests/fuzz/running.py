"""How a fuzzer runs: its arguments, its corpus in .build, its limits."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import atheris

FOLDER = Path(".build/fuzz")
"""Where inputs are kept, and what made a fuzzer fail."""


def run(
    corpus: str, once: Callable[[bytes], None], seeds: Callable[[], Iterable[bytes]], longest: int, timeout_s: int
) -> None:
    """Fuzz for the seconds of the first argument, 180 without; with a second one run the input of that file.

    An input of more than `longest` bytes is not made, and one that takes more than `timeout_s` has failed.
    """
    if len(sys.argv) > 2:
        once(Path(sys.argv[2]).read_bytes())
        return
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 180
    folder = FOLDER / corpus
    folder.mkdir(parents=True, exist_ok=True)
    for n, seed in enumerate(seeds()):
        (folder / f"seed-{n:03}").write_bytes(seed[:longest])
    limits = [f"-max_total_time={seconds}", f"-max_len={longest}", f"-timeout={timeout_s}", "-rss_limit_mb=1024"]
    atheris.Setup([sys.argv[0], str(folder), *limits, f"-artifact_prefix={FOLDER}/"], once)
    atheris.Fuzz()
