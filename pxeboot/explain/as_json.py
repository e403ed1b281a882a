"""An explanation as JSON values: all of it, for programs. Pure."""

from collections.abc import Sequence
from typing import Any

from config.marks import Where
from dhcp.models import Step
from pxeboot.explain.compare import Compared
from pxeboot.explain.explanation import Answer, Explanation
from pxeboot.explain.ground import Overrode, Source
from pxeboot.explain.in_short import in_short
from pxeboot.explain.rows import Row


def explanation_json(one: Explanation) -> dict[str, Any]:
    """Return an explanation; text from the network is as it came."""
    return {
        "machine": one.name,
        "mac": one.asked.chaddr.hex(":"),
        "boots": one.boots,
        "summary": in_short(one),
        "asked": {
            "xid": one.asked.xid,
            "flags": one.asked.flags,
            "ciaddr": str(one.asked.ciaddr),
            "giaddr": str(one.asked.giaddr),
            "options": {str(code): value.hex() for code, value in one.asked.options.items()},
        },
        "arrival": {
            "address": str(one.arrival.address),
            "port": one.arrival.port,
            "unicast": one.arrival.unicast,
            "source": str(one.arrival.source),
            "source_port": one.arrival.source_port,
        },
        "network": _source(one.network) if one.network else None,
        "answer": _answer(one.answer) if one.answer else None,
        "problem": {"words": one.problem.words, "advice": one.problem.advice, "where": where_json(one.problem.where)}
        if one.problem
        else None,
        "quirks": [
            {"name": q.name, "source": q.source, "where": where_json(q.where), "decides": [*q.decides]}
            for q in one.quirks
        ],
        "beside": str(one.beside.yiaddr) if one.beside else None,
        "model": one.model.value,
        "next": steps_json(one.steps),
        "intent": {
            "boot": one.intent.intent.boot.value,
            "origin": one.intent.intent.origin.value,
            "since_s": one.intent.intent.since_s,
            "where": where_json(one.intent.where),
            "follows": one.intent.follows,
        }
        if one.intent
        else None,
        "boot_server": explanation_json(one.boot_server) if one.boot_server else None,
    }


def compared_json(one: Compared) -> dict[str, Any]:
    """Return one request of a capture, what was answered, and what we would answer."""
    return {
        "frame": one.captured.number,
        "time_s": one.captured.time_s,
        "ours": explanation_json(one.explanation),
        "real": [
            {
                "frame": real.captured.number,
                "server": real.server,
                "differs": [{"name": d.name, "theirs": d.theirs, "ours": d.ours} for d in real.differs],
            }
            for real in one.real
        ],
        "took": steps_json(one.took),
        "would_take": steps_json(one.would_take),
    }


def steps_json(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Return what a client does."""
    return [{"what": step.what, "ok": step.ok, "because": step.because} for step in steps]


def where_json(where: Where | None) -> dict[str, Any] | None:
    """Return a line of the configuration."""
    return {"file": where.file, "line": where.line, "setting": where.setting} if where else None


def _answer(answer: Answer) -> dict[str, Any]:
    to = answer.send.destination
    return {
        "type": answer.kind,
        "address": {"value": str(answer.send.message.yiaddr), **_source(answer.address)},
        "destination": {
            "address": str(to.address),
            "port": to.port,
            "hardware": to.hardware.hex(":") if to.hardware is not None else None,
            "source_port": answer.send.source_port,
            **_source(answer.destination),
        },
        "size_bytes": len(answer.packed.data),
        "size_limit": answer.send.size_limit,
        "delay_s": answer.send.delay_s,
        "probed": answer.probed,
        "fields": [_row(row) for row in answer.fields],
        "options": [_row(row) for row in answer.options],
        "left_out": [_row(row) for row in answer.left_out],
        "not_sent": [_row(row) for row in answer.not_sent],
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "code": row.code,
        "value": row.value,
        "raw": row.raw.hex(),
        "size_bytes": row.size_bytes,
        "inside": row.inside or None,
        "sent": row.sent or None,
        "sent_where": where_json(row.sent_where),
        **_source(row.source),
    }


def _source(source: Source) -> dict[str, Any]:
    return {
        "why": source.why,
        "where": where_json(source.where),
        "overrode": [_overrode(lost) for lost in source.overrode],
        "note": source.note or None,
    }


def _overrode(lost: Overrode) -> dict[str, Any]:
    return {"value": lost.value, "level": lost.level, "where": where_json(lost.where)}
