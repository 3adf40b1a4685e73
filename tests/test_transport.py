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
    from pathlib import Path

    from sandbox import Sandbox
    from tap_mega.api.transport import Exchange, Read
    from testing.harness import Sync
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


def join_threads(name: str = "request") -> None:
    """Wait until no request is under way; fail if one does not end."""
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()


def once(*steps: bytes | float, error: type[Exception] = EOFError) -> Respond:
    """Return a function that sends the same for each request, and closes."""

    def respond(_number: int) -> Steps:
        yield from steps
        raise error

    return respond


def always(*steps: bytes | float) -> Respond:
    """Return a function that sends the same for each request, and keeps it open."""
    return lambda _number: iter(steps)


def endless(start: bytes, again: bytes) -> Respond:
    """Return a function that sends something, and then something else for ever."""
    return lambda _number: itertools.chain(
        [start], itertools.cycle([again, PAUSE_SECONDS])
    )


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SLOW = {
    "body": endless(response(length=10**6), b"."),
    "headers": endless(b"HTTP/1.1 200 OK\r\nX-Header: ", b"."),
    "chunks": endless(CHUNKED, b"1\r\n \r\n"),
    "continue": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "silence": once(60.0),
}


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


# Time


@pytest.mark.parametrize("slow", ["body", "chunks", "silence"])
def test_a_slow_server_has_the_timeout_in_all(slow: str) -> None:
    """However often it sends a byte, the request fails by itself."""
    with RawServer(SLOW[slow]) as server:
        message = f"no complete response within {TIMEOUT_SECONDS} s"
        assert failure(server.url, TIMEOUT_SECONDS) == message


def check_giving_up(url: str, server: RawServer, requests: int = 1) -> None:
    """Check that a request ends its thread when it is given up, and puts nothing."""
    sender = Sender(url)
    exchange = sender.start()
    assert server.wait_for(requests, PATIENCE_SECONDS)
    exchange.give_up()
    join_threads()
    assert sender.inbox.empty()


@pytest.mark.parametrize("slow", SLOW)
def test_a_request_can_be_given_up(slow: str) -> None:
    """Whatever it waits for, its thread ends at once."""
    with RawServer(SLOW[slow]) as server:
        check_giving_up(server.url, server)


@pytest.mark.parametrize("slow", ["body", "headers"])
def test_a_request_behind_a_proxy_can_be_given_up(
    trusted: trustme.CA, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    """A tunnel and TLS make no difference."""
    with RawServer(SLOW[slow], certificate(trusted, HOST), is_proxy=True) as server:
        monkeypatch.setenv("HTTPS_PROXY", server.url)
        check_giving_up(f"https://{HOST}", server, requests=2)


def test_a_tunnel_can_be_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is never built holds no thread."""
    with RawServer(SLOW["headers"]) as server:
        monkeypatch.setenv("HTTPS_PROXY", server.url)
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
        join_threads()
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


@pytest.mark.parametrize("times", [0, 1, 2])
def test_a_body_has_a_limit(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """It counts what is decompressed, even if that was compressed twice."""
    monkeypatch.setattr(transport_module, "MAX_BODY_BYTES", 2 * MIB)
    encoding = f"Content-Encoding: {', '.join(times * ['gzip']) or 'identity'}"
    for size in (2 * MIB, 2 * MIB + 1):
        body = b" " * size
        for _ in range(times):
            body = gzip.compress(body)
        with RawServer(once(response(body, encoding))) as server:
            if size == 2 * MIB:
                assert len(send(server.url).body) == size
            else:
                assert failure(server.url) == "the response was larger than 2 MiB"


@pytest.mark.parametrize(("size", "kept"), [(65536, 65536), (65537, 0)])
def test_the_body_of_an_error_has_a_small_limit(size: int, kept: int) -> None:
    """The status decides what it means, not its body."""
    with RawServer(once(response(b"x" * size, status=401))) as server:
        found = send(server.url)
    assert (found.status, len(found.body)) == (401, kept)


def test_a_sync_survives_a_bomb(sync: Sync, sandbox: Sandbox) -> None:
    """It costs an attempt and no lead."""
    sandbox.script(Fault("bomb", at=2))
    run = sync()
    assert (run.code, len(run.records)) == (0, 250)
    assert len(sandbox.requests) > 3


# Words


BROKEN: dict[str, list[Respond]] = {
    "{url} closed the connection without a response": [once()],
    "{url} reset the connection": [once(error=ConnectionResetError)],
    "the response was cut off": [
        once(response(b"{", length=9)),
        *(once(CHUNKED + it) for it in (b"5\r\n12", b"1\r\n \r\n", b"x\r\n12")),
    ],
    "the response could not be decompressed": [
        once(response(b"needle", "Content-Encoding: gzip"))
    ],
    "the response was not valid HTTP": [
        once(b"needle\r\n\r\n"),
        once(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n"),
        once(b"HTTP/1.1 200 OK\r\na: " + b"b" * 2**17 + b"\r\n\r\n"),
        once(response(b"{}", "Content-Length: 1")),  # a second one
    ],
}


@pytest.mark.parametrize(
    ("words", "respond"), [(it, one) for it, all_ in BROKEN.items() for one in all_]
)
def test_a_broken_response_is_described(words: str, respond: Respond) -> None:
    """In words that a person knows, without the query."""
    with RawServer(respond) as server:
        assert failure(server.url) == words.format(url=server.url)


def test_the_same_length_twice_is_accepted() -> None:
    """RFC 9110, section 8.6."""
    with RawServer(once(response(b"{}", "Content-Length: 2"))) as server:
        assert send(server.url).body == b"{}"


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


IN_PROXY = "the connection to the proxy in HTTPS_PROXY failed"
PROXIES = {
    **{
        f"{IN_PROXY} (status {it})": response(b"needle", status=it) for it in (407, 502)
    },
    "the response was not valid HTTP": b"needle\r\n\r\n",
}


@pytest.mark.parametrize("words", PROXIES)
def test_a_broken_proxy_is_described(
    monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """The message says what went wrong at the proxy."""
    with RawServer(once(PROXIES[words])) as server:
        url = server.url.replace("//", "//user:password@")
        monkeypatch.setenv("HTTPS_PROXY", url)
        assert failure(f"https://{HOST}") == words


def test_a_proxy_that_refuses_connections_is_described(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody listens there."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    monkeypatch.setenv("HTTPS_PROXY", url)
    message = "the proxy in HTTPS_PROXY refused the connection"
    assert failure(f"https://{HOST}") == message


@pytest.mark.parametrize("url", ["socks5://127.0.0.1:9", "what://x:1", "http://[::"])
def test_a_proxy_that_cannot_be_one_is_fatal(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """Trying again would not help."""
    monkeypatch.setenv("HTTPS_PROXY", url)
    with pytest.raises(FatalAPIError, match="proxy settings of the environment"):
        send(f"https://{HOST}")


def test_a_proxy_is_used(trusted: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request goes through its tunnel."""
    context = certificate(trusted, HOST)
    with RawServer(once(OK), context, is_proxy=True) as server:
        monkeypatch.setenv("HTTPS_PROXY", server.url)
        assert send(f"https://{HOST}").body == b"{}"
        assert [it.split()[0] for it in server.requests] == [b"CONNECT", b"GET"]


HEADS = [
    *(b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n", CHUNKED),
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n",
]


@given(st.sampled_from(HEADS), st.binary(max_size=60))
@settings(deadline=None)
def test_any_bytes_are_a_response_or_a_failure(head: bytes, garbage: bytes) -> None:
    """No other exception is raised."""
    with (
        RawServer(once(head + garbage)) as server,
        contextlib.suppress(TemporaryError),
    ):
        send(server.url)


# Certificates

EXPIRED = {"not_after": dt.datetime(2001, 1, 1, tzinfo=dt.UTC)}


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("127.0.0.1", EXPIRED, "certificate has expired"),
        (HOST, {}, "IP address mismatch"),
    ],
)
def test_a_wrong_certificate_is_fatal(
    trusted: trustme.CA, name: str, options: dict[str, t.Any], reason: str
) -> None:
    """At once, with the reason."""
    with (
        RawServer(once(OK), certificate(trusted, name, **options)) as server,
        pytest.raises(FatalAPIError, match=reason),
    ):
        send(server.url)


