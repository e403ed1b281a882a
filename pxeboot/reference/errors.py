"""docs/reference/errors.md: everything that pxeboot says when something is wrong, found in its own code."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from config import wording

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("config", "dhcp", "tftp", "httpimage", "nbd", "pxeboot")

HEAD = """\
# Everything that can be wrong, in our words

Made by `python -m pxeboot.reference docs/reference` from the code. Look for a word of what you were told; capitals and
`...` stand for what differs each time. Most say what to do; where one does not, the module that says it is named.
"""

Found = tuple[str, str]
"""A module, and what it says."""


def page() -> str:
    """Return the page."""
    modules = {name: ast.parse((ROOT / name).read_text("utf-8")) for name in _modules()}
    parts = [
        ("The farm's file is refused", "`pxeboot check` names the line.", [*_plain(), *_all(modules, _of_the_file)]),
        ("`pxeboot serve`, `controller` or `image` ends with an error", "", [*_all(modules, _of_the_start)]),
        ("The self-test", "In the log, on top of `pxeboot status`, on the page; before a start by "
         "`pxeboot check --here`.", [*_all(modules, _of_this_host)]),
        ("A machine does not boot", "In its timeline: `failed`.", [*_all(modules, _of_a_boot), *_of_scripts()]),
        ("Errors in the log", "The daemon or what it needs is at fault.", [*_all(modules, _logged("error"))]),
        ("Warnings in the log", "A machine will not boot, or somebody does what he should not.",
         [*_all(modules, _logged("warning"))]),
    ]  # fmt: skip
    return HEAD + "".join(_section(*part) for part in parts)


def _modules() -> list[str]:
    paths = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return sorted(str(path.relative_to(ROOT)) for path in paths)


def _section(title: str, where: str, found: list[Found]) -> str:
    lines = dict.fromkeys((text, module) for module, text in found if len(re.findall(r"[a-z]{2,}", text)) > 1)
    rows = [f"| {_code(text)} | `{module}` |\n" for text, module in lines]
    return f"\n## {title}\n\n{where}{chr(10) * 2 if where else ''}| what is said | by |\n|---|---|\n" + "".join(rows)


def _code(text: str) -> str:
    """Return a text as code in a table: with no backquote in it, and no bar that would end its cell."""
    return "`" + " ".join(text.replace("`", "'").replace("|", "\\|").split()) + "`"


def _plain() -> Iterator[Found]:
    for text in (*wording.PATTERNS.values(), *wording.PLAIN.values()):
        yield "config/wording.py", f"KEY: VALUE {text}"


def _all(modules: dict[str, ast.Module], look: "Look") -> Iterator[Found]:
    for name, module in modules.items():
        for call, known in _calls(module, {}):
            yield from ((name, text) for text in look(name, call, known))


Known = dict[str, ast.expr]
"""What stands behind a local name, where that is simple."""
Look = Callable[[str, ast.Call, Known], Iterator[str]]


def _calls(node: ast.AST, known: Known) -> Iterator[tuple[ast.Call, Known]]:
    """Yield every call, in order, with the texts that names have there."""
    for child in ast.iter_child_nodes(node):
        inside = {} if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else known
        match child:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                known[name] = value
            case ast.Call():
                yield child, known
            case _:
                pass
        yield from _calls(child, inside)


def _of_the_file(module: str, call: ast.Call, known: Known) -> Iterator[str]:
    if module.startswith("config/") and _called(call) == "Finding" and len(call.args) > 1:
        yield from _texts(call.args[1], known)


def _of_the_start(_: str, call: ast.Call, known: Known) -> Iterator[str]:
    if _called(call) in ("StartError", "ImageError", "NoInterface", "TlsError") and call.args:
        yield from _texts(call.args[-1], known)


def _of_this_host(module: str, call: ast.Call, known: Known) -> Iterator[str]:
    if module.startswith("pxeboot/selftest/") and _called(call) == "Finding" and len(call.args) > 2:
        about, what, *remedy = (next(_texts(part, known), "") for part in call.args[1:4])
        yield f"{about}: {what}" + (f"; {remedy[0]}" if remedy and remedy[0] else "")


def _of_a_boot(module: str, call: ast.Call, known: Known) -> Iterator[str]:
    names = [argument.attr for argument in call.args if isinstance(argument, ast.Attribute)]
    if (module.startswith("pxeboot/bootfiles/") and _called(call) == "failed") or "FAILED" in names:
        for argument in call.args:
            yield from _texts(argument, known)


def _of_scripts() -> Iterator[Found]:
    for script in ("mountroot", "nbd"):
        for text in re.findall(r'give_up "([^"]*)"', (ROOT / "node" / script).read_text("utf-8")):
            yield f"node/{script}", re.sub(r"\$\(\(.*?\)\)|\$\([^)]*\)|\$\w+", "...", text)


def _logged(level: str) -> Look:
    def look(_: str, call: ast.Call, known: Known) -> Iterator[str]:
        match call.func:
            case ast.Attribute(attr=attr, value=ast.Name(id="log") | ast.Attribute(attr="_log")) if attr == level:
                yield from _texts(call.args[0], known)
            case _:
                pass

    return look


def _called(call: ast.Call) -> str:
    """Return the name of what is called, without what it is an attribute of."""
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def _texts(value: ast.expr, known: Known, deep: int = 3) -> Iterator[str]:
    """Yield the texts that an expression can be, with `...` or a name in capitals for what is put in."""
    match value:
        case ast.Constant(value=str(text)):
            yield re.sub(r"%[-0-9.]*[a-z]", "...", text.replace("%%", "%"))
        case ast.JoinedStr(values=parts):
            yield "".join(_part(part) for part in parts)
        case ast.IfExp(body=body, orelse=orelse):
            yield from _texts(body, known, deep)
            yield from _texts(orelse, known, deep)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            yield from (a + b for a in _texts(left, known, deep) for b in _texts(right, known, deep))
        case ast.Name(id=name) if deep and name in known:
            yield from _texts(known[name], known, deep - 1)
        case _:
            pass


def _part(part: ast.expr) -> str:
    match part:
        case ast.Constant(value=str(text)):
            return text
        case ast.FormattedValue(value=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name.strip("_").upper()
        case _:
            return "..."
