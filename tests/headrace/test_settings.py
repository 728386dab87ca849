"""Settings: variables over a file, and every mistake named with its cure."""

from __future__ import annotations

from math import nan
from pathlib import Path

import msgspec
import pytest

from headrace.errors import InvalidSetting
from headrace.secrets import without_secrets
from headrace.settings import Settings
from headrace.settings_source import load_settings
from headrace.store import connect
from headrace.training_settings import TrainingSettings, training_settings


def test_without_variables_the_defaults_hold() -> None:
    assert load_settings({"PATH": "/bin", "HEADRACER": "no setting of ours"}) == Settings()


def test_variables_set_plain_and_grouped_settings() -> None:
    settings = load_settings(
        {
            "HEADRACE_KAFKA": "a:9092,b:9092",
            "HEADRACE_SESSIONS_LIMIT": "17",
            "HEADRACE_TRENDING_HALF_LIFE_S": "3600.5",
            "HEADRACE_TOPICS_PREFIX": "",
        }
    )
    assert settings.kafka == "a:9092,b:9092"
    assert settings.sessions.limit == 17
    assert settings.trending.half_life_s == 3600.5
    assert settings.topics.prefix == ""


def test_variables_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text('kafka = "file:1"\nmodel_id = "of-file"\n[sessions]\nlimit = 5\nttl_s = 90\n')
    settings = load_settings({"HEADRACE_CONFIG": str(file), "HEADRACE_SESSIONS_LIMIT": "6"})
    assert (settings.kafka, settings.model_id) == ("file:1", "of-file")
    assert (settings.sessions.limit, settings.sessions.ttl_s) == (6, 90)


def test_environ_gives_the_same_settings_back(tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text(
        'redis = "unix:///run/redis.sock"\napi_key = "a=b c"\n'
        "[trending]\nhalf_life_s = 0.1\n[retrain]\nevery_events = 0\n[topics]\nprefix = 'p-'\n"
    )
    settings = load_settings({"HEADRACE_CONFIG": str(file)})
    assert settings != Settings()
    assert load_settings(settings.environ()) == settings


def test_what_trainings_ask_for_is_a_table_or_json(tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text(
        "[retrain.request]\nmode = 'full'\nfrom = 2026-11-01T00:00:00Z\n"
        "[models.books.request]\nepochs = 3\n"
    )
    settings = load_settings({"HEADRACE_CONFIG": str(file)})
    assert settings.retrain.request["mode"] == "full"
    assert settings.models["books"].request == {"epochs": 3}
    by_variables = load_settings(settings.environ())
    assert by_variables.retrain.request == {"mode": "full", "from": "2026-11-01T00:00:00Z"}
    assert by_variables.models == settings.models
    for value in ("{", "[1]"):
        with pytest.raises(InvalidSetting, match="HEADRACE_RETRAIN_REQUEST has value"):
            load_settings({"HEADRACE_RETRAIN_REQUEST": value})


def test_every_setting_has_a_variable_of_its_own() -> None:
    raw = msgspec.to_builtins(Settings())
    # All models together have one.
    assert raw.pop("models") == {}
    leaves = sum(len(value) if isinstance(value, dict) else 1 for value in raw.values())
    assert len(Settings().environ()) == leaves + 1


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("HEADRACE_KAFKKA", "HEADRACE_KAFKA"),
        ("HEADRACE_SESSION_LIMIT", "HEADRACE_SESSIONS_LIMIT"),
        ("HEADRACE_sessions_limit", None),
    ],
)
def test_an_unknown_variable_is_named_with_what_was_meant(variable: str, meant: str | None) -> None:
    with pytest.raises(InvalidSetting, match=variable) as caught:
        load_settings({variable: "1"})
    if meant is not None:
        assert f"did you mean {meant}?" in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("HEADRACE_SERVING_PORT", "http", "int"),
        ("HEADRACE_SERVING_PORT", "0", ">= 1"),
        ("HEADRACE_SERVING_PORT", "65536", "<= 65535"),
        ("HEADRACE_SESSIONS_LIMIT", "", "int"),
        ("HEADRACE_SESSIONS_SEEN_LIMIT", "1000", ">= 1001"),
        ("HEADRACE_TRENDING_HALF_LIFE_S", "0", "> 0"),
        ("HEADRACE_TRENDING_HALF_LIFE_S", "nan", "> 0"),
        ("HEADRACE_REDIS", "localhost:6379", "regex"),
        ("HEADRACE_MODEL_ID", "Not/An Id", "regex"),
        ("HEADRACE_MODEL_ID", "default\n", "regex"),
        ("HEADRACE_NAMESPACE", "two{braces}", "regex"),
        ("HEADRACE_LOG_LEVEL", "LOUD", "regex"),
        ("HEADRACE_WORKER_SESSION_TIMEOUT_S", "5", ">= 6"),
    ],
)
def test_a_bad_value_is_named_with_its_variable_and_reason(
    variable: str, value: str, reason: str
) -> None:
    with pytest.raises(InvalidSetting) as caught:
        load_settings({variable: value})
    message = str(caught.value)
    assert message.startswith(f"{variable} has value {value!r}")
    assert reason in message


