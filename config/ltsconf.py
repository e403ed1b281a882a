r"""lts.conf text ⇄ sections and keys, every byte of untouched lines kept.

The grammar is LTSP 5's, one line at a time:

    # a comment, as is anything after white space and a #
    [section]               a host name, an address, a MAC, a pattern of those with * and ?, or Default
    KEY = value             up to the end of the line or a comment, without the white space around it
    KEY = "a value"         or 'a value': up to the same quote, nothing in between is special, not even \ or #
    include FILE            kept, and not followed: the file names a place on some other machine
    anything else           kept and ignored

Two additions make every one-line value writable; neither changes the meaning of a file that LTSP 5 accepts.
Adjacent quoted strings are one value ('it'"'"'s'), as in a shell: there is no escape character. Keys above the
first header belong to [Default]. What we write also means the same to a shell that sources it.

Section names are compared without regard to case. A section that appears twice is one section; a key that appears
twice has its last value.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import IPv4Address

JOIN_EXPIRES_KEY = "JOIN_K8S_EXPIRES"
"""Beside the key of a join command: until when it is good (RFC 3339), so that an expired one is never served."""
JOIN_FOLLOWED_KEY = "JOIN_K8S_FOLLOWED"
"""Beside it too: the ids of tokens before it, and when the controller deletes each (RFC 3339). For no machine."""

_HEADER = re.compile(r"[ \t]*\[([^\[\]]*)\][ \t]*(?:#.*)?")
_SETTING = re.compile(r"([ \t]*)([A-Za-z_][A-Za-z0-9_]*)([ \t]*=[ \t]*)(.*)")
_QUOTED = re.compile(r"""(?:"[^"]*"|'[^']*')*""")
_COMMENT = re.compile(r"(?:^|[ \t])[ \t]*#")
_STRING = re.compile(r""""([^"]*)"|'([^']*)'""")
_WRITABLE_KEY = re.compile(r"[A-Z][A-Z0-9_]*")

_DEFAULT = "default"
_UNSET = "NONE"


