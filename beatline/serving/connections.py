"""Connections within limits: what a client may send before anybody looks at it, and how long it may wait.

uvicorn bounds neither headers nor how long they take, closes no connection that is idle before its first
request or stops in the middle of one, and lets in any number of them: its limit of concurrency refuses
requests, after they have arrived. When a process ends, it closes connections on which a request is under
way.
"""

from __future__ import annotations

import asyncio
import time
from functools import cache
from http import HTTPStatus
from typing import Any, cast

import httptools
from uvicorn.middleware.proxy_headers import _TrustedHosts
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from beatline.serving import access_log
from beatline.serving.problems import Problem
from beatline.serving.rates import client_of

HEADER_BYTES, HEADERS = 65_536, 100  # of a request, its first line included
PIPELINED = 16  # requests of a connection that wait for the answer of another
CONNECTIONS = 500  # of a process
CONNECTIONS_OF_CLIENT = 100  # of those, from one address that is no proxy's
SECONDS_FOR_HEADERS = 10.0
SECONDS_FOR_THE_REST = 30.0  # to take an answer, and to send what is left of a request that has one
# Between two requests: longer than proxies keep their connections (60 seconds, of nginx and others), or
# one would send a request into a connection that is just ending.
SECONDS_IDLE = 65.0
SECONDS_TO_CLOSE = 1.0  # to take a refusal; at the end of the process, to send what is under way


