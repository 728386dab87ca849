"""What is shown of settings: everything but passwords and keys."""

from __future__ import annotations

import re

from headrace.settings import Settings


def without_password(url: str) -> str:
    """Return a URL as it may be shown."""
    url = re.sub(r"(?<=[?&]password=)[^&]*|(?<=[?&]ssl_password=)[^&]*", "***", url)
    # Up to the last @: a password may hold what should have been written otherwise.
    return re.sub(r"^([a-z]*://)?.*@", r"\1***@", url, flags=re.DOTALL)


def without_secrets(text: str, settings: Settings) -> str:
    """Return a text with every password and key of these settings hidden."""
    security, serving = settings.kafka_security, settings.serving
    secrets = [
        settings.api_key,
        security.sasl_password,
        security.ssl_key_password,
        serving.tls_key_password,
    ]
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return text.replace(settings.redis, without_password(settings.redis))
