"""How every client of Kafka is made: where the brokers are, and how they are spoken to."""

from __future__ import annotations

import ssl
from typing import Any

from headrace.errors import InvalidSetting
from headrace.setting_variables import variable_of
from headrace.settings import Settings


def client_options(settings: Settings) -> dict[str, Any]:
    """Return what each client is made with; aiokafka's and kafka-python's take the same.

    Raises `InvalidSetting` for a file of certificates that cannot be used.
    """
    security = settings.kafka_security
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka.split(","),
        "security_protocol": security.protocol,
    }
    if security.uses_tls:
        options["ssl_context"] = tls_context(settings)
    if security.uses_sasl:
        options["sasl_mechanism"] = security.sasl_mechanism
        options["sasl_plain_username"] = security.sasl_username
        options["sasl_plain_password"] = security.sasl_password
    return options


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Return what brokers' certificates and names are checked with.

    Raises `InvalidSetting` for a file that cannot be used.
    """
    security = settings.kafka_security
    name, path = "ssl_cafile", security.ssl_cafile
    try:
        context = ssl.create_default_context(cafile=path or None)
        if security.ssl_certfile:
            name, path = "ssl_certfile", security.ssl_certfile
            context.load_cert_chain(
                path, security.ssl_keyfile or None, lambda: security.ssl_key_password
            )
    except (OSError, ValueError) as exc:
        variable = variable_of(("kafka_security", name))
        raise InvalidSetting(f"{variable} is {path!r}, which cannot be used: {exc}.") from exc
    return context
