"""Numbers that go together through compiled code, as one value.

numba passes each field of a tuple by itself in every call, and writes out all their types wherever
it names one: of what it compiled for a book, half was that. A ``packed`` tuple is one array of
words, for it and for LLVM, until a field is asked for; the machine code is the same.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from llvmlite import ir
from numba import extending, types
from numba.core.imputils import lower_getattr_generic
from numba.core.typing.templates import AttributeTemplate, infer_getattr

T = TypeVar("T", bound=tuple[Any, ...])

_KINDS = (types.uint64, types.int64, types.boolean)
_WORD = ir.IntType(64)


class _Words(types.Type):
    """The type of a packed tuple, whose fields it has by their names."""

    def __init__(self, of: Any) -> None:
        assert all(kind in _KINDS for kind in of.types), of
        self.fields, self.kinds = of.fields, of.types
        numbers = "".join(str(_KINDS.index(kind)) for kind in of.types)
        super().__init__(f"{of.instance_class.__name__}{numbers}")

    @property
    def key(self) -> Any:
        return self.name, self.fields


class _Model(extending.models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, ir.ArrayType(_WORD, len(kind.fields)))  # type: ignore[no-untyped-call]


class _Fields(AttributeTemplate):
    key = _Words

    def generic_resolve(self, kind: Any, field: str) -> Any:  # type: ignore[override]
        return kind.kinds[kind.fields.index(field)] if field in kind.fields else None


def _field(context: Any, builder: Any, kind: Any, value: Any, field: str) -> Any:
    place = kind.fields.index(field)
    word = builder.extract_value(value, place)
    return word if kind.kinds[place] != types.boolean else builder.trunc(word, ir.IntType(1))


def _packed(_: Any, values: Any) -> Any:
    kind = _Words(values)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        made = ir.Constant(ir.ArrayType(_WORD, len(kind.fields)), ir.Undefined)
        for place in range(len(kind.fields)):
            value = builder.extract_value(args[0], place)
            word = value if value.type == _WORD else builder.zext(value, _WORD)
            made = builder.insert_value(made, word, place)
        return made

    return kind(values), generate


_register: Any = extending.register_model
_lower: Any = lower_getattr_generic
_intrinsic: Any = extending.intrinsic
_register(_Words)(_Model)
_infer: Any = infer_getattr
_infer(_Fields)
_lower(_Words)(_field)
packed: Callable[[T], T] = _intrinsic(_packed)
"""Return a ``NamedTuple`` of words and truth values as one value with the same attributes, from
within compiled code."""
