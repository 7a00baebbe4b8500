"""What the OpenAPI document says of queues, users, tenants, shares and use."""

from __future__ import annotations

from typing import Any

from fairlead.model.jobs import Queue, Tenant, User
from fairlead.policy.fair.standing import Standing
from fairlead.policy.sharing_file import QueueTable, SharingFile, TenantTable, UserTable

TYPES = (Queue, User, Tenant, QueueTable, UserTable, TenantTable, SharingFile, Standing)
OPTIONAL = ("set_queue", "set_user", "set_tenant")  # whose body may be left out

Schema = dict[str, Any]
_INTEGER: Schema = {"type": "integer"}
_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_AMOUNTS: Schema = {
    "type": "object",
    "additionalProperties": _INTEGER,
    "description": "by resource, in its unit",
}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of}


ANSWERS: dict[str, Schema] = {
    "apply_file": _object(changes=_TEXTS, notes=_TEXTS, applied=_FLAG, now_ms=_INTEGER),
    "show_shares": _object(
        shares=_list(_ref("Standing")), capacity=_AMOUNTS, half_life_ms=_INTEGER, now_ms=_INTEGER
    ),
}
_DOCUMENT = _object(
    document=_ref("SharingFile"),
    dry_run=_FLAG,
    prune=_FLAG,
    plan={**_TEXTS, "description": "the changes of a dry run: refused if it would be others"},
)
BODIES: dict[str, Schema] = {"apply_file": {**_DOCUMENT, "required": ["document"]}}


def _add(word: str, table: str) -> None:
    """Add what is the same for queues, users and tenants."""
    shown = _object(
        name=_TEXT, settings=_ref(table), using=_AMOUNTS, running=_INTEGER, waiting=_INTEGER
    )
    ANSWERS[f"show_{word}"] = shown
    ANSWERS[f"list_{word}s"] = _object(**{f"{word}s": _list(shown), "now_ms": _INTEGER})
    changed = _object(**{"changes": _TEXTS, "notes": _TEXTS, word: shown, "now_ms": _INTEGER})
    for verb in ("set", "edit", "delete"):
        ANSWERS[f"{verb}_{word}"] = changed
    for verb in ("set", "edit"):
        BODIES[f"{verb}_{word}"] = _ref(table)


for _word, _table in (("queue", "QueueTable"), ("user", "UserTable"), ("tenant", "TenantTable")):
    _add(_word, _table)
