"""docs/reference/commands.md: every command and option."""

from pxeboot.reference.examples import EXAMPLES
from pxeboot.reference.walking import Told, commands

HEAD = """\
# Every command

Made by `python -m pxeboot.reference docs/reference` from the commands themselves; each is a manual page too
(`man pxeboot-status`; after an installation by pip, `pxeboot manual` puts them where `man` looks).

- What a program reads is on standard output, with `--json` as one object; what is wrong is on standard error.
- Exit status: 0 all is well, 1 a problem was found, 2 the command was used wrongly.
- Commands that ask the running daemon find it by `--control`, else by the farm's file (`-c`), else at
  `/run/pxeboot/control.sock`.
- Colours are for terminals; `NO_COLOR` turns them off.
"""


def page() -> str:
    """Return the page."""
    return HEAD + "".join(_section(told) for told in commands() if len(told.path) > 1)


def _section(told: Told) -> str:
    lines = ["", f"{'#' * len(told.path)} {told.name}", "", f"```text\n{told.name} {told.usage}\n```"]
    for text in told.paragraphs:
        shown = f"```text\n{text.removeprefix(chr(8)).strip()}\n```" if text.startswith("\b") else _plain(text)
        lines += ["", shown]
    if told.options:
        lines += ["", "| option | meaning |", "|---|---|"]
        lines += [f"| `{_cell(option)}` | {_cell(_plain(meaning))} |" for option, meaning in told.options]
    if not told.commands:
        lines += ["", f"Exit status: {_plain(told.exit_status)}"]
    if told.name in EXAMPLES:
        examples = (f"# {meaning}\n{command}" if meaning else command for meaning, command in EXAMPLES[told.name])
        lines += ["", "```text", *examples, "```"]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", "\\*")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
