"""The file of users: what it holds, what a crash or a full disk leaves, and what is told then."""

import json
from pathlib import Path

import pytest

from frontend.client import Client
from frontend.client.errors import LoginRefusedError
from frontend.gateway.account_names import AccountNames
from frontend.gateway.accounts import AccountError, AccountRegistry
from ipc.account_lines import MAX_LINE_BYTES
from ipc.records import account_of
from tests.failing_disk import Disk
from tests.http import API, Http, serving
from tests.test_http_faults import pid_of
from tests.test_ready import ORDER, no_room


def register(registry: AccountRegistry, user_id: str) -> int:
    """Let a user in, and have an order of his accepted."""
    account = registry.admit(user_id)
    registry.register(account)
    return account


def users(path: Path) -> list[str]:
    return [json.loads(line)["user_id"] for line in path.read_bytes().splitlines()]


def test_a_user_is_written_down_once(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    registry = AccountRegistry(path, 2)
    for user_id in ("alice", "bob", "alice"):
        assert register(registry, user_id) == account_of(user_id)
    assert users(path) == ["alice", "bob"]
    with pytest.raises(AccountError, match="no further account can be opened, there are 2"):
        registry.admit("carol")
    again = AccountRegistry(path, 2)
    assert register(again, "bob") == account_of("bob")
    assert users(path) == ["alice", "bob"]


def test_a_guest_is_not_written_down(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    registry = AccountRegistry(path, 2)
    for user_id in ("alice", "bob"):
        registry.admit(user_id)
    with pytest.raises(AccountError, match="no further account can be opened, there are 2"):
        registry.admit("carol")
    registry.dismiss(account_of("alice"))
    register(registry, "carol")
    assert (users(path), len(registry)) == (["carol"], 1)


def test_a_full_disk_is_named_and_leaves_whole_lines(tmp_path: Path, disk: Disk) -> None:
    path = tmp_path / "accounts"
    registry = AccountRegistry(path, 9)
    register(registry, "alice")
    disk.room = 0
    register(registry, "bob")  # whose order is accepted already
    for room in (0, 5):
        disk.room = room
        with pytest.raises(AccountError, match="cannot be written down now") as raised:
            registry.admit("carol")
        assert raised.value.code == "BUSY"
        assert registry.admit("alice") == account_of("alice")
        assert (len(registry), registry.unwritten) == (2, 1)
    disk.room, disk.truncate_errors = 5, 1
    for _ in range(2):
        with pytest.raises(AccountError, match="cannot be written down now"):
            registry.admit("carol")
    disk.room, disk.truncate_errors, disk.piece = 1 << 20, 0, 7
    registry.admit("carol")
    assert (users(path), registry.unwritten) == (["alice", "bob"], 0)


WRONG = [
    b"[" * 900 + b"\n",
    b'{"account": 5, "user_id": "mallory"}\n',
    b'{"account": -1, "user_id": "mallory"}\n',
    b'{"account": 1e400, "user_id": "mallory"}\n',
    b'{"account": 1, "user_id": "\\ud800"}\n',
    b'{"account": 1, "user_id": ""}\n',
    b"\0" * 100 + b"\n",
    b"\xff\xfe\n",
    b"\n",
    b"x" * (3 * MAX_LINE_BYTES) + b"\n",
    b'{"account": 1' + b"0" * 900 + b', "user_id": "a"}\n',
]


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_lines_are_passed_over(tmp_path: Path, wrong: bytes) -> None:
    path = tmp_path / "accounts"
    register(AccountRegistry(path, 9), "alice")
    whole = path.read_bytes()
    path.write_bytes(wrong + whole + wrong + b'{"account": 7')
    registry = AccountRegistry(path, 2)
    assert path.read_bytes() == wrong + whole + wrong
    register(registry, "bob")
    assert path.read_bytes().startswith(wrong + whole + wrong)
    names = AccountNames(lambda: [path, tmp_path / "none"])
    assert names.text(account_of("alice")) == "alice"
    assert names.text(account_of("bob")) == "bob"
    assert names.text(account_of("mallory")) == names.text(5) == ""
    register(registry, "alice")
    with pytest.raises(AccountError, match="there are 2"):
        registry.admit("carol")


def test_a_login_is_told_that_the_disk_is_full_and_works_once_there_is_room() -> None:
    with serving(workers=1) as plan, Http(plan) as http:
        address = plan.addresses()[0]
        with Client(address, "alice") as alice:
            http.order("bert", "buy", 1, 1, symbol="AA")
            order = ORDER | {"user_id": "carol", "symbol": "AA"}
            # Longer than a page, so that nothing more fits.
            for user in range(80):
                with Client(address, f"user-{user}" + "x" * 50) as client:
                    client.submit("AA", "buy", 1, "1.00")
                http.order(f"user-{user}" + "x" * 50, "buy", 1, 1, symbol="AA")
            with no_room(pid_of(plan, "frontend")), no_room(pid_of(plan, "http")):
                with Client(address, "dora") as dora:
                    dora.submit("AA", "buy", 1, "1.00")
                http.post(f"{API}/orders", order | {"user_id": "emil"})
                with pytest.raises(LoginRefusedError, match="cannot be written down now") as told:
                    Client(address, "carol")
                assert told.value.code == "BUSY"
                reply = http.call("POST", f"{API}/orders", order)
                assert (reply.status, reply.code) == (503, "BUSY")
                assert "cannot be written down now: File too large" in str(reply.body)
                assert "no further account" not in str(reply.body)
                alice.submit("AA", "buy", 1, "1.00")
                http.order("bert", "buy", 1, 1, symbol="AA")
            with Client(address, "carol") as carol:
                carol.submit("AA", "buy", 1, "1.00")
            http.post(f"{API}/orders", order)
