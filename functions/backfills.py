"""Waking the backfiller: what was started goes on at once instead of with its next schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions.sqs import only_logged

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient


class Backfiller:
    """The function that works off backfills. A schedule wakes it as well, so a failing call is logged and fails
    nothing.
    """

    def __init__(self, client: LambdaClient, name: str) -> None:
        self._client, self._name = client, name

    def wake(self) -> None:
        """Has it begin a turn, and doesn't wait for it. One request."""
        with only_logged("the backfiller was not woken"):
            self._client.invoke(FunctionName=self._name, InvocationType="Event", Payload=b"{}")
