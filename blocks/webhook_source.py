"""Who calls us when something is new."""

from prefect.blocks.core import Block

from linkspan.webhooks.base import WebhookSettings


class WebhookSource(WebhookSettings, Block):
    """A git server or a store that calls the receiver at `/hooks/NAME`, with the name of this block."""

    _block_type_name = "Webhook source"
    _block_type_slug = "webhook-source"
