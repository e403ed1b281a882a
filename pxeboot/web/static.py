"""The site's own files: style sheet, script, icon. Read once, named by what is in them, and kept by browsers."""

import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from pxeboot.api.control import Route

FOLDER = Path(__file__).parent / "static"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class File:
    """One file: its bytes, the same compressed, its media type, and what tells this version from others."""

    content: bytes
    packed: bytes
    media_type: str
    version: str


class Static:
    """The files of `static/`. An address that names the version is good for ever, without it one is asked again."""

    def __init__(self) -> None:
        """Read the files: a few kB, at start."""
        self._files = {path.name: _read(path) for path in FOLDER.iterdir() if path.suffix in TYPES}

    def url(self, name: str) -> str:
        """Return the address of a file, from the farm's page. Raises `KeyError` for one that is not there."""
        return f"static/{name}?v={self._files[name].version}"

    @property
    def routes(self) -> Sequence[Route]:
        """What can be asked."""
        return (
            Route("GET", "/static/{name}", self._answer),
            Route("GET", "/favicon.ico", self._icon),
        )

    async def _icon(self, _: web.Request) -> web.StreamResponse:
        """Lead those who ask for the old name of an icon to ours."""
        raise web.HTTPFound(self.url("favicon.svg"))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        file = self._files.get(request.match_info["name"])
        if file is None:
            raise web.HTTPNotFound
        lasts = request.query.get("v") == file.version
        headers = {
            "ETag": f'"{file.version}"',
            "Cache-Control": "public, max-age=31536000, immutable" if lasts else "no-cache",
            "Vary": "Accept-Encoding",
        }
        if any(tag.value == file.version for tag in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        if takes_gzip(request):
            headers["Content-Encoding"] = "gzip"
            return web.Response(body=file.packed, headers=headers, content_type=file.media_type, charset="utf-8")
        return web.Response(body=file.content, headers=headers, content_type=file.media_type, charset="utf-8")


def takes_gzip(request: web.Request) -> bool:
    """Return whether who asks can unpack an answer. Nobody sends `gzip;q=0`, and curl asks for nothing."""
    return "gzip" in request.headers.get("Accept-Encoding", "")


def _read(path: Path) -> File:
    content = path.read_bytes()
    version = hashlib.sha256(content).hexdigest()[:16]
    return File(content, gzip.compress(content, mtime=0), TYPES[path.suffix], version)
