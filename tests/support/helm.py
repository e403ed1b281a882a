"""Helm in a process of its own: it keeps what it has seen of a cluster in a home folder, and that is not ours.

    python -m tests.support.helm KUBECONFIG NAMESPACE METHOD <ARGUMENTS

METHOD is one of `helm_python.Config`, ARGUMENTS a JSON list: those by place, and a mapping of those by name.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import helm_python

ROOT = Path(__file__).parents[2]


class HelmFailed(Exception):
    """Helm did not do it; the text is what it says."""


def helm(kubeconfig: Path, home: Path, namespace: str, method: str, *place: object, **named: object) -> None:
    """Install, upgrade, rollback or uninstall in a cluster. Raises `HelmFailed`."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.helm", kubeconfig, namespace, method],
        input=json.dumps([place, named], default=str),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
    )
    if done.returncode:
        raise HelmFailed(done.stderr)


def main(kubeconfig: str, namespace: str, method: str) -> int:
    """Do it, and return the exit code."""
    place, named = json.load(sys.stdin)
    config = helm_python.Config(kubeconfig_path=kubeconfig, namespace=namespace)
    methods: dict[str, Any] = {
        "install": config.install,
        "upgrade": config.upgrade,
        "rollback": config.rollback,
        "uninstall": config.uninstall,
    }
    try:
        methods[method](*place, **named)
    except helm_python.HelmError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
