"""How to reach a bucket: endpoint, region, credentials, timeouts, retries. Changes with the clients' configuration."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from obstore.store import ClientConfig, RetryConfig, S3Store

DEFAULT_REGION: Final = "us-east-1"
CONNECT_TIMEOUT_S: Final = 5
READ_TIMEOUT_S: Final = 30  # between two reads of a body
REQUEST_TIMEOUT_S: Final = 900  # a whole body, however slowly its reader takes it: a function's longest life
RETRIES_MAX: Final = 5
RETRY_TIMEOUT_S: Final = 60


class S3Settings(NamedTuple):
    """Where a bucket is and who asks. `config` is obstore's, `prefix` is "" or ends with "/"."""

    bucket: str
    prefix: str
    config: dict[str, Any]
    client_options: dict[str, Any]
    credential_provider: Any  # obstore's protocol: () -> S3Credential

    def obstore(self, retries: bool) -> S3Store:
        """A store for the whole bucket (no prefix)."""
        from obstore.store import S3Store

        retry: RetryConfig = {
            "max_retries": RETRIES_MAX if retries else 0,
            "retry_timeout": timedelta(seconds=RETRY_TIMEOUT_S),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=5),
                "base": 2,
            },
        }
        options: ClientConfig = {
            "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
            "read_timeout": timedelta(seconds=READ_TIMEOUT_S),
            "timeout": timedelta(seconds=REQUEST_TIMEOUT_S),
        }
        options.update(self.client_options)  # type: ignore[typeddict-item]
        return S3Store(
            self.bucket,
            config=self.config,  # type: ignore[arg-type]
            client_options=options,
            retry_config=retry,
            credential_provider=self.credential_provider,
        )

    def boto(self) -> S3Client:
        """boto3's client for the same bucket, endpoint and credentials. Imports boto3 (0.2 s)."""
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"mode": "standard", "total_max_attempts": RETRIES_MAX + 1},
            max_pool_connections=32,
            s3={"addressing_style": "path"} if "endpoint" in self.config else {},
        )
        keys: dict[str, Any] = {}
        if self.credential_provider is None:
            keys = {
                "aws_access_key_id": self.config.get("access_key_id"),
                "aws_secret_access_key": self.config.get("secret_access_key"),
                "aws_session_token": self.config.get("token"),
            }
        session = boto3.Session(region_name=self.config.get("region"), **keys)
        if self.credential_provider is not None:
            _hand_over(session, self.credential_provider)
        client: S3Client = session.client("s3", endpoint_url=self.config.get("endpoint"), config=config)
        return client


def settings_from_url(url: str) -> S3Settings:
    """Settings for `s3://bucket[/prefix]`, from the environment as boto3 reads it.

    AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL; AWS_REGION or AWS_DEFAULT_REGION, else the profile's region. Credentials in
    the environment are used as they are; otherwise boto3's provider chain is (and is imported), if it is installed.
    """
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    prefix = prefix.strip("/")
    environ = os.environ
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    provider = None
    if not (environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY")):
        provider, profile_region = _boto_provider()
        region = region or profile_region
    config = {"region": region or DEFAULT_REGION}
    client_options: dict[str, Any] = {}
    if endpoint:
        config["endpoint"] = endpoint
        client_options["allow_http"] = endpoint.startswith("http://")
    if provider is None:
        for name in ("access_key_id", "secret_access_key"):
            if value := environ.get(f"AWS_{name.upper()}"):
                config[name] = value
        if token := environ.get("AWS_SESSION_TOKEN"):
            config["token"] = token
    return S3Settings(bucket, f"{prefix}/" if prefix else "", config, client_options, provider)


def settings_from_store(store: S3Store) -> S3Settings:
    """Settings of an obstore S3Store that someone else configured."""
    config: dict[str, Any] = dict(store.config)
    bucket = config.pop("bucket")
    prefix = (store.prefix or "").strip("/")
    options: dict[str, Any] = dict(store.client_options or {})
    if str(config.get("endpoint", "")).startswith("http://"):
        options.setdefault("allow_http", True)
    return S3Settings(bucket, f"{prefix}/" if prefix else "", config, options, store.credential_provider)


def _boto_provider() -> tuple[Any, str | None]:
    try:
        import boto3
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        return None, None  # obstore's own chain: web identity, container, instance metadata
    session = boto3.Session()
    try:
        return Boto3CredentialProvider(session), session.region_name
    except ValueError:
        return None, session.region_name


def _hand_over(session: Any, provider: Any) -> None:
    """Let a boto3 session ask obstore's credential provider."""
    from botocore.credentials import RefreshableCredentials

    def refresh() -> dict[str, str]:
        given = provider()
        expires = given["expires_at"]
        return {
            "access_key": given["access_key_id"],
            "secret_key": given["secret_access_key"],
            "token": given.get("token"),
            "expiry_time": expires.isoformat() if expires else "9999-12-31T00:00:00Z",
        }

    session._session._credentials = RefreshableCredentials.create_from_metadata(
        metadata=refresh(), refresh_using=refresh, method="obstore"
    )
