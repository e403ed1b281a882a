"""cluster-info, signed with a boot's token → the boot's join command. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from pxeboot.controller.cluster_info import Untrusted, discover
from pxeboot.controller.join import Discovery, JoinCommand, NotAJoinCommand
from pxeboot.controller.token import Token


@dataclass(frozen=True, slots=True)
class Found:
    """The command. `doubt` says why its CA is the controller's own, and not that of a signed cluster-info."""

    join: JoinCommand
    doubt: str | None


@dataclass(frozen=True, slots=True)
class Unsigned:
    """The signer may still come."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """There is nothing that a machine could trust."""

    reason: str


def find_join(
    token: Token,
    data: Mapping[str, str] | None,
    own: Discovery | str,
    *,
    api_server: str | None,
    may_wait: bool,
) -> Found | Unsigned | Nothing:
    """Return the command for `token` from the data of cluster-info, or if it is not signed in time from `own`.

    `own` is what the controller's kubeconfig says, or why that says nothing which machines could use. `api_server`
    is where they join whatever the cluster says.
    """
    doubt = None
    try:
        found = discover(data, token)
    except Untrusted as error:
        if may_wait:
            return Unsigned()
        if isinstance(own, str):
            return Nothing(f"{error}; and {own}")
        doubt, found = str(error), own
    try:
        return Found(JoinCommand(token, Discovery(api_server or found.server, found.ca_hashes)), doubt)
    except NotAJoinCommand as error:
        return Nothing(f"no join command can be made: {error}")
