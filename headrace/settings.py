"""One frozen object of settings, from `HEADRACE_*` variables over an optional TOML file.

`Settings.sessions.limit` is the variable `HEADRACE_SESSIONS_LIMIT` and, in the file,
`limit` under `[sessions]`. Variables win over the file; the file's path is `HEADRACE_CONFIG`.
Models are tables of tables, `[models.books]`; their variable holds all of them, as JSON.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from headrace.errors import UnknownModel
from headrace.model_settings import SHARED, EventTopicNames, ModelId, ModelSettings, topics_of
from headrace.setting_types import (
    Count,
    Duration,
    Name,
    Port,
    Seconds,
    Share,
    TopicPrefix,
)
from headrace.setting_variables import shown, value_at, variables
from headrace.training_settings import TrainingSettings


class KafkaSecuritySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How brokers are spoken to; it holds for every client."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """As the brokers' listener has it."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    """How the name and the password are shown, where the protocol is a SASL one."""
    sasl_username: str = ""
    sasl_password: str = ""
    ssl_cafile: str = ""
    """File of the authorities that sign brokers' certificates, PEM; if empty: the system's own."""
    ssl_certfile: str = ""
    """File of our own certificate, PEM, where brokers ask for one."""
    ssl_keyfile: str = ""
    """File of its private key, PEM, unless it stands in the same file."""
    ssl_key_password: str = ""
    """What that file is encrypted with, if it is."""

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.protocol in ("SSL", "SASL_SSL")

    @property
    def uses_sasl(self) -> bool:
        """Whether a name and a password are shown."""
        return self.protocol in ("SASL_PLAINTEXT", "SASL_SSL")


class TopicSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How topics are named, and what they are made with when they are missing."""

    prefix: TopicPrefix = ""
    partitions: Count = 4
    replication: Count = 1


class SessionSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The bounds of a user's session dictionary."""

    limit: Annotated[int, Meta(ge=1, le=1_000)] = 200
    """Interactions kept, the newest ones."""
    seen_limit: Annotated[int, Meta(ge=1_001, le=50_000)] = 5_000
    """Ids kept of the items a user has met; above any `limit`, which it must contain."""
    ttl_s: Annotated[int, Meta(ge=60)] = 90 * 24 * 3600
    """Seconds after the last event applied until a session expires."""


class TrendingSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Decayed counts of items over all kinds of events."""

    half_life_s: Seconds = 7 * 24 * 3600.0
    """An event counts half as much as one that came so much later. Once it is changed, counts go on
    from what is left of them."""
    window_s: Seconds = 60 * 24 * 3600.0
    """An item is trending while it counts as much as one click so long before the newest event."""
    limit: Annotated[int, Meta(ge=10, le=100_000)] = 1_000
    """Items kept per partition of a topic."""
    click_weight: Annotated[float, Meta(gt=0)] = 1.0
    purchase_weight: Annotated[float, Meta(gt=0)] = 3.0
    rating_weight: Annotated[float, Meta(gt=0)] = 1.0


class RulesSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What workers keep of the transitions from item to item, for servers to follow."""

    window: Annotated[int, Meta(ge=1_000, le=10_000_000)] = 100_000
    """Transitions kept per partition of a topic, the newest ones."""


class WorkerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The Faust worker."""

    group: Name = "headrace"
    """Consumer group; workers of one group share the partitions."""
    batch_size: Annotated[int, Meta(ge=1, le=10_000)] = 1_000
    """Records applied in one pipeline at the most; fewer when no more have arrived."""
    fetch_wait_ms: Annotated[int, Meta(ge=1, le=5_000)] = 500
    """Longest that a fetch waits at a broker that has nothing new; Kafka answers when it has."""
    session_timeout_s: Annotated[float, Meta(ge=6)] = 6.0
    """Faust's default of 60 s makes a group's first assignment take 30 s."""
    stall_s: Seconds = 60.0
    """A worker ends when a partition with more to read has not moved for so long."""
    host: str = "127.0.0.1"
    """Where the worker's own health and metrics are listened for."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """Their port; 0: any free one, which the log and `headrace status` tell."""


class RetrainSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """When a retrain event fires by itself."""

    every_events: Annotated[int, Meta(ge=0)] = 100_000
    """Fire after this many new events; 0: never."""
    every: Annotated[str, Meta(max_length=100)] = ""
    """Fire by the clock: a duration (`24h`), or cron syntax in UTC (`0 3 * * *`); empty: never."""
    request: dict[str, Any] = {}
    """What the clock and the count ask for: fields of `POST …/train`, in the file a table,
    `[retrain.request]`; here JSON. A model's own stand in `models.<id>.request`."""
    min_interval: Duration = "0s"
    """How long after a model's training no other is taken; in the strict profile `24h`."""


class TrainerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The trainer service, which runs each training in a process of its own."""

    lease_s: Seconds = 15.0
    """A trainer that has not renewed its lease for so long has died; its task is taken over."""
    timeout_s: Seconds = 6 * 3600.0
    """Longest a training may take."""
    memory_mb: Annotated[int, Meta(ge=0)] = 0
    """Memory that a training may take at the most, in MB of 10^6 bytes; 0: any."""
    concurrency: Count = 1
    """Trainings at once, of all trainers together."""
    niceness: Annotated[int, Meta(ge=0, le=19)] = 19
    """Serving goes first on the same machine."""
    threads: Annotated[int, Meta(ge=0, le=1_024)] = 0
    """Threads that TensorFlow computes with; 0: as many as there are cores."""


class GateSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The comparison that a new version passes before it goes live by itself."""

    tolerance: Share = 0.02
    """A version whose NDCG@10 is lower by more than this share of the live one's, and not by
    chance, is rejected."""
    events: Count = 10_000
    """Newest events that no version is fitted to, at the most; never more than half of the
    hold-out."""


class VersionSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Where versions lie, how many, and by whom they must be signed."""

    keep: Annotated[int, Meta(ge=2)] = 10
    """Versions of a model that are kept, the newest ones; the live one, and the one that a rollback
    leads to, stay whatever their age."""
    cache: str = "artifacts-cache"
    """Folder into which versions are fetched when `artifacts` is an object store's address."""
    cache_limit: Annotated[int, Meta(ge=2)] = 3
    """Versions of a model that lie there, those used last; more only while they may be in use."""
    signing_key: str = ""
    """File of the trainer's private key, PEM (`headrace models key` makes one); if empty, versions
    are not signed."""
    trusted_keys: str = ""
    """Public keys, `ed25519:…`, separated by commas; when there are any, a server refuses a version
    that none of them signed."""


class ServingSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The HTTP server."""

    host: str = "127.0.0.1"
    port: Port = 8080
    follow_s: Seconds = 0.25
    """How often a server looks for a new live version and for changes of the catalogue."""
    trending_s: Seconds = 1.0
    """How often a server reads the trending items anew."""
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    """Processes of one server, which share its port."""
    admission_target_ms: Annotated[float, Meta(ge=0, le=60_000)] = 50.0
    """When even the quickest recommendations take longer, in milliseconds, fewer requests are taken
    in hand and others get 503 at once; 0: all are taken. Sooner, where the server has used up a
    core."""
    admission_least: Count = 32
    """Requests for recommendations that are taken in hand at once, however slow they are; eight
    where the server has used up a core."""
    admission_most: Count = 256
    """Requests for recommendations in hand at the most, however quick they are."""
    body_wait_s: Seconds = 30.0
    """For how long a server waits for the next piece of a request's body, which then is a 408."""
    streams_limit: Annotated[int, Meta(ge=1, le=60_000)] = 4_000
    """Streams of recommendations that one server keeps open at the most."""
    heartbeat_s: Seconds = 15.0
    """How often an open stream shows that it is, while there is nothing new."""
    similar_model_id: ModelId = "items"
    """The model of the kind `items` that answers what is similar; none live: the served model."""
    ranking_model_id: ModelId = "ranking"
    """The model of the kind `ranking` that reorders what is recommended, once a version is live."""
    rate_per_s: Annotated[float, Meta(ge=0)] = 0.0
    """Requests a second of a key in one process, unless it has its own number; 0: any."""
    burst: Count = 1_000
    """Requests of a key at once, when they are limited."""
    user_rate_per_s: Annotated[float, Meta(ge=0)] = 20.0
    """Requests a second with the tokens of one user; 0: any."""
    user_burst: Count = 40
    """Requests at once with the tokens of one user."""
    upload_bytes: Annotated[int, Meta(ge=1)] = 1 << 30
    """Longest file of events that can be sent to be trained on."""
    cors_origins: str = ""
    """Origins whose pages may call, `https://shop.example`, separated by commas; `*`: all."""
    tls_certificate: str = ""
    """File of the certificate and its chain, PEM; with it the server speaks HTTPS alone."""
    tls_key: str = ""
    """File of the certificate's private key, PEM, unless it stands in the same file."""
    tls_key_password: str = ""
    """What that file is encrypted with, if it is."""


class ImpressionSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What was served: logged to the topic `impressions`, and found by its id for a while."""

    log: bool = True
    """Whether what is served is logged; without it nothing is found later, nor evaluated."""
    ttl_s: Annotated[int, Meta(ge=60)] = 24 * 3600
    """Seconds for which a list is found by its id, and events are scored against it."""
    per_user: Annotated[int, Meta(ge=1, le=1_000)] = 20
    """Lists of a user that are found, the newest ones."""
    buffer: Annotated[int, Meta(ge=100, le=1_000_000)] = 10_000
    """Lists that a server holds while Kafka is away; more are dropped, and counted."""


class EvaluationSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Events scored against the lists that their users were served before them."""

    k: Annotated[int, Meta(ge=1, le=100)] = 10
    """Of HR@k and NDCG@k; a list of fewer items is not scored against."""
    window_s: Annotated[float, Meta(ge=3600)] = 7 * 24 * 3600.0
    """Both are those of the events of so many seconds until now."""


class ExperimentSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """An A/B test: users are split between versions of the model, each user always to the same."""

    name: Name = "default"
    """Another name splits the users anew."""
    arms: str = ""
    """`VERSION=SHARE`, separated by commas: the share of the users, 0 to 1, that each version has;
    the live version has the rest."""


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All settings of all parts."""

    profile: Literal["standard", "strict"] = "standard"
    """Which defaults hold: `strict` has a model trained once in 24 h."""
    kafka: str = "127.0.0.1:9092"
    """Bootstrap servers, `host:port`, separated by commas."""
    kafka_security: KafkaSecuritySettings = KafkaSecuritySettings()
    redis: Annotated[str, Meta(pattern=r"^(rediss?|unix)://")] = "redis://127.0.0.1:6379/0"
    """URL, with user and password if it asks for them; `rediss://` for TLS."""
    namespace: Name = "headrace"
    """Prefix of every key in Redis."""
    artifacts: str = "artifacts"
    """Folder of model versions, or an object store's address: `s3://bucket/prefix`."""
    archive: str = "archive"
    """Folder of the archive of topics, which `headrace archive` writes and trainings read."""
    model_id: ModelId = "default"
    """The model of whoever names none."""
    models: dict[ModelId, ModelSettings] = {}
    """Models beside it, by id: in the file a table each, `[models.books]`; here JSON."""
    url: str = "http://127.0.0.1:8080"
    """Where clients (the command line) find the server."""
    api_key: str = ""
    """The bearer key: the server asks for it when it is set; clients send it."""
    tracing: bool = False
    """Whether traces are sent (OpenTelemetry); the variables `OTEL_*` say where to."""
    log_level: Annotated[str, Meta(pattern=r"^(DEBUG|INFO|WARNING|ERROR)(?!\n)$")] = "INFO"
    topics: TopicSettings = TopicSettings()
    sessions: SessionSettings = SessionSettings()
    trending: TrendingSettings = TrendingSettings()
    rules: RulesSettings = RulesSettings()
    worker: WorkerSettings = WorkerSettings()
    retrain: RetrainSettings = RetrainSettings()
    training: TrainingSettings = TrainingSettings()
    trainer: TrainerSettings = TrainerSettings()
    gate: GateSettings = GateSettings()
    versions: VersionSettings = VersionSettings()
    serving: ServingSettings = ServingSettings()
    impressions: ImpressionSettings = ImpressionSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    experiment: ExperimentSettings = ExperimentSettings()

    def key(self, *parts: str) -> str:
        """Return the Redis key of these parts, in this namespace."""
        return ":".join((self.namespace, *parts))

    def state_key(self, *parts: str) -> str:
        """Return the Redis key of what the events of this model's topics come to.

        Models that read the same topics share it: sessions, rules, trending items, positions.
        """
        topics = self.event_topics
        if topics == SHARED:
            return self.key(*parts)
        # One topic tells: models share all three or none.
        return self.key("topics", topics.clicks, *parts)

    @property
    def event_topics(self) -> EventTopicNames:
        """The topics that this model's events are in."""
        return topics_of(self.model_id, self.models)

    @property
    def model_ids(self) -> list[str]:
        """The settings' model and those listed beside it, sorted.

        Each has an endpoint of its own, but for a second stage.
        """
        return sorted({self.model_id, *self.models})

    @property
    def trained_ids(self) -> list[str]:
        """All models that can be trained, sorted: with them those that help the settings' model."""
        serving = self.serving
        return sorted({*self.model_ids, serving.similar_model_id, serving.ranking_model_id})

    @property
    def models_alike(self) -> list[str]:
        """The models that read the same topics as this one, and it."""
        return [each for each in self.model_ids if self._topics_of(each) == self.event_topics]

    @property
    def group(self) -> str:
        """The consumer group of the workers that read this model's topics."""
        topics, group = self.event_topics, self.worker.group
        return group if topics == SHARED else f"{group}.{topics.clicks}"

    @property
    def states(self) -> list[Settings]:
        """The settings of one model for each three topics that models read; this one's first."""
        first: dict[EventTopicNames, str] = {self.event_topics: self.model_id}
        for model_id in self.model_ids:
            first.setdefault(self._topics_of(model_id), model_id)
        return [self.of_model(model_id) for model_id in first.values()]

    def of_model(self, model_id: str) -> Settings:
        """Return the same settings, of another model. Raises `UnknownModel`."""
        if model_id not in self.trained_ids:
            raise UnknownModel(
                f"There is no model {model_id!r}; there are {', '.join(self.trained_ids)}. "
                "HEADRACE_MODELS adds others."
            )
        if model_id == self.model_id:
            return self
        # The model that these are of stays among them, and what helps it learns from its events.
        helping = {model_id: ModelSettings(self.event_topics)}
        models = {**helping, self.model_id: ModelSettings(), **self._listed}
        return msgspec.structs.replace(self, model_id=model_id, models=models)

    def _topics_of(self, model_id: str) -> EventTopicNames:
        return topics_of(model_id, self._listed)

    @property
    def _listed(self) -> dict[ModelId, ModelSettings]:
        """The models that are listed; those that help the settings' model with topics in any case.

        Listed or not, without topics of their own they learn from its events.
        """
        helping = {
            model_id: msgspec.structs.replace(self.models[model_id], topics=self.event_topics)
            for model_id in (self.serving.similar_model_id, self.serving.ranking_model_id)
            if model_id in self.models
            and model_id != self.model_id
            and self.models[model_id].topics is None
        }
        return {**self.models, **helping}

    def environ(self) -> dict[str, str]:
        """Return the variables from which a child process reads these same settings."""
        raw = msgspec.to_builtins(self)
        return {variable: shown(value_at(raw, path)) for variable, path in variables(Settings)}
