"""Every command there is, with what its help says, taken apart."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from inspect import cleandoc

import click

from pxeboot.cli import main

USUAL_EXIT = "0 if all is well; 1 if a problem was found, which standard error tells; 2 if it was used wrongly."


@dataclass(frozen=True, slots=True)
class Told:
    """One command."""

    path: tuple[str, ...]
    command: click.Command
    context: click.Context

    @property
    def name(self) -> str:
        """As one types it."""
        return " ".join(self.path)

    @property
    def usage(self) -> str:
        """What follows the name."""
        return " ".join(self.command.collect_usage_pieces(self.context))

    @property
    def paragraphs(self) -> list[str]:
        """What its help says, but for its exit status; each on one line, but for those that begin with a \\b."""
        return [text for text in self._all() if not text.startswith("Exit status")]

    @property
    def exit_status(self) -> str:
        """What its exit status means."""
        said = [text for text in self._all() if text.startswith("Exit status")]
        text = said[0].partition(":")[2].strip() if said else USUAL_EXIT
        return text[:1].upper() + text[1:]

    def _all(self) -> list[str]:
        text = f"{cleandoc(self.command.help or '')}\n\n{cleandoc(self.command.epilog or '')}"
        parts = [part for part in re.split(r"\n\s*\n", text.strip()) if part.strip()]
        return [part if part.startswith("\b") else " ".join(part.split()) for part in parts]

    @property
    def options(self) -> Sequence[tuple[str, str]]:
        """Its options, as one types them, and what each does."""
        parameters = [one for one in self.command.get_params(self.context) if isinstance(one, click.Option)]
        found = [one.get_help_record(self.context) for one in parameters]
        return [record for record in found if record is not None]

    @property
    def commands(self) -> Sequence[tuple[str, str]]:
        """The commands below it, and the first line of their help."""
        if not isinstance(self.command, click.Group):
            return []
        names = self.command.list_commands(self.context)
        below = [(name, self.command.get_command(self.context, name)) for name in names]
        return [(name, first_line(one)) for name, one in below if one is not None and not one.hidden]


def first_line(command: click.Command) -> str:
    """The first sentence of a command's help, whole."""
    return " ".join(cleandoc(command.help or "").partition("\n\n")[0].split())


def commands() -> Iterator[Told]:
    """Every command, each group before what is in it."""
    yield from _walk(("pxeboot",), main, None)


def _walk(path: tuple[str, ...], command: click.Command, above: click.Context | None) -> Iterator[Told]:
    context = click.Context(command, info_name=path[-1], parent=above, **command.context_settings)
    context.terminal_width = 80
    yield Told(path, command, context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from _walk((*path, name), below, context)
