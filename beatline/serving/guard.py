"""Who may ask, and how often, before anything of a request is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from beatline.serving.problems import Problem
from beatline.serving.rates import Rates
from beatline.serving.tokens import OPEN, Tokens


class Guard:
    """Refuses requests without a token that they need, and those that come too often; `refusal` makes
    responses of problems. Files of the page and health are for everybody, as often as they like."""

    def __init__(
        self,
        app: ASGIApp,
        tokens: Tokens,
        rates: Rates,
        refusal: Callable[[Request, Exception], Awaitable[Response]],
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._rates = rates
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["type"] == "http":
                self._check(scope)
        except Problem as problem:
            response = await self._refusal(Request(scope), problem)
            await response(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        if not OPEN.fullmatch(scope["path"]):
            self._rates.check((scope.get("client") or ("",))[0])
        self._tokens.check(scope)
