"""`pxeboot serve`: the daemon."""

import logging
import sys
from pathlib import Path

import click

from pxeboot import logs
from pxeboot.cli import asking


@click.command()
@click.option("-c", "--config", "configuration", type=asking.ANY_PATH, help="The farm's file.")
@click.option("--interface", "interfaces", multiple=True, help="Without a file: an interface to serve (repeatable).")
@click.option("--image", type=click.Path(exists=True, path_type=Path), help="Without a file: the squashfs to boot.")
@click.option("--root", type=click.Choice(["http", "nbd"]), default="http", show_default=True,
              help="Without a file: copy the image into RAM, or read it on demand.")  # fmt: skip
@click.option("--state", type=asking.ANY_PATH, help="Without a file: the folder for leases and images.")
@click.option("-v", "--verbose", is_flag=True, help="Log every packet.")
def command(
    configuration: Path | None,
    interfaces: tuple[str, ...],
    image: Path | None,
    root: str,
    state: Path | None,
    verbose: bool,
) -> None:
    """Serve DHCP, TFTP, HTTP and NBD, as the farm's file says.

    Without a file, every machine on --interface boots --image.
    """
    if (configuration is None) == (not interfaces):
        raise click.UsageError("give either --config FILE, or --interface and --image")
    if configuration is None and image is None:
        raise click.UsageError("--interface needs --image; or give --config FILE")
    from pxeboot.joining.text import hide_names

    # A request that is malformed or misspelt is quoted, and may hold a name that is still good.
    logs.begin(logging.DEBUG if verbose else logging.INFO, hide=hide_names)
    import asyncio

    from config.interfaces import NoInterface
    from config.load import ConfigErrors, load
    from pxeboot.daemon import StartError, run
    from pxeboot.image.store import ImageError
    from pxeboot.plainly import plainly
    from pxeboot.reloading.watching import Source

    source = None
    try:
        if configuration is not None:
            source = Source.of(configuration)
            farm = load(configuration)
        else:
            from pxeboot.obvious import farm_of

            assert image is not None
            farm = farm_of(interfaces, image, root, state)
        logs.settle(farm.log.format)
        asyncio.run(run(farm, source))
    except ConfigErrors as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    except NoInterface as error:
        logs.last_words("serve", f"{plainly(error)}; `ip -brief address` lists those that there are")
        sys.exit(1)
    except (StartError, ImageError) as error:
        logs.last_words("serve", str(error))
        sys.exit(1)
