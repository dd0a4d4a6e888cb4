"""What a person does at a git server so that it calls Linkspan; secrets included, to be pasted once."""

import json
import shlex
from urllib.parse import quote

from linkspan.webhooks.base import WebhookSettings
from linkspan.webhooks.providers.proofs import secret_of


def github(url: str, settings: WebhookSettings) -> str:
    config = {"url": url, "content_type": "json", "secret": secret_of(settings)}
    hook = {"name": "web", "active": True, "events": ["push"], "config": config}
    repository = settings.repository or "OWNER/NAME"
    return f"""\
On GitHub: Settings, Webhooks, Add webhook, of {repository}:
  Payload URL    {url}
  Content type   application/json
  Secret         {secret_of(settings)}
  Which events   Just the push event

Or, with GitHub's command line:
gh api repos/{repository}/hooks --input - <<'END'
{json.dumps(hook, indent=2)}
END
"""


def gitlab(url: str, settings: WebhookSettings) -> str:
    hook = {
        "url": url,
        "token": secret_of(settings),
        "push_events": True,
        "push_events_branch_filter": settings.branch,
        "branch_filter_strategy": "wildcard",
        "enable_ssl_verification": True,
    }
    repository = settings.repository or "GROUP/PROJECT"
    return f"""\
On GitLab: Settings, Webhooks, Add new webhook, of {repository}:
  URL            {url}
  Secret token   {secret_of(settings)}
  Trigger        Push events, wildcard pattern {settings.branch}

Or, with GitLab's command line:
glab api projects/{quote(repository, safe="")}/hooks --method POST \\
  --header 'Content-Type: application/json' --input - <<'END'
{json.dumps(hook, indent=2)}
END
"""


def gitea(url: str, settings: WebhookSettings) -> str:
    return f"""\
On Gitea or Forgejo: Settings, Webhooks, Add webhook, Gitea (or Forgejo), of {_named(settings)}:
  Target URL          {url}
  HTTP method         POST
  Content type        application/json
  Secret              {secret_of(settings)}
  Trigger on          Push events
  Branch filter       {settings.branch}
"""


def bitbucket(url: str, settings: WebhookSettings) -> str:
    return f"""\
On Bitbucket: Repository settings, Webhooks, Add webhook, of {_named(settings)}:
  URL        {url}
  Secret     {secret_of(settings)}
  Triggers   Repository push
"""


def azure_repos(url: str, settings: WebhookSettings) -> str:
    project, _, repository = settings.repository.rpartition("/")
    return f"""\
In Azure DevOps, project {project or "PROJECT"}: Project settings, Service hooks, Create, Web Hooks:
  Trigger                     Code pushed
  Repository                  {repository or "REPOSITORY"}
  Branch                      {settings.branch}
  URL                         {url}
  Basic authentication user   {settings.username}
  Basic authentication password
                              {secret_of(settings)}
  Resource details to send    All
  Messages to send            None
  Detailed messages to send   None
"""


def signed(url: str, settings: WebhookSettings) -> str:
    kind = "model" if any(each.startswith("model-stream/") for each in settings.start) else "commit"
    said = {"type": "model", "name": "NAME", "version": "VERSION", "by": "WHO"}
    if kind == "commit":
        said = {"type": "commit", "sha": "SHA", "by": "WHO", "message": "WHAT"}
        said |= {"repository": settings.repository} if settings.repository else {}
    else:
        said |= {"container": settings.container} if settings.container else {}
    return f"""\
Send a POST to {url}, signed by Standard Webhooks (https://www.standardwebhooks.com), secret
  {secret_of(settings)}

With Python, the secret in the variable WEBHOOK_SECRET:
import base64, hmac, json, os, time, urllib.request, uuid
body = json.dumps({json.dumps(said)}).encode()
key, now = f"msg_{{uuid.uuid4().hex}}", str(int(time.time()))
secret = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"))
signature = base64.b64encode(hmac.digest(secret, f"{{key}}.{{now}}.".encode() + body, "sha256")).decode()
headers = {{"webhook-id": key, "webhook-timestamp": now, "webhook-signature": f"v1,{{signature}}",
           "content-type": "application/json"}}
urllib.request.urlopen(urllib.request.Request({url!r}, body, headers), timeout=30)
"""


def _named(settings: WebhookSettings) -> str:
    return shlex.quote(settings.repository) if settings.repository else "the repository"
