"""The base of every record that is stored or sent, and the integer units."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

Ms: TypeAlias = int  # time, integer milliseconds; always passed in, never read from a clock
NodeId: TypeAlias = int  # dense index into the ledger's columns, from 0; names live in records
JobId: TypeAlias = int  # dense, from 1, in order of submission
ShapeId: TypeAlias = int  # dense index of an interned request shape, from 0


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of everything that is stored or sent: frozen, and closed to unknown fields."""


class Misuse(ValueError):
    """The caller's fault: what is wrong, why, and what to do. Shown as one clear error.

    `field` names the offending key or option, `hint` says what to do instead.
    """

    def __init__(self, message: str, *, field: str = "", hint: str = "", code: str = "misuse"):
        super().__init__(message)
        self.message, self.field, self.hint, self.code = message, field, hint, code


class Refused(Misuse):
    """The answer is no for a good reason (it can never run, a queue is full); not a mistake."""


class StoreFailed(Exception):
    """A write did not become durable (disk full, I/O error); nothing of it is in the store."""
