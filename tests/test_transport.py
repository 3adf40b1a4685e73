"""A request ends in time and in words, whatever the network and the server do."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import gzip
import itertools
import os
import queue
import socket
import ssl
import threading
import tracemalloc
import typing as t
import zlib

import pytest
import requests
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from singer_sdk.exceptions import FatalAPIError

from sandbox import Fault
from tap_mega.api import transport as transport_module
from tap_mega.api.transport import CA_VARIABLES, MIB, Response, Transport
from tap_mega.shared.errors import TemporaryError, TooLargeError
from testing.raw_server import RawServer, response

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sandbox import Sandbox
    from tap_mega.api.transport import Exchange, Read
    from testing.clock import FakeClock
    from testing.harness import Command
    from testing.raw_server import Respond, Steps

HOST = "api.example.org"
"""A name that only the certificates and the proxies of these tests know."""
TIMEOUT_SECONDS = 0.5
PATIENCE_SECONDS = 60
"""How long a busy machine may take for anything."""
PAUSE_SECONDS = 0.05
OK = response(b"{}")


class Sender:
    """Sends requests with one transport."""

    def __init__(self, url: str, timeout: float = PATIENCE_SECONDS) -> None:
        """Start without a connection."""
        self.transport = Transport(url, timeout)
        self.inbox = queue.SimpleQueue[t.Any]()
        self._url = f"{url}/leads?search=needle"

    def start(self, read: Read = lambda it: it) -> Exchange:
        """Send a request that searches for a needle."""
        request = requests.Request("GET", self._url).prepare()
        return self.transport.start(request, read, self.inbox.put)

    def next(self) -> t.Any:
        """Return the next result."""
        return self.inbox.get(timeout=PATIENCE_SECONDS)


def send(url: str, timeout: float = PATIENCE_SECONDS) -> Response:
    """Send a request with a transport of its own, and return the response."""
    sender = Sender(url, timeout)
    sender.start()
    result = sender.next()
    sender.transport.close()
    if isinstance(result, Exception):
        raise result
    return t.cast("Response", result)


def failure(url: str, timeout: float = PATIENCE_SECONDS) -> str:
    """Return what is said of a request that fails and may be sent again."""
    with pytest.raises(TemporaryError) as caught:
        send(url, timeout)
    return str(caught.value)


def join_request_threads() -> None:
    """Wait until no request is under way; fail if one does not end."""
    for thread in threading.enumerate():
        if thread.name == "request":
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()


def once(*steps: bytes | float) -> Respond:
    """Return a function that sends the same for each request, and closes."""

    def respond(_number: int) -> Steps:
        yield from steps
        raise EOFError

    return respond


def byte_by_byte(text: bytes) -> Steps:
    """Yield a text slowly, and then dots for ever."""
    for byte in itertools.chain(text, itertools.repeat(ord("."))):
        yield bytes([byte])
        yield PAUSE_SECONDS


def slow_body(_number: int) -> Steps:
    """Send a body that does not end."""
    yield response(length=10**6)
    yield from byte_by_byte(b"")


def slow_headers(_number: int) -> Steps:
    """Send a header that does not end."""
    yield from byte_by_byte(b"HTTP/1.1 200 OK\r\nX-Header: ")


def slow_chunks(_number: int) -> Steps:
    """Send small chunks for ever."""
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"1\r\n \r\n"
        yield PAUSE_SECONDS


def endless_continue(_number: int) -> Steps:
    """Ask to continue for ever."""
    while True:
        yield b"HTTP/1.1 100 Continue\r\n\r\n"
        yield PAUSE_SECONDS


def silence(_number: int) -> Steps:
    """Send nothing."""
    yield 60.0


SLOW = (slow_body, slow_headers, slow_chunks, endless_continue, silence)


@pytest.fixture(autouse=True)
def no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the certificates of the developer's environment."""
    for name in CA_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Provide a certificate authority that no machine trusts."""
    return trustme.CA()


def certificate(authority: trustme.CA, *names: str, **options: t.Any) -> ssl.SSLContext:
    """Return a server's side of TLS, with a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **options).configure_cert(context)
    return context


