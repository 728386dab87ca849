"""One frozen object of settings, from `HEADRACE_*` variables over an optional TOML file.

`Settings.sessions.limit` is the variable `HEADRACE_SESSIONS_LIMIT` and, in the file,
`limit` under `[sessions]`. Variables win over the file; the file's path is `HEADRACE_CONFIG`.
Models are tables of tables, `[models.books]`; their variable holds all of them, as JSON.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from headrace.errors import InvalidSetting, UnknownModel
from headrace.model_settings import SHARED, EventTopicNames, ModelSettings, parse_models, topics_of
from headrace.model_settings import ModelId as ModelId

PREFIX = "HEADRACE_"
CONFIG_VARIABLE = "HEADRACE_CONFIG"
KAFKA_JARS_VARIABLE = "HEADRACE_KAFKA_JARS"
_NO_SETTINGS = frozenset({CONFIG_VARIABLE, KAFKA_JARS_VARIABLE, "HEADRACE_BENCH_DATA"})
"""Variables that say where files are; a command reads each by itself."""

Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]
PositiveNumber = Annotated[float, Meta(gt=0)]
Duration = Annotated[str, Meta(pattern=r"^[0-9]*\.?[0-9]+(ms|s|m|h|d)?(?!\n)$")]
"""As `headrace.commands.durations` reads it: `90m`, `24h`; seconds without a unit."""
Share = Annotated[float, Meta(ge=0, lt=1)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}(?!\n)$")]
TopicPrefix = Annotated[str, Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,99})?(?!\n)$")]


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
    """An event counts half as much as one that came so much later."""
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
    """Versions that lie there at the most, those used last."""
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
    streams_limit: Annotated[int, Meta(ge=1, le=60_000)] = 4_000
    """Streams of recommendations that one server keeps open at the most."""
    heartbeat_s: Seconds = 15.0
    """How often an open stream shows that it is, while there is nothing new."""
    similar_model_id: ModelId = "items"
    """The model of the kind `items` that answers what is similar; none live: the served model."""
    ranking_model_id: ModelId = "ranking"
    """The model of the kind `ranking` that reorders what is recommended, once a version is live."""
    rate_per_s: Annotated[float, Meta(ge=0)] = 0.0
    """Requests a second of a key on one server, unless it has its own number; 0: any."""
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


class TrainingSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a model is made with. The defaults were chosen on MovieLens-100k's validation part."""

    positive_threshold: float = 4.0
    """An event whose rating is at least this is positive, and may be what is to be predicted."""
    click_rating: float = 4.0
    """What a click without a rating counts as."""
    purchase_rating: float = 5.0
    """What a purchase without a rating counts as."""

    width: Annotated[int, Meta(ge=8, le=512)] = 64
    """Of item and query vectors, the last coordinate being the item's bias."""
    session_length: Annotated[int, Meta(ge=2, le=200)] = 50
    """Interactions that the query tower looks at, the newest ones."""
    blocks: Count = 1
    """Transformer blocks; a second one overfits below some hundred thousand events."""
    heads: Count = 1
    """Attention heads of a block; they share the width, which is a multiple of them."""
    temperature: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Above 0, a score is the cosine of two vectors over this; 0: their dot product."""
    dropout: Share = 0.2
    """Of attention weights, hidden units and input vectors."""
    id_dropout: Share = 0.1
    """Share of items that a step knows by their features alone, so that a cold item can be told."""

    repeats: bool = False
    """Whether an event is to be predicted whose item its user has met before, too."""
    future: Count = 3
    """Positive events after each position that it learns to predict; 1: the next one alone."""
    future_decay: Annotated[float, Meta(gt=0, le=1)] = 0.7
    """Weight of each further one of them, relative to the one before."""
    negatives: Annotated[int, Meta(ge=256)] = 1024
    """Items drawn for each step, uniformly, when the catalogue is too large to take whole."""
    full_softmax_items: Count = 50_000
    """Up to so many items the loss runs over the whole catalogue."""

    context: Share = 0.5
    """Share of a window of a long history that is context alone, and no example."""
    batch_size: Count = 16
    """Windows of `session_length` positions a step."""
    learning_rate: PositiveNumber = 0.003
    """Adam's, at its highest; it falls along a cosine."""
    epochs: Count = 8
    """At the most, on the events before the hold-out."""
    min_steps: Count = 400
    """Little data is gone through more often, until so many steps are made."""
    patience: Count = 3
    """Epochs without a better NDCG@10 on the hold-out after which the training stops."""
    final_epochs: Annotated[int, Meta(ge=0)] = 2
    """On all events, the held-out ones too, so that the version shipped knows the newest."""

    feedback_weight: Annotated[float, Meta(ge=0, le=10)] = 0.2
    """Of what users did with the lists they were served, in the loss, when a training is asked to
    learn from it."""
    feedback_window_s: Seconds = 3600.0
    """How long after a list was served an event of its user's counts as an act on it."""

    rules_share: Annotated[float, Meta(ge=-1, le=1)] = -1.0
    """Share of the sequential rules in a score, the rest being the towers'; 0: towers alone; below
    0: the share that lists best on the hold-out."""
    rules_last: Annotated[int, Meta(ge=1, le=50)] = 10
    """Items of the session that rules look from, the newest ones."""
    rules_decay: Annotated[float, Meta(gt=0, le=1)] = 0.85
    """Weight of each further one of them, relative to the one after it."""
    rules_smoothing: Annotated[float, Meta(ge=0, le=1e6)] = 10.0
    """Added to an item's total weight, so that few observations say little."""
    blend_candidates: Annotated[int, Meta(ge=10, le=2_000)] = 200
    """Items that the towers contribute to a list, the best ones."""

    train_split_ratio: Annotated[float, Meta(gt=0, lt=1)] = 0.9
    """Share of the events, in time order, before the hold-out."""
    validation_events: Count = 2_000
    """Held-out events looked at after each epoch, evenly spaced."""
    evaluation_events: Count = 20_000
    """Held-out events that the metrics and the calibrations come from, evenly spaced."""
    min_events: Annotated[int, Meta(ge=10)] = 100
    """Fewer than these are refused: nothing could be learnt or measured."""
    session_gap_s: Seconds = 1_800.0
    """A pause after which a user's next event begins another session, for item-to-item towers."""
    basket_s: Seconds = 24 * 3600.0
    """What a user buys within so long of a basket's first purchase is bought together."""
    incremental_sample: Annotated[float, Meta(ge=0, le=1_000)] = 2.0
    """Old events gone through again for each new one, when a training goes on from a version."""
    incremental_least: Count = 20_000
    """Old events gone through again at the least, if there are so many."""
    incremental_rate: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """Of the learning rate: at its highest where a training goes on from a version."""
    scann_from_items: Count = 20_000
    """From so many items on the version carries a ScaNN index."""
    seed: int = 0
    """Same data, parameters and seed: same version."""


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
        """All models, sorted."""
        return sorted({self.model_id, *self.models})

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
        if model_id not in self.model_ids:
            raise UnknownModel(
                f"There is no model {model_id!r}; there are {', '.join(self.model_ids)}."
            )
        if model_id == self.model_id:
            return self
        # The model that these are of stays among them.
        models = {self.model_id: ModelSettings(), **self.models}
        return msgspec.structs.replace(self, model_id=model_id, models=models)

    def _topics_of(self, model_id: str) -> EventTopicNames:
        return topics_of(model_id, self.models)

    def environ(self) -> dict[str, str]:
        """Return the variables from which a child process reads these same settings."""
        raw = msgspec.to_builtins(self)
        return {variable: _shown(_get(raw, path)) for variable, path in _variables()}


