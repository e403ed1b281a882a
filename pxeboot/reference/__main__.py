"""`python -m pxeboot.reference docs/reference` writes the pages; with `--man DIR`, the manual pages there."""

import os
import sys
import time
from pathlib import Path

from pxeboot.reference import commands, configuration, errors, manual, stages

PAGES = {
    "configuration.md": configuration.page,
    "commands.md": commands.page,
    "stages.md": stages.page,
    "errors.md": errors.page,
}


def main(argv: list[str]) -> int:
    """Write what is asked for; return the exit status."""
    match argv:
        case ["--man", folder]:
            made = manual.pages(float(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
        case [folder] if not folder.startswith("-"):
            made = {name: page() for name, page in PAGES.items()}
        case _:
            print("usage: python -m pxeboot.reference FOLDER | --man FOLDER", file=sys.stderr)
            return 2
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
        (Path(folder) / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
