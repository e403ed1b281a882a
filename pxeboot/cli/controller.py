"""`pxeboot controller`: tokens for machines that boot, for each one of its own, or one in an lts.conf."""

import asyncio
import logging
import resource
import sys
from pathlib import Path

import click

from config.load import ConfigErrors, load
from config.observing import parse_listen
from pxeboot import logs
from pxeboot.cli import asking
from pxeboot.controller.token import hide_tokens
from pxeboot.plainly import plainly
from pxeboot.reloading.watching import Source


def _listens(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, int] | None:
    try:
        return None if value is None else parse_listen(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.option(
    "-c",
    "--config",
    "path",
    type=asking.ANY_PATH,
    required=True,
    help="The farm's configuration.",
)
@click.option(
    "--once", is_flag=True, help="One round for shared tokens, then end: 0 if each lts.conf has a fresh one, else 1."
)
@click.option(
    "--metrics", "listen", metavar="ADDRESS:PORT", callback=_listens, help="Where to serve /metrics and /healthz."
)
def command(path: Path, once: bool, listen: tuple[str, int] | None) -> None:
    """Keep the machines' join commands valid.

    It makes a short-lived bootstrap token for each boot of a machine, when `pxeboot serve` asks it to, and approves
    that machine's certificate; or one token that machines share, for the lts.conf that they read. It alone holds
    credentials for the farm's Kubernetes clusters.
    """
    # A core dump would hold tokens.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Whatever looks like a token loses its secret half, wherever in a line or a traceback it is.
    logs.begin(logging.INFO, hide=hide_tokens, named=True)
    for library in ("httpx2", "httpcore2"):
        logging.getLogger(library).setLevel(logging.WARNING)
    source = Source.of(path)
    try:
        farm = load(path)
    except ConfigErrors as errors:
        click.echo(str(errors), err=True)
        sys.exit(1)
    logs.settle(farm.log.format)
    if not farm.clusters:
        raise click.ClickException(f"{path} names no clusters: there is nothing to keep")
    # Only this process imports a Kubernetes client.
    try:
        from pxeboot.controller import process, service
    except ImportError as error:
        raise click.ClickException(f"{error.name} is missing: install pxeboot[kubernetes]") from None
    try:
        controller = process.Process(farm)
    except service.Conflict as error:
        raise click.ClickException(f"{path}: {error}") from None
    if once:
        if not controller.shared:
            raise click.ClickException(f"{path}: no cluster shares a token: there is nothing to do once")
        sys.exit(0 if asyncio.run(service.run_once([*controller.shared.values()])) else 1)
    if not controller.is_needed:
        raise click.ClickException(f"{path}: every cluster has a join command of its own: there is nothing to keep")
    try:
        asyncio.run(controller.run(listen, source))
    except OSError as error:
        raise click.ClickException(plainly(error)) from None
