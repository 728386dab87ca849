"""Ports on the loopback: picking a free one, and saying clearly that one is taken."""

from __future__ import annotations

import errno
import socket

from headrace.errors import StackError


def claim_port(port: int, *, host: str, use: str, option: str) -> int:
    """Return the port when it is free to listen on, or any free one for 0.

    Raises `StackError`, naming what it was for and the option that changes it.
    """
    with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            raise StackError(_refusal(exc, port, host=host, use=use, option=option)) from exc
        return int(probe.getsockname()[1])


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _refusal(exc: OSError, port: int, *, host: str, use: str, option: str) -> str:
    if exc.errno == errno.EADDRINUSE:
        return (
            f"Port {port}, for {use}, is taken{_owner(port)}; "
            f"choose another with {option} PORT, or any free one with {option} 0."
        )
    if exc.errno == errno.EACCES:
        return (
            f"Port {port}, for {use}, is not allowed to you; choose one above 1023: {option} PORT."
        )
    return f"{host}:{port}, for {use}, cannot be listened on: {exc.strerror}."


def _owner(port: int) -> str:
    """Return ` by NAME (process PID)` when the system tells us."""
    import psutil

    try:
        listeners = [
            connection
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
            and connection.laddr
            and connection.laddr.port == port
        ]
        pid = next((listener.pid for listener in listeners if listener.pid), None)
        return f" by {psutil.Process(pid).name()} (process {pid})" if pid else ""
    except psutil.Error:
        return ""
