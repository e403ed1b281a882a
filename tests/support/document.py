"""The commands and files of a document, as a reader meets them, to be done by a test.

A comment in front of a block says what becomes of it:

    <!-- file: PATH -->             its text is written to PATH
    <!-- run -->                    its lines are run, one by one; each ends with status 0
    <!-- run: background -->        its one line is started, is ready, and goes on until the document's end
    <!-- run: says what is left --> as `run`, with status 1: something could not be done, which was said
    <!-- run: on another machine --> as `run`, on a machine of the same network
    <!-- tested: MODULE::TEST -->   that test does the same; or `make TARGET` does
    <!-- by hand -->                no test does it: it takes minutes, or changes the whole host
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(
    r"^(?:<!-- (?P<verb>file|run|tested|by hand)(?:: (?P<what>[^\n]*?))? -->\n)?"
    r"(?P<indent> *)```(?P<kind>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Step:
    """One block: `verb` is file, run, tested or by hand, "" if nothing says so; `what` is the rest of what is said."""

    verb: str
    what: str
    kind: str
    text: str
    line: int

    @property
    def commands(self) -> list[str]:
        """The commands of a block of shell: a line each, but for those that go on or are inside a document of it."""
        joined = self.text.replace("\\\n", " ")
        return [line.strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def steps(document: Path) -> Iterator[Step]:
    """Yield the blocks of a document, in order."""
    text = document.read_text()
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield Step(match["verb"] or "", match["what"] or "", match["kind"], match["text"], line)
