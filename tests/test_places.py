"""Where a product has its directories, sockets, ports and memory, and what stands in the way."""

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.config import ConfigError, parse_config
from engine.places import PlaceError, make_directories
from engine.plan import Plan
from engine.ports import PortError, reserve_ports
from frontend.client import Client
from frontend.reading import running_plan
from ipc.links.sockets import AddressError, connect, parse_address
from ipc.memory.mapping import run_directory
from tests.http import Http
from tests.namespaces import in_namespace, sized
from tests.product import config_text, make_config, running
from tests.test_serve import AS_A_USER, Served, served

ANY_PORTS = '[frontend]\ntcp = "127.0.0.1:0"\n[http]\naddress = "127.0.0.1:0"\nworkers = 2\n'


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("w")


def refused_start(directory: Path, extra: str = "") -> Served:
    """Try to start a product, which must end in a line."""
    serving = Served(directory, extra)
    assert serving.end() in (1, 2)
    return serving


# Ports ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", ["²", "٣", "-1", "+1", " 1", "1_0", "65536", "0" * 5000, ""])
def test_what_is_no_port_is_refused(port: str) -> None:
    with pytest.raises(AddressError, match="must be unix:PATH or tcp:HOST:PORT"):
        parse_address(f"127.0.0.1:{port}")


def test_port_0_is_announced_and_found_as_the_one_that_it_became(directory: Path) -> None:
    with served(directory, ANY_PORTS) as serving:
        text = "".join(serving.lines)
        plan = running_plan(serving.plan.config, serving.plan.data_dir)
        _, tcp = plan.addresses()
        http = plan.http_address
        assert http is not None
        assert min(tcp.port, http.port) > 0
        assert f"listening on tcp:127.0.0.1:{tcp.port}\n" in text
        assert f"listening on http://127.0.0.1:{http.port}\n" in text
        assert ":0\n" not in text
        with Client(str(tcp), "alice") as client:
            client.submit("AA", "buy", quantity=1, price=1)
        reached: set[int] = set()
        while len(reached) < 2:  # the kernel deals connections to both workers
            with Http(plan) as worker:
                worker.get("/health")
            workers = [serving.member("http", number) for number in range(2)]
            reached = {p.number for p in workers if p.counters["requests"]}


def test_a_process_that_is_started_again_has_the_same_port(directory: Path) -> None:
    with served(directory, ANY_PORTS) as serving:
        plan = running_plan(serving.plan.config, serving.plan.data_dir)
        tcp = plan.addresses()[1]
        os.kill(serving.member("frontend").pid, signal.SIGKILL)
        serving.until("frontend 0 is back")
        with Client(tcp, "alice") as client:
            client.ping()


def test_a_product_started_by_a_program_tells_it_the_ports() -> None:
    with running(make_config(1, 1, ANY_PORTS)) as plan:
        connect(plan.addresses()[1], 60.0).close()
        with Http(plan) as http:
            assert http.get("/health")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_port_of_another_product_is_refused(processes: int) -> None:
    """Also where frontends share it, as they could with those of the other one."""
    extra = f"{ANY_PORTS}[query]\n".replace("[frontend]", f"[frontend]\nprocesses = {processes}")
    with running(make_config(1, 1, extra)) as plan:
        for section, key in (("frontend", "tcp"), ("http", "address")):
            taken = getattr(getattr(plan.config, section), key)
            config = make_config(1, 1, f'[{section}]\n{key} = "{taken}"\n')
            with pytest.raises(PortError, match=f"cannot listen on tcp:{taken}: Address already"):
                reserve_ports(config)


# Paths of sockets -------------------------------------------------------------------------------


def long_socket(directory: Path, size: int) -> Path:
    """Return the path of a socket of so many bytes, in a directory that there is."""
    place = directory / "d"
    while len(str(place)) < size - 50:
        place = place / ("d" * min(50, size - 51 - len(str(place))))
    place.mkdir(parents=True)
    return place / ("s" * (size - len(str(place)) - 1))


