"""Calls from compiled code to compiled functions that stand by themselves, by address.

A compiled function that calls another gets a copy of it: one that is large is compiled twice, and
only after the other. By address it is compiled once, in another process meanwhile.
"""

from collections.abc import Callable
from typing import Any

from numba import types
from numba.extending import intrinsic


def address_of_function(function: Callable[..., Any], signature: Any) -> int:
    """Return where the machine code of a ``compiled`` function is, for arguments of the types
    that numba's ``signature`` has; it is loaded or compiled first."""
    made: Any = function
    made.compile(signature.args)
    found = made.overloads[signature.args]
    assert found.signature.return_type == signature.return_type, found.signature
    address: int = found.library.get_pointer_to_function(found.fndesc.llvm_func_name)
    return address


def call_of(signature: Any) -> Any:
    """Return a function (address, arguments as a tuple) -> what the function there returns,
    which raises nothing, for compiled code."""

    def _typer(_: Any, address: Any, arguments: Any) -> Any:
        assert arguments.types == signature.args, arguments

        def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
            convention = context.call_conv
            kind = convention.get_function_type(signature.return_type, signature.args)
            function = builder.inttoptr(args[0], kind.as_pointer())
            values = [builder.extract_value(args[1], n) for n in range(len(signature.args))]
            return convention.call_function(
                builder, function, signature.return_type, signature.args, values
            )[1]

        return signature.return_type(types.uint64, arguments), generate

    return intrinsic(_typer)
