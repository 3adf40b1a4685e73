"""Many customers in one run: their keys, their turns, and their lines in the log."""

from __future__ import annotations

import heapq
import itertools
import logging
import typing as t

from singer_sdk.exceptions import FatalAPIError
from typing_extensions import override

from tap_mega.api.page import Page
from tap_mega.api.reader import Wait

if t.TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, MutableMapping

    import requests

    from tap_mega.config.customers import Customer

    K = t.TypeVar("K", bound=Hashable)
    Turn: t.TypeAlias = tuple[K, Page | FatalAPIError | None]


class CustomerAuthenticator:
    """Adds the key of the customer that a request names, and no other key."""

    def __init__(self, customers: list[Customer]) -> None:
        """Keep the keys."""
        self._tokens = dict(customers)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the header `Authorization`."""
        token = self._tokens[request.headers["x-customer-id"]]
        request.headers["Authorization"] = f"Bearer {token}"
        return request


class CustomerLogger(logging.LoggerAdapter[logging.Logger]):
    """Says in each line which customer it is about, if there are several."""

    def __init__(self, logger: logging.Logger, customer_id: str | None) -> None:
        """Name a customer; None if it is the only one."""
        super().__init__(logger)
        self._prefix = f"Customer {customer_id}: " if customer_id else ""

    @override
    def process(
        self, msg: t.Any, kwargs: MutableMapping[str, t.Any]
    ) -> tuple[t.Any, MutableMapping[str, t.Any]]:
        return f"{self._prefix}{msg}", kwargs


def take_turns(
    readers: Mapping[K, Iterator[Page | Wait]], now: Callable[[], float]
) -> Iterator[Turn[K] | Wait]:
    """Read many readers by turns, so that none waits for another.

    A reader that has to wait is put aside until then, and the others are read. If all
    have to wait, a `Wait` says how long. Whoever iterates has to let this time pass, or
    to stop.

    Args:
        readers: The pages and waits of each reader.
        now: Returns monotonic seconds.

    Yields:
        The key of a reader with a page, with the error that ended it, or with None at
        its end; or a wait until the first reader may go on.
    """
    order = itertools.count()
    waiting: list[tuple[float, int, K, Wait | None]] = [
        (now(), next(order), key, None) for key in readers
    ]
    while waiting:
        ready_at, _, key, wait = waiting[0]
        if wait and (seconds := ready_at - now()) > 0:
            yield wait._replace(seconds=seconds)
        heapq.heappop(waiting)
        step = _next_step(readers[key])
        if isinstance(step, Wait):
            item = (now() + step.seconds, next(order), key, step)
            heapq.heappush(waiting, item)
            continue
        if isinstance(step, Page):
            heapq.heappush(waiting, (now(), next(order), key, None))
        yield key, step


def _next_step(reader: Iterator[Page | Wait]) -> Page | Wait | FatalAPIError | None:
    try:
        return next(reader, None)
    except FatalAPIError as error:
        return error
