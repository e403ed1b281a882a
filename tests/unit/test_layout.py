"""The folders are the import packages, all of them are installed, and nobody else has their names."""

import ast
import re
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("config", "dhcp", "tftp", "httpimage", "nbd", "pxeboot")
LONGEST_MODULE = 420
"""Lines. A module that is longer holds two ideas."""


@pytest.fixture(scope="module")
def setup_cfg() -> ConfigParser:
    parser = ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg")
    return parser


def words(parser: ConfigParser, section: str, key: str) -> list[str]:
    return parser[section][key].split()


@pytest.mark.parametrize("package", PACKAGES)
def test_no_other_distribution_has_the_name(package: str) -> None:
    """pip would overwrite one with the other, and not say so."""
    assert set(packages_distributions().get(package, [])) <= {"pxeboot"}


def test_every_package_is_installed(setup_cfg: ConfigParser) -> None:
    folders = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert {str(folder.relative_to(ROOT)).replace("/", ".") for folder in folders} == set(
        words(setup_cfg, "options", "packages")
    )


def test_every_package_says_that_it_is_one() -> None:
    folders = {path.parent for top in (*PACKAGES, "tests") for path in (ROOT / top).rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


def test_every_script_of_a_machine_is_installed(setup_cfg: ConfigParser) -> None:
    there = {f"node/{path.name}" for path in (ROOT / "node").iterdir() if not path.name.startswith(".")}
    assert there == set(words(setup_cfg, "options.data_files", "share/pxeboot/node"))


def folder_of(package: str) -> Path:
    return ROOT / package.replace(".", "/")


def test_every_file_beside_the_code_is_installed(setup_cfg: ConfigParser) -> None:
    there = {
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    data = setup_cfg["options.package_data"]
    listed = {path for package in data for name in data[package].split() for path in folder_of(package).glob(name)}
    assert there == listed


def test_every_pure_module_is_held_to_it(setup_cfg: ConfigParser) -> None:
    pure = set(words(setup_cfg, "importlinter:contract:pure", "source_modules"))
    named = {
        f"{package}.{name}"
        for package in ("dhcp", "tftp", "nbd")
        for name in ("wire", "engine")
        if (ROOT / package / f"{name}.py").exists()
    }
    says_so = {
        str(path.relative_to(ROOT).with_suffix("")).replace("/", ".")
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if re.match(r'r?"""[^"]*?\bPure\.', path.read_text().partition("\n\n")[0])
    }
    assert named | says_so <= pure


IMPURE_IMPORTS = frozenset(
    (
        *("asyncio", "socket", "ssl", "select", "selectors", "time", "random", "secrets", "logging"),
        *("os", "io", "pathlib", "shutil", "tempfile", "glob", "mmap", "fcntl"),
        *("subprocess", "threading", "multiprocessing", "concurrent", "signal"),
    )
)
PURE_NAMES = frozenset(("pathlib.PurePath", "pathlib.PurePosixPath"))
"""What only does arithmetic on names, in a module that otherwise reaches the disk."""
IMPURE_CALLS = frozenset(("open", "print", "input", "exec", "eval", "__import__"))


def impurities(source: str) -> list[str]:
    """What a module does that no pure one does: imports and calls, wherever in it they are."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names):
                found += [f"import {name.name}" for name in names if name.name.split(".")[0] in IMPURE_IMPORTS]
            case ast.ImportFrom(str(module), names, 0) if module.split(".")[0] in IMPURE_IMPORTS:
                found += [f"import {full}" for n in names if (full := f"{module}.{n.name}") not in PURE_NAMES]
            case ast.Call(ast.Name(name)) if name in IMPURE_CALLS:
                found.append(f"{name}()")
    return found


def test_a_pure_module_touches_nothing(setup_cfg: ConfigParser) -> None:
    """The contract of setup.cfg cannot name these: the model, which they all import, has paths for settings."""
    modules = words(setup_cfg, "importlinter:contract:pure", "source_modules")
    assert modules
    found = {module: impurities((ROOT / f"{module.replace('.', '/')}.py").read_text()) for module in modules}
    assert not {module: what for module, what in found.items() if what}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import os.path as p, re", ["import os.path"]),
        ("def f():\n    from os import environ", ["import os.environ"]),
        ("from pathlib import PurePosixPath, Path", ["import pathlib.Path"]),
        ("import pathlib", ["import pathlib"]),
        ("open('x')\nprint(1)", ["open()", "print()"]),
        ("from . import os\nself.open(x)\nreopen(x)", []),
        ("from concurrent.futures import Future", ["import concurrent.futures.Future"]),
    ],
)
def test_what_is_not_pure_is_seen(source: str, found: list[str]) -> None:
    assert impurities(source) == found


@pytest.mark.parametrize("package", [*PACKAGES, "bench"])
def test_no_module_holds_two_ideas(package: str) -> None:
    lines = {path: len(path.read_text().splitlines()) for path in (ROOT / package).rglob("*.py")}
    assert not {str(path): number for path, number in lines.items() if number > LONGEST_MODULE}
