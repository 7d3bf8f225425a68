"""Attacks over WebSockets."""

import asyncio

from bench.hostile.foe import MOST_LINES, Foe, attack, text, ws_frame

HOLD_S = 60.0
"""Of attacks that keep a connection as long as they can."""
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
COMPRESSED = 0x40


@attack(HOLD_S)
async def sockets_never_log_in(foe: Foe) -> None:
    """WebSockets that never log in, and only answer pings."""
    lines = [await foe.websocket(key=False) for _ in range(MOST_LINES)]

    async def answer(place: int) -> None:
        while True:
            if (await lines[place].receive())[0] == 0x80 | PING:
                await lines[place].send(ws_frame(PONG))

    await asyncio.gather(*(answer(place) for place in range(MOST_LINES)))


@attack()
async def pongs_unread(foe: Foe) -> None:
    """Pings without end, whose pongs are not read."""
    line = await foe.websocket()
    block = ws_frame(PING, b"p" * 125) * 500
    for _ in range(5_000):
        await line.send(block)


@attack(HOLD_S)
async def heartbeats_unread(foe: Foe) -> None:
    """The same at leisure, for as long as it is borne."""
    line = await foe.websocket()
    while True:
        await line.send(ws_frame(PING, b"p" * 125) * 500)
        await asyncio.sleep(0.05)


@attack()
async def pongs_unasked(foe: Foe) -> None:
    """Pongs that nobody has asked for, without end."""
    line = await foe.websocket()
    line.drink()
    block = ws_frame(PONG, b"p" * 125) * 500
    for _ in range(500):
        await line.send(block)


@attack()
async def empty_continuations(foe: Foe) -> None:
    """A message of empty fragments that never ends."""
    line = await foe.websocket()
    line.drink()
    await line.send(ws_frame(TEXT, b"{", fin=False))
    block = ws_frame(CONTINUATION, fin=False) * 10_000
    for _ in range(500):
        await line.send(block)


@attack()
async def fragments_of_one_byte(foe: Foe) -> None:
    """Messages of 65,000 fragments of a byte, up to the bound and beyond it."""
    line = await foe.websocket()
    line.drink()
    for _ in range(20):
        await line.send(ws_frame(TEXT, b"[", fin=False))
        await line.send(ws_frame(CONTINUATION, b" ", fin=False) * 65_000)
        await line.send(ws_frame(CONTINUATION, b"]"))


@attack()
async def odd_control_frames(foe: Foe) -> None:
    """Control frames in fragments, too long, reserved, unmasked, and in the midst of messages."""
    for data in (
        ws_frame(PING, b"a", fin=False),
        ws_frame(PING, b"a" * 126),
        ws_frame(0xB, b"a"),
        ws_frame(CONTINUATION, b"a"),
        b"\x81\x02hi",
        ws_frame(CLOSE, b"\x00"),
        ws_frame(CLOSE, b"\xff\xff" + b"\xff" * 100),
        ws_frame(TEXT, b"\xff\xfe"),
        ws_frame(TEXT, b"a", fin=False) + ws_frame(TEXT, b"b"),
    ):
        line = await foe.websocket()
        await line.send(data)
        await line.ended()
        foe.drop(line)


@attack()
async def compressed_bombs(foe: Foe) -> None:
    """Compressed messages, asked for and not, that would grow a thousandfold."""
    offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
    for _ in range(20):
        line = await foe.websocket(offer)
        line.drink()
        await line.send(ws_frame(TEXT, b"\xec\xc1\x01\x01" + b"\0" * 60_000, first=COMPRESSED))
        foe.drop(line)


@attack()
async def socket_frames_of_two_gigabytes(foe: Foe) -> None:
    """Frames that announce 2^31 and 2^63 bytes, and bytes without end."""
    for size in (1 << 31, (1 << 63) - 1):
        line = await foe.websocket()
        line.drink()
        await line.send(b"\x82\xff" + size.to_bytes(8, "big") + b"\0\0\0\0")
        for _ in range(100):
            await line.send(b"\0" * 60_000)


@attack(HOLD_S)
async def slow_frames(foe: Foe) -> None:
    """Frames that come byte by byte, pings answered never."""
    line = await foe.websocket()
    for byte in ws_frame(BINARY, b" " * 1_000):
        await line.send(bytes([byte]))
        await asyncio.sleep(0.5)


