"""The processes that carry transfers, seen from outside."""

from pathlib import Path


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    tasks = Path(f"/proc/{pid}/task")
    return [int(child) for task in tasks.glob("*/children") for child in task.read_text().split()]


def carriers(server: int) -> list[int]:
    """Return those that carry transfers or wait for one: the children of a server's only child, their origin."""
    return [pid for origin in children(server) for pid in children(origin)]


def carrying(server: int, name: str = "image") -> list[int]:
    """Return those that have a transfer of a file: the socket of the server, its client and the file are theirs."""
    return [pid for pid in carriers(server) if any(link.name == name for link in _opened(pid))]


def _opened(pid: int) -> list[Path]:
    found = []
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            found.append(link.readlink())
        except OSError:  # closed since it was listed
            continue
    return found
