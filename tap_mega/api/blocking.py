"""A client that waits for each page, for a reader that requests pages itself."""

from __future__ import annotations

import functools
import queue
import typing as t

from tap_mega.api.client import Client, Request
from tap_mega.api.network_errors import timed_out

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import requests

    from tap_mega.api.page import Page
    from tap_mega.api.rate_limit import RateLimiter
    from tap_mega.api.transport import Transport
    from tap_mega.shared.clock import Clock


class BlockingClient:
    """Sends one request at a time."""

    def __init__(
        self,
        transport: Transport,
        prepare: Callable[[], requests.PreparedRequest],
        rate_limiter: RateLimiter,
        clock: Clock,
        timeout: float,
    ) -> None:
        """Keep what each request needs."""
        self._transport, self._prepare, self._clock = transport, prepare, clock
        self._rate_limiter, self._timeout = rate_limiter, timeout

    @functools.cached_property
    def _client(self) -> Client:
        return Client(self._transport, self._prepare(), self._clock)

    def get(self, params: Mapping[str, t.Any]) -> Page:
        """Return a page, or raise what the client puts."""
        inbox = queue.SimpleQueue[t.Any]()
        exchange = self._client.start(Request(params), inbox.put)
        try:
            result = inbox.get(timeout=self._timeout)
        except queue.Empty:
            result = timed_out(self._timeout)
        finally:
            exchange.give_up()
            self._rate_limiter.record(self._clock.monotonic())
        self._rate_limiter.update(
            getattr(result, "headers", {}), self._clock.monotonic()
        )
        if isinstance(result, Exception):
            raise result
        return t.cast("Page", result)
