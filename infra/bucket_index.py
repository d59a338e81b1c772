"""The construct `BucketIndex`: what a deployment consists of and how its parts are wired."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_event_sources as sources
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as sns_subscriptions
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from bucketdex.storage import backfills_prefix, round_path
from infra.alarms import Alarms
from infra.bundle import LAMBDA_ARM64, Target, build
from infra.functions import function, grant_data, grant_index, grant_list, grant_put
from infra.notifications import announce, announced, has_tags
from infra.queues import EVENT_MAX_RECEIVE_COUNT, dead_letter_queue, work_queue

KEEP_NOTIFICATIONS_OF_OTHERS = "@aws-cdk/aws-s3:keepNotificationInImportedBucket"
TIMEOUT = cdk.Duration.minutes(15)
REGISTRAR_TIMEOUT = cdk.Duration.minutes(2)
BATCHING_WINDOW = cdk.Duration.seconds(2)
MAINTENANCE_INTERVAL = cdk.Duration.minutes(15)
BACKFILL_INTERVAL = cdk.Duration.minutes(15)
ERASE_WITHIN = cdk.Duration.days(7)
ERASE_WITHIN_MIN = cdk.Duration.hours(4)
COMPACTIONS_AT_ONCE = 4
MEMORY_MB = 1769  # the memory at which Lambda gives one whole core
BACKFILLER_MEMORY_MB = 512  # it waits most of its time
VERIFY_CURSORS = round_path("*")
PAGES_A_BATCH = 3  # of 100 keys: as many as a commit takes best


class BucketIndex(Construct):
    """An indexed bucket: data bucket -> topic -> queue -> indexer -> index bucket, and its maintenance.

    tables: absolute path of the folder of table definitions (TOML).
    data_bucket: the bucket to index; a versioned one is made when not given. A bucket may be imported by name or
        ARN, from the region of this stack; its notifications of others are kept.
    index_bucket: where the index lives; made when not given. It must not be versioned nor be the data bucket.
    removal_policy: what becomes of the buckets made here when the stack goes. RETAIN by default.
    max_concurrency: how many indexers may run at once. More contend for the tables' manifests.
    batch_size, max_batching_window: how many events one commit may gather, and how long it waits for them.
    backfill_concurrency: how many indexers may run at once for backfills, beside those for events; 2 or more.
    inventory_bucket: where reports of S3 Inventory are, for backfills that go through one instead of the listing.
    verify_schedule: when to compare the tables with the bucket; never, by default. One run goes as far as 10 minutes
        take it, and the next goes on from there.
    verify_deep_sample: the share of objects that it also reads (0.01: one in a hundred).
    verify_repair: it applies the keys that differ.
    alarms: the topic to tell when messages were given up or wait too long, or a function fails; no alarms without it.
    erase_within: the time in which a value that was deleted leaves the index's files; 4 hours or more.

    Reads no CDK context and no working directory: the same arguments give the same template anywhere.
    """

    target: ClassVar[Target] = LAMBDA_ARM64
    # From the registrar's turn on: seconds until the notifications are wired, usually five minutes more for S3.
    announced_within: ClassVar[cdk.Duration] = cdk.Duration.minutes(10)

    data_bucket: s3.IBucket
    index_bucket: s3.IBucket
    topic: sns.Topic
    outputs: dict[str, str]  # what clients and commands look up in a stack: each a CfnOutput of its name

    def __init__(
        self,
        scope: Construct,
        id: str,  # noqa: A002 (as CDK names it)
        *,
        tables: str | Path,
        data_bucket: s3.IBucket | None = None,
        index_bucket: s3.IBucket | None = None,
        removal_policy: cdk.RemovalPolicy = cdk.RemovalPolicy.RETAIN,
        max_concurrency: int = 8,
        batch_size: int = 100,
        max_batching_window: cdk.Duration = BATCHING_WINDOW,
        backfill_concurrency: int = 2,
        inventory_bucket: s3.IBucket | None = None,
        verify_schedule: cdk.Duration | events.Schedule | None = None,
        verify_deep_sample: float = 0.0,
        verify_repair: bool = False,
        alarms: sns.ITopic | None = None,
        erase_within: cdk.Duration = ERASE_WITHIN,
    ) -> None:
        super().__init__(scope, id)
        self._erase_seconds = int(erase_within.to_seconds())
        if self._erase_seconds < ERASE_WITHIN_MIN.to_seconds():
            raise ValueError(f"erase_within is {self._erase_seconds} seconds: the schedule keeps 4 hours or more")
        # Another stack may add notifications to a bucket made here; ours must not wipe them out.
        self.node.set_context(KEEP_NOTIFICATIONS_OF_OTHERS, True)
        self._bundle = build(tables, self.target)
        self.data_bucket = data_bucket or self._bucket("DataBucket", removal_policy, versioned=True)
        self.index_bucket = index_bucket or self._bucket("IndexBucket", removal_policy, versioned=False)
        self._check_buckets()
        self.topic = sns.Topic(self, "Events", enforce_ssl=True)
        queue, dead_events = work_queue(
            self,
            "EventQueue",
            consumer_timeout=TIMEOUT,
            window=max_batching_window,
            max_receives=EVENT_MAX_RECEIVE_COUNT,
        )
        maintenance, dead_maintenance = work_queue(
            self, "Maintenance", consumer_timeout=TIMEOUT, window=cdk.Duration.seconds(0), fifo=True
        )
        backfill, dead_pages = work_queue(
            self,
            "Backfill",
            consumer_timeout=TIMEOUT,
            window=cdk.Duration.seconds(0),
            max_receives=EVENT_MAX_RECEIVE_COUNT,
        )
        backfiller = self._woken = self._backfiller(backfill, inventory_bucket)
        registration = self._registrar(maintenance, backfiller)
        indexer = self._indexer(queue, backfill, maintenance)
        indexer.add_event_source(
            sources.SqsEventSource(
                queue,
                batch_size=batch_size,
                max_batching_window=max_batching_window,
                max_concurrency=max_concurrency,
                report_batch_item_failures=True,
            )
        )
        # A queue of its own, with a bound of its own: events never wait behind a backfill.
        indexer.add_event_source(
            sources.SqsEventSource(
                backfill,
                batch_size=PAGES_A_BATCH,
                max_concurrency=backfill_concurrency,
                report_batch_item_failures=True,
            )
        )
        # What the registrar refuses reaches no indexer, and each finds what was in force before its own definitions.
        indexer.node.add_dependency(registration)
        compactor = self._compactor(maintenance)
        verifier = None
        if verify_schedule is not None:
            verifier = self._verifier(verify_schedule, verify_deep_sample, verify_repair)
        elif verify_deep_sample or verify_repair:
            raise ValueError("verify_deep_sample and verify_repair need a verify_schedule")
        undelivered = dead_letter_queue(self, "UndeliveredEvents")
        self.topic.add_subscription(
            sns_subscriptions.SqsSubscription(queue, raw_message_delivery=True, dead_letter_queue=undelivered)
        )
        # Without all of these an event would be discarded, or meet an indexer that doesn't know its table.
        hearing = (registration, indexer, self.topic, queue, undelivered)
        announce(self.data_bucket, self.topic, self._bundle.tables, after=hearing)
        self.outputs = {
            "DataBucketName": self.data_bucket.bucket_name,
            "IndexBucketName": self.index_bucket.bucket_name,
            "TopicArn": self.topic.topic_arn,
            "EventQueueUrl": queue.queue_url,
            "EventDeadLetterQueueUrl": dead_events.queue_url,
            "UndeliveredEventsQueueUrl": undelivered.queue_url,
            "MaintenanceQueueUrl": maintenance.queue_url,
            "MaintenanceDeadLetterQueueUrl": dead_maintenance.queue_url,
            "BackfillQueueUrl": backfill.queue_url,
            "BackfillDeadLetterQueueUrl": dead_pages.queue_url,
            "BackfillerName": backfiller.function_name,
            "IndexerLogGroup": indexer.log_group.log_group_name,
            "CompactorLogGroup": compactor.log_group.log_group_name,
        }
        if verifier is not None:
            self.outputs["VerifierName"] = verifier.function_name
        if alarms is not None:
            told = Alarms(self, alarms)
            told.dead_letters("DeadEvents", dead_events)
            told.dead_letters("UndeliveredEvents", undelivered)
            told.dead_letters("DeadMaintenance", dead_maintenance)
            told.dead_letters("DeadBackfillPages", dead_pages)
            told.old_events(queue)
            told.errors("Indexer", indexer)
            told.errors("Compactor", compactor)
            told.errors("Backfiller", backfiller)
            told.counted("BackfillsFailed", "backfiller", "A backfill failed: bucketdex backfill status")
            if verifier is not None:
                told.errors("Verifier", verifier)
                told.counted(
                    "Differences", "verifier", "The index differs from the bucket: see the log of the verifier"
                )

    def grant_query(self, grantee: iam.IGrantable) -> None:
        """Lets `grantee` query: read the index bucket. The data bucket stays closed to it (`.records()` needs it)."""
        grant_index(self.index_bucket, grantee)

    def grant_backfill(self, grantee: iam.IGrantable) -> None:
        """Lets `grantee` start, pause, resume and cancel backfills, and query. A rebuild changes a table: it needs to
        write all of the index.
        """
        self.grant_query(grantee)
        jobs = [self.index_bucket.arn_for_objects(f"{backfills_prefix()}*")]
        iam.Grant.add_to_principal(grantee=grantee, actions=["s3:PutObject"], resource_arns=jobs)
        if self.index_bucket.encryption_key:
            self.index_bucket.encryption_key.grant_encrypt_decrypt(grantee)
        _let_wake(grantee, self._woken)

    def _bucket(self, kind: str, removal_policy: cdk.RemovalPolicy, *, versioned: bool) -> s3.Bucket:
        return s3.Bucket(
            self,
            kind,
            versioned=versioned,
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            removal_policy=removal_policy,
        )

    def _check_buckets(self) -> None:
        resolve = cdk.Stack.of(self).resolve
        data, index = (
            (resolve(bucket.bucket_name), resolve(bucket.bucket_arn))
            for bucket in (self.data_bucket, self.index_bucket)
        )
        if data[0] == index[0] or data[1] == index[1]:
            raise ValueError("the index bucket must not be the data bucket: the index would index itself, for ever")
        resource = self.index_bucket.node.default_child
        if isinstance(resource, s3.CfnBucket) and resource.versioning_configuration is not None:
            raise ValueError("the index bucket must not be versioned: it would keep every manifest ever written")

    def _function(
        self, name: str, timeout: cdk.Duration, memory_mb: int = MEMORY_MB, **environment: str
    ) -> lambda_.Function:
        index = {"INDEX_BUCKET": self.index_bucket.bucket_name}
        return function(self, name, self._bundle, environment=index | environment, timeout=timeout, memory_mb=memory_mb)

    def _backfiller(self, backfill: sqs.Queue, inventory: s3.IBucket | None) -> lambda_.Function:
        """Lists what backfills have to apply. A schedule goes on with those under way, so a failed turn is not tried
        again, and nothing invokes itself.
        """
        backfiller = self._function(
            "backfiller",
            TIMEOUT,
            BACKFILLER_MEMORY_MB,
            DATA_BUCKET=self.data_bucket.bucket_name,
            BACKFILL_QUEUE_URL=backfill.queue_url,
        )
        backfiller.configure_async_invoke(retry_attempts=0)
        grant_list(self.data_bucket, backfiller)
        if inventory is not None:
            grant_data(inventory, backfiller, tags=False)
        grant_index(self.index_bucket, backfiller, write=True)
        backfill.grant_send_messages(backfiller)  # with it, to see how many wait
        events.Rule(
            self,
            "BackfillSchedule",
            description="Goes on with backfills under way",
            schedule=events.Schedule.rate(BACKFILL_INTERVAL),
            targets=[targets.LambdaFunction(backfiller)],
        )
        return backfiller

    def _verifier(self, schedule: cdk.Duration | events.Schedule, sample: float, repair: bool) -> lambda_.Function:
        """Compares tables with the bucket. It writes how far it has come and, unless it repairs, nothing else."""
        if not 0 <= sample <= 1:
            raise ValueError(f"verify_deep_sample is a share of objects: from 0 to 1, not {sample}")
        verifier = self._function(
            "verifier",
            TIMEOUT,
            DATA_BUCKET=self.data_bucket.bucket_name,
            VERIFY_DEEP_SAMPLE=str(sample),
            VERIFY_REPAIR=str(repair).lower(),
        )
        verifier.configure_async_invoke(retry_attempts=0)  # the schedule goes on
        reads_tags = (sample > 0 or repair) and any(map(has_tags, self._bundle.tables))
        grant_data(self.data_bucket, verifier, tags=reads_tags)
        grant_index(self.index_bucket, verifier, write=repair)
        grant_put(self.index_bucket, verifier, VERIFY_CURSORS)
        events.Rule(
            self,
            "VerifySchedule",
            description="Compares the index with the bucket",
            schedule=events.Schedule.rate(schedule) if isinstance(schedule, cdk.Duration) else schedule,
            targets=[targets.LambdaFunction(verifier)],
        )
        return verifier

    def _registrar(self, maintenance: sqs.Queue, backfiller: lambda_.Function) -> cdk.CfnResource:
        """The definition commit of every table, made at each deployment that changes one."""
        registrar = self._function(
            "registrar",
            REGISTRAR_TIMEOUT,
            MAINTENANCE_QUEUE_URL=maintenance.queue_url,
            BACKFILLER_NAME=backfiller.function_name,
            ANNOUNCED_SECONDS=str(self.announced_within.to_seconds()),
        )
        grant_index(self.index_bucket, registrar, write=True)
        maintenance.grant_send_messages(registrar)
        _let_wake(registrar, backfiller)
        return cdk.CfnResource(
            self,
            "Tables",
            type="AWS::CloudFormation::CustomResource",
            properties={
                "ServiceToken": registrar.function_arn,
                "ServiceTimeout": REGISTRAR_TIMEOUT.to_seconds() + 60,
                "ManagedBy": cdk.Stack.of(self).stack_name,
                "Bundle": self._bundle.hash,
                "Tables": sorted(table.name for table in self._bundle.tables),
                "Sources": {table.name: announced(table) for table in self._bundle.tables},
            },
        )

    def _indexer(self, queue: sqs.Queue, backfill: sqs.Queue, maintenance: sqs.Queue) -> lambda_.Function:
        indexer = self._function(
            "indexer",
            TIMEOUT,
            DATA_BUCKET=self.data_bucket.bucket_name,
            EVENT_QUEUE_URL=queue.queue_url,
            BACKFILL_QUEUE_URL=backfill.queue_url,
            MAINTENANCE_QUEUE_URL=maintenance.queue_url,
        )
        grant_data(self.data_bucket, indexer, tags=any(map(has_tags, self._bundle.tables)))
        grant_index(self.index_bucket, indexer, write=True)
        maintenance.grant_send_messages(indexer)
        return indexer

    def _compactor(self, maintenance: sqs.Queue) -> lambda_.Function:
        compactor = self._function("compactor", TIMEOUT, ERASE_SECONDS=str(self._erase_seconds))
        grant_index(self.index_bucket, compactor, write=True, delete=True)
        compactor.add_event_source(
            sources.SqsEventSource(
                maintenance, batch_size=1, max_concurrency=COMPACTIONS_AT_ONCE, report_batch_item_failures=True
            )
        )
        events.Rule(
            self,
            "Schedule",
            description="Compacts what no commit asks for any more, and deletes garbage",
            schedule=events.Schedule.rate(MAINTENANCE_INTERVAL),
            targets=[targets.LambdaFunction(compactor)],
        )
        return compactor


def _let_wake(grantee: iam.IGrantable, backfiller: lambda_.Function) -> None:
    """That function only: granting through CDK would add its versions."""
    arns = [backfiller.function_arn]
    iam.Grant.add_to_principal(grantee=grantee, actions=["lambda:InvokeFunction"], resource_arns=arns)
