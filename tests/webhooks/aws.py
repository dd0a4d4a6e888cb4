"""moto as a child process: S3 that really tells SNS, SQS and EventBridge what was written.

Not the server of tests/services/moto.py: that one lets one writer in at a time, and a request that waits for
messages would keep all others out for 20 s.
"""

import json
import os
import sys
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from linkspan.processes import Child, free_port, listens

REGION = "eu-central-1"
ACCOUNT = "123456789012"
# moto takes any.
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}


class Aws(NamedTuple):
    """A running moto."""

    endpoint: str
    child: Child

    def client(self, service: Any) -> Any:
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def bucket(self) -> str:
        name = f"models-{uuid.uuid4().hex[:12]}"
        self.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        return name

    def queue(self, **attributes: str) -> tuple[str, str]:
        """A new queue's URL and ARN."""
        client = self.client("sqs")
        url = client.create_queue(QueueName=f"events-{uuid.uuid4().hex[:12]}", Attributes=attributes)[
            "QueueUrl"
        ]
        arn = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        return url, arn

    def topic(self) -> str:
        arn: str = self.client("sns").create_topic(Name=f"models-{uuid.uuid4().hex[:12]}")["TopicArn"]
        return arn

    def tell(self, bucket: str, **where: Any) -> None:
        """Have the bucket tell of every object that is made."""
        self.client("s3").put_bucket_notification_configuration(
            Bucket=bucket, NotificationConfiguration=where
        )

    def put(self, bucket: str, key: str, body: bytes = b"model") -> None:
        self.client("s3").put_object(Bucket=bucket, Key=key, Body=body)

    def certificate(self, url: str) -> bytes:
        """The certificate that the server made for a message, in place of the one at SNS itself."""
        import httpx

        # moto finds the service and its region in what a request is signed for, and looks no further.
        scope = f"Credential=test/20261122/{REGION}/sns/aws4_request"
        authorization = f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"
        answer = httpx.get(
            f"{self.endpoint}/{url.rpartition('/')[2]}",
            headers={"Authorization": authorization},
            timeout=600,
            trust_env=False,
        )
        return answer.raise_for_status().content

    def in_queue(self, url: str) -> int:
        """How many messages the queue has, in hand or not."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)


def to_queue(arn: str) -> dict[str, Any]:
    """A bucket's notification configuration that sends to a queue."""
    return {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}


def to_topic(arn: str) -> dict[str, Any]:
    """One that sends to a topic."""
    return {"TopicConfigurations": [{"TopicArn": arn, "Events": ["s3:ObjectCreated:*"]}]}


def start(folder: Path, port: int = 0) -> Aws:
    """A moto server; whoever starts it stops its child."""
    port = port or free_port()
    child = Child(
        "moto",
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        log=folder / "moto.log",
        # It posts to HTTP subscribers on this machine.
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
    )
    child.wait_until(lambda: listens(port), seconds=600)
    return Aws(f"http://127.0.0.1:{port}", child)


def record(bucket: str = "models", key: str = "digits/v12/model.json", **changes: Any) -> dict[str, Any]:
    """An event notification of S3, in the form of its documentation."""
    fields: dict[str, Any] = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": REGION,
        "eventTime": "2026-11-22T10:11:12.345Z",
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "AWS:AIDAEXAMPLEEXAMPLE"},
        "requestParameters": {"sourceIPAddress": "192.0.2.7"},
        "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "FMyUVURIY8/IgAtTv8x"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "linkspan",
            "bucket": {
                "name": bucket,
                "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
                "arn": f"arn:aws:s3:::{bucket}",
            },
            "object": {
                "key": key,
                "size": 1024,
                "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                "sequencer": "0055AED6DCD90281E5",
            },
        },
    }
    return {"Records": [fields | changes]}


def text_of(document: object) -> str:
    return json.dumps(document, separators=(",", ":"))
