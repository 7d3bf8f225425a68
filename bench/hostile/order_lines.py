"""Attacks on order entry's connections and frames: most of them need no key."""

import asyncio

from bench.hostile.foe import MOST_LINES, TURN_S, Foe, attack
from ipc.records import MAX_SHARDS, make_id
from ipc.wire.frames import HEADER, frame
from ipc.wire.messages import Login, NewOrder

HOLD_S = 60.0
"""Of attacks that keep a connection as long as they can."""


def _framed(body: bytes) -> bytes:
    return HEADER.pack(len(body), 0) + body


@attack(HOLD_S)
async def silent_connections(foe: Foe) -> None:
    """Connections on which nothing is ever said."""
    lines = [await foe.entry() for _ in range(MOST_LINES)]
    for line in lines:
        await line.ended()


@attack(HOLD_S)
async def slow_login(foe: Foe) -> None:
    """A login that comes byte by byte."""
    line = await foe.entry()
    for byte in foe.login_frame():
        await line.send(bytes([byte]))
        await asyncio.sleep(1)


@attack(HOLD_S)
async def frame_never_ends(foe: Foe) -> None:
    """A logged-in session whose frames come byte by byte, and never whole."""
    line = await foe.login()
    await line.send(HEADER.pack(1_024, 0))
    while True:
        await line.send(b"\x91")
        await asyncio.sleep(0.1)


@attack()
async def frames_byte_by_byte(foe: Foe) -> None:
    """Orders whose bytes are sent one by one, as fast as can be."""
    line = await foe.login()
    line.drink()
    for byte in foe.orders(200):
        await line.send(bytes([byte]))


@attack()
async def frame_of_two_gigabytes(foe: Foe) -> None:
    """A header that announces 2^31 bytes, and bytes without end."""
    line = await foe.entry()
    await line.send(HEADER.pack(1 << 31, 0))
    for _ in range(1_000):
        await line.send(b"\x93" * 65_536)


@attack()
async def deep_msgpack(foe: Foe) -> None:
    """Arrays and maps in one another, as deep as a frame is long, as login and as command."""
    line = await foe.entry()
    await line.send(_framed(b"\x91" * 4_000))
    await line.ended()
    line = await foe.login()
    line.drink()
    for _ in range(200):
        await line.send(
            (_framed(b"\x93\x01\x01" + b"\x91" * 1_000) + _framed(b"\x81" * 1_000)) * 20
        )


@attack()
async def odd_msgpack(foe: Foe) -> None:
    """Bodies of random bytes, of wrong types, and lengths that their bytes belie."""
    line = await foe.login()
    line.drink()
    odd = [
        b"\x9a\x01" + b"\xdb\xff\xff\xff\xff" * 4,
        b"\x99\x01\xdd\xff\xff\xff\xff",
        b"\x99\x01" + b"\xcb\x7f\xf8\0\0\0\0\0\0" * 8,
        b"",
        b"\xc1",
    ]
    odd += [foe.dice.randbytes(foe.dice.randrange(1_024)) for _ in range(200)]
    for _ in range(50):
        await line.send(b"".join(map(_framed, odd)))


@attack()
async def logins_of_new_users(foe: Foe) -> None:
    """Logins under user_ids that nobody has had."""
    for _ in range(MOST_LINES):
        line = await foe.entry()
        await line.send(foe.login_frame(f"new-{foe.dice.randbytes(8).hex()}"))
        await line.body()
    for _ in range(100):
        foe.close()
        line = await foe.entry()
        await line.send(foe.login_frame(f"new-{foe.dice.randbytes(8).hex()}"))
        await line.body()


@attack()
async def logins_with_wrong_keys(foe: Foe) -> None:
    """Logins as other users, with keys that are none."""
    user = foe.dice.choice(foe.scene.users)
    line = await foe.entry()
    await line.send(frame(Login(user, api_key=foe.dice.randbytes(128).hex())))
    await line.ended()


@attack()
async def resume_out_of_range(foe: Foe) -> None:
    """Logins that resume where no report ever was."""
    positions = [make_id(shard, foe.dice.randrange(1 << 45)) for shard in range(MAX_SHARDS)]
    for resume in (positions, positions[:1], [0] * MAX_SHARDS, [(1 << 53) - 1]):
        line = await foe.entry()
        await line.send(foe.login_frame(resume=resume))
        await line.body()


@attack()
async def resume_from_the_start(foe: Foe) -> None:
    """Logins that ask for all reports there have been, which are not read."""
    line = await foe.login()
    line.drink()
    for _ in range(5):
        await line.send(foe.orders(2_000))
    shards = [make_id(shard, 0) for shard in range(foe.scene.matchers)]
    for _ in range(6):
        await foe.login(resume=shards)
    await asyncio.sleep(1)


@attack()
async def connect_churn(foe: Foe) -> None:
    """Connections that are closed as soon as they are there."""
    for _ in range(200):
        foe.drop(await foe.entry())


@attack()
async def rst_storm(foe: Foe) -> None:
    """Connections that end by an RST in the midst of a login or of an order."""
    for _ in range(50):
        line = await foe.entry()
        login = foe.login_frame()
        await line.send(login[: foe.dice.randrange(1, len(login))])
        line.reset()
        foe.drop(line)
    line = await foe.login()
    await line.send(foe.orders(100)[:-3])
    line.reset()


@attack(2 * TURN_S)
async def half_closed(foe: Foe) -> None:
    """Sessions that send orders, close their half, and read nothing."""
    line = await foe.login()
    await line.send(foe.orders(1_000))
    line.end_sending()
    await asyncio.sleep(TURN_S)


@attack()
async def login_twice(foe: Foe) -> None:
    """A second login on a session, and commands before the first one."""
    line = await foe.login()
    await line.send(foe.login_frame() * 20)
    await line.ended()
    line = await foe.entry()
    await line.send(frame(NewOrder(1, 1, 0, 1, 2, 1, 1, 1)) + foe.login_frame())
    await line.ended()


@attack(HOLD_S)
async def tls_hello_never_ends(foe: Foe) -> None:
    """The beginning of a TLS handshake, to either port, and nothing behind it."""
    lines = [await (foe.entry() if place % 2 else foe.http()) for place in range(MOST_LINES)]
    for line in lines:
        await line.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    for line in lines:
        await line.ended()
