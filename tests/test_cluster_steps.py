"""What the log comes to on a node: the same however its entries are met, and whatever ends it."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.books.contract import state_hash
from engine.cluster import cutting
from engine.cluster.cutting import CONTROL, FULL, LONG, MORE, MOST_FRAMES, Cutter
from engine.cluster.entries import Entry, EntryError, Kind, decode
from engine.cluster.lives import Life, Lives, Ruling
from engine.cluster.log_time import BEGINNING, MOST_LINES, Place, Places
from engine.cluster.presence import BEAT_S, GONE_BEATS, MORE_BEATS, Presence, Said
from engine.cluster.steps import LogClock, Steps
from engine.plan import Plan
from engine.roles import MATCHER
from engine.shard.durability import Durability
from engine.shard.matcher import Matcher
from engine.shared import create_shared
from frontend.roles import ROLES
from ipc.memory.status import StatusWriter
from ipc.wire.frames import frame
from ipc.wire.messages import Cancel, MassCancel, NewOrder, OpenStream
from tests.product import make_config

SECOND = 1_000_000_000
START_MS = 1_700_000_000_000


def node(plan: Plan) -> tuple[Matcher, Steps]:
    """Return a shard as a process of a node finds it."""
    create_shared(plan, ROLES.members(plan), {})
    status = StatusWriter(plan.status_path, MATCHER.name, 0)
    clock = LogClock()
    matcher = Matcher(plan, 0, status, Durability(plan, 0, status, background=False), clock)
    return matcher, Steps(matcher, clock)


def planned(directory: Path) -> Plan:
    plan = Plan(make_config(1, 2, engine="ring_trades = 65536\n"), directory / "data")
    for made in (plan.run_dir, plan.log_dir):
        made.mkdir(parents=True, mode=0o700)
    return plan


def entries(seed: int, count: int) -> list[tuple[Place, Entry]]:
    """Return entries of orders that trade, rest, expire, and are cancelled one by one or all."""
    chance, place, found, number = random.Random(seed), BEGINNING, [], 0
    now_ms = START_MS
    for offset in range(count):
        now_ms += chance.choice((0, 0, 1, 40, -30))
        place = place.next(offset, now_ms)
        frames = []
        for _ in range(chance.choice((0, 1, 3, 40))):
            number += 1
            kind, stream = chance.random(), chance.choice((1, 2))
            if kind < 0.8:
                expires = chance.random() < 0.3
                frames.append(
                    frame(
                        NewOrder(
                            chance.choice((1, 2)),
                            number,
                            0,
                            chance.choice((1, 2)),
                            2,
                            6 if expires else 1,
                            chance.randrange(90, 110),
                            chance.randrange(1, 9),
                            expire_time_ns=place.time_ns + chance.randrange(1, 10**8)
                            if expires
                            else 0,
                        ),
                        stream,
                    )
                )
            elif kind < 0.95:
                frames.append(frame(Cancel(0, number, chance.randrange(1, number + 1)), stream))
            else:
                frames.append(frame(MassCancel(number, 0), stream))
        found.append((place, Entry(1, offset, 0, 0, 0, [(1, 77), (2, 88)], b"".join(frames))))
    return found


def result(matcher: Matcher) -> Any:
    return state_hash(matcher.book), matcher.tick(), matcher._account_sequences.reports


class KilledError(Exception):
    """The process has ended here."""


@pytest.mark.parametrize("seed", [1, 2])
def test_a_node_that_is_killed_between_any_two_batches_comes_to_the_same(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = entries(seed, 60)
    plan = planned(tmp_path / "one")
    matcher, steps = node(plan)
    for place, entry in log:
        steps.carry_out(entry, place.time_ns, [], None)
    wanted = result(matcher)
    batches = matcher._durability._journal.sequence  # type: ignore[union-attr]
    matcher.close()
    assert batches > 300
    plan = planned(tmp_path / "other")
    lives, keep, chance = 0, Durability.keep, random.Random(seed)
    done = False
    while not done:
        left = chance.randrange(1, 12)

        def dying(self: Durability, *arguments: Any) -> bool:
            nonlocal left
            if not left:
                raise KilledError
            left -= 1
            return keep(self, *arguments)

        matcher, steps = node(plan)
        lives += 1
        began_ns = steps.time_ns
        monkeypatch.setattr(Durability, "keep", dying)
        try:
            for place, entry in log:
                if place.time_ns > began_ns:
                    steps.carry_out(entry, place.time_ns, [], None)
            done = True
        except KilledError:
            pass
        found = result(matcher)
        matcher._durability.abandon()
        matcher.close()
        monkeypatch.undo()
    assert lives > 5
    assert found[0] == wanted[0]
    assert found[2] == wanted[2]


def test_times_grow_whatever_clocks_do() -> None:
    place, seen = BEGINNING, []
    for offset, appended_ms in enumerate((5, 5, 3, 0, 6, 6)):
        place = place.next(offset, appended_ms)
        seen.append(place.time_ns)
    ms = 1_000_000
    assert seen == [5 * ms, 5 * ms + 2, 5 * ms + 4, 5 * ms + 6, 6 * ms, 6 * ms + 2]


def test_places_are_found_again_and_torn_lines_are_none(tmp_path: Path) -> None:
    path = tmp_path / "places"
    places, lives = Places(path), Lives(2**64 - 1, {0: Life(5, 6), 63: Life(0, 2**64 - 1)})
    assert places.before(10**20).place == BEGINNING
    for offset in range(2 * MOST_LINES + 10):
        places.keep(Place(offset, 1_000 * offset), lives if offset % 2 else Lives())
    with path.open("ab") as file:
        file.write(b"9")  # torn
    places = Places(path)
    places.keep(Place(10_000, 10_000_000), lives)  # is lost with the torn line, and nothing else
    places = Places(path)
    last = 2 * MOST_LINES + 9
    assert places.before(10**12).place == Place(last, 1_000 * last)
    assert places.before(10**12).lives.text() == lives.text()
    found = places.before(1_000 * (last - 5) + 999)
    assert (found.place, found.lives.nodes) == (Place(last - 5, 1_000 * (last - 5)), {})
    assert places.before(10).place == BEGINNING
    assert len(path.read_bytes().splitlines()) < MOST_LINES + 20


def test_a_node_has_one_life_and_a_number_one_data_directory() -> None:
    lives = Lives()

    def judged(life: int, kind: Kind, streams: Any = (), terms: int = 7) -> Ruling:
        commands = kind == Kind.COMMANDS
        entry = Entry(life, 1, terms, 0 if commands else life, kind, list(streams), b"")
        assert decode(entry.encode()) == entry
        nonlocal lives
        lives = Lives.of_text(lives.text())  # as a node that begins here has it
        return lives.judge(entry)

    assert judged(1, Kind.COMMANDS) == Ruling.VOID
    assert judged(1, Kind.BEGIN, [(0, 100)]) == Ruling.COUNTS
    assert judged(2, Kind.BEGIN, [(1, 101)]) == Ruling.COUNTS
    assert judged(1, Kind.COMMANDS) == judged(2, Kind.COMMANDS) == Ruling.COUNTS
    assert judged(3, Kind.BEGIN, [(0, 100)]) == Ruling.COUNTS  # it comes again
    assert judged(1, Kind.COMMANDS) == judged(1, Kind.PRESENT) == Ruling.VOID
    assert judged(3, Kind.COMMANDS) == Ruling.COUNTS
    assert judged(4, Kind.BEGIN, [(0, 102)]) == Ruling.OTHER_DIRECTORY
    assert judged(5, Kind.BEGIN, [(2, 103)], terms=8) == Ruling.OTHER_TERMS
    assert judged(3, Kind.COMMANDS) == Ruling.COUNTS  # nobody minds those
    assert judged(4, Kind.COMMANDS) == judged(5, Kind.COMMANDS) == Ruling.VOID
    assert judged(9, Kind.FORGET, [(0, 0)]) == Ruling.COUNTS
    assert judged(3, Kind.COMMANDS) == Ruling.VOID
    assert judged(4, Kind.BEGIN, [(0, 102)]) == Ruling.COUNTS
    assert judged(2, Kind.END) == Ruling.COUNTS
    assert judged(2, Kind.COMMANDS) == Ruling.VOID
    assert judged(6, Kind.BEGIN, [(0, 102)], terms=8) == Ruling.COUNTS  # the others have stopped
    assert judged(7, Kind.BEGIN, [(1, 101)]) == Ruling.OTHER_TERMS
    assert (lives.of(0), lives.of(1), lives.of(2)) == (6, 0, 0)


@pytest.mark.parametrize("plain", [False, True])
def test_frames_are_cut_whole_and_within_bounds(
    plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plain:
        monkeypatch.setattr(cutting, "_cut", cutting._cut_plain)
    cutter, chance = Cutter(), random.Random(3)
    orders = [frame(Cancel(1, n, n), 1 + n % 3_000) for n in range(9_000)]
    opened = frame(OpenStream(5, 6))
    sent = b"".join([*orders[:10], opened, *orders[10:]])
    got, streams, controls, position = b"", set[int](), 0, 0
    while position < len(sent):
        size = min(len(sent) - position, chance.randrange(1, 100_000))
        cutter.room(size)[:] = sent[position : position + size]
        cutter.received(size)
        position += size
        why = FULL
        while why != MORE:
            frames, some, why = cutter.cut()
            assert len(frames) <= 1 << 16
            assert len(some) == len(set(some)) <= MOST_FRAMES
            got += frames
            streams |= set(some)
            if why == CONTROL:
                assert frame_of(cutter.control()) == opened
                assert got == b"".join(orders[:10])
                controls += 1
    assert (got, controls) == (b"".join(orders), 1)
    assert streams == set(range(1, 3_001))
    cutter.room(8)[:] = (1 << 30).to_bytes(4, "little") + bytes(4)
    cutter.received(8)
    assert cutter.cut()[2] == LONG


def frame_of(body: bytes) -> bytes:
    return len(body).to_bytes(4, "little") + bytes(4) + body


def test_entries_come_back_and_what_is_none_is_refused() -> None:
    entry = Entry(2**64 - 1, 7, 9, 2**63, 3, [(1, 2**63), (2, 5)], b"frames")
    assert decode(entry.encode()) == entry
    said = [Entry(5, 1, 9, 5, link, [], b"") for link in (Kind.BEGIN, Kind.COMMANDS)]
    for data, error in (
        (b"", "are too few"),
        (entry.encode()[:60], "2 streams are more"),
        (said[0].encode(), "it says 2 of itself, of 0"),
        (said[1].encode(), "it says 5 of itself, of 0"),
    ):
        with pytest.raises(EntryError, match=error):
            decode(data)


def test_one_that_is_silent_while_others_beat_has_gone() -> None:
    one, other, late = Presence(4), Presence(5), Presence(9)
    now_s = 0.0

    def beat(*speaking: tuple[Presence, set[int]]) -> None:
        nonlocal now_s
        now_s += BEAT_S
        for presence, own in speaking:
            said = presence.say(own, now_s)
            if said is not None:
                for each in (one, other, late):
                    each.heard(presence._life, said.accounts)

    beat((one, {1, 2}), (other, {2, 3}))
    for _ in range(20):
        beat((one, {1, 2}), (other, {2, 3}))
    assert one.gone() is other.gone() is None
    assert late.gone() is None
    for _ in range(GONE_BEATS):
        beat((other, {2, 3}), (late, set()))
        assert other.gone() is None
    for _ in range(MORE_BEATS):
        beat((other, {2, 3}), (late, set()))
    assert other.gone() == (4, [1])  # account 2 is spoken for
    late.settled(4)
    assert other.gone() is late.gone() is None
    assert one.say({1, 2}, now_s + 100) == Said(None)
    one.settled(4)  # it was cut off, and hears that others took it for gone
    assert one.say({1, 2}, now_s + 200) == Said([1, 2])
    for _ in range(GONE_BEATS + MORE_BEATS):
        beat((other, set()), (late, set()))
    assert late.gone() is None  # it has nobody any more to speak for
    assert late.say(set(), now_s + 100) is None  # so nobody need beat


def test_what_is_no_command_is_answered_where_it_came_from_and_nowhere_else(
    tmp_path: Path,
) -> None:
    matcher, steps = node(planned(tmp_path))
    wrong = frame(NewOrder(1, 1, 0, 1, 2, 1, 100, 5), 1)
    wrong = wrong[:8] + b"\xff" * (len(wrong) - 8)
    order = frame(NewOrder(2, 1, 0, 1, 2, 1, 100, 5), 1)
    entry = Entry(1, 1, 0, 0, 1, [(1, 77)], wrong + order)

    class Sent(list[bytes]):
        send = list.append

    own = Sent()
    steps.carry_out(entry, START_MS * 1_000_000, [], own)  # type: ignore[arg-type]
    assert len(own) == 1
    steps.carry_out(entry, START_MS * 1_000_000 + 2, [], None)
    assert matcher.book.counters().sequence == 2
    assert np.all(matcher.table.contents()["account"] == 77)
    matcher.close()
