"""Redis behind TLS and ACL, and a Kafka that speaks SASL over TLS alone; and their certificates."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError
from parts import OwnKafka

from headrace.kafka_clients import client_options
from headrace.local import apache_node
from headrace.settings import KafkaSecuritySettings, Settings

USER, PASSWORD = "headrace", "planted-password"
_SECURE_NODE = """
import json, runpy, sys
node = runpy.run_path(sys.argv[1])
usual = node["properties"]
node["main"].__globals__["properties"] = lambda *ports: {
    **{name: value.replace("PLAINTEXT://", "SASL_SSL://") for name, value in usual(*ports).items()},
    **json.loads(sys.argv[2]),
}
node["main"](*sys.argv[3:])
"""


@dataclass(frozen=True)
class Certificate:
    """A certificate for 127.0.0.1, which vouches for itself, and its key."""

    path: Path
    key: Path
    both: Path

    @classmethod
    def make(cls, folder: Path) -> Certificate:
        path, key, both = (folder / name for name in ("server.pem", "server.key", "both.pem"))
        subprocess.run(
            [
                "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
                "-addext", "keyUsage=critical,digitalSignature,keyEncipherment,keyCertSign",
                "-keyout", str(key), "-out", str(path),
            ],
            check=True,
            capture_output=True,
        )  # fmt: skip
        both.write_bytes(key.read_bytes() + path.read_bytes())
        return cls(path, key, both)


class TlsFront(AbstractContextManager["TlsFront"]):
    """Takes TLS connections on a port of its own and passes what they hold on to another port."""

    def __init__(self, certificate: Certificate, behind: int) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.path, certificate.key)

        class Handler(BaseRequestHandler):
            def handle(self) -> None:
                try:
                    with (
                        context.wrap_socket(self.request, server_side=True) as outer,
                        socket.create_connection(("127.0.0.1", behind)) as inner,
                    ):
                        thread = threading.Thread(target=_pass_on, args=(inner, outer), daemon=True)
                        thread.start()
                        _pass_on(outer, inner)
                        thread.join()
                except OSError:
                    # Who does not trust the certificate goes away in the middle.
                    return

        class Server(ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    try:
        while chunk := source.recv(65_536):
            target.sendall(chunk)
    except OSError:
        pass
    finally:
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class SecureKafka(OwnKafka):
    """A node whose one listener asks for a name and a password, over TLS."""

    def __init__(self, folder: Path, certificate: Certificate) -> None:
        self._certificate = certificate
        super().__init__(folder)

    def settings(self, settings: Settings, password: str = PASSWORD) -> Settings:
        """These settings with what it takes to speak to the node."""
        import msgspec

        security = KafkaSecuritySettings(
            protocol="SASL_SSL",
            sasl_username=USER,
            sasl_password=password,
            ssl_cafile=str(self._certificate.path),
        )
        return msgspec.structs.replace(settings, kafka=self.address, kafka_security=security)

    def _launch(self) -> None:
        login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
        properties = {
            "listener.security.protocol.map": "SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "SASL_SSL",
            "sasl.enabled.mechanisms": "PLAIN",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": (
                f'{login} username="{USER}" password="{PASSWORD}" user_{USER}="{PASSWORD}";'
            ),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self._certificate.both),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self._certificate.path),
        }
        # The command is `python -I -S apache_node.py JAVA JARS FOLDER PORT`.
        usual = self._command
        script = usual.index(apache_node.__file__)
        code = ("-c", _SECURE_NODE, apache_node.__file__, json.dumps(properties))
        self._command = (*usual[:script], *code, *usual[script + 1 :])
        super()._launch()
        self._command = usual

    def _answers(self) -> bool:
        try:
            admin = KafkaAdminClient(
                **client_options(self.settings(Settings())), bootstrap_timeout_ms=5_000
            )
            admin.list_topics()
        except (OSError, KafkaError):
            return False
        admin.close()
        return True
