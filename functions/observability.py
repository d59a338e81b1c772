"""Logs, metrics and traces: one instance of each for whatever handler runs in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import EphemeralMetrics

# The service is what POWERTOOLS_SERVICE_NAME says, which the stack sets to the function's name.
logger = Logger()
NAMESPACE = "Bucketdex"
metrics = Metrics(namespace=NAMESPACE)
# Handlers capture no error: of one that is raised a trace has the type, message and stack anyway, and as metadata it
# would get the error's attributes too, such as the text that a JSON parser stopped at.
# Patching every library would import botocore's integrations at each cold start; the handlers' own segments suffice.
tracer = Tracer(auto_patch=False)


@contextmanager
def table_metrics(table: str) -> Iterator[EphemeralMetrics]:
    """Metrics with a dimension `table`, written when the block ends."""
    own = EphemeralMetrics(namespace=NAMESPACE)
    own.add_dimension("table", table)
    yield own
    own.flush_metrics()
