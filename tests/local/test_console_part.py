"""The console as a part of the stack."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.commands.extras import how_to_install
from headrace.local import DEFAULT_DATA, console
from headrace.local.folder import DataFolder
from headrace.local.parts import PartStatus
from headrace.local.stack import console_port_beside

STATUS = PartStatus(name="console", state="ready", since=0.0, about="http://127.0.0.1:8081")


def test_the_console_gets_the_servers_address_and_no_setting() -> None:
    environ = {"PATH": "/bin", "HEADRACE_API_KEY": "secret", "HEADRACE_REDIS": "redis://it"}
    part = console.console_part("http://127.0.0.1:8080", 8081, environ)
    assert part.environ == {"PATH": "/bin"}
    assert part.command[3:] == ("console", "--url", "http://127.0.0.1:8080", "--port", "8081")


@pytest.mark.parametrize(("port", "beside"), [(8080, 8081), (0, 0), (65535, 0)])
def test_its_port_is_the_one_above_the_servers(port: int, beside: int) -> None:
    assert console_port_beside(port) == beside


def test_a_user_is_told_where_it_is_or_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    here = DataFolder(DEFAULT_DATA)
    told = "See it at http://127.0.0.1:8081; `headrace env` has the key that its door asks for."
    assert console.welcome([STATUS], here, wanted=True) == told
    elsewhere = console.welcome([STATUS], DataFolder(Path("/a folder")), wanted=True)
    assert "`headrace env --data '/a folder'` has the key" in str(elsewhere)
    assert console.welcome([], here, wanted=False) is None
    monkeypatch.setattr(console, "_NEEDS", ("a_package_that_is_not_there",))
    assert console.welcome([], here, wanted=True) == console.GET_IT
    # The extra alone does not bring the client that the console is made with.
    assert how_to_install("console") in console.GET_IT
    assert how_to_install("console").endswith(" headrace-client")
    assert how_to_install("stack") == "pip install 'headrace[stack]'"
