"""Bare endpoints: the server of an HTTP worker, with nothing behind it but given bytes.

``asgi`` is uvicorn as it comes, with the smallest application there can be; ``direct`` answers from
the worker's own connection class.
"""

import asyncio
import contextlib
import multiprocessing
import socket
from collections.abc import Iterator
from typing import Any, Literal

import uvicorn
import uvloop

from frontend.http.connection import Answer, Bounds, Call, Reply, connections
from ipc.links.sockets import Address, listen

Kind = Literal["asgi", "direct"]


class _Bare:
    """Reads the body, as any application must, and answers."""

    def __init__(self, answers: dict[str, bytes]) -> None:
        self._answers = answers

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["method"] != "GET":
            while (await receive()).get("more_body"):
                pass
        body = self._answers[scope["path"]]
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def serve(self, call: Call, reply: Reply) -> None:
        """Answer without ASGI."""
        reply(Answer(200, self._answers[call.path]))


def _serve(kind: Kind, port: int, answers: dict[str, bytes], ready: Any) -> None:
    async def serve() -> None:
        bare = _Bare(answers)
        bounds = Bounds(16_384, 1 << 20, 75)
        server = uvicorn.Server(
            uvicorn.Config(
                bare,
                http="httptools" if kind == "asgi" else connections(bounds, bare.serve),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
            )
        )
        sock = listen(Address(host="127.0.0.1", port=port), shared=True)
        serving = asyncio.ensure_future(server.serve([sock]))
        while not server.started:
            await asyncio.sleep(0.001)
        ready.set()
        await serving

    uvloop.run(serve())


@contextlib.contextmanager
def bare_http(kind: Kind, workers: int, answers: dict[str, bytes]) -> Iterator[int]:
    """Run workers that answer by path; give their port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    events = [context.Event() for _ in range(workers)]
    processes = [
        context.Process(target=_serve, args=(kind, port, answers, event), daemon=True)
        for event in events
    ]
    for process in processes:
        process.start()
    for event in events:
        event.wait(60)
    try:
        yield port
    finally:
        for process in processes:
            process.kill()
            process.join()
