"""What systemd does with a service and its socket units, as far as the service sees it.

    python -m tests.support.keep_sockets START NAME:PORT:INTERFACE ... -- PROGRAM ARG ...

Opens the sockets, and runs the program with them whenever there is a file START, which it removes, until SIGTERM.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

FIRST_FD = 3

EXEC = """\
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""LISTEN_PID is known to the process alone that becomes the program."""


def main() -> None:
    """Keep them."""
    split = sys.argv.index("--")
    start, program = Path(sys.argv[1]), sys.argv[split + 1 :]
    kept, names = [], []
    for number, text in enumerate(sys.argv[2:split]):
        name, port, interface = text.split(":")
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        sock.bind(("0.0.0.0", int(port)))
        sock.listen()
        os.dup2(sock.fileno(), FIRST_FD + 40 + number)
        kept.append(FIRST_FD + 40 + number)
        names.append(name)
        sock.close()
    for number, fd in enumerate(kept):
        os.dup2(fd, FIRST_FD + number)
        os.close(fd)
    numbers = range(FIRST_FD, FIRST_FD + len(kept))
    environ = {**os.environ, "LISTEN_FDS": str(len(kept)), "LISTEN_FDNAMES": ":".join(names)}
    while True:
        while not start.exists():
            time.sleep(0.02)
        start.unlink()
        child = subprocess.Popen([sys.executable, "-c", EXEC, *program], pass_fds=numbers, env=environ)
        signal.signal(signal.SIGTERM, lambda *_, child=child: (child.terminate(), sys.exit(0)))
        child.wait()


if __name__ == "__main__":
    main()
