"""TLS, names and passwords reach every client of Kafka and Redis: each is used on ones that ask."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import msgspec
import pytest
from command_line import headrace
from parts import OwnRedis, Part, eventually
from redis import Redis as BlockingRedis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError
from secure_parts import PASSWORD, USER, Certificate, SecureKafka, TlsFront

from headrace.errors import HeadraceError, InvalidSetting
from headrace.events import Click
from headrace.kafka_clients import client_options
from headrace.keys import KeyStore
from headrace.local.binaries import find_redis, redis_command
from headrace.local.ports import claim_port
from headrace.producer import Outgoing, Producer
from headrace.sessions import SessionStore
from headrace.settings import KafkaSecuritySettings, ServingSettings, Settings
from headrace.store import connect
from headrace.topic_figures import TopicsObserver
from headrace.topics import Topics, delete_topics, ensure_topics, topic_ids


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def secure_kafka(
    tmp_path_factory: pytest.TempPathFactory, certificate: Certificate
) -> Iterator[SecureKafka]:
    with SecureKafka(tmp_path_factory.mktemp("secure-kafka"), certificate) as node:
        yield node


@pytest.fixture
def secure_redis(tmp_path: Path, certificate: Certificate) -> Iterator[str]:
    """The URL of a Redis that is reached by TLS and asks for a user's password."""
    port = claim_port(0, host="127.0.0.1", use="a test's Redis", option="")
    folder = tmp_path / "redis"
    folder.mkdir()
    with OwnRedis(redis_command(find_redis(os.environ), port, folder), port, folder) as server:
        admin = BlockingRedis.from_url(server.url)
        # What a part needs, and nothing that hurts others on the same Redis.
        admin.acl_setuser(
            USER, enabled=True, passwords=[f"+{PASSWORD}"], keys=["test-*"],
            categories=["+@all", "-@dangerous"],
            commands=["+info", "+client|setname", "+keys"],
        )  # fmt: skip
        admin.acl_setuser(
            "default", enabled=True, nopass=True, categories=["-@all", "+@connection"]
        )
        with closing(admin), TlsFront(certificate, port) as front:
            yield f"rediss://{USER}:{PASSWORD}@127.0.0.1:{front.port}/0?ssl_ca_certs={certificate.path}"


async def test_a_redis_with_tls_and_users_is_spoken_to(
    settings: Settings, secure_redis: str
) -> None:
    for url, error in (
        (secure_redis.replace(PASSWORD, "wrong"), AuthenticationError),
        (secure_redis.partition("?")[0], RedisError),
        (secure_redis.replace(f"{USER}:{PASSWORD}@", ""), NoPermissionError),
    ):
        client = connect(msgspec.structs.replace(settings, redis=url))
        with pytest.raises(error):
            await client.get(settings.key("x"))
        await client.aclose()
    secure = msgspec.structs.replace(settings, redis=secure_redis)
    client = connect(secure)
    assert len(await KeyStore(client, secure).secret()) == 32
    with pytest.raises(NoPermissionError):
        await client.flushall()
    await client.aclose()


async def test_a_worker_works_with_a_kafka_and_a_redis_that_ask_for_passwords(
    settings: Settings, secure_redis: str, secure_kafka: SecureKafka, tmp_path: Path
) -> None:
    secure = secure_kafka.settings(msgspec.structs.replace(settings, redis=secure_redis))
    await asyncio.to_thread(ensure_topics, secure)
    assert await asyncio.to_thread(topic_ids, secure, ["clicks"])
    event = Click(event_id="1", user_id="ann", item_id="tea", timestamp=time.time())
    producer = Producer(secure)
    topic = Topics(secure).name("clicks")
    await producer.send([Outgoing(topic, b"ann", msgspec.json.encode(event))])
    await producer.close()
    observer = await asyncio.to_thread(TopicsObserver, secure)
    observer.close()
    client = connect(secure)
    sessions = SessionStore(client, secure)
    with Part("worker", secure, tmp_path) as worker:

        async def arrived() -> bool:
            return (await sessions.read("ann")).item_ids == ("tea",)

        await eventually(arrived, "the event is in the session")
        assert PASSWORD not in worker.log()
    await client.aclose()
    await asyncio.to_thread(delete_topics, secure)


async def test_without_the_password_or_the_authority_nothing_is_said(
    settings: Settings, secure_kafka: SecureKafka
) -> None:
    wrong = secure_kafka.settings(settings, password="wrong")  # noqa: S106
    with pytest.raises(HeadraceError, match="Kafka at") as caught:
        await asyncio.to_thread(ensure_topics, wrong)
    assert "wrong" not in str(caught.value)
    untrusted = msgspec.structs.replace(
        wrong,
        kafka_security=msgspec.structs.replace(
            wrong.kafka_security, sasl_password=PASSWORD, ssl_cafile=""
        ),
    )
    with pytest.raises(HeadraceError, match="Kafka at"):
        await asyncio.to_thread(ensure_topics, untrusted)


async def test_a_server_with_a_certificate_speaks_https_alone(
    settings: Settings, certificate: Certificate, tmp_path: Path
) -> None:
    port = claim_port(0, host="127.0.0.1", use="a test's server", option="")
    serving = ServingSettings(
        port=port, tls_certificate=str(certificate.path), tls_key=str(certificate.key)
    )
    secure = msgspec.structs.replace(settings, serving=serving)
    await asyncio.to_thread(ensure_topics, secure)
    trusting = ssl.create_default_context(cafile=str(certificate.path))
    with Part("serve", secure, tmp_path):
        async with httpx.AsyncClient(
            base_url=f"https://127.0.0.1:{port}", verify=trusting
        ) as client:

            async def ready() -> bool:
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(ready, "the server is ready")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as plain:
            with pytest.raises(httpx.TransportError):
                await plain.get("/readyz")
        ended = await asyncio.to_thread(headrace, "health", "serve", **secure.environ())
        assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("serving", "words"),
    [
        ({"tls_key": "server.key"}, "TLS_KEY is set and HEADRACE_SERVING_TLS_CERTIFICATE is not"),
        ({"tls_certificate": "none.pem"}, "TLS_CERTIFICATE is 'none.pem'"),
    ],
)
def test_a_certificate_that_cannot_be_used_ends_in_one_line(
    serving: dict[str, str], words: str
) -> None:
    settings = Settings(serving=ServingSettings(**serving))
    ended = headrace("serve", **settings.environ())
    assert ended.returncode == 1
    assert words in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_passwords_are_in_no_list_of_settings() -> None:
    ended = headrace(
        "settings",
        HEADRACE_REDIS="rediss://me:planted-1@host:6379/0?password=planted-2",
        HEADRACE_KAFKA_SECURITY_SASL_PASSWORD="planted-3",  # noqa: S106
        HEADRACE_KAFKA_SECURITY_SSL_KEY_PASSWORD="planted-4",  # noqa: S106
        HEADRACE_SERVING_TLS_KEY_PASSWORD="planted-5",  # noqa: S106
        HEADRACE_API_KEY="planted-6",
    )
    assert ended.returncode == 0
    assert "planted" not in ended.stdout + ended.stderr
    assert "rediss://***@host:6379/0?password=***" in ended.stdout


def test_a_file_of_certificates_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    for name, path in (("ssl_cafile", broken), ("ssl_certfile", tmp_path / "none")):
        security = KafkaSecuritySettings(protocol="SSL", **{name: str(path)})
        with pytest.raises(InvalidSetting, match=f"HEADRACE_KAFKA_SECURITY_{name.upper()}"):
            client_options(Settings(kafka_security=security))
