"""What the template promises: failure policy, permissions, encryption, wiring. Never how many resources there are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Resources = dict[str, dict[str, Any]]
Synth = Callable[..., dict[str, Any]]


def of_type(template: dict[str, Any], kind: str) -> Resources:
    return {name: item for name, item in template["Resources"].items() if item["Type"] == kind}


def one(template: dict[str, Any], kind: str, part: str) -> tuple[str, dict[str, Any]]:
    found = [(name, item) for name, item in of_type(template, kind).items() if part in name]
    assert len(found) == 1, (kind, part, [name for name, _ in found])
    return found[0]


def function(template: dict[str, Any], name: str) -> dict[str, Any]:
    handler = f"functions.{name}.handler.handler"
    return next(
        item["Properties"]
        for item in of_type(template, "AWS::Lambda::Function").values()
        if item["Properties"]["Handler"] == handler
    )


def queue(template: dict[str, Any], part: str) -> tuple[str, dict[str, Any]]:
    queues = of_type(template, "AWS::SQS::Queue")
    name = min((name for name in queues if part in name), key=len)
    return name, queues[name]["Properties"]


def statements(template: dict[str, Any], role_part: str) -> list[dict[str, Any]]:
    found = []
    for policy in of_type(template, "AWS::IAM::Policy").values():
        if any(role_part in role["Ref"] for role in policy["Properties"]["Roles"]):
            found += policy["Properties"]["PolicyDocument"]["Statement"]
    for name, role in of_type(template, "AWS::IAM::Role").items():
        if role_part in name:
            assert "ManagedPolicyArns" not in role["Properties"], "managed policies grant more than the function needs"
    return found


def actions(statement: dict[str, Any]) -> set[str]:
    given = statement["Action"]
    return {given} if isinstance(given, str) else set(given)


def allowed(template: dict[str, Any], role_part: str, resource_part: str) -> set[str]:
    """The actions that a role may do on resources whose ARN mentions this part."""
    return {
        action
        for statement in statements(template, role_part)
        if resource_part in json.dumps(statement["Resource"])
        for action in actions(statement)
    }


def test_every_work_queue_has_a_dead_letter_queue_after_at_least_ten_receives(template: dict[str, Any]) -> None:
    for part in ("EventQueue", "Maintenance", "Backfill"):
        name, properties = queue(template, part)
        redrive = properties["RedrivePolicy"]
        assert redrive["maxReceiveCount"] >= 10
        dead = redrive["deadLetterTargetArn"]["Fn::GetAtt"][0]
        assert dead != name and "DeadLetters" in dead
        assert template["Resources"][dead]["Properties"]["MessageRetentionPeriod"] == 14 * 86400


def test_events_may_wait_half_a_day_for_capacity_before_they_are_dead_letters(template: dict[str, Any]) -> None:
    from functions.indexer.queue import RETRY_S, RETRY_S_MAX

    for name in ("EventQueue", "Backfill"):
        receives = queue(template, name)[1]["RedrivePolicy"]["maxReceiveCount"]
        shortest = sum(min(RETRY_S_MAX, RETRY_S * 2**received) / 2 for received in range(1, receives))
        assert 12 * 3600 <= shortest < 14 * 86400


def test_messages_stay_hidden_for_six_timeouts_and_the_window(template: dict[str, Any], synth: Synth) -> None:
    assert queue(template, "EventQueue")[1]["VisibilityTimeout"] >= 6 * function(template, "indexer")["Timeout"] + 2
    assert queue(template, "Maintenance")[1]["VisibilityTimeout"] >= 6 * function(template, "compactor")["Timeout"]
    assert queue(template, "Backfill")[1]["VisibilityTimeout"] >= 6 * function(template, "indexer")["Timeout"]

    import aws_cdk as cdk

    slow = synth(max_batching_window=cdk.Duration.seconds(60))
    assert queue(slow, "EventQueue")[1]["VisibilityTimeout"] >= 6 * function(slow, "indexer")["Timeout"] + 60


def mapping(template: dict[str, Any], queue_part: str) -> dict[str, Any]:
    return next(
        item["Properties"]
        for item in of_type(template, "AWS::Lambda::EventSourceMapping").values()
        if queue_part in json.dumps(item["Properties"]["EventSourceArn"])
    )


def test_the_event_source_bounds_concurrency_and_reports_partial_failures(
    template: dict[str, Any], synth: Synth
) -> None:
    source = mapping(template, "EventQueue")
    assert source["BatchSize"] == 100
    assert source["MaximumBatchingWindowInSeconds"] == 2
    assert source["ScalingConfig"] == {"MaximumConcurrency": 8}
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    for item in of_type(template, "AWS::Lambda::Function").values():
        assert "ReservedConcurrentExecutions" not in item["Properties"], "throttled receives would dead-letter"

    other = mapping(synth(max_concurrency=3, batch_size=7), "EventQueue")
    assert (other["ScalingConfig"], other["BatchSize"]) == ({"MaximumConcurrency": 3}, 7)


def test_backfills_have_an_event_source_of_their_own_on_the_indexer(template: dict[str, Any], synth: Synth) -> None:
    live, pages = mapping(template, "EventQueue"), mapping(template, "Backfill")
    assert pages["FunctionName"] == live["FunctionName"]
    assert pages["ScalingConfig"] == {"MaximumConcurrency": 2}
    assert pages["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert 100 <= pages["BatchSize"] * 100 <= 4_096, "a commit of more keys is logged as touching all"
    assert mapping(synth(backfill_concurrency=5), "Backfill")["ScalingConfig"] == {"MaximumConcurrency": 5}


def test_the_compactor_knows_when_deleted_values_must_be_gone(template: dict[str, Any], synth: Synth) -> None:
    import aws_cdk as cdk

    from bucketdex.engine.settings import ERASE_SECONDS_MIN, Settings
    from infra.bucket_index import ERASE_WITHIN_MIN

    def seconds(of: dict[str, Any]) -> float:
        return float(function(of, "compactor")["Environment"]["Variables"]["ERASE_SECONDS"])

    assert seconds(template) == Settings().erase_seconds
    assert seconds(synth(erase_within=cdk.Duration.days(30))) == 30 * 86400
    assert ERASE_WITHIN_MIN.to_seconds() == ERASE_SECONDS_MIN
    with pytest.raises(ValueError, match="erase_within is 14399 seconds"):
        synth(erase_within=cdk.Duration.seconds(14399))


def test_maintenance_is_a_fifo_queue_with_a_fifo_dead_letter_queue(template: dict[str, Any]) -> None:
    _, properties = queue(template, "Maintenance")
    assert properties["FifoQueue"] is True
    dead = properties["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]
    assert template["Resources"][dead]["Properties"]["FifoQueue"] is True
    assert mapping(template, "Maintenance")["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_the_subscription_delivers_raw_messages_and_has_its_own_dead_letter_queue(template: dict[str, Any]) -> None:
    (subscription,) = of_type(template, "AWS::SNS::Subscription").values()
    properties = subscription["Properties"]
    assert properties["RawMessageDelivery"] is True
    assert "EventQueue" in json.dumps(properties["Endpoint"])
    dead = properties["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]
    policies = [
        policy
        for policy in of_type(template, "AWS::SQS::QueuePolicy").values()
        if policy["Properties"]["Queues"] == [{"Ref": dead}]
    ]
    assert "sns.amazonaws.com" in json.dumps(policies), "SNS may write to it"


@pytest.mark.parametrize("name", ["indexer", "compactor", "registrar", "backfiller"])
def test_functions_run_on_arm64_and_python_3_13_traced_with_bounded_logs(template: dict[str, Any], name: str) -> None:
    properties = function(template, name)
    assert properties["Architectures"] == ["arm64"]
    assert properties["Runtime"] == "python3.13"
    assert properties["TracingConfig"] == {"Mode": "Active"}
    group = template["Resources"][properties["LoggingConfig"]["LogGroup"]["Ref"]]
    assert 1 <= group["Properties"]["RetentionInDays"] <= 90


def test_buckets_are_encrypted_private_and_retained(template: dict[str, Any], synth: Synth) -> None:
    for part, versioned in (("DataBucket", True), ("IndexBucket", False)):
        _, bucket = one(template, "AWS::S3::Bucket", part)
        properties = bucket["Properties"]
        assert properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
        assert properties.get("VersioningConfiguration") == ({"Status": "Enabled"} if versioned else None)
        assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"

    import aws_cdk as cdk

    short_lived = synth(removal_policy=cdk.RemovalPolicy.DESTROY)
    assert {bucket["DeletionPolicy"] for bucket in of_type(short_lived, "AWS::S3::Bucket").values()} == {"Delete"}


def test_queues_are_encrypted(template: dict[str, Any]) -> None:
    for name, item in of_type(template, "AWS::SQS::Queue").items():
        assert item["Properties"]["SqsManagedSseEnabled"] is True, name


def test_buckets_queues_and_the_topic_take_requests_over_tls_only(template: dict[str, Any]) -> None:
    covered = set()
    for kind, member in (
        ("S3::BucketPolicy", "Bucket"),
        ("SQS::QueuePolicy", "Queues"),
        ("SNS::TopicPolicy", "Topics"),
    ):
        for policy in of_type(template, f"AWS::{kind}").values():
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
                insecure = statement.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
                if statement["Effect"] == "Deny" and insecure and statement["Principal"] in ("*", {"AWS": "*"}):
                    targets = policy["Properties"][member]
                    covered |= {target["Ref"] for target in (targets if isinstance(targets, list) else [targets])}
    for kind in ("S3::Bucket", "SQS::Queue", "SNS::Topic"):
        assert set(of_type(template, f"AWS::{kind}")) <= covered, kind


def test_the_indexer_reads_data_and_writes_the_index(template: dict[str, Any]) -> None:
    assert allowed(template, "IndexerRole", "DataBucket") == {"s3:GetObject", "s3:GetObjectTagging", "s3:ListBucket"}
    assert allowed(template, "IndexerRole", "IndexBucket") == {"s3:GetObject", "s3:PutObject", "s3:ListBucket"}
    assert "sqs:SendMessage" in allowed(template, "IndexerRole", "Maintenance")
    assert {"sqs:DeleteMessage", "sqs:ChangeMessageVisibility"} <= allowed(template, "IndexerRole", "EventQueue")
    assert "sqs:SendMessage" not in allowed(template, "IndexerRole", "EventQueue"), "no function requeues itself"


def test_tags_may_be_read_only_where_a_table_has_a_tag_field(synth: Synth, tmp_path: Path) -> None:
    from tests.infra.conftest import write_tables

    untagged = synth(tables=write_tables(tmp_path, ("orders",)))
    assert allowed(untagged, "IndexerRole", "DataBucket") == {"s3:GetObject", "s3:ListBucket"}


def test_the_compactor_and_the_registrar_never_see_data(template: dict[str, Any]) -> None:
    index = {"s3:GetObject", "s3:PutObject", "s3:ListBucket"}
    assert allowed(template, "CompactorRole", "IndexBucket") == index | {"s3:DeleteObject"}
    assert allowed(template, "RegistrarRole", "IndexBucket") == index
    assert "sqs:SendMessage" not in allowed(template, "CompactorRole", "Maintenance"), "no function requeues itself"
    for role in ("CompactorRole", "RegistrarRole"):
        assert allowed(template, role, "DataBucket") == set()


def test_the_backfiller_lists_data_and_sends_pages(template: dict[str, Any]) -> None:
    assert allowed(template, "BackfillerRole", "DataBucket") == {"s3:ListBucket"}
    assert allowed(template, "BackfillerRole", "IndexBucket") == {"s3:GetObject", "s3:PutObject", "s3:ListBucket"}
    sends = {"sqs:SendMessage", "sqs:GetQueueAttributes", "sqs:GetQueueUrl"}
    logs = {"logs:CreateLogStream", "logs:PutLogEvents"}  # of a group whose name has this part too
    assert allowed(template, "BackfillerRole", "Backfill") - logs == sends
    assert {"sqs:ReceiveMessage", "sqs:DeleteMessage"} <= allowed(template, "IndexerRole", "Backfill")
    assert "sqs:SendMessage" not in allowed(template, "IndexerRole", "Backfill")


def test_the_backfiller_reads_reports_where_there_is_a_bucket_of_them(synth: Synth) -> None:
    from aws_cdk import aws_s3 as s3

    template = synth(lambda stack: {"inventory_bucket": s3.Bucket(stack, "Reports")})
    assert allowed(template, "BackfillerRole", "Reports") == {"s3:GetObject", "s3:ListBucket"}
    assert allowed(template, "IndexerRole", "Reports") == set()


def test_the_backfiller_is_woken_by_the_registrar_and_a_schedule_and_never_by_itself(template: dict[str, Any]) -> None:
    assert allowed(template, "RegistrarRole", "Backfiller") == {"lambda:InvokeFunction"}
    everywhere = {action for statement in statements(template, "BackfillerRole") for action in actions(statement)}
    assert "lambda:InvokeFunction" not in everywhere
    (invoked,) = of_type(template, "AWS::Lambda::EventInvokeConfig").values()
    assert "Backfiller" in json.dumps(invoked["Properties"]["FunctionName"])
    assert invoked["Properties"]["MaximumRetryAttempts"] == 0, "the schedule goes on with it"
    assert rule(template, "Backfiller")["ScheduleExpression"] == "rate(15 minutes)"


@pytest.mark.parametrize("role", ["IndexerRole", "CompactorRole", "RegistrarRole", "BackfillerRole"])
def test_no_wildcard_action_and_no_wildcard_resource_but_tracing(template: dict[str, Any], role: str) -> None:
    for statement in statements(template, role):
        assert not [action for action in actions(statement) if "*" in action]
        if statement["Resource"] == "*":  # X-Ray has no resources to name
            assert actions(statement) == {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}
        if "s3:ListBucket" in actions(statement):
            assert "/*" not in json.dumps(statement["Resource"]), "a list permission on objects grants nothing"


def test_grant_query_reads_the_index_and_nothing_else(synth: Synth) -> None:
    from aws_cdk import aws_iam as iam

    def reader(stack: Any, index: Any) -> None:
        index.grant_query(iam.User(stack, "Reader"))

    template = synth(then=reader)
    policies = [
        statement
        for policy in of_type(template, "AWS::IAM::Policy").values()
        if policy["Properties"].get("Users")
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
    ]
    assert {action for statement in policies for action in actions(statement)} == {"s3:GetObject", "s3:ListBucket"}
    assert "DataBucket" not in json.dumps(policies)


def test_grant_backfill_writes_jobs_and_wakes_the_backfiller(synth: Synth) -> None:
    from aws_cdk import aws_iam as iam

    template = synth(then=lambda stack, index: index.grant_backfill(iam.User(stack, "Operator")))
    (policy,) = (p for p in of_type(template, "AWS::IAM::Policy").values() if p["Properties"].get("Users"))
    given = policy["Properties"]["PolicyDocument"]["Statement"]
    by_action = {action: json.dumps(item["Resource"]) for item in given for action in actions(item)}
    assert by_action.keys() == {"s3:GetObject", "s3:ListBucket", "s3:PutObject", "lambda:InvokeFunction"}
    assert "/backfills/*" in by_action["s3:PutObject"] and "IndexBucket" in by_action["s3:PutObject"]
    assert "Backfiller" in by_action["lambda:InvokeFunction"] and ":*" not in by_action["lambda:InvokeFunction"]
    assert "DataBucket" not in json.dumps(given)


def test_tables_are_registered_before_the_notifications_are_wired(template: dict[str, Any]) -> None:
    registration, resource = one(template, "AWS::CloudFormation::CustomResource", "Tables")
    assert "Registrar" in json.dumps(resource["Properties"]["ServiceToken"])
    assert resource["Properties"]["Tables"] == ["events", "orders", "photos"]
    _, notifications = one(template, "Custom::S3BucketNotifications", "DataBucket")
    assert registration in notifications["DependsOn"]


def closure(template: dict[str, Any], name: str) -> set[str]:
    """Everything that is deployed before a resource: what it depends on, by name or by a reference, and so on."""
    found: set[str] = set()
    left = [name]
    while left:
        item = template["Resources"][left.pop()]
        named = item.get("DependsOn", [])
        text = json.dumps(item.get("Properties", {}))
        needed = {*([named] if isinstance(named, str) else named)}
        needed |= {other for other in template["Resources"] if f'"{other}"' in text}
        left += needed - found
        found |= needed
    return found


def test_the_notifications_are_wired_once_every_event_is_heard(template: dict[str, Any]) -> None:
    """Without a subscription SNS discards what it gets; an indexer of before doesn't know the tables."""
    before = closure(template, one(template, "Custom::S3BucketNotifications", "DataBucket")[0])
    events, undelivered = queue(template, "EventQueue")[0], queue(template, "UndeliveredEvents")[0]
    assert set(of_type(template, "AWS::SNS::Subscription")) <= before
    for name in (events, undelivered):
        (policy,) = (
            policy
            for policy, item in of_type(template, "AWS::SQS::QueuePolicy").items()
            if item["Properties"]["Queues"] == [{"Ref": name}]
        )
        assert policy in before, "SNS may send to it"
    sources = of_type(template, "AWS::Lambda::EventSourceMapping")
    (source,) = (name for name in sources if events in json.dumps(sources[name]["Properties"]["EventSourceArn"]))
    indexer = sources[source]["Properties"]["FunctionName"]["Ref"]
    assert {source, indexer} <= before
    assert {name for name in of_type(template, "AWS::IAM::Policy") if "IndexerRole" in name} <= before