@pytest.fixture
def trusted(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> trustme.CA:
    """Provide an authority that REQUESTS_CA_BUNDLE names."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    return authority


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Provide a function that names a proxy in the environment."""

    def set_proxy(url: str) -> None:
        monkeypatch.setenv("HTTPS_PROXY", url)

    return set_proxy


# Time


@pytest.mark.parametrize("slow", [slow_body, slow_chunks, silence])
def test_a_slow_server_has_the_timeout_in_all(slow: Respond) -> None:
    """However often it sends a byte, the request fails by itself."""
    with RawServer(slow) as server:
        message = f"no complete response within {TIMEOUT_SECONDS} s"
        assert failure(server.url, TIMEOUT_SECONDS) == message


def check_giving_up(url: str, server: RawServer, requests: int = 1) -> None:
    """Check that a request ends its thread when it is given up, and puts nothing."""
    sender = Sender(url)
    exchange = sender.start()
    assert server.wait_for(requests, PATIENCE_SECONDS)
    exchange.give_up()
    join_request_threads()
    assert sender.inbox.empty()


@pytest.mark.parametrize("slow", SLOW, ids=lambda it: it.__name__)
def test_a_request_can_be_given_up(slow: Respond) -> None:
    """Whatever it waits for, its thread ends at once."""
    with RawServer(slow) as server:
        check_giving_up(server.url, server)


@pytest.mark.parametrize("slow", [slow_body, slow_headers])
def test_a_request_with_tls_can_be_given_up(trusted: trustme.CA, slow: Respond) -> None:
    """TLS makes no difference."""
    with RawServer(slow, certificate(trusted, "127.0.0.1")) as server:
        check_giving_up(server.url, server)


@pytest.mark.parametrize("slow", [slow_body, slow_headers])
def test_a_request_behind_a_proxy_can_be_given_up(
    trusted: trustme.CA, proxy: Callable[[str], None], slow: Respond
) -> None:
    """A tunnel makes no difference."""
    with RawServer(slow, certificate(trusted, HOST), is_proxy=True) as server:
        proxy(server.url)
        check_giving_up(f"https://{HOST}", server, requests=2)


def test_a_tunnel_can_be_given_up(proxy: Callable[[str], None]) -> None:
    """One that is never built holds no thread."""
    with RawServer(slow_headers) as server:
        proxy(server.url)
        check_giving_up(f"https://{HOST}", server)


def test_a_silent_handshake_has_the_timeout_in_all() -> None:
    """Something that accepts connections and never speaks TLS."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}"
        message = f"{url} did not accept the connection in time"
        assert failure(url, TIMEOUT_SECONDS) == message


def test_nothing_is_sent_after_a_slow_name_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name that is found after the request was given up comes too late."""
    found, look_up = threading.Event(), socket.getaddrinfo

    def slow_look_up(*args: t.Any, **kwargs: t.Any) -> t.Any:
        found.wait(PATIENCE_SECONDS)
        return look_up(*args, **kwargs)

    with RawServer(once(OK)) as server:
        monkeypatch.setattr(socket, "getaddrinfo", slow_look_up)
        sender = Sender(server.url)
        sender.start().give_up()
        found.set()
        join_request_threads()
        assert sender.inbox.empty()
        assert not server.requests


def test_a_second_address_gets_a_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent first address of a host takes half of the time, and no more."""
    connect, waits = socket.socket.connect, list[float | None]()

    def lossy_connect(sock: socket.socket, address: t.Any) -> None:
        if address[0] == "127.0.0.2":
            waits.append(sock.gettimeout())
            raise TimeoutError
        connect(sock, address)

    with RawServer(once(OK)) as server:
        addresses = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, server.port))
            for host in ("127.0.0.2", "127.0.0.1")
        ]
        with monkeypatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
            patch.setattr(socket.socket, "connect", lossy_connect)
            assert send(f"http://{HOST}:{server.port}", 60).body == b"{}"
    assert waits == [30]


def test_a_sync_survives_a_slow_response(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """It costs one attempt and no lead."""
    sandbox.script(Fault("trickle", at=2, part="headers", seconds=0.1))
    config = {**sandbox.config(), "request_timeout": 3}
    run = tap(config=config, clock=clock)
    assert (run.code, len(run.records)) == (0, 250)
    assert "Try 1 of 10 failed: no complete response within 3 s" in run.log


# Size


def bomb(size: int) -> bytes:
    """Return the beginning of a gzip file with so many bytes of white space."""
    packer = zlib.compressobj(level=9, wbits=31)
    spaces = b" " * MIB
    first = packer.compress(spaces) + packer.flush(zlib.Z_FULL_FLUSH)
    other = packer.compress(spaces) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + other * (size // MIB - 1)


def test_a_bomb_takes_little_memory() -> None:
    """2 GiB in 2 MB are given up at 64 MiB."""
    packed = bomb(2048 * MIB)
    assert len(packed) < 3 * MIB
    with RawServer(once(response(packed, "Content-Encoding: gzip"))) as server:
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        with pytest.raises(TooLargeError) as caught:
            send(server.url)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert str(caught.value) == "the response was larger than 64 MiB"
    assert peak - before < 80 * MIB


def twice(body: bytes) -> bytes:
    """Return a response that is compressed twice."""
    packed = gzip.compress(gzip.compress(body))
    return response(packed, "Content-Encoding: gzip, gzip")


@pytest.mark.parametrize(
    "pack",
    [response, twice, lambda it: response(gzip.compress(it), "Content-Encoding: gzip")],
    ids=["plain", "twice", "gzip"],
)
def test_a_body_has_a_limit(
    monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    """It counts what is decompressed."""
    monkeypatch.setattr(transport_module, "MAX_BODY_BYTES", 2 * MIB)
    with RawServer(once(pack(b" " * 2 * MIB))) as server:
        assert len(send(server.url).body) == 2 * MIB
    with RawServer(once(pack(b" " * (2 * MIB + 1)))) as server:
        assert failure(server.url) == "the response was larger than 2 MiB"


@pytest.mark.parametrize(("size", "kept"), [(65536, 65536), (65537, 0)])
def test_the_body_of_an_error_has_a_small_limit(size: int, kept: int) -> None:
    """The status decides what it means, not its body."""
    with RawServer(once(response(b"x" * size, status=401))) as server:
        found = send(server.url)
    assert (found.status, len(found.body)) == (401, kept)


def test_a_sync_survives_a_bomb(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """It costs an attempt and no lead."""
    sandbox.script(Fault("bomb", at=2))
    run = tap(config=sandbox.config(), clock=clock)
    assert (run.code, len(run.records)) == (0, 250)
    assert len(sandbox.requests) > 3


def test_an_error_that_is_a_bomb_keeps_its_meaning(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """401 is fatal at once, and its body is not quoted."""
    sandbox.script(Fault("bomb", status=401))
    run = tap(config=sandbox.config(), clock=clock)
    assert run.code == 1
    assert run.errors[0].startswith("the API answered 401. Check the setting")
    assert len(sandbox.requests) == 1


# Words


def raises(error: BaseException) -> Respond:
    """Return a function that ends a connection before the response."""

    def respond(_number: int) -> Steps:
        yield b""
        raise error

    return respond


BROKEN: dict[str, tuple[Respond, str]] = {
    "closed": (raises(EOFError()), "{url} closed the connection without a response"),
    "reset": (raises(ConnectionResetError()), "{url} reset the connection"),
    "cut-off": (once(response(b"{", length=9)), "the response was cut off"),
    "cut-off-chunks": (
        once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12"),
        "the response was cut off",
    ),
    "no-last-chunk": (
        once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n \r\n"),
        "the response was cut off",
    ),
    "bad-chunks": (
        once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nneedle\r\n12"),
        "the response was cut off",
    ),
    "no-gzip": (
        once(response(b"needle", "Content-Encoding: gzip")),
        "the response could not be decompressed",
    ),
    "no-http": (once(b"needle\r\n\r\n"), "the response was not valid HTTP"),
    "many-headers": (
        once(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n"),
        "the response was not valid HTTP",
    ),
    "long-header": (
        once(b"HTTP/1.1 200 OK\r\na: " + b"b" * 2**17 + b"\r\n\r\n"),
        "the response was not valid HTTP",
    ),
    "two-lengths": (
        once(response(b"{}", "Content-Length: 1")),
        "the response was not valid HTTP",
    ),
}


@pytest.mark.parametrize(("respond", "words"), BROKEN.values(), ids=BROKEN)
def test_a_broken_response_is_described(respond: Respond, words: str) -> None:
    """In words that a person knows, without the query."""
    with RawServer(respond) as server:
        assert failure(server.url) == words.format(url=server.url)


def test_the_same_length_twice_is_accepted() -> None:
    """RFC 9110, section 8.6."""
    with RawServer(once(response(b"{}", "Content-Length: 2"))) as server:
        assert send(server.url).body == b"{}"


def test_a_refused_connection_is_described() -> None:
    """Nobody listens."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    assert failure(url) == f"{url} refused the connection"


def test_a_host_name_that_does_not_exist_is_described(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wrong `api_url`, or a machine without DNS."""

    def look_up(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert failure(f"https://{HOST}") == (
        f"the host name of https://{HOST} cannot be resolved "
        "(Name or service not known)"
    )


def test_a_host_that_cannot_be_reached_is_described(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A machine without a network."""

    def connect(*_: object) -> None:
        raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))

    monkeypatch.setattr(socket.socket, "connect", connect)
    assert failure("http://127.0.0.1:9") == (
        "http://127.0.0.1:9 cannot be reached (Network is unreachable)"
    )


