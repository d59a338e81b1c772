"""Page tokens: where a page ended, in which generation, and of which query. Opaque text to the caller.

A token holds the sort key of the last row, so it is as confidential as the fields that the query is ordered or looked
up by.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from bucketdex.errors import QueryError
from bucketdex.query.cursor import Position
from bucketdex.query.expression import And, Comparison, Expression, Not, Operator, Or
from bucketdex.query.plan import Plan

VERSION = 1
TOKEN_CHARS_MAX = 100_000


class Token(NamedTuple):
    """What a token says. `given`: rows of the pages before, which count towards the query's limit."""

    generation: int
    query: str
    plan: str
    given: int
    position: Position


def encode(token: Token) -> str:
    """The token as text that fits a URL."""
    return base64.urlsafe_b64encode(msgspec.json.encode([VERSION, token])).decode().rstrip("=")


def decode(text: str, query: str) -> Token:
    """The token in a text. QueryError for anything else, and for the token of another query."""
    if not isinstance(text, str) or len(text) > TOKEN_CHARS_MAX:
        raise QueryError("page(): that is no token; pass next_token of the page before, unchanged")
    try:
        body = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        _, token = msgspec.json.decode(body, type=tuple[int, Token])
    except (binascii.Error, msgspec.DecodeError, ValueError) as error:
        raise QueryError("page(): that is no token; pass next_token of the page before, unchanged") from error
    if token.query != query:
        raise QueryError("page(): the token is of another query; start without one")
    return token


def query_fingerprint(table: str, expression: Expression | None, rest: Sequence[object]) -> str:
    """What makes two queries the same for paging."""
    return _hash(f"{table}\n{None if expression is None else _canonical(expression)}\n{rest!r}")


def plan_fingerprint(plan: Plan) -> str:
    """What a position depends on besides the query: the views that are read."""
    return _hash(repr([(branch.access.layout.view, branch.mode, branch.skip) for branch in plan.branches]))


def _canonical(expression: Expression) -> str:
    if isinstance(expression, Not):
        return f"~({_canonical(expression.part)})"
    if isinstance(expression, And | Or):
        return f"{type(expression).__name__}({', '.join(map(_canonical, expression.parts))})"
    assert isinstance(expression, Comparison)
    operands = [repr(operand) for operand in expression.operands]
    if expression.operator in (Operator.IN, Operator.NOT_IN):
        operands.sort()  # a set has another order in another process
    return f"{expression.column!r} {expression.operator} {operands}"


def _hash(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
