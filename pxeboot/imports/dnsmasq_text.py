"""The lines of dnsmasq's configuration, with those of the files that it names. Pure: somebody else opens files."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from config.yamltree import Mark
from pxeboot.imports.found import Draft, Source

_MOST_FILES = 500

Open = Callable[[str, bool], "Sequence[Source] | str"]
"""(path, whether it is a folder) → the files that are meant, or why they cannot be read."""

_FILES = {
    "conf-file": "", "servers-file": "server", "dhcp-hostsfile": "dhcp-host", "dhcp-optsfile": "dhcp-option",
}  # fmt: skip
"""Settings that name another file, and the setting whose values its lines are."""
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "e": "\x1b"}
_FOLDERS = {"conf-dir": "", "dhcp-hostsdir": "dhcp-host", "dhcp-optsdir": "dhcp-option"}


@dataclass(frozen=True, slots=True)
class Line:
    """One setting."""

    mark: Mark
    key: str
    value: str

    def words(self) -> list[str]:
        """What stands between its commas; a comma in quotation marks or behind a backslash is no such."""
        return split(self.value)


def lines(sources: Sequence[Source], draft: Draft, opened: Open) -> list[Line]:
    """Return every setting of the files, and of those that they name, in their order."""
    return [*_Reading(draft, opened).of(sources, "")]


class _Reading:
    def __init__(self, draft: Draft, opened: Open) -> None:
        self._draft, self._open = draft, opened
        self._seen: set[str] = set()

    def of(self, sources: Sequence[Source], only: str) -> Iterator[Line]:
        """The settings of some files. `only`: each line is a value of this setting."""
        for source in sources:
            if source.name in self._seen or len(self._seen) >= _MOST_FILES:
                continue
            self._seen.add(source.name)
            before = self._draft.sources.add(source)
            for number, text in enumerate(source.text.split("\n"), 1):
                bare = without_comment(text).strip()
                if not bare:
                    continue
                mark = before + number, len(text) - len(text.lstrip()) + 1
                key, _, value = bare.partition("=")
                key, value = (only, bare) if only else (key.strip().removeprefix("--"), value.strip())
                yield from self._line(Line(mark, key, value))

    def _line(self, line: Line) -> Iterator[Line]:
        if line.key not in _FILES and line.key not in _FOLDERS:
            yield line
            return
        folder = line.key in _FOLDERS
        path, *patterns = line.words() or [""]
        found = self._open(path, folder)
        if isinstance(found, str):
            self._draft.lost(line.mark, f"{line.key}={line.value}", f"{found}; name that file too")
            return
        if folder and line.key == "conf-dir":
            found = [source for source in found if _is_wanted(source.name.rpartition("/")[2], patterns)]
        yield from self.of(found, _FOLDERS[line.key] if folder else _FILES[line.key])


def _is_wanted(name: str, patterns: Sequence[str]) -> bool:
    """Whether a file of a conf-dir is read: a pattern with a * includes, one without excludes such endings."""
    if name.startswith((".", "#")) or name.endswith("~"):
        return False
    wanted = [pattern.removeprefix("*") for pattern in patterns if pattern.startswith("*")]
    refused = [pattern for pattern in patterns if not pattern.startswith("*")]
    return not name.endswith(tuple(refused)) and (not wanted or name.endswith(tuple(wanted)))


def without_comment(text: str) -> str:
    """Return a line without its comment, which begins with a # at its beginning or behind white space.

    >>> without_comment('server=1.1.1.1 # a comment'), without_comment("dhcp-boot=a#b"), without_comment('x="a #b"')
    ('server=1.1.1.1 ', 'dhcp-boot=a#b', 'x="a #b"')
    """
    quoted = False
    for at, letter in enumerate(text):
        if letter == '"':
            quoted = not quoted
        elif letter == "#" and not quoted and (at == 0 or text[at - 1].isspace()):
            return text[:at]
    return text


def split(value: str) -> list[str]:
    r"""Return the words between commas, without their quotation marks.

    >>> split('a, "b,c",d')
    ['a', 'b,c', 'd']
    """
    words, word, quoted = [], "", False
    letters = iter(value)
    for letter in letters:
        if letter == '"':
            quoted = not quoted
        elif letter == "\\" and quoted:
            escaped = next(letters, "")
            word += _ESCAPES.get(escaped, escaped)
        elif letter == "," and not quoted:
            words.append(word.strip(" "))
            word = ""
        else:
            word += letter
    return [*words, word.strip(" ")] if value.strip() else []
