"""The leads, stored in SQLite: pages of them, and changes to them."""
# ruff: noqa: S608 - the SQL consists of constants; every value is bound

from __future__ import annotations

import json
import random
import sqlite3
import threading
import typing as t

from sandbox.cursors import Cursor
from sandbox.document import Lead, check_lead
from sandbox.pages import Page, Query, digits
from sandbox.people import STATUSES, LeadMaker
from sandbox.timestamps import format_timestamp, parse_timestamp

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sandbox.pages import Filter

TABLE = """
CREATE TABLE leads (
    id TEXT NOT NULL,
    updated_at_us INTEGER NOT NULL, -- dates are microseconds since 1970
    created_at_us INTEGER NOT NULL,
    last_interaction_at_us INTEGER,
    status TEXT NOT NULL,
    stage_id TEXT,
    lead_line TEXT,
    name_and_email TEXT NOT NULL,
    phone_digits TEXT NOT NULL,
    lead BLOB NOT NULL, -- JSON, without custom_fields and without the last brace
    custom_fields BLOB NOT NULL -- JSON
)
"""
INDEXES = (
    "CREATE UNIQUE INDEX by_id ON leads (id)",
    "CREATE INDEX by_updated_at ON leads (updated_at_us, id)",
    "CREATE INDEX by_created_at ON leads (created_at_us, id)",
)
COLUMNS = 11
ROW = "lead, custom_fields, id"

to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

Row: t.TypeAlias = tuple[str | bytes | int | None, ...]


class Leads:
    """All leads of a customer. The methods are thread-safe."""

    def __init__(
        self, count: int, seed: int | str, clock: Callable[[], float], customer_id: str
    ) -> None:
        """Make up `count` leads. `clock` returns epoch seconds, for `updated_at`."""
        self._clock = clock
        self._random = random.Random(seed)  # noqa: S311 - leads are no secret
        self._maker = LeadMaker(seed, customer_id)
        self._last_change = 0
        self._totals: dict[tuple[Filter, ...], int] = {}
        self._lock = threading.RLock()
        # A database without a name is temporary: it stays in memory while it is small
        # and is deleted with its connection. https://sqlite.org/inmemorydb.html
        self._db = sqlite3.connect("", check_same_thread=False)
        self._db.execute(TABLE)
        self._write(self._maker.past(count, clock()))
        for index in INDEXES:
            self._db.execute(index)

    def close(self) -> None:
        """Delete the database."""
        self._db.close()

    def count(self) -> int:
        """Return the number of leads."""
        return self._total(())

    def position(self, query: Query) -> int:
        """Return the number of leads before the query's cursor."""
        filters = query.filters
        return self._total(filters) - self._total((*_after(query), *filters))

    def all(self) -> list[Lead]:
        """Return all leads with custom_fields, sorted by (updated_at, id)."""
        with self._lock:
            rows = self._db.execute(
                f"SELECT {ROW} FROM leads ORDER BY updated_at_us, id"
            )
            return [json.loads(_lead_json(*row, custom_fields=True)) for row in rows]

    def page(self, query: Query) -> Page:
        """Return the page that answers a query."""
        with self._lock:
            rows = self._rows(query)
            total = self._total(query.filters)
        page, cursor = rows[: query.limit], None
        if len(rows) > len(page) and query.sort_by != "last_interaction_at":
            *_, last_id, timestamp_us = page[-1]
            position = (timestamp_us, last_id)
            cursor = Cursor(query.sort_by, query.sort_dir, *position)
        leads = [
            _lead_json(*row, custom_fields=query.custom_fields) for *row, _ in page
        ]
        return Page(leads, total, query.limit, query.offset, cursor)

    def add(self, n: int = 1, **fields: object) -> list[str]:
        """Add n leads and return their ids.

        They are created and updated now. `fields` override generated values.
        """
        with self._lock:
            now = self._now()
            leads = [{**self._maker.new(now), **fields} for _ in range(n)]
            self._check_and_write(leads)
            return [lead["id"] for lead in leads]

    def change(self, n: int) -> list[str]:
        """Change some fields of n leads, set `updated_at` to now; return the ids."""
        with self._lock:
            return self._change(self._sample(n))

    def update(self, id: str, **fields: object) -> None:  # noqa: A002 - as the API says
        """Set fields of one lead. `updated_at` is now unless `fields` holds it."""
        with self._lock:
            changed = {"updated_at": format_timestamp(self._now()), **fields}
            self._check_and_write([{**self._get(id), **changed}])

    def merge(self, n: int) -> list[str]:
        """Merge n leads into others, which change. Return the ids that disappear."""
        with self._lock:
            sample = self._sample(min(2 * n, max(n + 1, self.count())))
            gone, survivors = sample[:n], sample[n:]
            self._remove(gone)
            self._change(survivors)
            return gone

    def delete(self, n: int) -> list[str]:
        """Delete n leads and return their ids."""
        with self._lock:
            return self._remove(self._sample(n))

    def _sample(self, n: int) -> list[str]:
        """Return the ids of n different leads."""
        ids = [id_ for (id_,) in self._db.execute("SELECT id FROM leads")]
        if n > len(ids):
            msg = f"there are only {len(ids)} leads, not {n}"
            raise ValueError(msg)
        return self._random.sample(ids, n)

    def _get(self, id_: str) -> Lead:
        select = f"SELECT {ROW} FROM leads WHERE id = ?"
        row = self._db.execute(select, (id_,)).fetchone()
        if row is None:
            raise KeyError(id_)
        lead: Lead = json.loads(_lead_json(*row, custom_fields=True))
        return lead

    def _change(self, ids: list[str]) -> list[str]:
        now = format_timestamp(self._now())
        leads = [self._get(id_) for id_ in ids]
        for lead in leads:
            lead["status"] = self._random.choice(STATUSES)
            lead["interaction_count"] = lead.get("interaction_count", 0) + 1
            lead["last_interaction_at"] = lead["updated_at"] = now
        self._check_and_write(leads)
        return ids

    def _remove(self, ids: list[str]) -> list[str]:
        with self._db:
            self._db.executemany(
                "DELETE FROM leads WHERE id = ?", [(id_,) for id_ in ids]
            )
        self._totals.clear()
        return ids

    def _check_and_write(self, leads: list[Lead]) -> None:
        for lead in leads:
            check_lead(lead)
        self._write(leads)

    def _write(self, leads: Iterable[Lead]) -> None:
        write = f"REPLACE INTO leads VALUES ({', '.join('?' * COLUMNS)})"
        with self._db:
            self._db.executemany(write, map(_row, leads))
        self._totals.clear()

    def _now(self) -> int:
        """Return the milliseconds since 1970. The value never decreases."""
        self._last_change = max(self._last_change, int(self._clock() * 1000))
        return self._last_change

    def _total(self, filters: tuple[Filter, ...]) -> int:
        """Return the number of matching leads. It is cached until a lead changes."""
        with self._lock:
            if filters not in self._totals:
                where, values = _where(filters)
                select = f"SELECT count(*) FROM leads WHERE {where}"
                self._totals[filters] = self._db.execute(select, values).fetchone()[0]
            return self._totals[filters]

    def _rows(self, query: Query) -> list[t.Any]:
        """Return the rows of a page, and one more row if there is one."""
        key, direction = f"{query.sort_by}_us", query.sort_dir
        where, values = _where((*_after(query), *query.filters))
        return self._db.execute(
            f"SELECT {ROW}, {key} FROM leads WHERE {where} "
            f"ORDER BY {key} {direction} NULLS LAST, id {direction} LIMIT ? OFFSET ?",
            (*values, query.limit + 1, query.offset),
        ).fetchall()