def test_a_server_without_tls_is_described() -> None:
    """Plain HTTP where https is expected."""
    with RawServer(once(OK)) as server:
        url = server.url.replace("http:", "https:")
        message = failure(url)
    assert message.startswith(f"the TLS connection to {url} failed (")


PROXIES: dict[str, tuple[Respond, str]] = {
    "407": (
        once(response(b"needle", status=407)),
        "the connection to the proxy in HTTPS_PROXY failed (status 407)",
    ),
    "502": (
        once(response(b"needle", status=502)),
        "the connection to the proxy in HTTPS_PROXY failed (status 502)",
    ),
    "no-http": (once(b"needle\r\n\r\n"), "the response was not valid HTTP"),
}


@pytest.mark.parametrize(("respond", "words"), PROXIES.values(), ids=PROXIES)
def test_a_broken_proxy_is_described(
    proxy: Callable[[str], None], respond: Respond, words: str
) -> None:
    """The message says what went wrong at the proxy."""
    with RawServer(respond) as server:
        proxy(server.url.replace("//", "//user:password@"))
        assert failure(f"https://{HOST}") == words


def test_a_proxy_that_refuses_connections_is_described(
    proxy: Callable[[str], None],
) -> None:
    """Nobody listens there."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        proxy(f"http://127.0.0.1:{nobody.getsockname()[1]}")
    message = "the proxy in HTTPS_PROXY refused the connection"
    assert failure(f"https://{HOST}") == message


@pytest.mark.parametrize("url", ["socks5://127.0.0.1:9", "what://x:1", "http://[::"])
def test_a_proxy_that_cannot_be_one_is_fatal(
    proxy: Callable[[str], None], url: str
) -> None:
    """Trying again would not help."""
    proxy(url)
    with pytest.raises(FatalAPIError, match="proxy settings of the environment"):
        send(f"https://{HOST}")


def test_a_proxy_is_used(trusted: trustme.CA, proxy: Callable[[str], None]) -> None:
    """The request goes through its tunnel."""
    context = certificate(trusted, HOST)
    with RawServer(once(OK), context, is_proxy=True) as server:
        proxy(server.url)
        assert send(f"https://{HOST}").body == b"{}"
        assert [it.split()[0] for it in server.requests] == [b"CONNECT", b"GET"]


HEADS = {
    "line": b"",
    "header": b"HTTP/1.1 200 OK\r\n",
    "body": b"HTTP/1.1 200 OK\r\n\r\n",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n",
}


@given(st.sampled_from(sorted(HEADS)), st.binary(max_size=60))
@settings(deadline=None)
def test_any_bytes_are_a_response_or_a_failure(part: str, garbage: bytes) -> None:
    """No other exception is raised."""
    with (
        RawServer(once(HEADS[part] + garbage)) as server,
        contextlib.suppress(TemporaryError),
    ):
        send(server.url)


# Certificates

UNTRUSTED: dict[str, tuple[list[str], dict[str, t.Any], str]] = {
    "expired": (
        ["127.0.0.1"],
        {"not_after": dt.datetime(2001, 1, 1, tzinfo=dt.UTC)},
        "certificate has expired",
    ),
    "other-host": ([HOST], {}, "IP address mismatch"),
}


@pytest.mark.parametrize(
    ("names", "options", "reason"), UNTRUSTED.values(), ids=UNTRUSTED
)
def test_a_wrong_certificate_is_fatal(
    trusted: trustme.CA, names: list[str], options: dict[str, t.Any], reason: str
) -> None:
    """At once, with the reason."""
    context = certificate(trusted, *names, **options)
    with (
        RawServer(once(OK), context) as server,
        pytest.raises(FatalAPIError, match=reason),
    ):
        send(server.url)


def test_an_unknown_authority_is_fatal(authority: trustme.CA) -> None:
    """The error names the variable that can name it."""
    context = certificate(authority, "127.0.0.1")
    with RawServer(once(OK), context) as server:
        with pytest.raises(FatalAPIError) as caught:
            send(server.url)
        assert not server.requests
        assert f"The certificate of {server.url} is not" in str(caught.value)
    assert "unable to get local issuer certificate" in str(caught.value)
    assert "REQUESTS_CA_BUNDLE" in str(caught.value)


@pytest.mark.usefixtures("clock")
def test_a_sync_ends_at_an_unknown_authority(
    tap: Command, sandbox: Sandbox, authority: trustme.CA
) -> None:
    """One line, exit code 1, no second attempt."""
    context = certificate(authority, "127.0.0.1")
    with RawServer(once(OK), context) as server:
        run = tap(config={**sandbox.config(), "api_url": server.url})
        assert server.connections == 1
    assert (run.code, len(run.errors)) == (1, 1)
    assert "REQUESTS_CA_BUNDLE" in run.errors[0]


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificates_of_the_environment_are_trusted(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Also on this machine, whose proxies do not count."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    monkeypatch.setenv(name, str(path))
    with RawServer(once(OK), certificate(authority, "127.0.0.1")) as server:
        assert send(server.url).body == b"{}"


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_certificates_that_are_not_there_are_one_line(
    tap: Command,
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
) -> None:
    """It names the variable."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    run = tap(config={**sandbox.config(), "api_url": f"https://{HOST}"})
    assert (run.code, len(run.errors)) == (1, 1)
    assert "REQUESTS_CA_BUNDLE must name a file of certificates" in run.errors[0]


