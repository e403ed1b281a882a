"""The program helm, as far as our documents use it: Helm's own library, in a process of its own.

    python -m tests.support.helm upgrade --install pxeboot deploy/helm/pxeboot -n pxeboot -f values.yaml

Nobody packages the program for us; `wrapper` makes one of this. What it has seen of a cluster it keeps in HOME.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import helm_python

ROOT = Path(__file__).parents[2]


class HelmFailed(Exception):
    """Helm did not do it; the text is what it says."""


def helm(kubeconfig: Path, home: Path, *argv: str | Path) -> str:
    """Run helm, and return what it prints. Raises `HelmFailed`."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.helm", *argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "KUBECONFIG": str(kubeconfig)},
    )
    if done.returncode:
        raise HelmFailed(done.stderr)
    return done.stdout


def wrapper(folder: Path) -> None:
    """Make a program `helm` in `folder`."""
    path = folder / "helm"
    path.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m tests.support.helm "$@"\n')
    path.chmod(0o755)


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Values over others, mapping by mapping."""
    made = dict(under)
    for key, value in over.items():
        below = made.get(key)
        made[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return made


def _values(given: argparse.Namespace) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for path in given.values:
        values = _merged(values, helm_python.values_from_yaml(Path(path).read_text()))
    for text in given.set:
        values = _merged(values, helm_python.parse_set_string(text))
    for text in given.set_string:
        values = _merged(values, helm_python.parse_set_string_values(text))
    return values


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("helm")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("install", "upgrade", "template", "lint", "rollback", "uninstall"):
        command = commands.add_parser(name)
        command.add_argument("-n", "--namespace", default="default")
        if name != "lint":
            command.add_argument("release")
        if name in ("install", "upgrade", "template", "lint"):
            command.add_argument("chart")
            command.add_argument("-f", "--values", action="append", default=[])
            command.add_argument("--set", action="append", default=[])
            command.add_argument("--set-string", action="append", default=[])
        if name in ("install", "upgrade"):
            command.add_argument("--create-namespace", action="store_true")
        if name == "upgrade":
            command.add_argument("--install", action="store_true")
            command.add_argument("--reuse-values", action="store_true")
    return parser


def _act(given: argparse.Namespace) -> None:
    command: str = given.command
    match command:
        case "template":
            with helm_python.Chart.load(given.chart) as chart:
                made = chart.render(_values(given), name=given.release, namespace=given.namespace)
            print("\n".join(f"---\n# Source: {name}\n{text}" for name, text in made.items() if name.endswith(".yaml")))
            return
        case "lint":
            said = helm_python.lint(given.chart, _values(given))
            print("\n".join(f"{one['path']}: {one['error']}" for one in said["messages"]))
            if said["errors"]:
                raise helm_python.HelmChartInvalidError("; ".join(map(str, said["errors"])))
            return
        case _:
            pass
    config = helm_python.Config(kubeconfig_path=os.environ["KUBECONFIG"], namespace=given.namespace)
    match command:
        case "rollback":
            config.rollback(given.release)
        case "uninstall":
            config.uninstall(given.release)
        case "upgrade" if not given.install or _is_there(config, given.release):
            config.upgrade(given.chart, given.release, _values(given), reuse_values=given.reuse_values)
        case _:
            config.install(given.chart, given.release, _values(given), create_namespace=given.create_namespace)


def _is_there(config: helm_python.Config, release: str) -> bool:
    return any(one["name"] == release for one in config.list())


def main() -> int:
    """Do it, and return the exit code."""
    try:
        _act(_parser().parse_args())
    except (helm_python.HelmError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
