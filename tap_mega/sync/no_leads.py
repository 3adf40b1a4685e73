"""Why a sync has read no lead, for a person."""

from __future__ import annotations

import typing as t

from tap_mega.shared.timestamps import parse_timestamp

if t.TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence


def why_no_leads(
    config: Mapping[str, t.Any], starts: Sequence[dt.datetime | None], now: dt.datetime
) -> str:
    """Return why there is no lead, by the settings and by where the syncs started.

    Args:
        config: The settings of the tap.
        starts: The `updated_at` from which each customer was read; None for all leads.
        now: The time.
    """
    names = [f"filters.{name}" for name in config.get("filters", {})]
    start_date, end_date = map(config.get, ("start_date", "end_date"))
    earliest = parse_timestamp(start_date) if start_date else None
    if end_date and all(it and it >= parse_timestamp(end_date) for it in starts):
        return (
            "Nothing to read: the setting 'end_date' is not after the bookmark, so an "
            "earlier sync has read the leads before it"
        )
    since_bookmark = any(it != earliest for it in starts)
    if earliest and not since_bookmark:
        names.append("start_date")
    if end_date:
        names.append("end_date")
    settings = f" that matches {_listed(names)}" if names else ""
    what = f"There is no lead{settings}"
    if since_bookmark:
        what = f"No lead has changed since the bookmark{settings}"
    future = ". The setting 'start_date' lies in the future"
    return f"{what}{future if earliest and earliest > now else ''}"


def _listed(names: Sequence[str]) -> str:
    """Return the names of settings in words."""
    quoted = [f"'{name}'" for name in names]
    noun = "the settings" if len(quoted) > 1 else "the setting"
    return f"{noun} {' and '.join(quoted)}"