class LtsConfError(ValueError):
    """An lts.conf that cannot be read. It says where and what, never the line itself, which may hold a token."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line
        self.message = message


@dataclass(frozen=True, slots=True)
class _Line:
    """One line with its end, and what it means: a header, a setting, or neither."""

    raw: str
    header: str | None = None
    key: str | None = None
    value: str = ""
    span: tuple[int, int] = (0, 0)
    """Where in `raw` the value is written, quotes included."""


@dataclass(frozen=True, slots=True, repr=False)
class LtsConf:
    """An lts.conf. Frozen: a change makes another one. Its `repr` shows no value, since values can be tokens."""

    _lines: tuple[_Line, ...]
    _sections: Mapping[str, Mapping[str, str]] = field(compare=False)

    @classmethod
    def parse(cls, text: str) -> "LtsConf":
        """Return what `text` says. Lines that mean nothing are kept and ignored.

        Raises `LtsConfError` for a header without its end or its name, a quoted string without its end, and text
        after a quoted string.

        >>> LtsConf.parse('[Default]\\nPREINIT_00_TIME = "hwclock -s"').get("Default", "PREINIT_00_TIME")
        'hwclock -s'
        """
        pieces = text.split("\n")
        ends = [*(piece + "\n" for piece in pieces[:-1]), *filter(None, pieces[-1:])]
        return cls._of(tuple(_read(raw, number) for number, raw in enumerate(ends, start=1)))

    @classmethod
    def _of(cls, lines: tuple[_Line, ...]) -> "LtsConf":
        sections: dict[str, dict[str, str]] = {}
        for section, line in _placed(lines):
            if line.header is not None:
                sections.setdefault(section, {})
            elif line.key is not None:
                sections.setdefault(section, {})[line.key] = line.value
        return cls(lines, sections)

    def __repr__(self) -> str:
        return f"<LtsConf of {len(self._lines)} lines, sections {', '.join(self._sections)}>"

    @property
    def text(self) -> str:
        """The whole file; `parse(text).text == text`."""
        return "".join(line.raw for line in self._lines)

    def get(self, section: str, key: str) -> str | None:
        """Return the value of `key` in `section` itself (not what LIKE or [Default] would add), or None."""
        return self._sections.get(section.casefold(), {}).get(key)

    def resolve(self, *, hostname: str, ip: IPv4Address, macs: Sequence[str]) -> dict[str, str]:
        """Return the keys and values that one machine gets.

        From the least to the most specific, a later one winning: [Default]; patterns that match one of its MACs,
        its address, its host name; sections that are exactly one of these, in the same order. So the host name
        wins over the address and the address over the MAC, as in LTSP 5. Among patterns for the same identity the
        one with more letters wins, then the later one. LTSP 5 stops at the first match of each kind; we use all.

        `LIKE = section` puts that section beneath the one that says so (and above all that is less specific). One
        that is not there adds nothing, and a circle ends where it closes. The value NONE unsets a key.
        """
        values: dict[str, str] = {}
        for section in self._layers(hostname, ip, macs):
            for key, value in self._inherited(section, set()).items():
                if value == _UNSET:
                    values.pop(key, None)
                else:
                    values[key] = value
        return values

    def _layers(self, hostname: str, ip: IPv4Address, macs: Sequence[str]) -> list[str]:
        """The sections that concern a machine, the least specific one first."""
        mac_names = [form.casefold() for mac in macs for form in (mac, mac.replace(":", "-"))]
        identities = [mac_names, [str(ip)], [hostname.casefold()]]
        layers = [_DEFAULT] if _DEFAULT in self._sections else []
        patterns = [name for name in self._sections if "*" in name or "?" in name]
        patterns.sort(key=lambda name: sum(letter not in "*?" for letter in name))  # stable: file order within
        for names in identities:
            layers += [p for p in patterns if any(fnmatchcase(name, p) for name in names)]
        for names in identities:
            layers += [name for name in reversed(names) if name in self._sections and name != _DEFAULT]
        return layers

    def _inherited(self, section: str, above: set[str]) -> dict[str, str]:
        """The keys of `section` on top of what it is LIKE; `above` are the sections that led here."""
        own = self._sections.get(section, {})
        like = own.get("LIKE", section).casefold()
        values: dict[str, str] = {}
        if like not in above | {section}:
            values = self._inherited(like, above | {section})
        values |= own
        values.pop("LIKE", None)
        return values

    def with_value(self, section: str, key: str, value: str) -> "LtsConf":
        """Return this file with `key` of `section` set to `value`, and every other line as it was.

        The assignment that counts now is changed in place, its comment kept. A new one goes after the section's
        last key, a new section to the end of the file.

        Raises `ValueError` for a value that is not one line (newline, carriage return, NUL), a key that is not
        capitals, digits and underscores, or a section name that a header cannot hold.
        """
        if not _WRITABLE_KEY.fullmatch(key):
            raise ValueError(f"{key!r} is not a key; write capitals, digits and underscores, a letter first")
        if any(character in value for character in "\n\r\0"):
            raise ValueError(f"the value of {key} is not a single line")
        if not section.strip() or any(character in section for character in "[]\n\r\0") or section != section.strip():
            raise ValueError(f"{section!r} is not a section's name")
        lines = list(self._lines)
        inside = [
            (index, line) for index, (name, line) in enumerate(_placed(self._lines)) if name == section.casefold()
        ]
        same = [index for index, line in inside if line.key == key]
        keys = [index for index, line in inside if line.key is not None]
        if same:
            old = lines[same[-1]]
            raw = old.raw[: old.span[0]] + quote(value) + old.raw[old.span[1] :]
            lines[same[-1]] = _read(raw, 0)
            return self._of(tuple(lines))
        indent, equals = "", "="
        if keys and (neighbour := _SETTING.match(lines[keys[-1]].raw)):
            indent, equals = neighbour[1], neighbour[3]
        setting = f"{indent}{key}{equals}{quote(value)}"
        headers = [index for index, line in inside if line.header is not None]
        if keys or headers:
            self._insert(lines, (keys or headers)[-1] + 1, [setting])
        else:
            self._insert(lines, len(lines), [*([""] if lines else []), f"[{section}]", setting])
        return self._of(tuple(lines))

    def without(self, section: str, key: str) -> "LtsConf":
        """Return this file without any assignment of `key` in `section`; every other line is as it was."""
        return self._of(
            tuple(line for name, line in _placed(self._lines) if not (name == section.casefold() and line.key == key))
        )

    def _insert(self, lines: list[_Line], at: int, new: Sequence[str]) -> None:
        """Insert lines with the file's own line end; a file without a last newline still has none after."""
        end = "\r\n" if lines and lines[0].raw.endswith("\r\n") else "\n"
        if at == len(lines) and lines and not lines[-1].raw.endswith("\n"):
            lines[-1] = _read(lines[-1].raw + end, at)
            raws = [line + end for line in new[:-1]] + [new[-1]]
        else:
            raws = [line + end for line in new]
        lines[at:at] = [_read(raw, at) for raw in raws]


