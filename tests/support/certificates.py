"""Certificates for tests of TLS, made with the openssl command, and handshakes in memory."""

import ssl
import subprocess
from pathlib import Path

EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")


class Authority:
    """A CA in `folder`: NAME.pem and NAME.key."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        """Make it."""
        self.folder = folder
        self.certificate = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        ca = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        openssl("req", "-x509", "-nodes", *EC, "-subj", f"/CN={name}", *ca, "-keyout", str(self._key),
                "-out", str(self.certificate))  # fmt: skip

    def sign(self, name: str, *, key: tuple[str, ...] = EC, days: int = 2) -> tuple[Path, Path]:
        """Make NAME.pem, a certificate for 127.0.0.1 and 10.77.0.1, and NAME.key; return both."""
        certificate, key_file = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        openssl("req", "-x509", "-nodes", *key, "-subj", f"/CN={name}", "-CA", str(self.certificate),
                "-CAkey", str(self._key), "-addext", "subjectAltName=IP:127.0.0.1,IP:10.77.0.1",
                "-addext", "basicConstraints=critical,CA:FALSE", "-days", str(days),
                "-keyout", str(key_file), "-out", str(certificate))  # fmt: skip
        key_file.chmod(0o600)
        return certificate, key_file

    def client(self, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """Return the context of a client that trusts this CA, and shows the certificate of `pair`."""
        context = ssl.create_default_context(cafile=self.certificate)
        if pair is not None:
            context.load_cert_chain(*pair)
        return context


def openssl(*arguments: str) -> None:
    """Run it. Raises `CalledProcessError`."""
    subprocess.run(["openssl", *arguments], capture_output=True, check=True)


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> str:
    """Let the two meet in memory; return the CN that the server showed. Raises `ssl.SSLError`."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    asks = client.wrap_bio(back, there, server_hostname="127.0.0.1")
    answers = server.wrap_bio(there, back, server_side=True)
    for _ in range(10):
        done = 0
        for side in (asks, answers):
            try:
                side.do_handshake()
                done += 1
            except ssl.SSLWantReadError:
                pass
        if done == 2:
            break
    else:
        raise ssl.SSLError("the handshake does not end")
    name: str = dict(part[0] for part in (asks.getpeercert() or {})["subject"])["commonName"]  # type: ignore[misc]
    return name
