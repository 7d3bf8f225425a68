"""Functions that are compiled as a part of those that call them, and as nothing else."""

import gc
from typing import Any, NamedTuple

import numpy as np
import pytest

from ipc.native.compiled import called, called_too, compiled, inlined

numba = pytest.importorskip("numba", reason="nothing is compiled without numba")
types = numba.types
Linkage = pytest.importorskip("llvmlite.binding").Linkage
kept_apart = pytest.importorskip("engine.books.ladder.memory").kept_apart
packed = pytest.importorskip("ipc.native.words").packed
by_address = pytest.importorskip("ipc.native.by_address")


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


def plain_double(number):
    return number * 2


called_too(plain_double)


@compiled
def four_times(number):
    return plain_double(plain_double(number))


def test_what_stays_plain_is_a_part_in_compiled_code() -> None:
    gc.collect()  # numba itself keeps parts by weak references
    assert plain_double(3) == 6
    assert four_times(3) == 12
    assert isinstance(four_times(3), int)


@called
def apart(number):
    kept_apart()
    return number + 1


@compiled
def plus_two(number):
    return apart(apart(number))


def test_only_the_function_around_them_can_call_parts() -> None:
    assert plus_two(1) == 3
    plus_two.recompile()
    (made,) = plus_two.overloads.values()
    seen = {
        function.name
        for function in made.library._final_module.functions
        if not function.is_declaration and function.linkage != Linkage.internal
    }
    assert any("plus_two" in name for name in seen)
    assert not [name for name in seen if "apart" in name]


class Values(NamedTuple):
    """Fields of each kind."""

    word: Any
    number: Any
    yes: Any
    no: Any


@called
def pass_on(values):
    return values


@compiled
def unpack(word, number, yes):
    values = pass_on(packed(Values(word, number, yes, not yes)))
    return values.word, values.number, values.yes, values.no


def test_packed_fields_come_back_as_what_they_were() -> None:
    highest = np.uint64(2**64 - 1)
    assert unpack(highest, -3, True) == (2**64 - 1, -3, True, False)
    assert unpack(np.uint64(0), 2**63 - 1, False) == (0, 2**63 - 1, False, True)


def test_only_words_and_truth_values_are_packed() -> None:
    with pytest.raises(AssertionError, match="float64"):
        unpack(np.uint64(1), 0.5, True)


DIVIDE = types.UniTuple(types.int64, 2)(types.int64, types.Array(types.int64, 1, "C"))
call_divide = by_address.call_of(DIVIDE)


@compiled
def divide(by, numbers):
    return numbers[0] // by, numbers[0] % by


@compiled
def divide_there(address, by, numbers):
    return call_divide(np.uint64(address), (by, numbers))


def test_a_function_is_called_by_its_address() -> None:
    numbers = np.array([23])
    assert divide_there(by_address.address_of_function(divide, DIVIDE), 7, numbers) == (3, 2)
    assert divide(7, numbers) == (3, 2)
    assert len(divide.overloads) == 1  # the same machine code
    with pytest.raises(AssertionError):
        by_address.address_of_function(divide, types.int64(*DIVIDE.args))
