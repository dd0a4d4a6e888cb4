"""What a person does at a store or a model registry so that it calls Linkspan; secrets included."""

import json
import re
from urllib.parse import quote

from linkspan.stores.settings import folder
from linkspan.webhooks.base import WebhookSettings
from linkspan.webhooks.providers.mlflow import EVENTS
from linkspan.webhooks.providers.proofs import SHOWN_HEADER, secret_of

# docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketNotificationConfiguration.html
_REPLACES = "The last command replaces all notifications that the bucket has: add those to it."


def event_grid(url: str, settings: WebhookSettings) -> str:
    account, _, container = settings.container.rpartition("/")
    subject = f"/blobServices/default/containers/{container or 'CONTAINER'}/blobs/{folder(settings.prefix)}"
    address = _with_secret(url, settings)
    return f"""\
With Azure's command line. Azure calls the URL at once, so Linkspan must be reachable there. The secret is in
the URL: do not let a proxy before Linkspan write queries into its log.
az eventgrid event-subscription create --name linkspan \\
  --source-resource-id "$(az storage account show --name {account or "ACCOUNT"} --query id --output tsv)" \\
  --endpoint '{address}' \\
  --included-event-types Microsoft.Storage.BlobCreated Microsoft.Storage.BlobRenamed \\
  --subject-begins-with '{subject}'

Or in the portal: the storage account, Events, Event Subscription, Web Hook {address}
  Filters   Subject begins with {subject}
"""


def sns(url: str, settings: WebhookSettings) -> str:
    topic = settings.topic or "TOPIC-ARN"
    return f"""\
With AWS's command line. The topic's policy must let the bucket publish. Linkspan confirms by itself; its AWS
credentials need the right sns:ConfirmSubscription.
{_REPLACES}
aws sns subscribe --topic-arn '{topic}' --protocol {url.partition(":")[0]} \\
  --notification-endpoint '{_with_secret(url, settings)}'
{_bucket_notifies(settings, "Topic", topic)}
"""


def sqs(_url: str, settings: WebhookSettings) -> str:
    arn = _queue_arn(settings.queue)
    return f"""\
Nothing calls Linkspan: it reads the queue {settings.queue or "QUEUE-URL"}
with the AWS credentials of where `linkspan serve` runs (sqs:ReceiveMessage, sqs:DeleteMessage,
sqs:ChangeMessageVisibility). The queue's policy must let the bucket send; a redrive policy keeps what cannot
be read.
With AWS's command line. The command replaces all notifications that the bucket has: add those to it.
{_bucket_notifies(settings, "Queue", arn)}
"""


def event_bridge(url: str, settings: WebhookSettings) -> str:
    pattern = {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {"bucket": {"name": [settings.container or "BUCKET"]}}
        | ({"object": {"key": [{"prefix": folder(settings.prefix)}]}} if settings.prefix else {}),
    }
    key = {"ApiKeyAuthParameters": {"ApiKeyName": SHOWN_HEADER, "ApiKeyValue": secret_of(settings)}}
    return f"""\
With AWS's command line. ROLE-ARN is a role that EventBridge may assume, with events:InvokeApiDestination.
{_REPLACES}
connection=$(aws events create-connection --name linkspan --authorization-type API_KEY \\
  --auth-parameters '{json.dumps(key)}' --query ConnectionArn --output text)
destination=$(aws events create-api-destination --name linkspan --connection-arn "$connection" \\
  --invocation-endpoint '{url}' --http-method POST --query ApiDestinationArn --output text)
aws events put-rule --name linkspan --event-pattern '{json.dumps(pattern)}'
aws events put-targets --rule linkspan --targets "Id=linkspan,Arn=$destination,RoleArn=ROLE-ARN"
aws s3api put-bucket-notification-configuration --bucket '{settings.container or "BUCKET"}' \\
  --notification-configuration '{{"EventBridgeConfiguration": {{}}}}'
"""


def mlflow(url: str, settings: WebhookSettings) -> str:
    return f"""\
With Python, where MLflow 3 is installed. Take the events by which your team publishes:
import mlflow
mlflow.MlflowClient().create_webhook(
    name="linkspan",
    url={url!r},
    events={EVENTS!r},
    secret={secret_of(settings)!r},
)

Linkspan follows the model {settings.container or "(every one)"}. It reads models from its own store, not
from MLflow.
"""


def _with_secret(url: str, settings: WebhookSettings) -> str:
    return f"{url}?code={quote(secret_of(settings), safe='')}"


def _queue_arn(url: str) -> str:
    """The ARN of an SQS queue, from its URL; a word to replace if that is not one of AWS."""
    found = re.fullmatch(r"https://sqs\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?/(\d{12})/([\w.-]+)", url)
    if not found:
        return "QUEUE-ARN"
    region, china, account, name = found.groups()
    partition = "aws-cn" if china else "aws-us-gov" if region.startswith("us-gov-") else "aws"
    return f"arn:{partition}:sqs:{region}:{account}:{name}"


def _bucket_notifies(settings: WebhookSettings, kind: str, arn: str) -> str:
    one: dict[str, object] = {f"{kind}Arn": arn, "Events": ["s3:ObjectCreated:*"]}
    if settings.prefix:
        rule = {"Name": "prefix", "Value": folder(settings.prefix)}
        one["Filter"] = {"Key": {"FilterRules": [rule]}}
    return (
        f"aws s3api put-bucket-notification-configuration --bucket '{settings.container or 'BUCKET'}' \\\n"
        f"  --notification-configuration '{json.dumps({f'{kind}Configurations': [one]})}'"
    )