def test_certificates_do_not_matter_without_tls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sandbox works on a machine whose variable is wrong."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/missing.pem")
    with RawServer(once(OK)) as server:
        assert send(server.url).body == b"{}"


def test_a_folder_of_certificates_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests accepts it, too."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    Transport(f"https://{HOST}", 1)


# Connections


def always(*steps: bytes | float) -> Respond:
    """Return a function that sends the same for each request, and keeps it open."""

    def respond(_number: int) -> Iterator[bytes | float]:
        yield from steps

    return respond


def test_requests_one_after_another_share_a_connection() -> None:
    """Twenty requests, one connection, and no socket afterwards."""
    with RawServer(always(OK)) as server:
        sender = Sender(server.url)
        for _ in range(20):
            exchange = sender.start()
            assert sender.next().body == b"{}"
            exchange.give_up()  # It is over: nothing happens.
        sender.transport.close()
        assert server.connections == 1


def test_requests_at_a_time_have_a_connection_each() -> None:
    """Eight are in flight together, and the next eight use the same connections."""
    together = threading.Barrier(8)

    def respond(_number: int) -> Steps:
        together.wait(PATIENCE_SECONDS)
        yield OK

    with RawServer(respond) as server:
        sender = Sender(server.url)
        for _ in range(2):
            for _ in range(8):
                sender.start()
            assert {sender.next().body for _ in range(8)} == {b"{}"}
        sender.transport.close()
        assert server.connections == 8


