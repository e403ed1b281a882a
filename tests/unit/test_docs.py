"""What the documents name exists: files, modules and their names, tests, targets of make, commands and options."""

import importlib
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeGuard, get_args, get_origin

import click
import pytest
import yaml
from pydantic.fields import FieldInfo

from config.load import load
from config.ltsconf import LtsConf
from config.model import Farm
from config.setting import Setting
from pxeboot.cli import main
from tests.support.document import steps

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "ARCHITECTURE.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/**/*.md")),
]
PACKAGES = ("config", "dhcp", "tftp", "httpimage", "nbd", "pxeboot", "tests", "bench")
FOLDERS = (*PACKAGES, "node", "deploy", "docs", ".ci")

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
TARGET = re.compile(r"^([a-z][-a-z]*):", re.MULTILINE)
DOTTED = re.compile(r"[a-z]\w*(?:\.\w+)+")
TEST = re.compile(r"(test_\w+)::(test_\w+)")
PLACEHOLDER = re.compile(r"/[A-Z]+$")
ROOT_FILE = re.compile(r"[A-Z]?[A-Za-z]+(?:\.(?:md|cfg|toml))?")


class Block(NamedTuple):
    """A fenced block: what it is said to be, and its text."""

    kind: str
    text: str


def blocks(document: Path) -> list[Block]:
    return [Block(match[1], match[2]) for match in FENCE.finditer(document.read_text())]


def prose(document: Path) -> str:
    return FENCE.sub("", document.read_text())


def spans(document: Path) -> list[str]:
    return CODE.findall(prose(document))


def lines_of_shell(document: Path) -> Iterator[str]:
    for block in blocks(document):
        if block.kind in ("sh", "console"):
            for line in block.text.replace("\\\n", " ").splitlines():
                yield line.removeprefix("$ ").removeprefix("# ").removeprefix("sudo ").strip()


def commands(document: Path, program: str) -> Iterator[str]:
    for text in (*spans(document), *lines_of_shell(document)):
        if text == program or text.startswith(f"{program} "):
            yield text


def exists(name: str) -> bool:
    """Whether a dotted name can be imported, or is an attribute of what can be."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return part in getattr(found, "__annotations__", ())
            found = getattr(found, part)
        return True
    return False


def is_setting(name: str) -> bool:
    """Whether a dotted name is a setting of a farm."""
    fields: Mapping[str, FieldInfo] = Farm.model_fields
    named = False  # whether the next part is a name that somebody gave, of an image for instance
    for part in name.split("."):
        if named:
            named = False
            continue
        if part not in fields:
            return False
        named = get_origin(fields[part].annotation) is dict
        inside = [kind for kind in (fields[part].annotation, *get_args(fields[part].annotation)) if is_a_setting(kind)]
        fields = inside[0].model_fields if inside else {}
    return True


def is_a_setting(kind: object) -> TypeGuard[type[Setting]]:
    """Whether a type is one of a farm's parts."""
    return isinstance(kind, type) and issubclass(kind, Setting)


