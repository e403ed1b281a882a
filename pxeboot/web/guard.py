"""What holds for every request to the site, whatever it is for: which names it goes by, who may send changes.

The page has no sessions, and may be on loopback. What threatens it is a page of somebody else in the browser of a
person who reaches it: that could read the farm by giving us a name of its own (DNS rebinding), or send a change.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from ipaddress import ip_address

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

log = logging.getLogger("pxeboot")

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # not no-referrer, which would hide the origin of a change from us, too
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "pxeboot",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

OPEN = frozenset({"/metrics", "/healthz", "/readyz"})
"""They hold no name of a machine, and are asked for by any name."""

HANDLER_S = 30.0
"""How long an answer may take to be made, and its request to arrive."""

PRIVATE = (".localhost", ".local", ".lan", ".internal", ".home.arpa", ".test", ".invalid")
"""Domains that nobody can register, so that no stranger's page can be under such a name."""


def is_known(host: str, names: Sequence[str], own: str) -> bool:
    """Return whether somebody who asks for `host`, as its header says, can only mean us.

    An address always; a name without a dot, or in a domain that nobody can register; `own`, the name of this host;
    and those of the farm's file, where `*` is any.

    >>> [is_known(host, (), "boot.example.org") for host in ("[::1]:80", "boot.example.org", "evil.example")]
    [True, True, False]
    """
    name = host.lower()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    try:
        ip_address(name)
    except ValueError:
        pass
    else:
        return True
    name = name.removesuffix(".")
    known = {own.lower(), *(one.lower() for one in names)}
    return "." not in name or name.endswith(PRIVATE) or name in known or "*" in known


def is_ours(request: web.Request) -> bool:
    """Return whether a page of ours sent this request, or no page at all: curl says nothing of where it comes from."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None and site not in ("same-origin", "none"):
        return False
    origin = request.headers.get("Origin")
    return origin is None or origin.partition("://")[2].lower() == request.headers.get("Host", "").lower()


def guard(names: Callable[[], Sequence[str]], own: str, *, tls: bool) -> Middleware:
    """Return the middleware that every request passes first. By TLS, a certificate proves the name."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        try:
            if not tls and request.path not in OPEN and not is_known(host, names(), own):
                raise web.HTTPMisdirectedRequest(text=_not_ours(host))
            if request.method not in ("GET", "HEAD") and not is_ours(request):
                raise web.HTTPForbidden(text="Another site's page sent this. Do it on our own.\n")
            async with asyncio.timeout(HANDLER_S) as limit:
                if request.path == "/events":
                    limit.reschedule(None)
                response = await handler(request)
        except web.HTTPException as error:
            error.headers.update(HEADERS)
            raise
        except TimeoutError:
            response = web.Response(status=503, text="That took too long.\n")
        except ConnectionError:  # who asked is gone; aiohttp says nothing of it when it sees that itself
            response = web.Response(status=400)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("web %s: %s %.200r failed", request.remote, request.method, request.path)
            response = web.Response(status=500, text="A mistake of ours; the log of pxeboot serve has it.\n")
        if not response.prepared:
            response.headers.update(HEADERS)
            response.headers.setdefault("Cache-Control", "no-store")
        return response

    return guarded


def _not_ours(host: str) -> str:
    return (
        f"This is pxeboot, and {host[:200]!r} is not a name it goes by. Ask for it by its address, or write the name "
        "into web.names of the farm's file: otherwise a stranger's page could use a name of its own to read this.\n"
    )
