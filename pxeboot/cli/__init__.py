"""The command line: one file per command, imported when it is the one that is run.

Exit codes: 0 all is well, 1 a problem was found (said on standard error), 2 the command was used wrongly.
"""

import os
import sys
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Lazy(NamedTuple):
    """The module whose `command` it is, and what the list of commands says of it without importing it."""

    module: str
    help: str


COMMANDS = {
    "check": Lazy("pxeboot.cli.check", "Say what is wrong in a farm's configuration."),
    "import": Lazy("pxeboot.cli.import_", "Turn files of kubefarm, dnsmasq, dhcpd or Kea into a farm's."),
    "serve": Lazy("pxeboot.cli.serve", "Boot machines: DHCP, TFTP, HTTP and NBD."),
    "controller": Lazy("pxeboot.cli.controller", "Keep the machines' join commands valid."),
    "image": Lazy("pxeboot.cli.image", "Build, add, list and remove bootable images."),
    "explain": Lazy("pxeboot.cli.explain", "Show the DHCP answer that a machine would get, and why."),
    "probe": Lazy("pxeboot.cli.probe", "Act as a machine that boots, and show what it is told."),
    "reload": Lazy("pxeboot.cli.reload", "Have the daemon read the farm's file again."),
    "status": Lazy("pxeboot.cli.status", "Show who is booting, and how far."),
    "leases": Lazy("pxeboot.cli.leases", "Show who has which address; take leases from another server."),
    "node": Lazy("pxeboot.cli.node", "Show or change what machines boot: network, disk, nothing."),
    "token": Lazy("pxeboot.cli.token", "Show the join tokens of the controller, or delete some."),
    "completion": Lazy("pxeboot.cli.completion", "Print what has bash, zsh or fish complete our words."),
    "manual": Lazy("pxeboot.cli.manual", "Put the manual pages where `man` finds them."),
    "user": Lazy("pxeboot.cli.user", "Say who may change what machines boot on the web page."),
}


GROUPS = {
    "To begin": ("check", "import", "image"),
    "To serve": ("serve", "controller", "reload"),
    "To look": ("status", "explain", "probe", "leases"),
    "To change": ("node", "token", "user"),
    "For shells and man": ("completion", "manual"),
}
"""The commands as the help shows them, each in one place."""


class LazyGroup(click.Group):
    """A group whose commands are in `COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which somebody new needs them."""
        return [name for names in GROUPS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; None if there is no such."""
        if cmd_name == "help":
            return show_help
        where = COMMANDS.get(cmd_name)
        if where is None:
            return None
        command = import_module(where.module).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command. Raises `click.UsageError` with what was probably meant."""
        if args[0] not in COMMANDS and args[0] != "help" and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise click.exceptions.NoSuchCommand(args[0], possibilities=COMMANDS, ctx=ctx)
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command that is typed; what the system refuses is said in a line. A server's is logged whole."""
        if sys.stdout is None:  # it was closed: `>&-`
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        if isinstance(sys.stdout, TextIOWrapper) and sys.stdout is sys.__stdout__:
            # A name of a file goes out as it came in; a letter that a terminal does not have is no reason to end.
            unicode = sys.stdout.encoding.lower().replace("-", "") == "utf8"
            sys.stdout.reconfigure(errors="surrogateescape" if unicode else "replace")
        words = (args[0] if args else extra.get("args")) or sys.argv[1:]
        try:
            return super().main(*args, **extra)
        except OSError as error:
            if words[:1] in (["serve"], ["controller"]):
                raise
            from pxeboot.plainly import plainly

            name = f"pxeboot {words[0]}" if words and words[0] in COMMANDS else "pxeboot"
            click.echo(f"{name}: {plainly(error)}", err=True)
            _forget(sys.stdout)
            sys.exit(1)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        width = max(map(len, COMMANDS))
        for title, names in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), COMMANDS[name].help) for name in names])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """Complete the name of a command without importing any: a shell waits for it."""
        from click.shell_completion import CompletionItem

        found = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        options = [option for option in ("--help", "--version") if incomplete and option.startswith(incomplete)]
        return [CompletionItem(name, help=COMMANDS[name].help) for name in found] + [*map(CompletionItem, options)]


def _forget(stream: TextIO) -> None:
    """Have nothing more said of what a stream could not write: at our end Python would try again."""
    if stream is sys.__stdout__:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@click.command("help", hidden=True)
@click.argument("words", nargs=-1)
@click.pass_context
def show_help(context: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command: `pxeboot help image add` is `pxeboot image add --help`."""
    root = context.find_root()
    root.command.main([*words, "--help"], prog_name=root.info_name)


def _say_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        click.echo(f"pxeboot {version('pxeboot')}")
    except PackageNotFoundError:
        click.echo("pxeboot, run from its source without being installed")
    ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`pxeboot COMMAND --help` says more of each; so does `man pxeboot` (after pip: `pxeboot manual`).",
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_say_version, help="Say which.")
def main() -> None:
    """Network boot for diskless Kubernetes workers: DHCP, TFTP, HTTP and NBD in one process."""