def anchor(heading: str) -> str:
    """The anchor that a Markdown renderer gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")


each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


@each_document
def test_every_path_exists(document: Path) -> None:
    missing = []
    for span in spans(document):
        path = span.split("::")[0]
        first = path.split("/")[0]
        named = (first in FOLDERS and "/" in path and not PLACEHOLDER.search(path)) or (
            path in ("Makefile", "LICENSE", "setup.cfg") or path.endswith(".md")
        )
        if named and not any(c in path for c in "*<> ") and not (ROOT / path).exists():
            missing.append(span)
    assert not missing


@each_document
def test_every_name_can_be_imported(document: Path) -> None:
    named = {span.rstrip("()") for span in spans(document)}
    ours = {name for name in named if DOTTED.fullmatch(name) and name.split(".")[0] in PACKAGES}
    ours -= {name for name in ours if (ROOT / name).exists() or name.endswith((".py", ".yaml", ".sock"))}
    assert not sorted(name for name in ours if not exists(name) and not is_setting(name))


@each_document
def test_every_test_exists(document: Path) -> None:
    modules: dict[str, str] = {}
    for path in ROOT.glob("tests/*/test_*.py"):  # tests/unit and tests/net may both have one of a name
        modules[path.stem] = modules.get(path.stem, "") + path.read_text()
    missing = [
        span
        for span in spans(document)
        if (named := TEST.fullmatch(span)) and f"def {named[2]}(" not in modules.get(named[1], "")
    ]
    assert not missing


@each_document
def test_every_link_leads_somewhere(document: Path) -> None:
    broken = []
    for target in LINK.findall(prose(document)):
        if "://" in target:
            continue
        path, _, fragment = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        anchors = map(anchor, HEADING.findall(file.read_text())) if fragment and file.exists() else ()
        if not file.exists() or (fragment and fragment not in anchors):
            broken.append(target)
    assert not broken


@each_document
def test_every_target_of_make_exists(document: Path) -> None:
    targets = set(TARGET.findall((ROOT / "Makefile").read_text()))
    named = {words[1] for text in commands(document, "make") if len(words := text.split()) > 1}
    assert named <= targets


@each_document
def test_every_command_is_run_by_a_test(document: Path) -> None:
    """By `test_documents`, or by the test that stands in front of its block; or it says that it is for people."""
    nobodys = [step.line for step in steps(document) if step.kind == "sh" and not step.verb]
    assert not nobodys, f"lines {nobodys}: say `<!-- run -->`, `<!-- file: PATH -->` or `<!-- tested: ... -->` before"
    targets = set(TARGET.findall((ROOT / "Makefile").read_text()))
    for step in steps(document):
        if step.verb == "tested" and (target := step.what.removeprefix("make ")) != step.what:
            assert target in targets or f"\n{target}:" in (ROOT / "Makefile").read_text()
        elif step.verb == "tested":
            module, _, test = step.what.partition("::")
            assert any(f"def {test}(" in path.read_text() for path in ROOT.glob(f"tests/*/{module}.py")), step.what


@each_document
def test_every_command_and_option_exists(document: Path) -> None:
    wrong = [text for text in commands(document, "pxeboot") if (complaint := misused(text)) and complaint]
    assert not wrong


def misused(text: str) -> str:
    """Return the first word of a `pxeboot` command line that there is not; "" if all is well."""
    command: click.Command = main
    context = click.Context(main)
    for word in shlex.split(text.split(" && ")[0], comments=True)[1:]:
        if isinstance(command, click.Group) and not word.startswith("-"):
            found = command.get_command(context, word)
            if found is None:
                return word
            command = found
        elif word.startswith("-"):
            known = [option for parameter in command.get_params(context) for option in parameter.opts]
            if word.split("=")[0] not in (*known, "-h", "--help"):
                return word
    return ""


def test_a_command_that_there_is_not_is_found() -> None:
    assert misused("pxeboot serve --interface eth1 --image node.squashfs") == ""
    assert misused("pxeboot image build node --no-such-option") == "--no-such-option"
    assert misused("pxeboot sevre") == "sevre"


def whole_farms() -> list[tuple[Path, str]]:
    """The YAML blocks that are a whole farm, and not a part of one, each with its document."""
    found = []
    for document in DOCUMENTS:
        for block in blocks(document):
            value = yaml.safe_load(block.text) if block.kind == "yaml" else None
            if isinstance(value, dict) and "server" in value:
                found.append((document, block.text))
    return found


@pytest.mark.parametrize(("document", "text"), whole_farms(), ids=lambda value: getattr(value, "stem", ""))
def test_every_farm_is_right(document: Path, text: str, tmp_path: Path) -> None:
    for step in steps(document):
        if step.verb == "file":  # which the farm may name
            (tmp_path / Path(step.what).name).write_text(step.text)
    path = tmp_path / "farm.yaml"
    path.write_text(text)
    assert load(path).server.interfaces


def test_there_is_a_farm_to_begin_with() -> None:
    assert ROOT / "README.md" in [document for document, _ in whole_farms()]


@each_document
def test_every_part_of_a_farm_has_keys_that_there_are(document: Path) -> None:
    for block in blocks(document):
        if block.kind == "yaml":
            assert set(yaml.safe_load(block.text)) <= set(Farm.model_fields)


@each_document
def test_every_lts_conf_can_be_read(document: Path) -> None:
    for block in blocks(document):
        if block.kind == "ini" and "[Service]" not in block.text:
            assert LtsConf.parse(block.text).text == block.text


@each_document
def test_no_line_is_too_long_to_read(document: Path) -> None:
    long = [line for line in prose(document).splitlines() if len(line) > 119 and not line.startswith("|")]
    assert not long or document.parent.name == "reference"  # which is made by programs
