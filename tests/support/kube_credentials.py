"""Certificates, made with the openssl command, and kubeconfigs, for the stand-in Kubernetes API."""

import base64
import json
import os
import subprocess
from pathlib import Path


def make_ca(folder: Path, name: str = "ca", *, key: str = "ec") -> Path:
    """Make a CA in `folder`: `name`.crt and `name`.key (0600); `key` is ec or rsa. Return the certificate."""
    certificate = folder / f"{name}.crt"
    _openssl(
        *("req", "-x509", "-new", "-nodes", "-days", "30", "-subj", f"/CN=stand-in {name}"),
        *(("-newkey", "rsa:2048") if key == "rsa" else ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")),
        *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        *("-keyout", str(folder / f"{name}.key"), "-out", str(certificate)),
    )
    (folder / f"{name}.key").chmod(0o600)
    return certificate


def make_server_certificate(folder: Path, addresses: list[str]) -> Path:
    """Make server.crt and server.key in `folder`, good for these IP addresses, signed by its ca."""
    extensions = folder / "server.ext"
    names = ",".join(f"IP:{address}" for address in addresses)
    extensions.write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth\nkeyUsage=digitalSignature\n")
    request, certificate = folder / "server.csr", folder / "server.crt"
    _openssl(
        *("req", "-new", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-subj", "/CN=stand-in API server", "-keyout", str(folder / "server.key"), "-out", str(request)),
    )
    _openssl(
        *("x509", "-req", "-in", str(request), "-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key")),
        *("-CAcreateserial", "-days", "30", "-extfile", str(extensions), "-out", str(certificate)),
    )
    (folder / "server.key").chmod(0o600)
    return certificate


def admin_kubeconfig(path: Path, url: str, ca: Path, token: str) -> None:
    """Write the administrator's kubeconfig, which nobody else may read."""
    kubeconfig(path, url, ca, token, "admin")


def kubeconfig(path: Path, url: str, ca: Path, token: str, user: str) -> None:
    """Write a user's kubeconfig, which nobody else may read."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "demo", "cluster": {"server": url, "certificate-authority-data": _base64(ca)}}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": user, "context": {"cluster": "demo", "user": user}}],
        "current-context": user,
    }
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(json.dumps(config, indent=2) + "\n")


def public_kubeconfig(url: str, ca: Path) -> str:
    """The kubeconfig in cluster-info, spelled as kubeadm does: a cluster without a name, no user, no context."""
    return (
        f"apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {_base64(ca)}\n    server: {url}\n"
        '  name: ""\ncontexts: null\ncurrent-context: ""\nkind: Config\npreferences: {}\nusers: null\n'
    )


def openssl_ca_hash(certificate: Path) -> str:
    """The hash that kubeadm pins, as its documentation computes it: by openssl."""
    public_key = _openssl("x509", "-pubkey", "-noout", "-in", str(certificate))
    der = _openssl("pkey", "-pubin", "-outform", "der", given=public_key)
    return "sha256:" + _openssl("dgst", "-sha256", "-hex", given=der).decode().split()[-1]


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _openssl(*arguments: str, given: bytes = b"") -> bytes:
    done = subprocess.run(["openssl", *arguments], input=given, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"openssl {arguments[0]} failed: {done.stderr.decode(errors='replace')}")
    return done.stdout