def test_tables_are_registered_before_the_indexer_hears_of_them(template: dict[str, Any]) -> None:
    registration, resource = one(template, "AWS::CloudFormation::CustomResource", "Tables")
    (indexer,) = (
        name
        for name, item in of_type(template, "AWS::Lambda::Function").items()
        if item["Properties"].get("Handler") == "functions.indexer.handler.handler"
    )
    assert registration in closure(template, indexer)
    assert resource["Properties"]["Sources"] == {
        "events": "logs/day={day}/{name}",
        "orders": "orders/",
        "photos": "photos/ and tags",
    }
    assert int(function(template, "registrar")["Environment"]["Variables"]["ANNOUNCED_SECONDS"]) >= 300, "S3's minutes"


def test_a_changed_definition_registers_again(synth: Synth, tmp_path: Path) -> None:
    from tests.infra.conftest import write_tables

    folder = write_tables(tmp_path, ("orders",))
    before = one(synth(tables=folder), "AWS::CloudFormation::CustomResource", "Tables")[1]["Properties"]
    (folder / "orders.toml").write_text((folder / "orders.toml").read_text().replace('id = "string"', 'id = "int"'))
    after = one(synth(tables=folder), "AWS::CloudFormation::CustomResource", "Tables")[1]["Properties"]
    assert before["Tables"] == after["Tables"]
    assert before != after, "CloudFormation calls a custom resource only when a property changes"


