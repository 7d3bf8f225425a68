"""Functions that run only as a part of others' machine code.

numba sends each function that a compiled one calls through all of LLVM by itself: it is optimised,
made machine code of, and gets wrappers for calls from Python. All that is thrown away where the
function ends up inside its caller, which goes through LLVM as a whole. So a part stops at LLVM's
input, and is linked into whatever is compiled around it. That is optimised once: numba does it
twice, to find needless reference counts in between, and there are none.
"""

from collections.abc import Callable
from typing import Any

import numba
from llvmlite.binding import Linkage
from numba.core import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.typing.templates import infer_global

_NOT_NEEDED = frozenset(
    {
        "with_lifting", "inline_closure_likes", "make_function_op_code_to_jit_function",
        "inline_inlinables", "find_literally", "literal_unroll", "LiteralPropagation",
        "inline_overloads", "nopython_rewrites", "dump_parfor_diagnostics",
    }
)  # fmt: skip
"""numba's passes for what no part has: contexts, closures, literals to unroll, whole arrays."""

_OF_PLAIN: list[Any] = []
"""What numba itself has only weak references to."""


def part(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """Return ``function`` for compiled code to call; calling it from Python is a ``TypeError``.

    ``options`` are numba's. It cannot call itself. Numbers that its callers write out are typed as
    any others, so that it is typed once: what they mean for it LLVM sees.
    """
    njit: Any = numba.njit
    unliteral: Any = types.unliteral
    made = njit(pipeline_class=_PartCompiler, no_cpython_wrapper=True, **options)(function)
    made._insert = _not_callable
    template_of = made.get_call_template

    def get_call_template(args: Any, kws: Any) -> Any:
        named = {name: unliteral(kind) for name, kind in kws.items()}
        return template_of(tuple(map(unliteral, args)), named)

    made.get_call_template = get_call_template
    return made


def stays_plain(function: Callable[..., Any], options: dict[str, Any]) -> None:
    """Let compiled code call ``function`` as a ``part``, and Python as what it is."""
    register: Any = infer_global  # untyped
    made = part(function, options)
    _OF_PLAIN.append(made)
    register(function, types.Dispatcher(made))


class _PartLibrary(JITCodeLibrary):
    """What LLVM gets of one part, and a list of the parts that it calls."""

    def add_linking_library(self, library: Any) -> None:
        if library not in self._linking_libraries:
            self._linking_libraries.append(library)

    def needs(self) -> list[Any]:
        """Return what to link for a call of this part."""
        return [self, *self._linking_libraries]

    def finalize(self) -> None:
        self._finalized = True

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout


class _WholeLibrary(JITCodeLibrary):
    """What LLVM makes of a function and of its parts, which nobody else can call."""

    def _optimize_final_module(self) -> None:
        for function in self._final_module.functions:
            if function.linkage == Linkage.linkonce_odr:
                function.linkage = Linkage.internal
        codegen: Any = self._codegen  # untyped
        passes, builder = codegen._module_pass_manager()
        passes.run(self._final_module, builder)


class WholeCompiler(Compiler):
    """numba's compiler for functions whose machine code is kept."""

    def _compile_core(self) -> Any:
        make_library: Any = _WholeLibrary  # numba is untyped
        library = make_library(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
        library.enable_object_caching()
        self.state.library = library
        return super()._compile_core()  # type: ignore[no-untyped-call]


class _PartCompiler(Compiler):
    """numba's compiler, up to where machine code would be made."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)  # type: ignore[no-untyped-call]
        self.state.flags.no_compile = True

    def define_pipelines(self) -> Any:
        managers: Any = super().define_pipelines()  # type: ignore[no-untyped-call]
        for manager in managers:
            manager.passes = [
                (made, text) for made, text in manager.passes if made.name() not in _NOT_NEEDED
            ]
        return managers

    def _compile_core(self) -> Any:
        function = self.state.func_id.func_qualname
        make_library: Any = _PartLibrary  # numba is untyped
        self.state.library = make_library(self.state.targetctx.codegen(), function)
        made = super()._compile_core()  # type: ignore[no-untyped-call]

        def refuse(*_arguments: Any) -> None:
            raise TypeError(f"{function} runs only as a part of compiled functions")

        made.target_context.insert_user_function(refuse, made.fndesc, made.library.needs())
        return made._replace(entry_point=refuse)


def _not_callable(*_arguments: Any) -> None:
    """Let numba's dispatcher know no machine code: there is none."""
