"""`pxeboot completion`: the script that has a shell complete our commands, options and names."""

import click
from click.shell_completion import get_completion_class

VARIABLE = "_PXEBOOT_COMPLETE"
"""What the script sets when it asks us."""


@click.command(
    epilog="""\b
bash:  pxeboot completion bash >/etc/bash_completion.d/pxeboot
zsh:   pxeboot completion zsh >"${fpath[1]}/_pxeboot"
fish:  pxeboot completion fish >~/.config/fish/completions/pxeboot.fish"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the script that completes commands, options and the names of machines in SHELL.

    Names come from the running daemon, else from the farm's file.
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(context.find_root().command, {}, "pxeboot", VARIABLE).source())
