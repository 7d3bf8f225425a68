"""Functions that are compiled as a part of those that call them, and as nothing else."""

import pytest

from ipc.native.compiled import HAVE_NUMBA, called, compiled, inlined

pytestmark = pytest.mark.skipif(not HAVE_NUMBA, reason="nothing is compiled without numba")


@inlined
def times(number, factor):
    return number * factor


@called
def five_times(number):
    return times(number, 2) + times(number, 3)


@compiled
def ten_times(number):
    return five_times(number) + times(five_times(number), 1)


def test_parts_are_linked_into_what_calls_them() -> None:
    assert ten_times(7) == 70


def test_only_compiled_functions_can_call_a_part() -> None:
    with pytest.raises(TypeError, match="five_times runs only as a part of compiled functions"):
        five_times(7)
    with pytest.raises(TypeError, match="times runs only as a part of compiled functions"):
        times(7, 2)


def test_a_part_is_typed_once_whatever_numbers_its_callers_write_out() -> None:
    ten_times(7)
    ten_times.recompile()  # what comes from the cache has typed no part
    assert len(times.overloads) == len(five_times.overloads) == 1
