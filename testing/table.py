"""The table of a loader, in memory."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from testing.harness import Run

    Json: t.TypeAlias = dict[str, t.Any]


class Table:
    """The rows of `leads` by `id`, each with the version of its load."""

    def __init__(self) -> None:
        """Start without rows."""
        self.rows: dict[str, Json] = {}
        self._versions: dict[str, int | None] = {}

    def load(self, run: Run) -> None:
        """Load the messages of a run."""
        for message in run.messages:
            self.apply(message)

    def apply(self, message: Json) -> None:
        """Apply a message, as target-postgres does."""
        if message["type"] == "RECORD":
            key = message["record"]["id"]
            self.rows[key] = message["record"]
            self._versions[key] = message.get("version")
        elif message["type"] == "ACTIVATE_VERSION":
            for key, version in self._versions.items():
                if version is None or version < message["version"]:
                    self.rows.pop(key, None)
