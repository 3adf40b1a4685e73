"""The leads, stored in SQLite: pages of them, and changes to them."""
# ruff: noqa: S608 - the SQL consists of constants; every value is bound

from __future__ import annotations

import json
import random
import sqlite3
import threading
import typing as t
from collections.abc import Iterable

from sandbox.cursors import Cursor
from sandbox.document import Lead, check_lead
from sandbox.pages import Page, Query, digits
from sandbox.people import LeadMaker
from sandbox.timestamps import format_timestamp, parse_timestamp

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.pages import Filter

TABLE = """
CREATE TABLE leads (
    id TEXT NOT NULL,
    updated_at_us INTEGER NOT NULL, -- dates are microseconds since 1970
    created_at_us INTEGER NOT NULL,
    last_interaction_at_us INTEGER,
    name_and_email TEXT NOT NULL,
    phone_digits TEXT NOT NULL,
    lead TEXT NOT NULL, -- JSON, without custom_fields
    custom_fields TEXT NOT NULL -- JSON
)
"""
INDEXES = (
    "CREATE UNIQUE INDEX by_id ON leads (id)",
    "CREATE INDEX by_updated_at ON leads (updated_at_us, id)",
    "CREATE INDEX by_created_at ON leads (created_at_us, id)",
)
COLUMNS = 8
SELECT = "SELECT lead, custom_fields FROM leads"

to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

Row: t.TypeAlias = tuple[str | int | None, ...]
Which: t.TypeAlias = int | str | Iterable[str]
"""So many leads, which are chosen at random, or the ones with this id or these ids."""


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
        self._hidden: list[Lead] = []
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
            rows = self._db.execute(f"{SELECT} ORDER BY updated_at_us, id")
            return [_parse(row) for row in rows]

    def page(self, query: Query) -> Page:
        """Return the page that answers a query."""
        with self._lock:
            rows = self._rows(query)
            total = self._total(query.filters)
        page, cursor = rows[: query.limit], None
        if len(rows) > len(page) and query.sort_by != "last_interaction_at":
            *_, timestamp_us, last_id = page[-1]
            cursor = Cursor(query.sort_by, query.sort_dir, timestamp_us, last_id)
        leads = [
            f'{lead[:-1]},"custom_fields":{custom}}}' if query.custom_fields else lead
            for lead, custom, *_ in page
        ]
        return Page(leads, total, query.limit, query.offset, cursor)

    def add(self, n: int = 1, **fields: object) -> list[str]:
        """Add n leads and return their ids.

        They are created and updated now. `fields` override generated values: a lead
        that is imported has an old `created_at`, and one that is committed late has
        an `updated_at` in the past, too.
        """
        with self._lock:
            now = self._now()
            leads = [{**self._maker.new(now), **fields} for _ in range(n)]
            self._check_and_write(leads)
            return [lead["id"] for lead in leads]

    def change(self, which: Which = 1) -> list[str]:
        """Change leads and return their ids. Most move to another stage."""
        with self._lock:
            return self._change(self._choose(which))

    def update(self, id: str, **fields: object) -> None:  # noqa: A002 - as the API says
        """Set fields of one lead. `updated_at` is now unless `fields` holds it."""
        with self._lock:
            changed = {"updated_at": format_timestamp(self._now()), **fields}
            self._check_and_write([{**self._get(id), **changed}])

    def merge(self, which: Which = 1) -> list[str]:
        """Merge leads into others, which change. Return the ids that disappear."""
        with self._lock:
            gone = self._choose(which)
            if gone and len(gone) == self.count():
                msg = f"a merge of all {len(gone)} leads leaves none"
                raise ValueError(msg)
            self._remove(gone)
            self._change(self._choose(min(len(gone), self.count())))
            return gone

    def delete(self, which: Which = 1) -> list[str]:
        """Delete leads and return their ids."""
        with self._lock:
            return self._remove(self._choose(which))

    def hide(self, which: Which) -> list[str]:
        """List leads no longer, as if the key lost rights, and return their ids."""
        with self._lock:
            ids = self._choose(which)
            self._hidden += map(self._get, ids)
            return self._remove(ids)

    def show(self) -> list[str]:
        """List all hidden leads again, unchanged, and return their ids."""
        with self._lock:
            shown, self._hidden = self._hidden, []
            self._write(shown)
            return [lead["id"] for lead in shown]

    def _choose(self, which: Which) -> list[str]:
        """Return the ids of different leads."""
        if isinstance(which, str):
            return [self._get(which)["id"]]
        if not isinstance(which, int):
            return [self._get(id_)["id"] for id_ in which]
        ids = [id_ for (id_,) in self._db.execute("SELECT id FROM leads")]
        if which > len(ids):
            msg = f"there are only {len(ids)} leads, not {which}"
            raise ValueError(msg)
        return self._random.sample(ids, which)

    def _get(self, id_: str) -> Lead:
        row = self._db.execute(f"{SELECT} WHERE id = ?", (id_,)).fetchone()
        if row is None:
            msg = f"there is no lead {id_!r}"
            raise ValueError(msg)
        return _parse(row)

    def _change(self, ids: list[str]) -> list[str]:
        now = self._now()
        self._check_and_write([self._maker.change(self._get(it), now) for it in ids])
        return ids

    def _remove(self, ids: list[str]) -> list[str]:
        rows = [(id_,) for id_ in ids]
        with self._db:
            self._db.executemany("DELETE FROM leads WHERE id = ?", rows)
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
            f"SELECT lead, custom_fields, {key}, id FROM leads WHERE {where} "
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


def _parse(row: tuple[str, str]) -> Lead:
    """Return the lead of a row of SELECT."""
    lead, custom_fields = map(json.loads, row)
    return {**lead, "custom_fields": custom_fields}


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
        name_and_email.casefold(),
        digits(lead.get("contact_phone") or ""),
        to_json(rest),
        to_json(custom),
    )


def _to_microseconds(text: str | None) -> int | None:
    return None if text is None else parse_timestamp(text)
