"""`pxeboot controller`: keep every cluster's lts.conf holding a join command that is still valid."""

import asyncio
import logging
import resource
import sys
from pathlib import Path

import click

from config.load import ConfigErrors, load
from pxeboot.controller.token import hide_tokens


class HidingFormatter(logging.Formatter):
    """Leaves out the secret half of whatever looks like a token, wherever in a line or traceback it is."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's line, and its traceback, without secrets."""
        return hide_tokens(super().format(record))


@click.command()
@click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The farm's configuration.",
)
@click.option("--once", is_flag=True, help="One round, then end: 0 if every cluster has a fresh join command, else 1.")
def command(path: Path, once: bool) -> None:
    """Keep the join command in each cluster's lts.conf valid.

    It makes short-lived bootstrap tokens in the farm's Kubernetes clusters and writes `kubeadm join ...` into the
    lts.conf that their machines read. It alone holds credentials for the clusters.
    """
    # A core dump would hold tokens.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    handler = logging.StreamHandler()
    handler.setFormatter(HidingFormatter("%(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for library in ("httpx2", "httpcore2"):
        logging.getLogger(library).setLevel(logging.WARNING)
    try:
        farm = load(path)
    except ConfigErrors as errors:
        click.echo(str(errors), err=True)
        sys.exit(1)
    if not farm.clusters:
        raise click.ClickException(f"{path} names no clusters: there is nothing to keep")
    # Only this process imports a Kubernetes client.
    try:
        from pxeboot.controller import service
    except ImportError as error:
        raise click.ClickException(f"{error.name} is missing: install pxeboot[kubernetes]") from None
    try:
        keepers = service.keepers(farm)
    except service.Conflict as error:
        raise click.ClickException(f"{path}: {error}") from None
    if once:
        sys.exit(0 if asyncio.run(service.run_once(keepers)) else 1)
    asyncio.run(service.run(keepers))