@pytest.mark.parametrize(
    ("url", "shown", "wrong"),
    [
        ("redis://me:hush@h:99999", "redis://***@h:99999", "Its port is no number from 0 to"),
        ("redis://me:hu/sh@h:1/0", "redis://***@h:1/0", "Its port is no number from 0 to"),
        ("redis://me:hu#sh@h:1/0", "redis://***@h:1/0", "Its port is no number from 0 to"),
        ("redis://[h", "redis://[h", "Its host is none"),
        ("redis://h/abc", "redis://h/abc", "Its path is not the number of a database"),
        ("redis://h/0/1", "redis://h/0/1", "Its path is not the number of a database"),
        ("redis://h/0#1", "redis://h/0#1", "It has a #"),
        ("redis://h/0?foo=bar", "redis://h/0?foo=bar", "'foo' is not an option of it; there are"),
        ("redis://h?ssl_ca_certs=a", "redis://h?ssl_ca_certs=a", "'ssl_ca_certs' is not an"),
        ("redis://h?db=x&password=hush", "redis://h?db=x&password=***", "Its option db has no"),
        ("redis://h/0?socket_timeout=abc", "redis://h/0?socket_timeout=abc", "socket_timeout has"),
        ("redis://h/0?socket_timeout=nan", "redis://h/0?socket_timeout=nan", "socket_timeout has"),
        ("me:hush@h:1", "***@h:1", "matching regex"),
    ],
)
def test_an_address_that_no_client_of_redis_takes_is_named(
    url: str, shown: str, wrong: str
) -> None:
    with pytest.raises(InvalidSetting) as caught:
        load_settings({"HEADRACE_REDIS": url})
    message = str(caught.value)
    assert message.startswith(f"HEADRACE_REDIS has value {shown!r}. ")
    assert wrong in message
    assert "hush" not in message


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://h/",
        "redis://h:1/15",
        "redis://me:hu%23sh@[::1]:1/0?socket_timeout=2.5&db=3&protocol=3&health_check_interval=9",
        "redis://h/0?max_connections=9&socket_connect_timeout=1&socket_keepalive=yes",
        "rediss://:hush@h/0?ssl_ca_certs=%2Fca.pem&ssl_cert_reqs=none&ssl_check_hostname=false",
        "unix://me:hush@/run/redis.sock?db=1&client_name=a",
    ],
)
async def test_an_address_that_is_taken_makes_a_client(url: str) -> None:
    client = connect(load_settings({"HEADRACE_REDIS": url}))
    client.connection_pool.make_connection()
    await client.aclose()


