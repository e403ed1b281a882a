"""The pages' templates and what they share: Jinja2 with autoescape, read once, and the addresses of static files.

Jinja2 is imported with the first page, in the thread that renders it: at start it would cost the daemon 40 ms.
"""

import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from pxeboot.bootfiles.masked import mask
from pxeboot.web import words
from pxeboot.web.static import Static

if TYPE_CHECKING:
    from jinja2 import Environment, Template
    from markupsafe import Markup

_CODE = re.compile("`([^`]*)`")

FOLDER = Path(__file__).parent / "templates"


class Templates:
    """Renders pages. From any thread; better not on the event loop: a farm's page takes a while."""

    def __init__(self, static: Static) -> None:
        """Name static files as `static` serves them."""
        self._static = static
        self._lock = Lock()
        self._environment: Environment | None = None

    def get(self, name: str) -> "Template":
        """Return a template of `templates/`, for its blocks and macros."""
        with self._lock:
            if self._environment is None:
                self._environment = _environment(self._static.url)
        return self._environment.get_template(name)

    def macros(self, name: str) -> Any:
        """Return the macros of a template, as attributes."""
        return self.get(name).module

    def render(self, name: str, **values: object) -> str:
        """Return a page. `root` is among the values: the way from it to the farm's page, "" or "../"."""
        return self.get(name).render(values)


def marked(text: str) -> "Markup":
    """Return a text of ours for a page: what stands between backticks in it is code."""
    from markupsafe import Markup, escape

    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))


def _environment(static: Callable[[str], str]) -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals.update(static=static, version=version("pxeboot"))
    environment.filters.update(
        marked=marked,
        masked=mask,
        ago=words.ago,
        clock=words.clock,
        moment=words.moment,
        size=words.size,
        took=words.took,
    )
    return environment
