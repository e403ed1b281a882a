"""What systemd and we tell each other: sd_notify(3)."""

import os
import socket


def notify(message: str) -> None:
    """Send `message` (such as READY=1) to the service manager, if one started us and wants to hear it."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.connect("\0" + path[1:] if path.startswith("@") else path)
        sock.sendall(message.encode())
