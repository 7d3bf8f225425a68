"""Mass cancels of everything: one answer each, whatever request_id they come under."""

from collections import Counter, deque

from hypothesis import given
from hypothesis import strategies as st

from frontend.gateway.mass_cancels import MassCancels, UnderWay
from ipc.wire.messages import MassCancel, MassCancelReport, NewOrder, Report
from tests.product import Wire, make_config, running

WINDOW = 16

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.integers(1, 2), st.integers(1, 2)),
        st.tuples(st.just("answer"), st.integers(0, 2), st.integers(0, 9)),
        st.tuples(st.just("lose"), st.integers(0, 2), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS)
def test_each_is_answered_or_given_up_once(steps: list[tuple[str, int, int]]) -> None:
    """Shards answer in the order in which they were asked, or are lost with what they were."""
    cancels, asked = MassCancels(), [deque[tuple[int, UnderWay]]() for _ in range(3)]
    sums: list[list[int]] = []
    begun, over, totals = Counter[UnderWay](), Counter[UnderWay](), Counter[int]()

    def answer(shard: int, canceled: int) -> None:
        number, under_way = asked[shard].popleft()
        report = MassCancelReport(0, under_way.request_id, canceled, 1, 1, 1)
        whole = cancels.add(under_way.stream, shard, report)
        sums[number].append(canceled)
        if whole is not None:
            over[under_way] += 1
            totals[whole.canceled_orders] += 1
            assert len(sums[number]) == 3
            assert whole.canceled_orders == sum(sums[number])

    for step, which, how in steps:
        if step == "begin":
            under_way = UnderWay(which, how)
            begun[under_way] += 1
            cancels.begin(which, MassCancel(0, how), range(3))
            for waiting in asked:
                waiting.append((len(sums), under_way))
            sums.append([])
        elif step == "answer" and asked[which]:
            answer(which, how)
        elif step == "lose":
            over.update(cancels.lose(which))
            asked[which].clear()
    for shard in range(3):
        while asked[shard]:
            answer(shard, 1)
    assert over == begun
    assert not cancels.lose(0) + cancels.lose(1) + cancels.lose(2)


def test_a_request_id_that_is_under_way_is_answered_as_often_as_it_is_sent() -> None:
    """None counts as under way for ever: the account may go on, however often it did that."""
    config = make_config(2, 4, f"[frontend]\nwindow = {WINDOW}\n")
    with running(config) as plan, Wire(plan, "alice") as wire:
        for _ in range(3):
            wire.send(*[MassCancel(0, 7)] * WINDOW)
            answers = [wire.receive() for _ in range(WINDOW)]
            assert {type(answer) for answer in answers} == {MassCancelReport}
        wire.send(NewOrder(1, 8, 0, 1, 2, 1, 100, 5))
        assert isinstance(wire.receive(), Report)
