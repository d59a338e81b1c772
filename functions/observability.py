"""Logs, metrics and traces: one instance of each for whatever handler runs in this process."""

from __future__ import annotations

from aws_lambda_powertools import Logger, Metrics, Tracer

# The service is what POWERTOOLS_SERVICE_NAME says, which the stack sets to the function's name.
logger = Logger()
metrics = Metrics(namespace="Bucketdex")
# Patching every library would import botocore's integrations at each cold start; the handlers' own segments suffice.
tracer = Tracer(auto_patch=False)
