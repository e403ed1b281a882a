"""Our certificate, its key, and the authorities of our clients: files, read again when they change."""

import asyncio
import logging
import os
import ssl
import stat
from pathlib import Path
from typing import NoReturn

from config.delivery import Certificate

log = logging.getLogger(__name__)

LOOK_S = 2.0
"""How often to look at the files, in seconds. What changed is used once it has stood still from one look to the next:
a certificate and its key are two files, and the one is there before the other."""

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES+SHA256:ECDHE+AES+SHA384:AES256-GCM-SHA384:AES128-GCM-SHA256:AES256-SHA256:AES128-SHA256"  # fmt: skip  # noqa: E501
"""For TLS 1.2, in our order. The last four have no forward secrecy, and only those get them that know nothing better:
UEFI firmware whose OpenSSL was built without elliptic curves, as EDK2's was for years, and old iPXE."""

_Facts = tuple[tuple[int, ...] | None, ...]


HTTP = "http.tls"
"""The section of the farm's file that names the files, for HTTP."""


class TlsError(Exception):
    """A file that TLS cannot work with; the text says which setting names it, and what is wrong."""

    def __init__(self, setting: str, path: Path, reason: str) -> None:
        super().__init__(setting, path, reason)
        self.section = HTTP
        self.setting = setting
        """`certificate`, `key` or `client_ca`."""
        self._what = f"{str(path)!r} {reason}"

    def __str__(self) -> str:
        return f"{self.section}.{self.setting}: {self._what}"


class Credentials:
    """What new connections are given: a context that changes with the files."""

    def __init__(self, settings: Certificate, section: str = HTTP) -> None:
        """Read the files, which `section` of the farm's file names. Blocks on the disk. Raises `TlsError`."""
        self._settings = settings
        self._section = section
        self._server = "https" if section == HTTP else section.partition(".")[0]
        self._used = self._seen = self._facts()
        self._said = ""
        self.context = context_of(settings, section)
        """For the next handshake. Connections that are there keep the one they began with."""

    def use(self, settings: Certificate, context: ssl.SSLContext) -> None:
        """Go on with other files, which were read already."""
        self._settings, self.context = settings, context
        self._used, self._said = (), ""  # looked at once more: they may have changed since they were read

    async def watch(self) -> None:
        """Follow the files until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(self.look)

    def look(self) -> None:
        """Look at the files, and use them if they changed and are right; else go on with what is there.

        Blocks on the disk.
        """
        facts = self._facts()
        still = facts == self._seen
        self._seen = facts
        if facts == self._used or not still:
            return
        try:
            self.context = context_of(self._settings, self._section)
        except TlsError as error:
            if str(error) != self._said:
                log.warning("%s goes on with the certificate that it has: %s", self._server, error)
            self._said = str(error)
            return
        self._used, self._said = facts, ""
        log.info("%s has read %r again", self._server, str(self._settings.certificate))

    def _facts(self) -> _Facts:
        """What tells one version of the files from another."""
        return tuple(_facts(path) for path in files(self._settings).values())


def files(settings: Certificate) -> dict[str, Path]:
    """Return the files by the names of their settings."""
    found = {"certificate": settings.certificate, "key": settings.key, "client_ca": settings.client_ca}
    return {setting: path for setting, path in found.items() if path is not None}


def context_of(settings: Certificate, section: str = HTTP) -> ssl.SSLContext:
    """Return what a handshake needs: our certificate and key, and whom we let in. Raises `TlsError`.

    TLS 1.2 and later. Each context encrypts its session tickets with a key of its own, so that nobody gets in with a
    session from before the authorities changed. Warns of a key that everybody on this machine can read.
    """
    try:
        return _context(settings, section)
    except TlsError as error:
        error.section = section
        raise


def _context(settings: Certificate, section: str) -> ssl.SSLContext:
    for setting, path in files(settings).items():
        mode = _checked(setting, path)
        if setting == "key" and mode & stat.S_IROTH:
            log.warning("%s.key: %r can be read by everybody; chmod o-r it", section, str(path))
    _read_certificates("certificate", settings.certificate, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(CIPHERS)
    if section == HTTP:
        context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.certificate, settings.key, _no_password)
    except _HasPasswordError:
        raise TlsError("key", settings.key, "has a password; write it without one") from None
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or ""
        if reason == "KEY_VALUES_MISMATCH":
            other = f"is not the key of the first certificate in {str(settings.certificate)!r}"
            raise TlsError("key", settings.key, other) from error
        if reason.endswith(("TOO_SMALL", "TOO_WEAK")):
            raise TlsError("certificate", settings.certificate, f"is too weak: {_words(reason)}") from error
        raise TlsError("key", settings.key, "holds no private key in PEM") from error
    if settings.client_ca is not None:
        _read_certificates("client_ca", settings.client_ca, context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _read_certificates(setting: str, path: Path, context: ssl.SSLContext) -> None:
    """Have `context` trust the certificates at `path`. Raises `TlsError` if there are none."""
    try:
        context.load_verify_locations(path)
    except OSError as error:
        raise TlsError(setting, path, "holds no certificate in PEM") from error


def _checked(setting: str, path: Path) -> int:
    """Return the mode of a file that is there, and ours to read. Raises `TlsError`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # it may be a FIFO
    except OSError as error:
        raise TlsError(setting, path, f"cannot be read: {error.strerror}") from error
    try:
        mode = os.fstat(fd).st_mode
    finally:
        os.close(fd)
    if not stat.S_ISREG(mode):
        raise TlsError(setting, path, "is not a file")
    return mode


def _facts(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class _HasPasswordError(Exception):
    """OpenSSL asks for a password; left to itself it would ask on the terminal, and wait."""


def _no_password() -> NoReturn:
    raise _HasPasswordError


def _words(reason: str) -> str:
    return reason.lower().replace("_", " ")
