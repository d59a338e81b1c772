"""Logs, metrics and traces: one instance of each for whatever handler runs in this process."""

from __future__ import annotations

from aws_lambda_powertools import Logger, Metrics, Tracer

# Names come from POWERTOOLS_SERVICE_NAME and POWERTOOLS_METRICS_NAMESPACE, which the stack sets.
logger = Logger()
metrics = Metrics()
# Patching every library would import botocore's integrations at each cold start; the handlers' own segments suffice.
tracer = Tracer(auto_patch=False)
