"""The text of a dhcpd.conf → statements, with those of the files that it includes. Pure: somebody else opens files.

    subnet 10.28.0.0 netmask 255.255.0.0 { range 10.28.72.10 10.28.72.250; option routers 10.28.0.1; }

A statement is words up to a semicolon, or words and a block of statements.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from config.yamltree import Mark
from pxeboot.imports.found import Draft, NotReadable, Source

_TOKEN = re.compile(
    r"""[ \t\r\n]+ | \#[^\n]* | (?P<string>"(?:[^"\\]|\\.)*") | (?P<sign>[{};,()=~!]) | (?P<word>[^\s{};,()=~!"#]+)
    | (?P<bad>.)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\([0-7]{1,3}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_MOST_LEVELS = 40
_MOST_FILES = 500
_MOST_TOKENS = 2_000_000

Open = Callable[[str, bool], "Sequence[Source] | str"]


@dataclass(frozen=True, slots=True)
class Word:
    """One word; `quoted` if it stood in quotation marks."""

    mark: Mark
    text: str
    quoted: bool = False


@dataclass(slots=True)
class Statement:
    """One statement. `block` is None where it ends in a semicolon."""

    words: list[Word]
    block: "list[Statement] | None" = None

    @property
    def mark(self) -> Mark:
        """Where it begins."""
        return self.words[0].mark

    @property
    def key(self) -> str:
        """Its first word."""
        return self.words[0].text.lower()

    @property
    def rest(self) -> list[str]:
        """Its other words, without commas."""
        return [word.text for word in self.words[1:] if word.quoted or word.text != ","]

    @property
    def text(self) -> str:
        """The statement as it reads, without its block."""
        return " ".join(f'"{word.text}"' if word.quoted else word.text for word in self.words).replace(" ,", ",")


@dataclass(slots=True)
class _Reading:
    draft: Draft
    opened: Open
    seen: set[str] = field(default_factory=set)

    def of(self, source: Source) -> list[Statement]:
        """The statements of one file; `include` is replaced with those of its file."""
        self.seen.add(source.name)
        before = self.draft.sources.add(source)
        tokens = _tokens(source, before)
        return [*self._block(tokens, 0, source)]

    def _block(self, tokens: Iterator[Word], depth: int, source: Source) -> Iterator[Statement]:
        words: list[Word] = []
        for token in tokens:
            sign = "" if token.quoted else token.text
            if sign == "}":
                if depth == 0 or words:
                    raise _wrong(self.draft, token, "a } has no { before it, or a ; is missing")
                return
            if sign not in (";", "{"):
                words.append(token)
                continue
            if sign == "{":
                if not words or depth >= _MOST_LEVELS:
                    raise _wrong(self.draft, token, "a block has no name, or blocks are nested too deep")
                yield Statement(words, [*self._block(tokens, depth + 1, source)])
            elif words and words[0].text == "include" and len(words) > 1:
                yield from self._included(words)
            elif words:
                yield Statement(words)
            words = []
        if depth or words:
            raise NotReadable(f"{source.name}: it ends in the middle of a {'block' if depth else 'statement'}")

    def _included(self, words: list[Word]) -> Iterator[Statement]:
        found = self.opened(words[1].text, False) if len(self.seen) < _MOST_FILES else "there are too many files"
        if isinstance(found, str):
            self.draft.lost(words[0].mark, f'include "{words[1].text}"', f"{found}; put that file beside this one")
            return
        for source in found:
            if source.name not in self.seen:
                yield from self.of(source)


def statements(source: Source, draft: Draft, opened: Open) -> list[Statement]:
    """Return the statements of a file. Raises `NotReadable` where reading cannot go on."""
    return _Reading(draft, opened).of(source)


def _tokens(source: Source, before: int) -> Iterator[Word]:
    line, begin = before + 1, 0
    for count, match in enumerate(_TOKEN.finditer(source.text)):
        mark = line, match.start() - begin + 1
        kind, text = match.lastgroup, match.group()
        if kind == "bad" or count > _MOST_TOKENS:
            name, row = source.name, line - before
            raise NotReadable(f"{name}:{row}:{mark[1]}: a quotation mark is not closed, or this is no dhcpd.conf")
        if kind == "string":
            yield Word(mark, _ESCAPE.sub(_unescaped, text[1:-1]), quoted=True)
        elif kind is not None:
            yield Word(mark, text)
        if newlines := text.count("\n"):
            line += newlines
            begin = match.start() + text.rfind("\n") + 1


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] in "01234567":
        return chr(int(code, 8) & 0xFF)
    return chr(int(code[1:], 16)) if len(code) == 3 and code[0] == "x" else _ESCAPES.get(code, code)


def _wrong(draft: Draft, token: Word, why: str) -> NotReadable:
    file, line, column = draft.sources.where(token.mark)
    return NotReadable(f"{file}:{line}:{column}: {why}")