class BoundedProtocol(HttpToolsProtocol):
    """A connection. `_timer` ends it while it waits for its client; what an answer may take is for the
    application to say."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.timeout_keep_alive = SECONDS_IDLE
        self.since = time.monotonic()  # when it began to wait for its client
        self._belongs_to = ""  # whom its address belongs to
        self._timer: asyncio.TimerHandle | None = None
        self._patience: float | None = None  # seconds that `_timer` was set to
        self._expects_headers = True  # not in a body
        self._header_bytes = 0  # received, of headers that are not complete
        self._url_and_headers = 0  # bytes of those that the parser has found
        self._ending = False
        self._answered: RequestResponseCycle | None = None

    # What the transport says

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._belongs_to = client_of(self.client[0]) if self.client else ""
        if not self._fits():
            self._refuse(Problem(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections are open"))
        else:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        if self._answered:  # uvicorn tells the last of several requests only
            self._answered.disconnected = True
            self._answered.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing() or self.parser is None:
            return
        self._unset_keepalive_if_required()
        if self._expects_headers:
            self._header_bytes += len(data)
        try:
            self._parse(data)
            if self._header_bytes > HEADER_BYTES:
                self._too_long()
        except (httptools.HttpParserError, Problem) as error:
            reason = error if isinstance(error, Problem) else error.__context__  # of a callback
            malformed = Problem(HTTPStatus.BAD_REQUEST, "this is not a request of HTTP/1.1")
            self._refuse(reason if isinstance(reason, Problem) else malformed)
            return
        self._watch()

    def _parse(self, data: bytes) -> None:
        """Parse what has come. A request that would change to another protocol is one of HTTP here, as
        RFC 9110 (7.8) lets a server have it; the parser, which sees no body in it, is given it anew."""
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                if self._opens_tunnel:  # what follows is no HTTP
                    self.cycle.keep_alive = False
                    if not self._is_due:
                        self.transport.close()
                    return
                lines = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
                method, version = self.parser.get_method(), self.parser.get_http_version()
                first = b"%s %s HTTP/%s" % (method, self.url, version.encode())
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
                data = b"\r\n".join([first, *lines, b"", data[upgrade.args[0] :]])

    @property
    def _opens_tunnel(self) -> bool:
        return self.parser.get_method() == b"CONNECT"

    @property
    def _comes_anew(self) -> bool:
        """Whether the request that is just parsed will be, as one of HTTP."""
        return self.parser.should_upgrade() and not self._opens_tunnel

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch()

    # What the parser says; a Problem that is raised here ends the connection

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._url_and_headers = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(len(name) + len(value))
        if len(self.headers) > HEADERS:  # those after a body in parts included
            detail = f"a request may have {HEADERS} headers: send fewer"
            raise Problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)

    def on_headers_complete(self) -> None:
        if self._comes_anew:
            return
        if len(self.pipeline) >= PIPELINED:
            detail = (
                f"{PIPELINED} requests of this connection wait already: read their answers first"
            )
            raise Problem(HTTPStatus.TOO_MANY_REQUESTS, detail)
        self._expects_headers, self._header_bytes = False, 0
        super().on_headers_complete()
        self.since = time.monotonic()
        if self._ending:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        if self._comes_anew:
            return
        self._expects_headers = True
        super().on_message_complete()

    # What the server says

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.since = time.monotonic()
        self._watch()

    def shutdown(self) -> None:
        """End it after the answer that is due, or in a moment, if no request comes until then: one may be
        on its way, and its client would not know whether it was heard."""
        self._ending = True
        if self._is_due:
            self.cycle.keep_alive = False
        else:
            self.loop.call_later(SECONDS_TO_CLOSE, self._end_if_idle)

    # Limits

    @property
    def _is_due(self) -> bool:
        """Whether the client waits for an answer."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _waits(self) -> bool:
        """Whether it waits for the client: to ask, or to send the rest of what it asks with."""
        return not self._is_due or self.cycle.more_body

    def _count(self, size: int) -> None:
        self._url_and_headers += size
        if self._url_and_headers > HEADER_BYTES:
            self._too_long()

    def _too_long(self) -> None:
        detail = f"a request's address and headers may have {HEADER_BYTES} bytes: send less"
        raise Problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)

    def _fits(self) -> bool:
        """Whether there is room for this connection, after another of its client's was ended if these are
        many, or of anybody's."""
        others = cast("set[BoundedProtocol]", self.connections) - {self}
        if self.client and self.client[0] not in _proxies(str(self.config.forwarded_allow_ips)):
            own = {each for each in others if each._belongs_to == self._belongs_to}
            if len(own) >= CONNECTIONS_OF_CLIENT:
                return self._makes_room(own)
        return len(others) < CONNECTIONS or self._makes_room(others)

    def _makes_room(self, others: set[BoundedProtocol]) -> bool:
        """Whether there is room after a connection was ended that waits for its client: the one that has
        waited longest for a request, or else for a body. Who has something to ask does not take long."""
        waiting = [other for other in others if other._waits]
        if not waiting:
            return False
        oldest = min(waiting, key=lambda connection: (connection._is_due, connection.since))
        self.connections.discard(oldest)
        oldest.transport.abort()
        return True

    def _watch(self) -> None:
        """Set the timer to what is waited for now; what was waited for before keeps its own."""
        patience = self._patience_now()
        if patience == self._patience:
            return
        if self._timer:
            self._timer.cancel()
        self._patience = patience
        self._timer = self.loop.call_later(patience, self._give_up) if patience else None

    def _patience_now(self) -> float | None:
        unsent = self.transport.get_write_buffer_size() > 0
        if self._is_due:
            return SECONDS_FOR_THE_REST if unsent and self.flow.write_paused else None
        if unsent or not self._expects_headers:
            return SECONDS_FOR_THE_REST
        if self._header_bytes or self.cycle is None:
            return SECONDS_FOR_HEADERS
        return None  # between two requests uvicorn's own timer runs

    def _give_up(self) -> None:
        self._timer, waited, self._patience = None, self._patience, None
        if waited != self._patience_now():
            self._watch()  # the client has taken all in the meantime, which nobody says
        elif waited == SECONDS_FOR_HEADERS and self._header_bytes:
            detail = f"the headers did not arrive within {SECONDS_FOR_HEADERS:g} seconds"
            self._refuse(Problem(HTTPStatus.REQUEST_TIMEOUT, detail))
        else:
            self.transport.abort()

    def _end_if_idle(self) -> None:
        if not self._is_due and not self._header_bytes:
            self.transport.close()

    def _refuse(self, problem: Problem) -> None:
        """Send a problem document if no answer is due, and end the connection. Nothing more is read, but
        a client that is still sending gets the time to see why."""
        if self._is_due or self.transport.is_closing():
            self.transport.abort()
            return
        response = problem.response()
        request = access_log.request_id(self.headers or [])
        access_log.write(request, self.client, status=response.status_code, size=len(response.body))
        own = (access_log.HEADER.encode(), request.encode()), (b"connection", b"close")
        headers = [*response.raw_headers, *own]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        self.transport.pause_reading()
        self.transport.write(STATUS_LINE[response.status_code] + b"".join(lines) + b"\r\n")
        self.transport.write(bytes(response.body))
        self.transport.write_eof()
        self.loop.call_later(SECONDS_TO_CLOSE, self.transport.abort)


@cache
def _proxies(trusted: str) -> _TrustedHosts:
    """Those whose word for a client's address is believed (FORWARDED_ALLOW_IPS): one has many clients."""
    return _TrustedHosts(trusted)
