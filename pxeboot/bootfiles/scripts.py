"""The scripts that run on a machine that boots (the node/ folder)."""

import sys
from pathlib import Path

from pxeboot.starting import StartError

NODE_FILES = (
    "mountroot", "nbd", "nbd-keeper.pl", "let-go", "prepare", "say", "get", "report", "rcfile",
    "pxeboot-report.service", "pxeboot-rcfile.service",
)  # fmt: skip


def node_files() -> dict[str, bytes]:
    """Return the scripts of the node/ folder, from the checkout or from where they were installed.

    Raises `StartError` if they are nowhere.
    """
    for folder in (Path(__file__).parent.parent.parent / "node", Path(sys.prefix) / "share/pxeboot/node"):
        if all((folder / name).is_file() for name in NODE_FILES):
            return {name: (folder / name).read_bytes() for name in NODE_FILES}
    raise StartError(f"the scripts for machines (node/) are not installed below {sys.prefix}")