def rule(template: dict[str, Any], target: str) -> dict[str, Any]:
    rules = [item["Properties"] for item in of_type(template, "AWS::Events::Rule").values()]
    return next(item for item in rules if target in json.dumps(item["Targets"]))


def test_the_compactor_runs_on_a_schedule(template: dict[str, Any]) -> None:
    assert rule(template, "Compactor")["ScheduleExpression"] == "rate(15 minutes)"


def test_outputs_are_those_that_clients_look_up(template: dict[str, Any]) -> None:
    outputs = template["Outputs"]
    assert "DataBucket" in outputs["DataBucketName"]["Value"]["Ref"]
    assert "IndexBucket" in outputs["IndexBucketName"]["Value"]["Ref"]
    assert "TopicArn" in outputs


def test_every_dead_letter_queue_is_found_by_the_outputs(template: dict[str, Any]) -> None:
    from bucketdex.client.deadletters import SOURCES

    outputs = {name: item["Value"]["Ref"] for name, item in template["Outputs"].items()}
    queues = of_type(template, "AWS::SQS::Queue")
    dead = {name for name in queues if "RedrivePolicy" not in queues[name]["Properties"]}
    assert {outputs[source.dead] for source in SOURCES.values() if source.dead in outputs} == dead
    for source in SOURCES.values():
        if source.dead in outputs:
            alive = queues[outputs[source.alive]]["Properties"]["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]
            assert alive == outputs[source.dead] or source.log is None, "messages go back to where they came from"
            assert source.log is None or outputs[source.log] in of_type(template, "AWS::Logs::LogGroup")


def test_only_s3_in_the_name_of_the_data_bucket_may_publish(template: dict[str, Any]) -> None:
    (policy,) = of_type(template, "AWS::SNS::TopicPolicy").values()
    grants = [item for item in policy["Properties"]["PolicyDocument"]["Statement"] if item["Effect"] == "Allow"]
    assert [item["Principal"] for item in grants] == [{"Service": "s3.amazonaws.com"}]
    assert "DataBucket" in json.dumps(grants[0]["Condition"]["ArnLike"]["aws:SourceArn"])
    (topic,) = of_type(template, "AWS::SNS::Topic").values()
    assert "KmsMasterKeyId" not in topic.get("Properties", {}), "S3 could not publish through AWS's own key"


@pytest.fixture(scope="module")
def watched(synth: Synth) -> dict[str, Any]:
    """A stack that verifies by schedule, and tells a topic."""
    import aws_cdk as cdk
    from aws_cdk import aws_sns as sns

    return synth(
        lambda stack: {"alarms": sns.Topic(stack, "Operators")},
        verify_schedule=cdk.Duration.hours(6), verify_deep_sample=0.01,
    )  # fmt: skip


def test_nothing_is_verified_and_nobody_alarmed_unless_asked(template: dict[str, Any]) -> None:
    assert of_type(template, "AWS::CloudWatch::Alarm") == {}
    handlers = {
        item["Properties"]["Handler"]
        for item in of_type(template, "AWS::Lambda::Function").values()
        if "Handler" in item["Properties"]
    }
    assert not [handler for handler in handlers if "verifier" in handler]


def test_the_verifier_reads_and_writes_how_far_it_has_come(watched: dict[str, Any], synth: Synth) -> None:
    import aws_cdk as cdk
    from aws_cdk import aws_events as events

    assert rule(watched, "Verifier")["ScheduleExpression"] == "rate(6 hours)"
    environment = function(watched, "verifier")["Environment"]["Variables"]
    assert (environment["VERIFY_DEEP_SAMPLE"], environment["VERIFY_REPAIR"]) == ("0.01", "false")
    assert allowed(watched, "VerifierRole", "DataBucket") == {"s3:GetObject", "s3:GetObjectTagging", "s3:ListBucket"}
    writes = [item for item in statements(watched, "VerifierRole") if "s3:PutObject" in actions(item)]
    assert len(writes) == 1 and actions(writes[0]) == {"s3:PutObject"}
    assert json.dumps(writes[0]["Resource"]).endswith('"/verify/*.json"]]}')
    assert allowed(watched, "VerifierRole", "IndexBucket") == {"s3:GetObject", "s3:ListBucket", "s3:PutObject"}
    everything = {action for item in statements(watched, "VerifierRole") for action in actions(item)}
    assert not [action for action in everything if not action.startswith(("s3:", "logs:", "xray:")) or "*" in action]
    invoked = [item["Properties"] for item in of_type(watched, "AWS::Lambda::EventInvokeConfig").values()]
    assert [item["MaximumRetryAttempts"] for item in invoked if "Verifier" in json.dumps(item["FunctionName"])] == [0]

    cron = synth(verify_schedule=events.Schedule.cron(minute="0", hour="3"), verify_repair=True)
    assert rule(cron, "Verifier")["ScheduleExpression"] == "cron(0 3 * * ? *)"
    assert function(cron, "verifier")["Environment"]["Variables"]["VERIFY_REPAIR"] == "true"
    writes = [item for item in statements(cron, "VerifierRole") if "s3:PutObject" in actions(item)]
    assert any(json.dumps(item["Resource"]).endswith('"/*"]]}') for item in writes)
    plain = synth(verify_schedule=cdk.Duration.days(1))
    assert allowed(plain, "VerifierRole", "DataBucket") == {"s3:GetObject", "s3:ListBucket"}, "tags aren't read"


@pytest.mark.parametrize(
    "wrong", [{"verify_deep_sample": 0.5}, {"verify_repair": True}, {"verify_deep_sample": 1.5, "verify_schedule": 1}]
)
def test_a_verification_that_makes_no_sense_is_refused(synth: Synth, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="verify_"):
        synth(**wrong)


def test_alarms_watch_every_dead_letter_queue_the_age_of_events_and_the_functions(watched: dict[str, Any]) -> None:
    from bucketdex.client.deadletters import SOURCES

    alarms = [item["Properties"] for item in of_type(watched, "AWS::CloudWatch::Alarm").values()]
    assert len(alarms) == 11, "docs/deployment.md says how many"
    (operators,) = (name for name in of_type(watched, "AWS::SNS::Topic") if "Operators" in name)
    for alarm in alarms:
        assert alarm["AlarmActions"] == [{"Ref": operators}]
        assert alarm["TreatMissingData"] == "notBreaching"
        assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
        assert alarm["Period"] >= 60, "standard resolution"
        assert "Metrics" not in alarm, "on one metric each"

    def watching(metric: str) -> list[str]:
        return [json.dumps(alarm["Dimensions"]) for alarm in alarms if alarm["MetricName"] == metric]

    queues = of_type(watched, "AWS::SQS::Queue")
    dead = [name for name in queues if "RedrivePolicy" not in queues[name]["Properties"]]
    assert len(dead) == len(SOURCES)
    for name in dead:
        assert sum(name in watched_queue for watched_queue in watching("ApproximateNumberOfMessagesVisible")) == 1
    (age,) = (alarm for alarm in alarms if alarm["MetricName"] == "ApproximateAgeOfOldestMessage")
    assert "EventQueue" in json.dumps(age["Dimensions"]) and age["Threshold"] == 3600
    assert "DeadLetters" not in json.dumps(age["Dimensions"])
    for name in ("Indexer", "Compactor", "Backfiller", "Verifier"):
        assert sum(f"Index{name}" in function for function in watching("Errors")) == 1
    service = function(watched, "verifier")["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"]
    assert watching("Differences") == [json.dumps([{"Name": "service", "Value": service}])]
    assert len(watching("BackfillsFailed")) == 1
