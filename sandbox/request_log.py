"""Requests that the sandbox received."""

from __future__ import annotations

import collections
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
    """The decoded parameters."""
    headers: dict[str, str]
    """Header names are in lower case."""
    customer: str | None = None
    """The customer's id: that of the token or, without a valid one, of the header."""
    query_string: str = ""
    """The query as it was sent."""
    status: int | None = None
    """None until, or unless, a response is sent."""

    @property
    def lists_leads(self) -> bool:
        """Whether it is a request for leads."""
        return (self.method, self.path) == ("GET", LEADS_PATH)


class RequestLog(list[Received]):
    """The latest requests, and the number of all requests by status."""

    def __init__(self, maximum: int | None = None) -> None:
        """Keep at most `maximum` requests in the list. None means all."""
        super().__init__()
        self._maximum = maximum
        self._by_status: collections.Counter[int | None] = collections.Counter()

    def add(self, request: Received) -> None:
        """Add a request that has no response yet."""
        self._by_status[None] += 1
        self.append(request)
        if self._maximum is not None:
            del self[: max(0, len(self) - self._maximum)]

    def set_status(self, request: Received, status: int) -> None:
        """Set the status of the response to a request."""
        self._by_status[None] -= 1
        self._by_status[status] += 1
        request.status = status

    def count_by_status(self) -> dict[str, int]:
        """Return the number of requests by status, including those not kept."""
        counts = self._by_status.items()
        return {str(status or "no answer"): count for status, count in counts if count}
