"""Debian's Chromium without a screen, on a host of a segment, and what a page must not do there.

>>> with Browser(segment.client, folder) as browser:                       # doctest: +SKIP
...     page = browser.open("http://10.77.0.1:8067/", PHONE, dark=True)
...     page.wait_for_selector("tr.stuck")
...     page.screenshot(path=shot("farm-phone-dark.png"))
...     browser.troubles
[]
"""

import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from playwright.sync_api import ConsoleMessage, Page, Request, sync_playwright
from playwright.sync_api import Error as BrowserError

from tests.support.segment import Host

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = (
    "--no-sandbox",  # Chromium refuses to be root with it, and the tests need root for namespaces
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--font-render-hinting=none",
)
DESK = (1280, 800)
PHONE = (390, 844)
"""Widths and heights in CSS pixels."""
PATIENCE_MS = 90_000
"""How long to wait for what should be there at once: the machine of the tests has other things to do."""
AUDIT = """\
() => {
    const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
    const light = c => {
        const [r, g, b] = c.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = one => {
        for (; one; one = one.parentElement) {
            const colour = parse(getComputedStyle(one).backgroundColor);
            if (colour[3] === 1) return colour;
        }
        return [255, 255, 255, 1];
    };
    const wrong = [];
    for (const one of document.querySelectorAll("body *")) {
        if (one.closest("svg, option, .hush, .skip, thead") || !one.checkVisibility()) continue;
        const said = `${one.tagName} ${one.className} ${one.textContent.trim().slice(0, 40)}`;
        const style = getComputedStyle(one);
        if ([...one.childNodes].some(node => node.nodeType === 3 && node.data.trim())) {
            const [low, high] = [light(parse(style.color)), light(ground(one))].sort((a, b) => a - b);
            const contrast = (high + 0.05) / (low + 0.05);
            if (contrast < 4.5) wrong.push(`${said}: contrast ${contrast.toFixed(1)}`);
        }
        const runs = style.display !== "inline" && !["auto", "scroll"].includes(style.overflowX);
        if (runs && one.scrollWidth > one.clientWidth + 1) wrong.push(`${said}: ${one.scrollWidth} px wide`);
    }
    return wrong;
}
"""
SHOTS = Path(__file__).parent.parent.parent / ".build/screenshots"


def shot(name: str) -> Path:
    """Return where a screenshot goes that a person is to look at."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    return SHOTS / name


class Browser:
    """A context manager. `troubles` collects what no page of ours may cause: errors on the console (to which what the
    content security policy forbids is written), exceptions, requests that fail, requests that leave for elsewhere."""

    def __init__(self, host: Host | None, folder: Path) -> None:
        """Run on `host`; None: here. `folder` is a temporary one."""
        self._host = host
        self._folder = folder
        self._undo = ExitStack()
        self.troubles: list[str] = []

    def __enter__(self) -> Self:
        program = self._folder / "chromium"
        here = "" if self._host is None else " ".join(self._host.argv()) + " "
        program.write_text(f'#!/bin/sh\nexec {here}{CHROMIUM} "$@"\n')
        program.chmod(0o755)
        playwright = self._undo.enter_context(sync_playwright())
        self._browser = playwright.chromium.launch(
            executable_path=str(program), args=list(ARGUMENTS), timeout=PATIENCE_MS
        )
        self._undo.callback(self._browser.close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._undo.close()

    def open(
        self,
        url: str,
        size: tuple[int, int] = DESK,
        *,
        dark: bool = False,
        script: bool = True,
        user: tuple[str, str] | None = None,
        calm: bool = False,
        sharp: bool = False,
    ) -> Page:
        """Return a page in a context of its own, loaded.

        `user` is a name and a password; `calm` asks for less motion; `sharp` has two pixels for each of CSS's.
        """
        context = self._browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce" if calm else "no-preference",
            java_script_enabled=script,
            device_scale_factor=2 if sharp else 1,
            ignore_https_errors=True,
            http_credentials={"username": user[0], "password": user[1]} if user is not None else None,
        )
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("console", self._heard)
        page.on("pageerror", self._threw)
        page.on("requestfailed", self._failed)
        page.goto(url, wait_until="domcontentloaded")
        return page

    def leave(self) -> None:
        """Close every page."""
        for context in self._browser.contexts:
            context.close()

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.troubles.append(f"{message.type}: {message.text}")

    def _threw(self, error: BrowserError) -> None:
        self.troubles.append(f"exception: {error}")

    def _failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # the page was left
            self.troubles.append(f"{request.url}: {request.failure}")


def until(page: Page, script: str) -> None:
    """Wait until `script` is true. (Playwright's own waiting evaluates text in the page, which our policy forbids.)

    Raises `TimeoutError`.
    """
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(script):
        if time.monotonic() > deadline:
            raise TimeoutError(script)
        page.wait_for_timeout(50)


def scrolls_sideways(page: Page) -> bool:
    """Return whether the page is wider than its window."""
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


def audit(page: Page) -> list[str]:
    """Return what is wrong with how a page looks now: text that few can read, or that runs out of its cell."""
    found: list[str] = page.evaluate(AUDIT)
    return found
