"""Who asks: the administrator, a service account, a bootstrap token, a certificate of ours, or nobody."""

import base64
import hashlib
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web

from pxeboot.controller.token import FORM, NotAToken
from tests.support.kube_stand_in.faults import Refusal
from tests.support.kube_stand_in.resources import SECRETS, SERVICE_ACCOUNTS
from tests.support.kube_stand_in.store import Store
from tests.support.kube_stand_in.token_secret import read_secret

GROUP = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")
SERVICE_ACCOUNT_TOKEN = "kubernetes.io/service-account-token"


@dataclass(frozen=True, slots=True)
class User:
    """Who asks, as RBAC sees it."""

    name: str
    groups: frozenset[str]
    uid: str = ""

    @property
    def node(self) -> str | None:
        """The Node whose kubelet this is, by its certificate."""
        if "system:nodes" in self.groups and self.name.startswith("system:node:"):
            return self.name.removeprefix("system:node:")
        return None


ANONYMOUS = User("system:anonymous", frozenset({"system:unauthenticated"}))


def authenticated(name: str, *groups: str) -> User:
    """Return a user whom we know."""
    return User(name, frozenset({*groups, "system:authenticated"}))


def who(request: web.Request, store: Store, admin: str, now_s: float) -> User:
    """Return who asks. Raises `Refusal` (401) for a token that is none, or not any more."""
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and bearer:
        if secrets.compare_digest(bearer.encode(), admin.encode()):
            return authenticated("kubernetes-admin", "system:masters")
        user = _bootstrapper(bearer, store, now_s) or _service_account(bearer, store)
        if user is None:
            raise Refusal(401, "Unauthorized", "Unauthorized")
        return user
    return _certified(request) or ANONYMOUS


def _certified(request: web.Request) -> User | None:
    """The user of a client certificate; TLS has checked that our CA signed it, and that it is valid now."""
    peer = request.transport.get_extra_info("peercert") if request.transport else None
    if not peer:
        return None
    parts = [pair for rdn in peer["subject"] for pair in rdn]
    names = [value for key, value in parts if key == "commonName"]
    return authenticated(names[0], *(v for k, v in parts if k == "organizationName")) if names else None


def _bootstrapper(bearer: str, store: Store, now_s: float) -> User | None:
    match = FORM.fullmatch(bearer)
    secret = store.get(SECRETS, "kube-system", f"bootstrap-token-{match[1]}") if match else None
    if match is None or secret is None:
        return None
    with suppress(NotAToken, ValueError):
        issued = read_secret(secret["data"], 0.0)
        if now_s < issued.expires and secrets.compare_digest(issued.token.secret, match[2]):
            extra = base64.b64decode(secret["data"].get("auth-extra-groups", "")).decode()
            groups = [group for group in extra.split(",") if group]
            if all(GROUP.fullmatch(group) for group in groups):
                return authenticated(f"system:bootstrap:{match[1]}", "system:bootstrappers", *groups)
    return None


def _service_account(bearer: str, store: Store) -> User | None:
    encoded = base64.b64encode(bearer.encode()).decode()
    for secret in store.all(SECRETS):
        if secret.get("type") == SERVICE_ACCOUNT_TOKEN and secret["data"].get("token") == encoded:
            namespace = secret["metadata"]["namespace"]
            name = secret["metadata"].get("annotations", {}).get("kubernetes.io/service-account.name", "")
            if store.get(SERVICE_ACCOUNTS, namespace, name) is not None:
                return authenticated(
                    f"system:serviceaccount:{namespace}:{name}",
                    *("system:serviceaccounts", f"system:serviceaccounts:{namespace}"),
                )
    return None


def service_account_token(namespace: str, name: str, secret: str) -> str:
    """Return a new token of a service account, as the token controller fills it into a Secret."""
    public = f"{namespace}/{name}/{secret}"
    return f"{hashlib.sha256(public.encode()).hexdigest()[:12]}-{secrets.token_urlsafe(24)}"