def _after(query: Query) -> list[Filter]:
    """Return the condition that selects the leads after the query's cursor."""
    if query.after is None:
        return []
    sign = "<" if query.sort_dir == "desc" else ">"
    position = (query.after.microseconds, query.after.id)
    return [(f"({query.sort_by}_us, id) {sign} (?, ?)", position)]


def _where(filters: Iterable[Filter]) -> tuple[str, list[object]]:
    """Return one condition for all filters, and its values."""
    filters = tuple(filters)
    conditions = [condition for condition, _ in filters] or ["true"]
    return " AND ".join(conditions), [v for _, values in filters for v in values]


def _lead_json(lead: bytes, custom: bytes, _id: str, *, custom_fields: bool) -> bytes:
    """Return a lead as the API sends it."""
    return lead + (b',"custom_fields":' + custom if custom_fields else b"") + b"}"


def _row(lead: Lead) -> Row:
    """Return the row of a lead."""
    custom = lead.get("custom_fields") or {}
    rest = {name: value for name, value in lead.items() if name != "custom_fields"}
    name_and_email = (
        f"{lead.get('contact_name') or ''}\n{lead.get('contact_email') or ''}"
    )
    return (
        lead["id"],
        _to_microseconds(lead["updated_at"]),
        _to_microseconds(lead["created_at"]),
        _to_microseconds(lead.get("last_interaction_at")),
        lead["status"],
        (lead.get("current_stage") or {}).get("id"),
        custom.get("lead_line"),
        name_and_email.casefold(),
        digits(lead.get("contact_phone") or ""),
        to_json(rest)[:-1].encode(),
        to_json(custom).encode(),
    )


def _to_microseconds(text: str | None) -> int | None:
    return None if text is None else parse_timestamp(text)