@pytest.mark.parametrize("kafka", ["", " ", "a:9092,"])
def test_an_address_without_a_server_of_kafka_is_refused(kafka: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        load_settings({"HEADRACE_KAFKA": kafka})
    assert str(caught.value) == (
        f"HEADRACE_KAFKA has value {kafka!r}. It names no server. Write host:port, as in "
        "127.0.0.1:9092; several with commas between them."
    )


def test_a_bad_value_of_the_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text("[serving]\nport = 99999\n")
    with pytest.raises(InvalidSetting, match=r"HEADRACE_SERVING_PORT has value 99999\. .*65535"):
        load_settings({"HEADRACE_CONFIG": str(file)})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (
            "[serving]\nprot = 1\n",
            "serving.prot in the file is not a setting; did you mean `port` under",
        ),
        (
            "kafkaa = 'x'\n",
            "kafkaa in the file is not a setting; did you mean `kafka`, before",
        ),
        ("serving = 3\n", "HEADRACE_SERVING"),
        ("kafka = \n", "not valid TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(text: str, named: str, tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text(text)
    with pytest.raises(InvalidSetting) as caught:
        load_settings({"HEADRACE_CONFIG": str(file)})
    assert named in str(caught.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_bytes(b"kafka = '\xff'\n")
    with pytest.raises(InvalidSetting, match=r"headrace\.toml is not valid TOML"):
        load_settings({"HEADRACE_CONFIG": str(file)})


def test_a_variable_under_what_the_file_made_no_table_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text("serving = 3\n")
    with pytest.raises(InvalidSetting, match="serving"):
        load_settings({"HEADRACE_CONFIG": str(file), "HEADRACE_SERVING_PORT": "80"})


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InvalidSetting, match=r"HEADRACE_CONFIG is 'no/such\.toml'"):
        load_settings({"HEADRACE_CONFIG": "no/such.toml"})


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Settings().kafka = "other:1"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"epoch": 3.0}, "params.epoch is not a training setting; did you mean epochs?"),
        ({"epochs": 0.0}, "params.epochs has value 0.0. Expected `int` >= 1."),
        ({"repeats": 2.0}, "params.repeats has value 2.0. It is 1 for yes or 0 for no."),
        ({"repeats": 0.5}, "params.repeats has value 0.5. It is 1 for yes or 0 for no."),
        ({"repeats": nan}, "params.repeats has value nan. It is 1 for yes or 0 for no."),
    ],
)
def test_what_is_wrong_in_a_tasks_params_is_named(params: dict[str, float], named: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        training_settings(TrainingSettings(), params)
    assert str(caught.value) == named


def test_a_tasks_params_stand_in_for_the_settings() -> None:
    assert training_settings(TrainingSettings(), {"epochs": 3.0}).epochs == 3


@pytest.mark.parametrize(("number", "meant"), [(1.0, True), (0.0, False)])
def test_a_number_answers_yes_or_no(number: float, meant: bool) -> None:
    settings = Settings(training=TrainingSettings(repeats=not meant))
    assert training_settings(settings.training, {"repeats": number}).repeats is meant


def test_variables_that_say_where_files_are_are_no_settings() -> None:
    environ = {"HEADRACE_KAFKA_JARS": "/somewhere", "HEADRACE_BENCH_DATA": "/somewhere"}
    assert load_settings(environ) == Settings()


def test_the_strict_profile_changes_defaults_and_nothing_that_was_set(tmp_path: Path) -> None:
    strict = load_settings({"HEADRACE_PROFILE": "strict"})
    assert strict.retrain.min_interval == "24h"
    assert load_settings(strict.environ()) == strict
    assert load_settings({}).retrain.min_interval == "0s"
    own = {"HEADRACE_PROFILE": "strict", "HEADRACE_RETRAIN_MIN_INTERVAL": "90m"}
    assert load_settings(own).retrain.min_interval == "90m"
    file = tmp_path / "headrace.toml"
    file.write_text('profile = "strict"\n[retrain]\nevery_events = 5\n')
    found = load_settings({"HEADRACE_CONFIG": str(file)}).retrain
    assert (found.every_events, found.min_interval) == (5, "24h")
    with pytest.raises(InvalidSetting, match="HEADRACE_PROFILE has value 'lax'"):
        load_settings({"HEADRACE_PROFILE": "lax"})


def test_no_secret_of_the_settings_is_shown() -> None:
    settings = load_settings(
        {"HEADRACE_API_KEY": "key-1", "HEADRACE_REDIS": "redis://me:hush@host:6379/0"}
    )
    shown = without_secrets("at redis://me:hush@host:6379/0 with key-1 and key-2", settings)
    assert shown == "at redis://***@host:6379/0 with *** and key-2"
