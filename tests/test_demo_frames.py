"""Frames computed in bulk say the same as those of the messages' own encoder."""

import numpy as np
import pytest

from engine.config import load_config
from frontend.demo_frames import command_frames
from frontend.simulated_flow import SimulatedFlow
from ipc.frames import FrameSplitter
from ipc.messages import MAX_COMMAND_BODY, client_decoder
from ipc.records import COMMAND
from ipc.vocabulary import MAX_CLIENT_ID, CommandType, Flag
from tests.books import commands_of

ACCOUNT, TIME_NS = 7, 9


def sent(commands: np.ndarray) -> np.ndarray:
    """Return what the frames of commands say, as COMMAND records of ACCOUNT at TIME_NS."""
    frames, ends = command_frames(commands)
    assert ends[-1] == len(frames)
    starts = [0, *ends[:-1].tolist()]
    splitter = FrameSplitter(MAX_COMMAND_BODY)
    pieces = [frames[start:end] for start, end in zip(starts, ends.tolist(), strict=True)]
    bodies = [next(splitter.feed(piece)) for piece in pieces]
    assert not splitter.pending_bytes
    return commands_of((client_decoder.decode(body) for _, body in bodies), ACCOUNT, TIME_NS)


def test_a_simulated_flow_survives_the_wire() -> None:
    flow = SimulatedFlow(load_config().listed(), [ACCOUNT], [3])
    commands = np.concatenate([flow.chunk(500) for _ in range(6)])
    commands["timestamp_ns"] = TIME_NS
    assert set(commands["command_type"].tolist()) == set(CommandType)
    assert sent(commands).tobytes() == commands.tobytes()


@pytest.mark.parametrize("command_type", CommandType)
def test_the_highest_values_survive_the_wire(command_type: CommandType) -> None:
    command = np.zeros(1, COMMAND)
    command["command_type"], command["symbol"] = command_type, 65_535
    for field in ("request_id", "order_id", "client_order_id", "price", "quantity"):
        command[field] = MAX_CLIENT_ID
    for field in ("side", "order_type", "time_in_force"):
        command[field] = 255
    command["flags"] = Flag.POST_ONLY | Flag.REINSERT
    found = sent(command)[0]
    known = [name for name in COMMAND.names or () if found[name] and name != "flags"]
    assert {"command_type", "symbol", "request_id"} <= set(known)
    for name in set(known) - {"account", "timestamp_ns"}:
        assert found[name] == command[name][0]


def test_no_commands_are_no_bytes() -> None:
    assert command_frames(np.empty(0, COMMAND))[0] == b""