def fail(_response: Response) -> t.NoReturn:
    """Find that a response is not what it should be."""
    raise LookupError


def test_a_connection_with_a_bad_response_is_not_used_again() -> None:
    """What is wrong with it may show in its body only."""
    with RawServer(always(OK)) as server:
        sender = Sender(server.url)
        for read in (fail, fail, lambda it: it.status, lambda it: it.status):
            sender.start(read)
        results = [sender.next() for _ in range(4)]
        assert sorted(map(str, results)) == ["", "", "200", "200"]
        sender.start()
        assert sender.next().body == b"{}"
        sender.transport.close()
        assert server.connections == 4


def test_a_connection_that_was_closed_meanwhile_is_replaced() -> None:
    """A server may close one that it has not heard of for a while."""
    with RawServer(once(OK)) as server:
        sender = Sender(server.url)
        for number in (1, 2):
            sender.start()
            assert sender.next().body == b"{}"
            join_request_threads()
            assert server.connections == number
        sender.transport.close()


@pytest.mark.parametrize("statuses", [[100], [103], [103, 100, 102, 103]])
def test_a_response_may_come_after_others(statuses: list[int]) -> None:
    """Early Hints, for example; and the connection is kept."""
    before = [f"HTTP/1.1 {it} x\r\nLink: y\r\n\r\n".encode() for it in statuses]
    with RawServer(always(*before, response(b"{}", "X-A: b"))) as server:
        sender = Sender(server.url)
        for _ in range(2):
            sender.start()
            found = sender.next()
            assert (found.status, found.body) == (200, b"{}")
            assert (found.headers["x-a"], found.headers.get("Link")) == ("b", None)
        sender.transport.close()
        assert server.connections == 1


def test_a_late_response_is_not_that_to_the_next_request(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """A proxy's 504, and then the page after all, on the same connection."""
    sandbox.script(Fault("late", at=2, seconds=0.1))
    run = tap(config=sandbox.config(), clock=clock)
    assert run.code == 0
    assert run.leads == sandbox.leads.all()