_PROFILES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "strict": {"retrain": {"min_interval": "24h"}},
}
"""By profile, the defaults that differ, by table and name."""


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings from variables and the file that `HEADRACE_CONFIG` names, if any.

    Raises `InvalidSetting`, naming the variable or the file's key, its value and what it must be.
    """
    raw = _read_file(environ.get(CONFIG_VARIABLE, ""))
    known = dict(_variables())
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or variable in _NO_SETTINGS:
            continue
        if variable not in known:
            raise InvalidSetting(f"{variable} is not a setting{_suggestion(variable, known)}")
        _put(raw, known[variable], value)
    return _convert(_with_profile(raw))


def _with_profile(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with those of their profile that are not given."""
    merged = dict(raw)
    for name, own in _PROFILES.get(str(raw.get("profile")), {}).items():
        given = raw.get(name, {})
        # What is no table is refused as such.
        merged[name] = {**own, **given} if isinstance(given, dict) else given
    return merged


def training_settings(settings: Settings, params: Mapping[str, float]) -> TrainingSettings:
    """Return the settings of a training with a task's own in their place.

    A task's are numbers; what is either so or not is 1 or 0. Raises `InvalidSetting` for one that
    there is not, or whose value cannot be used.
    """
    types = {field.name: field.type for field in msgspec.structs.fields(TrainingSettings)}
    for name in params:
        if name not in types:
            close = difflib.get_close_matches(name, types, n=1)
            hint = (
                f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(types))}."
            )
            raise InvalidSetting(f"params.{name} is not a training setting; {hint}")
    given = {
        name: _yes_or_no(name, value) if types[name] is bool else value
        for name, value in params.items()
    }
    merged = {**msgspec.to_builtins(settings.training), **given}
    try:
        asked = msgspec.convert(merged, TrainingSettings, strict=False)
    except msgspec.ValidationError as exc:
        reason, _, where = str(exc).partition(" - at `$.")
        name = where.strip("`")
        raise InvalidSetting(f"params.{name} has value {merged[name]!r}. {reason}.") from exc
    if asked.width % asked.heads:
        raise InvalidSetting(
            f"params.heads has value {asked.heads}, of which the width, {asked.width}, is no "
            "multiple."
        )
    return asked