@pytest.mark.parametrize("processes", [1, 3])
def test_a_path_that_is_too_long_for_a_socket_is_named(directory: Path, processes: int) -> None:
    """The longest is that of the last frontend."""
    size = 107 if processes == 1 else 105
    for more, taken in ((0, True), (1, False)):
        path = long_socket(directory / str(more), size + more)
        extra = f'[frontend]\nprocesses = {processes}\nsocket = "{path}"\n'
        if taken:
            with served(directory, extra) as serving, Client(f"unix:{path}", "alice") as client:
                client.ping()
                assert serving.plan.addresses()[-1].path.startswith(str(path))
        else:
            with pytest.raises(ConfigError) as caught:
                parse_config(config_text(extra=extra), "t")
            rule = "must have at most 107 bytes, and has 108; name a shorter one"
            assert str(caught.value).startswith(f"t: frontend.socket: {path}")
            assert str(caught.value).endswith(f": the path of a Unix socket {rule}")


def test_a_data_directory_that_is_too_deep_is_named(directory: Path) -> None:
    """By the option, which the configuration does not know of."""
    (directory / "test.toml").write_text(config_text())
    command = [sys.executable, "-m", "frontend.cli", "serve", "--config", "test.toml"]
    done = subprocess.run(
        [*command, "--data-dir", "d" * 120],
        cwd=directory, capture_output=True, text=True, check=False, timeout=200,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "shardbook.sock: the path of a Unix socket must have at most 107 bytes" in line
    assert line.endswith("; name a shorter frontend.socket or data directory")


@pytest.mark.parametrize("size", [73, 90])
def test_inner_sockets_are_looked_at_too(
    directory: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Without /dev/shm they lie in the data directory, and are longer than that of clients."""
    monkeypatch.setattr("ipc.memory.mapping.SHARED_MEMORY", directory / "none")
    data_dir = directory / ("d" * (size - len(str(directory)) - 1))
    plan = Plan(make_config(1, 1), data_dir)
    if size == 73:
        make_directories(plan)
        return
    with pytest.raises(PlaceError, match="107 bytes, and has 109; name a shorter") as caught:
        make_directories(plan)
    assert str(caught.value).startswith(f"{data_dir}/run/matcher-0.sock: the path of a Unix socket")


def test_a_client_is_told_of_a_path_that_is_too_long() -> None:
    for text in ("unix:" + "d" * 108, "./" + "é" * 60, "/a\0b"):
        with pytest.raises(AddressError, match="the path of a Unix socket must"):
            Client(text, "alice")


# Directories ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "is_file", "expected"),
    [
        ("log", True, "/log must be a directory, and is a file"),
        ("journal", True, "/journal must be a directory, and is a file"),
        ("journal/1", True, "/journal/1 must be a directory, and is a file"),
        ("log/trades.ndjson", False, "/log/trades.ndjson must be a file"),
        ("accounts-0.ndjson", False, "/accounts-0.ndjson must be a file"),
        ("lock", False, "/lock must be a file"),
    ],
)
def test_what_has_a_name_in_the_data_directory_is_named(
    directory: Path, name: str, is_file: bool, expected: str
) -> None:
    place = directory / "data" / name
    (place.parent if is_file else place).mkdir(parents=True)
    if is_file:
        place.write_text("")
    serving = refused_start(directory)
    assert [line.rstrip() for line in serving.lines] == [
        f"shardbook: data directory {directory}/data: {directory}/data{expected}"
    ]


# Shared memory ----------------------------------------------------------------------------------


def test_what_a_small_shared_memory_cannot_hold_lies_in_the_data_directory(
    directory: Path,
) -> None:
    """64 MB are what Docker gives; the configuration that ships may use more."""
    text = f'data_dir = "{directory}/data"\n' + config_text(2, 5)
    python = [*in_namespace(sized("64m")), sys.executable]
    for killed in (True, False):
        serving = Served(directory, text=text, python=python)
        serving.until("ready")
        (note,) = [line for line in serving.lines if "may be used" in line]
        assert note.startswith("/dev/shm has 64 MB, and 138 MB of shared memory may be used: ")
        assert f"it lies in files in {directory}/data/run." in note
        assert "docker run --shm-size" in note
        files = {path.name for path in (directory / "data" / "run").iterdir()}
        assert {"orders-0", "trades-0", "reports-1", "depth-1", "status"} <= files
        with Client(serving.plan.addresses()[0], "alice") as client:
            if killed:
                order = client.submit("AA", "buy", quantity=5, price=1, client_order_id=1)
                serving.process.kill()
            else:
                assert client.order(order.order_id).price == 1
                serving.process.send_signal(signal.SIGTERM)
        serving.end()  # of its processes too: they have its standard output
    assert serving.lines[-1] == "stopped\n"
    assert not (directory / "data" / "run").exists()


def memory_bytes(serving: Served) -> tuple[int, int]:
    """Return what is in shared memory, and what its processes have for themselves besides."""
    pids, own = [serving.process.pid], 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            pids += map(int, (task / "children").read_text().split())
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        own += next(int(line.split()[1]) for line in rollup.splitlines() if "Pss_Anon" in line)
    blocks = sum(path.stat().st_blocks for path in serving.plan.run_dir.iterdir())
    return 512 * blocks, 1024 * own


def test_idle_symbols_take_little_memory(directory: Path) -> None:
    """Memory follows the orders that there are, not those that may come."""
    symbols = "".join(
        f'[[instruments]]\nsymbol = "S{number}"\ntick_size = "0.01"\nmax_resting_orders = 40000\n'
        for number in range(1_000)
    )
    text = f'data_dir = "{directory}/data"\n{symbols}'
    serving = Served(directory, text=text, python=AS_A_USER)
    serving.until("ready")
    shared, own = memory_bytes(serving)
    maps = Path(f"/proc/{serving.process.pid}/maps").read_text()
    serving.process.send_signal(signal.SIGTERM)
    assert serving.end() == 0
    assert shared < 8 << 20  # boards 6; rings and tables grow
    assert shared + own < 200 << 20  # nearly all of it is Python, numpy and numba
    assert "llvmlite" not in maps or platform.machine() != "x86_64"  # the compiler is the others'


# Another user's product -------------------------------------------------------------------------

AS_USER = """
import os, sys
import frontend.show, frontend.reading, engine.supervisor, engine.trade_log.log, engine.verify
import frontend.cli, frontend.demo.load, frontend.replay.flow_file, frontend.replay.sender
os.setgid({user}); os.setuid({user})
sys.exit(frontend.cli.main(["status", "--data-dir", {data!r}]))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_the_product_of_another_user_is_named(directory: Path) -> None:
    for place in (directory, *directory.parents[:2]):
        place.chmod(0o755)
    with served(directory) as serving:
        code = AS_USER.format(user=54321, data=str(serving.plan.data_dir))
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=200
        )
        assert done.returncode == 1
        assert done.stderr == (
            f"shardbook: the product in {serving.plan.data_dir} is run by user root, and this "
            "user may not read it\n"
        )


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_root_finds_the_product_of_another_user(directory: Path) -> None:
    """By whose lock it is; a directory that somebody else made under that name is not taken."""
    data_dir, user = directory / "data", 54321
    data_dir.mkdir()
    (data_dir / "lock").touch()
    os.chown(data_dir / "lock", user, user)
    place = run_directory(data_dir, user)
    place.mkdir(mode=0o700)
    try:
        assert running_plan(make_config(), data_dir).run_dir == run_directory(data_dir)
        os.chown(place, user, user)
        assert running_plan(make_config(), data_dir).run_dir == place
    finally:
        place.rmdir()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_root_writes_nothing_into_the_product_of_another_user(directory: Path) -> None:
    with served(directory) as serving, Client(serving.plan.addresses()[0], "alice") as client:
        client.submit("AA", "buy", quantity=5, price=1, client_order_id=1)
    place, user = serving.plan.data_dir, 54321
    commands = (["snapshot"], ["recover", "--accept-loss"])

    def run(command: list[str]) -> tuple[int, str]:
        whole = [sys.executable, "-m", "frontend", *command, "--config", str(serving.config)]
        done = subprocess.run(whole, capture_output=True, text=True, check=False, timeout=200)
        return done.returncode, done.stderr

    os.chown(place / "lock", user, user)
    before = sorted(place.rglob("*"))
    for command in commands:
        assert run(command) == (
            1,
            f"shardbook: data directory {place}: the product in it is of user {user}, who could "
            f"not use what user 0 writes there; run this as user {user}\n",
        )
    assert sorted(place.rglob("*")) == before
    os.chown(place / "lock", 0, 0)
    assert [run(command) for command in commands] == [(0, ""), (0, "")]
    assert len(list(place.rglob("*.snapshot"))) == 1


def test_a_long_directory_for_temporary_files_is_in_nobodys_way(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = directory / ("t" * 90)
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    with (
        served(directory, python=AS_A_USER) as serving,
        Client(serving.plan.addresses()[0], "alice") as client,
    ):
        client.ping()
    assert serving.end() == 0
    assert "Traceback" not in "".join(serving.lines)