def quote(value: str) -> str:
    """Return `value` as one lts.conf word, which means the same to a POSIX shell.

    >>> print(quote("kubeadm join 10.0.0.1:6443"), quote("$(id)"), quote("it's"))
    "kubeadm join 10.0.0.1:6443" '$(id)' 'it'"'"'s'
    """
    if not any(character in value for character in "\"'$`\\!"):
        return f'"{value}"'
    return "".join(f'"{part}"' if "'" in part else f"'{part}'" for part in re.findall(r"'+|[^']+", value))


def numbered(values: Mapping[str, str], prefix: str) -> list[tuple[str, str]]:
    """Return the keys that begin with `prefix` and their values, in the order of their numbers.

    >>> numbered({"FSTAB_10": "c", "FSTAB_2": "b", "FSTAB_01_X": "a", "HOSTS_1": "-"}, "FSTAB_")
    [('FSTAB_01_X', 'a'), ('FSTAB_2', 'b'), ('FSTAB_10', 'c')]
    """

    def version(item: tuple[str, str]) -> tuple[list[int | str], str]:
        parts = re.split("([0-9]+)", item[0])  # text and numbers take turns, so like meets like
        return [int(part) if index % 2 else part for index, part in enumerate(parts)], item[0]

    return sorted(((key, value) for key, value in values.items() if key.startswith(prefix)), key=version)


def _placed(lines: Sequence[_Line]) -> Iterator[tuple[str, _Line]]:
    """Each line with the case-folded name of its section; a header is in the section that it opens."""
    section = _DEFAULT
    for line in lines:
        if line.header is not None:
            section = line.header.casefold()
        yield section, line


def _read(raw: str, number: int) -> _Line:
    content = raw.removesuffix("\n").removesuffix("\r")
    if content.lstrip(" \t").startswith("["):
        header = _HEADER.fullmatch(content)
        if header is None:
            raise LtsConfError(number, "a section's header is not [name]; names have no brackets")
        name = header[1].strip(" \t")
        if not name:
            raise LtsConfError(number, "a section's header has no name")
        return _Line(raw, header=name)
    setting = _SETTING.fullmatch(content)
    if setting is None:
        return _Line(raw)
    key, written = setting[2], setting[4]
    start = setting.start(4)
    if not written.startswith(('"', "'")):
        comment = _COMMENT.search(written)
        value = (written[: comment.start()] if comment else written).rstrip(" \t")
        return _Line(raw, key=key, value=value, span=(start, start + len(value)))
    strings = _QUOTED.match(written)
    quoted = strings[0] if strings else ""
    rest = written[len(quoted) :].lstrip(" \t")
    if written[len(quoted) :].startswith(('"', "'")):
        raise LtsConfError(number, f"the value of {key} has a quote without its end")
    if rest and not rest.startswith("#"):
        raise LtsConfError(number, f"the value of {key} has text after its closing quote")
    value = "".join(match[1] or match[2] or "" for match in _STRING.finditer(quoted))
    return _Line(raw, key=key, value=value, span=(start, start + len(quoted)))
