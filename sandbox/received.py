"""Requests that the sandbox received."""

from __future__ import annotations

import dataclasses

from sandbox.document import LEADS_PATH


@dataclasses.dataclass
class Received:
    """A request and the status of its response."""

    time: float
    """Epoch seconds of the sandbox's clock."""
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """Header names are in lower case."""
    status: int | None = None
    """None until, or unless, a response is sent."""

    @property
    def lists_leads(self) -> bool:
        """Whether it is a request for leads."""
        return (self.method, self.path) == ("GET", LEADS_PATH)
