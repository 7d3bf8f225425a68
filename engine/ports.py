"""The TCP ports of a product: free at its start, known by number, and kept for its processes.

Processes that listen on one port share it, so none of them would notice that another product has
it: who starts them looks before. Port 0 means any that is free, chosen once for all of them. What
is reserved listens to nobody; it keeps the port from others while a process is started again.
"""

import socket

import msgspec

from engine.config import Config
from ipc.links.sockets import Address, listen, parse_address, reserve

KEYS = (("frontend", "tcp"), ("http", "address"))
"""Section and key of each address of the configuration."""


class PortError(RuntimeError):
    """An address cannot be listened on; the text names it and says why."""


def reserve_ports(config: Config) -> tuple[Config, list[socket.socket]]:
    """Return the configuration with the ports that are used, and what keeps them until closed.

    Raises ``PortError``.
    """
    kept: list[socket.socket] = []
    for section, key in KEYS:
        settings = getattr(config, section)
        if not getattr(settings, key):
            continue
        address = parse_address(getattr(settings, key))
        try:
            if address.port:
                listen(address).close()
            kept.append(reserve(address))
        except OSError as error:
            for other in kept:
                other.close()
            raise PortError(f"cannot listen on {address}: {error.strerror}") from None
        port = kept[-1].getsockname()[1]
        settings = msgspec.structs.replace(settings, **{key: Address("", address.host, port).place})
        config = msgspec.structs.replace(config, **{section: settings})
    return config, kept
