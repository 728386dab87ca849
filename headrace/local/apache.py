"""Apache Kafka on this machine: where its jars and Java are, and how a node is run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from headrace.errors import StackError
from headrace.local import apache_node
from headrace.local.movielens import cache_folder
from headrace.settings_source import KAFKA_JARS_VARIABLE

VERSION = "4.1.0"
STOP_WITHIN_S = 10.0
"""Seconds from SIGTERM in which a node closes its logs, so that it need not recover them."""
_JAVA_AT_LEAST = 17
_OR_ANOTHER = "or name a Kafka that runs with --kafka HOST:PORT"


@dataclass(frozen=True)
class ApacheKafka:
    """What it takes to run a node."""

    java: str
    """Path of a Java that is new enough."""
    jars: Path
    """Folder of the jars."""

    def command(self, port: int, folder: Path) -> tuple[str, ...]:
        """Return the command of a node on the loopback that keeps its topics in the folder.

        It makes the folder ready when it is new, and takes a free port for its controller.
        """
        script = (sys.executable, "-I", "-S", apache_node.__file__)
        return (*script, self.java, str(self.jars), str(folder), str(port))


def find_apache(environ: Mapping[str, str]) -> ApacheKafka:
    """Return the jars that `make kafka` has fetched and the Java of `JAVA_HOME` or `PATH`. Blocks.

    Raises `StackError` when either is missing or will not do.
    """
    jars = _find_jars(environ)
    return ApacheKafka(_find_java(environ), jars)


def _find_jars(environ: Mapping[str, str]) -> Path:
    named = environ.get(KAFKA_JARS_VARIABLE)
    jars = Path(named) if named else cache_folder(environ) / f"kafka-{VERSION}"
    if not (jars / f"kafka_2.13-{VERSION}.jar").is_file():
        raise StackError(
            f"The jars of Apache Kafka {VERSION} are not in {jars}; "
            f"fetch them with `make kafka`, {_OR_ANOTHER}."
        )
    return jars.absolute()


def _find_java(environ: Mapping[str, str]) -> str:
    home = environ.get("JAVA_HOME")
    cure = (
        f"install Java {_JAVA_AT_LEAST} or newer "
        f"(on Debian and Ubuntu: apt install openjdk-17-jre-headless), {_OR_ANOTHER}."
    )
    named = str(Path(home, "bin", "java")) if home else "java"
    java = shutil.which(named, path=environ.get("PATH", os.defpath))
    if java is None:
        where = f"JAVA_HOME is {home}, where there is no bin/java" if home else "There is no java"
        raise StackError(f"{where}, and Apache Kafka needs one; {cure}")
    version = _version(java)
    if version is None or version < _JAVA_AT_LEAST:
        raise StackError(
            f"{java} is Java {version or 'of an unknown version'}, too old for Apache Kafka "
            f"{VERSION}; {cure}"
        )
    return str(Path(java).absolute())


def _version(java: str) -> int | None:
    """Return the feature release, 17 of `17.0.15`; None when it does not say."""
    try:
        said = subprocess.run(  # noqa: S603 - the user's own Java
            [java, "-version"], capture_output=True, text=True
        )
    except OSError:
        return None
    found = re.search(r'version "(\d+)', said.stderr)
    return int(found[1]) if found else None
