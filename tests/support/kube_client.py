"""The Kubernetes API by plain HTTP, with nobody's client in between: what it says is what tests see."""

import base64
import http.client
import json
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import yaml

Object = dict[str, Any]

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered with. `reason` is that of a Status object, or ""."""

    status: int
    body: Object

    @property
    def reason(self) -> str:
        return str(self.body.get("reason", "")) if self.body.get("kind") == "Status" else ""


class Client:
    """Somebody who speaks to an API server: with a bearer `token`, a client `certificate` and `key`, or as nobody.

    `headers` go with every request.
    """

    def __init__(
        self,
        url: str,
        ca: Path,
        *,
        token: str = "",
        certificate: Path | None = None,
        key: Path | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.url = url
        self.ca = ca
        self._headers = {"Accept": "application/json", **(headers or {})}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._tls = ssl.create_default_context(cafile=str(ca))
        if certificate is not None:
            self._tls.load_cert_chain(certificate, key)

    @classmethod
    def of(cls, kubeconfig: Path, folder: Path) -> "Client":
        """The user of a kubeconfig; `folder` gets the files that its data are written to."""
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        folder.mkdir(mode=0o700, exist_ok=True)
        found: dict[str, Path] = {}
        named = {"ca": cluster.get("certificate-authority-data")}
        named |= {"certificate": user.get("client-certificate-data"), "key": user.get("client-key-data")}
        for name, data in named.items():
            if data:
                found[name] = folder / name
                found[name].write_bytes(base64.b64decode(data))
        return cls(
            cluster["server"],
            found["ca"],
            token=user.get("token", ""),
            certificate=found.get("certificate"),
            key=found.get("key"),
        )

    def with_token(self, token: str, headers: Mapping[str, str] | None = None) -> "Client":
        """Somebody else at the same server."""
        return Client(self.url, self.ca, token=token, headers=headers)

    def call(self, method: str, path: str, body: object = None, kind: str = "application/json") -> Answer:
        """Send one request; a `body` goes as JSON, which is YAML too."""
        with self._sent(method, path, body, kind) as response:
            text = response.read()
        return Answer(response.status, json.loads(text) if text.startswith(b"{") else {"text": text.decode()})

    def get(self, path: str) -> Answer:
        return self.call("GET", path)

    def post(self, path: str, body: object) -> Answer:
        return self.call("POST", path, body)

    def put(self, path: str, body: object) -> Answer:
        return self.call("PUT", path, body)

    def delete(self, path: str, body: object = None) -> Answer:
        return self.call("DELETE", path, body)

    @contextmanager
    def watch(self, path: str, **query: str | int) -> Iterator[Iterator[Object]]:
        """The events of a watch as they come; it ends when the server ends it.

        Raises `TimeoutError` when there is nothing for 60 s.
        """
        query = {"watch": "true", **query}
        with self._sent("GET", f"{path}?{urlencode(query)}", None, "") as response:
            if response.status != 200:
                raise ValueError(f"a watch was answered {response.status}: {response.read()!r}")
            yield (json.loads(line) for line in response)

    @contextmanager
    def _sent(self, method: str, path: str, body: object, kind: str) -> Iterator[http.client.HTTPResponse]:
        parts = urlsplit(self.url)
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = kind
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=60, context=self._tls)
        with closing(connection):
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            yield connection.getresponse()


def key_and_request(folder: Path, subject: str, name: str = "node", *, more: str = "") -> tuple[Path, str]:
    """Make a key and a PKCS#10 request, /O=system:nodes/CN=system:node:NAME; return the key and the request's base64.

    `more` is an extension for openssl, such as subjectAltName=DNS:x.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key, request = folder / f"{name}.key", folder / f"{name}.csr"
    subprocess.run(
        [
            *("openssl", "req", "-new", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-subj", subject, "-keyout", str(key), "-out", str(request)),
            *(("-addext", more) if more else ()),
        ],
        check=True,
        capture_output=True,
    )
    return key, base64.b64encode(request.read_bytes()).decode()
