"""Become a node of Apache Kafka: broker and controller in one process, on the loopback.

Run as a script: `python apache_node.py JAVA JARS FOLDER PORT`. Like `launch.py` it uses the
standard library alone. The folder is formatted the first time only: its cluster id stays. The
controller takes whatever port is free, another at each start, so that one that was taken in between
is mended by starting again.
"""

import os
import subprocess
import sys
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from socket import socket

_HOST = "127.0.0.1"
_LOG = "log"
_PROPERTIES = "server.properties"
_FORMATTED = "meta.properties"
"""Kafka writes it last, so that a format that was broken off is done again."""
_LOGGER = "-Dorg.slf4j.simpleLogger."
_JVM = (
    "-Xms256m",
    "-Xmx512m",
    # The smallest, and heap enough for it.
    "-XX:+UseSerialGC",
    # What the second compiler would win a node of this size loses while it compiles: without it a
    # format and a start take 5 s of processor time instead of 8.
    "-XX:TieredStopAtLevel=1",
    f"{_LOGGER}defaultLogLevel=warn",
    f"{_LOGGER}showDateTime=true",
    f"{_LOGGER}dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
)


def properties(port: int, controller_port: int) -> dict[str, str]:
    """Return the settings of a node that is a cluster by itself."""
    return {
        "node.id": "1",
        "process.roles": "broker,controller",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@{_HOST}:{controller_port}",
        "listeners": f"PLAINTEXT://{_HOST}:{port},CONTROLLER://{_HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{_HOST}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        # Relative to the folder, for a comma in its path would part it into two.
        "log.dirs": _LOG,
        # Nobody would take over from it, and after a crash it must wait for so long to come back.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        "auto.create.topics.enable": "false",
        # There is one broker to hold these, and few groups.
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # Workers come and go one at a time: nobody else is waited for.
        "group.initial.rebalance.delay.ms": "0",
    }


def main(java: str, jars: str, folder: str, port: str) -> None:
    """Format the folder when it is new, then become the node."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    settings = properties(int(port), _free_port(other_than=int(port)))
    lines = (f"{name}={value}\n" for name, value in settings.items())
    Path(_PROPERTIES).write_text("".join(lines), encoding="ascii")
    java_with_jars = (java, *_JVM, "-cp", f"{jars}/*")
    # Java takes a path's encoding from here.
    environ = {**os.environ, "LC_ALL": "C.UTF-8"}
    if not Path(_LOG, _FORMATTED).exists():
        tool = ("kafka.tools.StorageTool", "format", "--config", _PROPERTIES)
        command = (*java_with_jars, *tool, "--cluster-id", _new_cluster_id())
        if subprocess.run(command, env=environ).returncode:  # noqa: S603 - the supervisor's own
            sys.exit(f"{folder} cannot be made ready for Apache Kafka.")
    os.execve(java, (*java_with_jars, "kafka.Kafka", _PROPERTIES), environ)  # noqa: S606


def _free_port(*, other_than: int) -> int:
    while True:
        with socket() as probe:
            probe.bind((_HOST, 0))
            port = int(probe.getsockname()[1])
        if port != other_than:
            return port


def _new_cluster_id() -> str:
    """Return 16 random bytes as Kafka writes them; they must not look like an option."""
    return urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_", 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