@attack()
async def ops_in_one_piece(foe: Foe) -> None:
    """Ops by the thousand in one piece."""
    line = await foe.websocket()
    line.drink()
    block = text({"op": "ping"}) * 10_000
    for _ in range(20):
        await line.send(block)


@attack()
async def ops_before_login(foe: Foe) -> None:
    """Ops by the thousand, right and wrong, of one who is not logged in."""
    line = await foe.websocket(key=False)
    line.drink()
    ops: tuple[object, ...] = (
        {"op": "order", "order": {}},
        {"op": "login", "key": "x" * 250},
        {"op": "?"},
        {},
        [],
    )
    block = b"".join(map(text, ops)) * 1_000
    for _ in range(20):
        await line.send(block)


@attack()
async def order_ops(foe: Foe) -> None:
    """Orders and mass cancels as ops, as fast as they are taken."""
    line = await foe.websocket()
    line.drink()
    order = {"user_id": foe.user, "symbol": foe.symbol_name, "side": "buy", "price": 0.01}
    order |= {"order_type": "limit", "quantity": 1}
    orders = text({"op": "order", "order": order}) * 100
    for _ in range(100):
        await line.send(orders + text({"op": "cancel_all", "user_id": foe.user}))


@attack()
async def subscription_churn(foe: Foe) -> None:
    """Subscriptions of all channels that come and go."""
    line = await foe.websocket()
    line.drink()
    wanted = [
        {"channel": channel, "symbol": symbol}
        for channel in ("depth", "trades", "ticker")
        for _, symbol in foe.scene.symbols
    ] + [{"channel": "orders", "user_id": foe.user}]
    block = b"".join(
        text({"op": op, **what}) for what in wanted for op in ("subscribe", "unsubscribe")
    )
    for _ in range(100):
        await line.send(block)


@attack(HOLD_S)
async def subscriptions_unread(foe: Foe) -> None:
    """Sockets that subscribe to everything, and read nothing."""
    for _ in range(MOST_LINES):
        line = await foe.websocket()
        for channel in ("depth", "trades", "ticker"):
            for _, symbol in foe.scene.symbols:
                await line.send(text({"op": "subscribe", "channel": channel, "symbol": symbol}))
    await asyncio.sleep(HOLD_S)


@attack()
async def orders_of_new_users(foe: Foe) -> None:
    """Subscriptions to the orders of user_ids that nobody has had."""
    line = await foe.websocket()
    line.drink()
    for _ in range(20):
        users = [foe.dice.randbytes(8).hex() for _ in range(50)]
        ops = [{"op": "subscribe", "channel": "orders", "user_id": f"new-{u}"} for u in users]
        await line.send(b"".join(map(text, ops)))


@attack()
async def deep_json_ops(foe: Foe) -> None:
    """Messages of brackets, as long as a message may be."""
    line = await foe.websocket()
    line.drink()
    for _ in range(100):
        await line.send(ws_frame(TEXT, b"[" * 65_000) + ws_frame(TEXT, b'{"order":' * 7_000))


@attack()
async def wrong_ops_unread(foe: Foe) -> None:
    """What is answered by an error, without end and unread."""
    line = await foe.websocket()
    block = ws_frame(TEXT, b"{") * 5_000
    for _ in range(500):
        await line.send(block)


@attack()
async def upgrade_churn(foe: Foe) -> None:
    """Upgrades whose connection ends at once, or whose close is never answered."""
    for _ in range(20):
        line = await foe.websocket(f"Origin: https://{foe.dice.randbytes(4).hex()}.example")
        line.reset()
        foe.drop(line)
    line = await foe.websocket()
    await line.send(ws_frame(CLOSE, b"\x03\xe8"))
    await asyncio.sleep(2)


@attack()
async def half_an_upgrade(foe: Foe) -> None:
    """Upgrades to what there is not, of a wrong version, without a key, and with a body."""
    for headers in (
        ("Upgrade: h2c", "Connection: Upgrade", "HTTP2-Settings: AAMAAABkAAQAAP__"),
        ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 7"),
        ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
        ("Upgrade: websocket", "Connection: Upgrade", "Content-Length: 100000"),
    ):
        line = await foe.http()
        await line.send(foe.request("GET", "/ws", b"", *headers) + b"x" * 1_000)
        await line.receive()
        foe.drop(line)
