"""docs/reference/stages.md: every stage of a boot, and what to look at when a machine stays there."""

import ast
import inspect

from config import events
from config.events import Stage
from pxeboot.stuck import STORY

HEAD = """\
# Every stage of a boot

Made by `python -m pxeboot.reference docs/reference` from `config/events.py` and `pxeboot/stuck.py`. A machine goes
through them from top to bottom; `pxeboot status NAME`, the web page and the log name them so. A machine that stays at
one for longer than is said here is shown as stuck.
"""


def page() -> str:
    """Return the page."""
    meanings = docstrings()
    return HEAD + "".join(_section(stage, meanings[stage.name]) for stage in Stage)


def docstrings() -> dict[str, str]:
    """What stands below each stage where it is defined; Python forgets it."""
    (found,) = (
        node for node in ast.parse(inspect.getsource(events)).body
        if isinstance(node, ast.ClassDef) and node.name == Stage.__name__
    )  # fmt: skip
    said: dict[str, str] = {}
    for line, after in zip(found.body, found.body[1:], strict=False):
        match line, after:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(text))):
                said[name] = " ".join(text.split())
            case _:
                pass
    return said


def _section(stage: Stage, meaning: str) -> str:
    lines = ["", f"## {stage.value}", "", meaning]
    chapter = STORY.get(stage)
    if chapter is not None and chapter.waits_for:
        lines += ["", f"It waits for {chapter.waits_for}."]
    if chapter is not None and chapter.trouble:
        after = f" after {round(chapter.silent_s)} s without a word" if chapter.silent_s else ""
        lines += ["", f"Stuck{after}: {chapter.trouble} {chapter.look}".rstrip()]
    return "\n".join(lines) + "\n"