def test_a_sync_ends_at_an_unknown_authority(sync: Sync, authority: trustme.CA) -> None:
    """One line names the variable that can name it. There is no second attempt."""
    context = certificate(authority, "127.0.0.1")
    with RawServer(once(OK), context) as server:
        run = sync(api_url=server.url)
        assert (server.connections, server.requests) == (1, [])
        (line,) = run.errors
        assert f"The certificate of {server.url} is not" in line
    assert run.code == 1
    assert "unable to get local issuer certificate" in line
    assert "REQUESTS_CA_BUNDLE" in line


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificates_of_the_environment_are_trusted(
    trusted: trustme.CA, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Also on this machine, whose proxies do not count."""
    path = os.environ["REQUESTS_CA_BUNDLE"]
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    monkeypatch.setenv(name, path)
    with RawServer(once(OK), certificate(trusted, "127.0.0.1")) as server:
        assert send(server.url).body == b"{}"


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_certificates_that_are_not_there_are_one_line(
    sync: Sync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    """It names the variable."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    run = sync(api_url=f"https://{HOST}")
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
            join_threads()
            join_threads("connection")  # It is closed.
            assert server.connections == number
        sender.transport.close()


@pytest.mark.parametrize("statuses", [[100], [103], [103, 100, 102, 103]])
def test_a_response_may_come_after_others(statuses: list[int]) -> None:
    """Early Hints, for example; and the connection is kept."""
    before = [f"HTTP/1.1 {it} x\r\nLink: y\r\n\r\n".encode() for it in statuses]
    with RawServer(always(*before, response(b"{}", "X-A: b"))) as server:
        sender = Sender(server.url)
        for _ in range(2):
            exchange = sender.start()
            found = sender.next()
            exchange.give_up()  # It is over: nothing happens.
            assert (found.status, found.body) == (200, b"{}")
            assert (found.headers["x-a"], found.headers.get("Link")) == ("b", None)
        sender.transport.close()
        assert server.connections == 1


def test_a_late_response_is_not_that_to_the_next_request(
    sync: Sync, sandbox: Sandbox
) -> None:
    """A proxy's 504, and then the page after all, on the same connection."""
    sandbox.script(Fault("late", at=2, seconds=0.1))
    run = sync()
    assert run.code == 0
    assert run.leads == sandbox.leads.all()
