"""Alarms: what somebody should be told of. Changes with what may go wrong."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

OLDEST_EVENT = cdk.Duration.hours(1)  # failed messages are tried again after a quarter of an hour at most
PERIOD = cdk.Duration.minutes(5)
LONG_PERIOD = cdk.Duration.minutes(15)


class Alarms(Construct):
    """Alarms that tell a topic. Each is one of standard resolution on one metric; nothing measured is no alarm."""

    def __init__(self, scope: Construct, topic: sns.ITopic) -> None:
        super().__init__(scope, "Alarms")
        self._action = actions.SnsAction(topic)

    def dead_letters(self, name: str, queue: sqs.IQueue) -> None:
        """A message was given up."""
        metric = queue.metric_approximate_number_of_messages_visible(period=PERIOD, statistic="Maximum")
        self._alarm(name, metric, 1, "Messages were given up: bucketdex dlq list")

    def old_events(self, queue: sqs.IQueue) -> None:
        """Events wait for longer than they should: too many, or one that fails again and again."""
        metric = queue.metric_approximate_age_of_oldest_message(period=PERIOD, statistic="Maximum")
        message = (
            "The oldest event has waited for an hour: too many uploads, or one that fails again and again (see the log)"
        )
        self._alarm("OldEvents", metric, OLDEST_EVENT.to_seconds(), message)

    def errors(self, name: str, function: lambda_.IFunction) -> None:
        """A function failed as a whole."""
        metric = function.metric_errors(period=LONG_PERIOD, statistic="Sum")
        self._alarm(f"{name}Errors", metric, 1, f"The {name.lower()} failed: see its log")

    def counted(self, name: str, service: str, message: str) -> None:
        """A function counted something that shouldn't be: its own metric `name` is above 0."""
        metric = cloudwatch.Metric(
            namespace="Bucketdex",
            metric_name=name,
            dimensions_map={"service": f"bucketdex-{service}"},
            period=LONG_PERIOD,
            statistic="Sum",
        )
        self._alarm(name, metric, 1, message)

    def _alarm(self, name: str, metric: cloudwatch.IMetric, threshold: float, message: str) -> None:
        alarm = cloudwatch.Alarm(
            self,
            name,
            metric=metric,
            threshold=threshold,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description=f"Bucketdex: {message}",
        )
        alarm.add_alarm_action(self._action)
