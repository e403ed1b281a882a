"""Manual pages, in man(7): one for each command, and pxeboot.1 with files and signals.

click-man was tried: it does not see commands that are imported late, escapes neither backslashes nor dots at the
beginning of a line, and has no place for examples, files and exit statuses.
"""

import re
import time

from pxeboot.reference.examples import ENVIRONMENT, EXAMPLES, FILES, SIGNALS
from pxeboot.reference.walking import Told, commands

_CODE = re.compile("`([^`]+)`")


def pages(made_at_s: float) -> dict[str, str]:
    """Return every page by the name of its file."""
    date = time.strftime("%Y-%m-%d", time.gmtime(made_at_s))
    told = [*commands()]
    return {f"{'-'.join(one.path)}.1": page(one, date, told) for one in told}


def page(told: Told, date: str, every: list[Told]) -> str:
    """Return one manual page."""
    name = "-".join(told.path)
    summary, *more = told.paragraphs or [""]
    lines = [
        f'.TH "{name.upper()}" "1" "{date}" "pxeboot" "pxeboot"',
        ".nh",
        ".ad l",
        ".SH NAME",
        f"{_escaped(name)} \\- {text_of(summary.removesuffix('.'))}",
        ".SH SYNOPSIS",
        f"\\fB{_escaped(told.name)}\\fR {_escaped(told.usage)}",
        ".SH DESCRIPTION",
        *_paragraphs([summary, *(text for text in more if "`man pxeboot`" not in text)]),
    ]
    if told.options:
        lines.append(".SH OPTIONS")
        for option, meaning in told.options:
            lines += [".TP", _option(option), text_of(meaning)]
    if told.commands:
        lines.append(".SH COMMANDS")
        for word, meaning in told.commands:
            lines += [".TP", f"\\fB{_escaped(f'{name}-{word}')}\\fR(1)", text_of(meaning)]
    lines += [".SH EXIT STATUS", text_of(told.exit_status)]
    if told.name in EXAMPLES:
        lines.append(".SH EXAMPLES")
        for meaning, command in EXAMPLES[told.name]:
            lines += [".PP", text_of(meaning)] if meaning else [".PP"] * (lines[-1] != ".SH EXAMPLES")
            lines += [".RS 4", ".nf", f"\\fB{_escaped(command)}\\fR", ".fi", ".RE"]
    if len(told.path) == 1:
        for title, rows in (("SIGNALS", SIGNALS), ("ENVIRONMENT", ENVIRONMENT), ("FILES", FILES)):
            lines.append(f".SH {title}")
            for word, meaning in rows:
                lines += [".TP", f"\\fB{_escaped(word)}\\fR", text_of(meaning)]
    lines += [".SH SEE ALSO", _see_also(told, every)]
    return "\n".join(lines) + "\n"


def _see_also(told: Told, every: list[Told]) -> str:
    """The page above, and those beside this one."""
    near = [one for one in every if one.path[:-1] in (told.path[:-1], told.path) and one.path != told.path]
    above = [one for one in every if one.path == told.path[:-1]]
    names = ["-".join(one.path) for one in (*above, *near)]
    return ",\n".join(f"\\fB{_escaped(name)}\\fR(1)" for name in names) or "https://www.rfc\\-editor.org/rfc/rfc2131"


def _paragraphs(texts: list[str]) -> list[str]:
    lines: list[str] = []
    for number, text in enumerate(texts):
        lines += [".PP"] * (number > 0)
        if text.startswith("\b"):
            lines += [".nf", *(text_of(line) for line in text.removeprefix("\b").strip("\n").split("\n")), ".fi"]
        else:
            lines.append(text_of(text))
    return lines


def _option(option: str) -> str:
    """`-c, --config PATH` with what is typed in bold and what stands for something in italics."""
    words = re.split("( |, | / )", option)
    return "".join(
        f"\\fB{_escaped(word)}\\fR" if word.startswith("-") else _escaped(word) if word in (" ", ", ", " / ")
        else f"\\fI{_escaped(word)}\\fR" for word in words
    )  # fmt: skip


def text_of(text: str) -> str:
    """A text in which what stands between backticks is bold. It cannot be taken for a request."""
    parts = _CODE.split(text)
    made = "".join(f"\\fB{_escaped(part)}\\fR" if at % 2 else _escaped(part) for at, part in enumerate(parts))
    return f"\\&{made}" if made.startswith((".", "'")) else made


def _escaped(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-")
