"""How nbdkit is started: its command line and its environment. Pure."""

from collections.abc import Sequence
from pathlib import PurePath

from config.exports import Nbdkit, NbdTls

PROGRAM = "nbdkit"
PACKAGES = "nbdkit nbdkit-plugin-python"
"""The Debian packages that it takes."""
THREADS = 4
"""How many requests of one connection it works on at once. Each takes a thread for as long as the client is there, and
systemd lets a service have some 5,000 of them: with nbdkit's own 16, three hundred machines."""

ADOPT = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec 3<&0 </dev/null; exec "$@"'
"""Has what is started find our listening socket, our standard input, as systemd would hand it over (sd_listen_fds(3)):
as descriptor 3, with its own process id in the environment, which is known only after the fork."""

CERTIFICATE, KEY, AUTHORITY = "server-cert.pem", "server-key.pem", "ca-cert.pem"
"""What nbdkit calls the files of its folder of certificates."""


def probe(settings: Nbdkit) -> list[str]:
    """Return a command that ends with 0 if nbdkit, its Python plugin and all filters of `settings` are there."""
    return [PROGRAM, *filters(settings), "python", "--dump-plugin"]


def filters(settings: Nbdkit) -> list[str]:
    """Return the options for the filters; the first one is nearest to the client, for nbdkit as for us."""
    return [f"--filter={name}" for name in settings.filters]


def start(settings: Nbdkit, plugin: PurePath, door: PurePath, tls: NbdTls | None, certificates: PurePath) -> list[str]:
    """Return the command that serves on the socket that is its standard input.

    It ends when we do, however we end (`--exit-with-parent`), and never writes (`--readonly`). `door` is the socket at
    which its plugin asks us; `certificates` the folder that `links` made, for `tls`.
    """
    argv = ["/bin/sh", "-c", ADOPT, PROGRAM]
    argv += [PROGRAM, "--foreground", "--readonly", "--exit-with-parent", f"--threads={THREADS}"]
    if tls is not None:
        argv += [f"--tls={'require' if tls.mode == 'required' else 'on'}", f"--tls-certificates={certificates}"]
        if tls.client_ca is not None:
            argv.append("--tls-verify-peer")
    argv += [*filters(settings), "python", str(plugin), f"socket={door}"]
    return [*argv, *(f"{name}={value}" for name, value in settings.parameters.items())]


def links(tls: NbdTls) -> Sequence[tuple[str, PurePath]]:
    """Return what nbdkit's folder of certificates holds: name, and the file that it is a link to.

    nbdkit wants an authority even when clients need no certificate; ours is then as good as any.
    """
    authority = tls.certificate if tls.client_ca is None else tls.client_ca
    return [(CERTIFICATE, tls.certificate), (KEY, tls.key), (AUTHORITY, authority)]
