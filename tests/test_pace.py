"""A thread beside an event loop rests where the loop wants to run, and only there."""

import pytest

from frontend import pace
from frontend.pace import MOST_REST_S, RESTS, WORK_S, Pace


class Clock:
    """What a thread sees of time: all of it passes, and it has some of it."""

    def __init__(self) -> None:
        self.now_s = self.worked_s = 0.0
        self.rests: list[float] = []

    def perf_counter(self) -> float:
        return self.now_s

    def thread_time(self) -> float:
        return self.worked_s

    def sleep(self, seconds: float) -> None:
        self.rests.append(seconds)
        self.now_s += seconds

    def work(self, seconds: float, waited_s: float = 0.0) -> None:
        self.worked_s += seconds
        self.now_s += seconds + waited_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


def test_by_itself_it_goes_on(clock: Clock) -> None:
    own = Pace()
    with own.work():
        for _ in range(1_000):
            clock.work(WORK_S, waited_s=WORK_S / 5)
            own.rest()
    assert clock.rests == []


def test_where_somebody_waited_it_rests_as_long_as_is_said(clock: Clock) -> None:
    own = Pace()
    with own.work():
        clock.work(WORK_S / 2, waited_s=1.0)
        own.rest()
        assert clock.rests == []  # too little to stop for
        clock.work(WORK_S / 2, waited_s=WORK_S / 2)
        own.rest()
        assert clock.rests == [pytest.approx(RESTS * WORK_S)]
        clock.work(WORK_S)  # what was before does not count again
        own.rest()
        assert len(clock.rests) == 1
        clock.work(1.0, waited_s=1.0)
        own.rest()
        assert clock.rests[1:] == [MOST_REST_S]


def test_two_threads_together_take_no_more_than_one(clock: Clock) -> None:
    own, other = Pace(), Pace()
    with own.work():
        with other.work():
            clock.work(WORK_S, waited_s=WORK_S)
            own.rest()
        clock.work(WORK_S, waited_s=WORK_S)
        own.rest()
    assert clock.rests == [pytest.approx(2 * RESTS * WORK_S), pytest.approx(RESTS * WORK_S)]


def test_what_passed_before_it_began_does_not_count(clock: Clock) -> None:
    own = Pace()
    clock.now_s += 60.0
    for _ in range(2):
        with own.work():
            clock.work(WORK_S)
            own.rest()
        clock.now_s += 60.0
    assert clock.rests == []