def without_password(url: str) -> str:
    """Return a URL as it may be shown."""
    return re.sub(r"(?<=//)[^/]*@|(?<=[?&]password=)[^&]*", _hidden, url)


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


def _hidden(secret: re.Match[str]) -> str:
    return "***@" if secret[0].endswith("@") else "***"


def variable_of(path: tuple[str, ...]) -> str:
    """Return the environment variable of the setting at this path."""
    return PREFIX + "_".join(path).upper()


def _yes_or_no(name: str, value: float) -> bool:
    if value not in (0, 1):
        raise InvalidSetting(f"params.{name} has value {value!r}. It is 1 for yes or 0 for no.")
    return bool(value)


def _variables() -> Iterator[tuple[str, tuple[str, ...]]]:
    for field in msgspec.structs.fields(Settings):
        if isinstance(field.type, type) and issubclass(field.type, Struct):
            for inner in msgspec.structs.fields(field.type):
                path = (field.name, inner.name)
                yield variable_of(path), path
        else:
            yield variable_of((field.name,)), (field.name,)


def _read_file(path: str) -> dict[str, Any]:
    if not path:
        return {}
    try:
        return dict(msgspec.toml.decode(Path(path).read_bytes(), type=dict[str, Any]))
    except OSError as exc:
        raise InvalidSetting(
            f"{CONFIG_VARIABLE} is {path!r}, which cannot be read: {exc.strerror}."
        ) from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise InvalidSetting(f"{path} is not valid TOML: {exc}.") from exc


def _convert(raw: dict[str, Any]) -> Settings:
    models = parse_models(raw.get("models", {}))
    raw = {**raw, "models": {}}
    try:
        return msgspec.structs.replace(msgspec.convert(raw, Settings, strict=False), models=models)
    except msgspec.ValidationError as exc:
        reason, _, where = str(exc).partition(" - at `$")
        if reason.startswith("Object contains unknown field"):
            unknown = reason.split("`")[1]
            path = (*_path(where), unknown)
            raise InvalidSetting(
                f"{'.'.join(path)} in the file is not a setting{_suggestion_in_file(path)}"
            ) from exc
        path = _path(where)
        raise InvalidSetting(
            f"{variable_of(path)} has value {_get(raw, path)!r}. {reason}."
        ) from exc


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode() if isinstance(value, dict) else str(value)


def _path(where: str) -> tuple[str, ...]:
    return tuple(part for part in where.strip("`.").split(".") if part)


def _suggestion(variable: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(variable, known, n=1)
    return f"; did you mean {close[0]}?" if close else "; `headrace settings` lists them all."


def _suggestion_in_file(path: tuple[str, ...]) -> str:
    known = dict(_variables())
    name = variable_of(path).replace(PREFIX * 2, PREFIX)
    close = difflib.get_close_matches(name, known, n=1)
    if not close:
        return "; `headrace settings` lists them all."
    *table, field = known[close[0]]
    where = f"`{field}` under `[{table[0]}]`" if table else f"`{field}`, before any table"
    return f"; did you mean {where}?"


def _get(raw: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = raw
    for part in path:
        value = value[part]
    return value


def _put(raw: dict[str, Any], path: tuple[str, ...], value: str) -> None:
    for part in path[:-1]:
        table = raw.setdefault(part, {})
        if not isinstance(table, dict):
            raise InvalidSetting(
                f"{part} has value {table!r} in the file. It is a table: write [{part}]."
            )
        raw = table
    raw[path[-1]] = value
