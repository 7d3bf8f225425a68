"""``shardbook serve``, and what makes ready for it: ``warm`` and ``key``."""

import argparse
import os
import sys
from contextlib import suppress
from pathlib import Path

from engine.outlet import open_outlets
from engine.printable import printable
from frontend.command_line.endings import FAILURE
from frontend.command_line.options import AddCommand, add_place, user
from frontend.command_line.product import config_of, place, say


def add(command: AddCommand) -> None:
    """Add the commands of this group."""
    add_place(command("serve", _serve, "Run the engine until Ctrl-C or SIGTERM."))

    api = command("api", _api, "Serve REST and WebSocket from Redis, on any machine.")
    api.add_argument("--config", type=Path, metavar="FILE", help="default: the one that ships")
    api.add_argument(
        "--frontend",
        action="append",
        required=True,
        metavar="ADDRESS",
        help="where orders go: HOST:PORT of the product's order entry; may be given again",
    )
    api.add_argument(
        "--ca", default="", metavar="FILE", help="order entry is over TLS, checked against these"
    )

    warm = command("warm", _warm, "Compile ahead, so that no start has to: for images.")
    warm.add_argument(
        "--cache", type=Path, metavar="DIR", help="keep it there, for SHARDBOOK_CACHE=DIR"
    )

    key = command("key", _key, "Make an API key; print what to add to the configuration.")
    key.add_argument("user", type=user, metavar="USER")


def _serve(options: argparse.Namespace) -> int:
    from engine.environment import with_environment

    config = with_environment(config_of(options), os.environ)
    data_dir = place(options, config)
    os.umask(config.file_mask())
    with suppress(OSError):  # which the start tells of
        data_dir.mkdir(parents=True, exist_ok=True)
    from engine.plan import Plan
    from engine.supervisor import serve
    from frontend.roles import roles_of

    open_outlets()
    return serve(Plan(config, data_dir), say, roles_of(config))


def _api(options: argparse.Namespace) -> int:
    from engine.environment import with_environment
    from ipc.links.sockets import parse_address

    config = with_environment(config_of(options), os.environ)
    if not config.http.address:
        print("shardbook: http.address: must be given: an API node serves there", file=sys.stderr)
        return FAILURE
    frontends = [parse_address(text) for text in options.frontend]
    try:
        from engine.cache.link import CacheError
        from frontend.node.run import NodeError, run
    except ImportError as error:
        text = f"Redis needs more to be installed: pip install 'shardbook[redis]' ({error})"
        print(f"shardbook: {text}", file=sys.stderr)
        return FAILURE
    say(f"serving http://{config.http.address} from Redis")
    try:
        run(config, frontends, options.ca)
    except (CacheError, NodeError) as error:
        print(f"shardbook: {printable(str(error))}", file=sys.stderr)
        return FAILURE
    return 0


def _warm(options: argparse.Namespace) -> int:
    from ipc.native import code_cache

    if options.cache is not None:
        os.environ[code_cache.VARIABLE] = str(options.cache.absolute())
        if problem := code_cache.problem_of(options.cache):
            print(f"shardbook: {options.cache}: {problem}", file=sys.stderr)
            return FAILURE
    from engine.warm_apart import warm_apart
    from frontend.roles import ROLES
    from ipc.native.compiled import HAVE_NUMBA

    if not HAVE_NUMBA:
        say("numba is missing: there is nothing to compile")
        return 0
    warm_apart("ladder", ROLES.warm, lambda text: say(f"compiling {text}"))
    if options.cache is not None:
        say(f"done; with {code_cache.VARIABLE}={options.cache.absolute()} all commands find it")
    return 0


def _key(options: argparse.Namespace) -> int:
    from frontend.gateway.keys import key_section, new_key

    key = new_key()
    print(f"The key of {options.user}, shown this once: {key}", file=sys.stderr)
    print(key_section(options.user, key))
    return 0
