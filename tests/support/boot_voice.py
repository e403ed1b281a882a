"""The daemon's side of the controller's unix socket, and a machine's side of the API, for tests of boots.

A `Voice` says what `pxeboot serve` would, and hears the events. A `Machine` does with a join command what kubeadm and
the kubelet do with it: asks for a certificate, registers its Node, beats. Its keys and requests are made by openssl.
"""

import base64
import http.client
import json
import secrets
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Self, TypeVar

from config.events import Stage
from config.model import Taint
from pxeboot.joining import talk
from pxeboot.joining.talk import BootBegun, JoinGiven, Refused, TokenAsked, Told

T = TypeVar("T")

USAGES = ("digital signature", "key encipherment", "client auth")
KUBELET_SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"


class _Connection(http.client.HTTPConnection):
    """HTTP on a unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Voice:
    """What the daemon says to the controller at `path`. A context manager: while it lasts, events are heard."""

    def __init__(self, path: Path, cluster: str = "prod") -> None:
        self._path = path
        self._cluster = cluster
        self.heard: list[Told] = []
        self._listening: socket.socket | None = None
        self._ended = threading.Event()
        self._connected = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.listening()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with suppress(OSError):
            if self._listening is not None:
                self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)

    def listening(self, within_s: float = 120) -> None:
        """Wait until the events are heard (again)."""
        assert self._connected.wait(within_s), f"nobody answers at {self._path}"

    def cut_off(self) -> None:
        """Wait until it is heard that the controller is gone."""
        until(lambda: not self._connected.is_set())

    def say(self, method: str, path: str, body: str = "", timeout_s: float = 60) -> tuple[int, str]:
        """Return the status and the text of the answer."""
        connection = _Connection(self._path, timeout_s)
        try:
            connection.request(method, path, body or None)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def begin(
        self,
        node: str,
        boot: str | None = None,
        *,
        labels: dict[str, str] | None = None,
        taints: Sequence[Taint] = (),
        given: JoinGiven | None = None,
    ) -> str:
        """PUT a boot, and return its id."""
        boot = boot or secrets.token_hex(8)
        token_id, expires_s = (given.token_id, given.expires_s) if given else ("", 0.0)
        begun = BootBegun(
            boot, IPv4Address("10.77.0.50"), time.time(), labels or {}, tuple(taints), token_id, expires_s
        )
        status, text = self.say("PUT", f"/v1/boots/{self._cluster}/{node}", talk.dump(begun))
        assert status == 200, text
        return boot

    def ask(self, node: str, boot: str, seed: str) -> JoinGiven | Refused:
        """POST for a token, once."""
        asked = talk.dump(TokenAsked(boot, seed))
        status, text = self.say("POST", f"/v1/boots/{self._cluster}/{node}/token", asked)
        assert status in (200, 409, 503), text
        return talk.join_given(text) if status == 200 else talk.refused(text)

    def join(self, node: str, boot: str, seed: str | None = None, within_s: float = 120) -> JoinGiven:
        """Ask until there is a token, as a machine does."""
        seed, deadline = seed or secrets.token_hex(32), time.monotonic() + within_s
        while True:
            answer = self.ask(node, boot, seed)
            if isinstance(answer, JoinGiven):
                return answer
            assert answer.retry_after_s is not None, answer.error
            assert time.monotonic() < deadline, answer.error
            time.sleep(min(answer.retry_after_s, 1.0))

    def tokens(self) -> list[dict[str, Any]]:
        """GET the tokens that there are."""
        status, text = self.say("GET", "/v1/tokens")
        assert status == 200
        found: list[dict[str, Any]] = json.loads(text)["tokens"]
        return found

    def told(self, boot: str, stage: Stage, within_s: float = 120) -> Told:
        """Wait for an event of a boot."""
        return until(lambda: next((t for t in self.heard if (t.boot, t.stage) == (boot, stage)), None), within_s)

    def stages(self, boot: str) -> list[Stage]:
        """What was told of a boot, in order, repetitions left out."""
        return list(dict.fromkeys(told.stage for told in self.heard if told.boot == boot))

    def _listen(self) -> None:
        while not self._ended.is_set():
            with suppress(OSError, http.client.HTTPException):
                connection = _Connection(self._path, 30)
                connection.request("GET", "/v1/events")
                self._listening = connection.sock
                self._read(connection.getresponse())
            self._connected.clear()
            time.sleep(0.05)

    def _read(self, answer: http.client.HTTPResponse) -> None:
        while not self._ended.is_set():
            try:
                line = answer.readline()
            except TimeoutError:
                return
            if not line:
                return
            self._connected.set()
            if line.strip():
                self.heard.append(talk.told(line))


class Machine:
    """A machine that was given a join command; `folder` is its disk."""

    def __init__(self, folder: Path, node: str, command: str, ca: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        words = command.split()
        self.node = node
        self.url = f"https://{words[2]}"
        self.token = words[words.index("--token") + 1]
        self._folder = folder
        self._ca = ca
        self._certificate: Path | None = None

    def request(self, method: str, path: str, body: object = None, *, token: bool = True) -> Any:
        """Ask the API with the token, or with the certificate. Raises `urllib.error.HTTPError`."""
        context = ssl.create_default_context(cafile=str(self._ca))
        headers = {"Content-Type": "application/json"}
        if method == "PATCH":
            headers["Content-Type"] = "application/strategic-merge-patch+json"
        if token:
            headers["Authorization"] = f"Bearer {self.token}"
        else:
            assert self._certificate is not None
            context.load_cert_chain(self._certificate, self._folder / "kubelet.key")
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(
            urllib.request.Request(self.url + path, data, headers, method=method), timeout=60, context=context
        ) as answer:
            return json.loads(answer.read())

    def refusal(self, method: str, path: str, body: object = None) -> int:
        """The status of a request with the token that must fail; 0 if it did not."""
        try:
            self.request(method, path, body)
        except urllib.error.HTTPError as error:
            return error.code
        return 0

    def ask(
        self,
        name: str = "",
        *,
        key: str = "kubelet",
        subject: str = "",
        signer: str = KUBELET_SIGNER,
        usages: Sequence[str] = USAGES,
    ) -> str:
        """Make a certificate request with the token, and return its name."""
        name = name or f"node-csr-{secrets.token_hex(8)}"
        pem = make_request(self._folder, subject or f"/O=system:nodes/CN=system:node:{self.node}", key=key)
        body = {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"name": name},
            "spec": {"request": base64.b64encode(pem).decode(), "signerName": signer, "usages": [*usages]},
        }
        self.request("POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests", body)
        return name

    def certificate(self, name: str, within_s: float = 120) -> Path:
        """Wait until a request is approved and signed, with what the token may read."""
        path = f"/apis/certificates.k8s.io/v1/certificatesigningrequests/{name}"
        issued = until(lambda: self.request("GET", path).get("status", {}).get("certificate"), within_s)
        self._certificate = self._folder / "kubelet.crt"
        self._certificate.write_bytes(base64.b64decode(issued))
        return self._certificate

    def register(self, boot_id: str, *, ready: bool = True) -> None:
        """Do what a kubelet does once it has its certificate: its Node is there, and tells how it is."""
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.node}}
        with suppress(urllib.error.HTTPError):  # 409: it is there
            self.request("POST", "/api/v1/nodes", node, token=False)
        condition = {"type": "Ready", "status": str(ready), "reason": "KubeletReady", "message": "as a kubelet says"}
        status = {"nodeInfo": {"bootID": boot_id}, "conditions": [condition]}
        self.request("PATCH", f"/api/v1/nodes/{self.node}/status", {"status": status}, token=False)

    def beat(self) -> None:
        """Renew the heartbeat."""
        leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        spec = {"holderIdentity": self.node, "leaseDurationSeconds": 40}
        spec |= {
            "renewTime": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() // 1000 % 10**6:06d}Z"
        }
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.node},
            "spec": spec,
        }
        try:
            self.request("PATCH", f"{leases}/{self.node}", {"spec": spec}, token=False)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            self.request("POST", leases, lease, token=False)

    def boot(self, boot_id: str) -> None:
        """All of it, to Ready."""
        self.certificate(self.ask())
        self.register(boot_id)


def make_request(folder: Path, subject: str, *, key: str = "kubelet", rsa: bool = False) -> bytes:
    """Return a PKCS#10 request by openssl, in PEM; the key is made if `folder` has none of that name."""
    path = folder / f"{key}.key"
    if not path.exists():
        kind = ("RSA", "rsa_keygen_bits:2048") if rsa else ("EC", "ec_paramgen_curve:P-256")
        subprocess.run(
            ["openssl", "genpkey", "-algorithm", kind[0], "-pkeyopt", kind[1], "-out", path],
            check=True,
            capture_output=True,
        )
    done = subprocess.run(["openssl", "req", "-new", "-key", path, "-subj", subject], check=True, capture_output=True)
    return done.stdout


def until(found: Callable[[], T | None], within_s: float = 120) -> T:
    """Return what `found` returns once that is something."""
    deadline = time.monotonic() + within_s
    while True:
        value = found()
        if value:
            return value
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
