"""`pxeboot check`: is this configuration right?"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from config.mistakes import Mistake
    from config.model import Farm


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="A list with an object for each mistake; [] if there is none.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of the file, for editors, and do nothing else.")
def command(file: Path | None, as_json: bool, schema: bool) -> None:
    """Check the configuration FILE and say everything that is wrong in it.

    Each mistake is a line FILE:LINE:COLUMN: MESSAGE on standard error. Exit status: 0 if all is right, 1 if not.
    """
    if schema:
        from config.schema import text

        click.echo(text(), nl=False)
        return
    if file is None:
        raise click.UsageError("which FILE?")
    from config.load import ConfigErrors, load
    from pxeboot.bootfiles.root import not_there
    from pxeboot.exports.writable import writable_without_disk

    summary, missing, mistakes = "", None, []
    try:
        farm = load(file)
        missing = not_there(farm.server.files)
        mistakes = [*lts_mistakes(farm), *tls_mistakes(file, farm)]
        summary = f"{file} is right: {counted(farm)}"
    except ConfigErrors as errors:
        mistakes = [*errors.mistakes]
    if as_json:
        click.echo(json.dumps([asdict(mistake) for mistake in mistakes], indent=2))
    elif mistakes:
        click.echo("\n".join(map(str, mistakes)), err=True)
    else:
        click.echo(summary)
        if missing is not None:
            click.echo(f"note: server.files: {missing}", err=True)  # no mistake: it may come yet
        for line in writable_without_disk(farm):
            click.echo(f"note: {line}", err=True)
    sys.exit(1 if mistakes else 0)


def lts_mistakes(farm: "Farm") -> "list[Mistake]":
    """Return what is wrong in the lts.conf files that `farm` names. One that is not there yet is no mistake."""
    from config.ltsconf import LtsConf, LtsConfError
    from config.mistakes import Mistake

    mistakes = []
    for path in dict.fromkeys((farm.lts_conf, *(cluster.lts_conf for cluster in farm.clusters.values()))):
        if path is None or not path.exists():
            continue
        try:
            LtsConf.parse(path.read_text())
        except LtsConfError as error:
            mistakes.append(Mistake(str(path), error.line, 1, error.message))
        except (OSError, UnicodeDecodeError) as error:
            mistakes.append(Mistake(str(path), 1, 1, f"cannot be read: {getattr(error, 'strerror', error)}"))
    return mistakes


def tls_mistakes(file: Path, farm: "Farm") -> "list[Mistake]":
    """Return what is wrong with the certificate and the key that `farm` names, at their lines of `file`."""
    if farm.http.tls is None and farm.nbd.tls is None:
        return []
    from config.marks import Marks
    from config.mistakes import Mistake
    from httpimage.tls import TlsError, context_of

    mistakes = []
    for server, settings in (("http", farm.http.tls), ("nbd", farm.nbd.tls)):
        if settings is None:
            continue
        try:
            context_of(settings, f"{server}.tls")
        except TlsError as error:
            where = Marks(str(file), file.read_text("utf-8-sig")).nearest((server, "tls", error.setting))
            mistakes.append(Mistake(str(file), where.line if where else 1, 1, str(error)))
    return mistakes


def counted(farm: "Farm") -> str:
    """Return what a farm consists of, in one line."""
    numbers = {
        "machine": sum(len(pool.nodes) for pool in farm.pools),
        "pool": len(farm.pools),
        "image": len(farm.images),
        "subnet": len(farm.dhcp.subnets),
        "cluster": len(farm.clusters),
        "tag": len(farm.tags),
    }
    return ", ".join(f"{number} {word}{'' if number == 1 else 's'}" for word, number in numbers.items())
