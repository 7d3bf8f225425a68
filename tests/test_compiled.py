"""Machine code that was kept is not run where what it was made of has changed."""

import gc
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ipc.native.compiled import HAVE_NUMBA, digest_of, with_closure


def module_at(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("kept", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not HAVE_NUMBA, reason="nothing is compiled without numba")
def test_kept_code_is_taken_for_the_same_digest_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numba

    (tmp_path / "kept.py").write_text('def twice(number):\n    "Double."\n    return 2 * number\n')
    kept = module_at(tmp_path / "kept.py")
    monkeypatch.setitem(sys.modules, kept.__name__, kept)  # loaded code asks for it by name
    hits = []
    for digest in (1, 2, 1):
        function = with_closure(kept.twice, digest)
        kernel = numba.njit(cache=True)(function)
        assert (kernel(4), function(4), kernel.__doc__) == (8, 8, "Double.")
        hits.append(sum(kernel.stats.cache_hits.values()))
        del kernel, function
        gc.collect()  # what is kept is not found in memory
    assert hits == [0, 0, 1]


def test_a_digest_is_of_every_file(tmp_path: Path) -> None:
    files = [tmp_path / name for name in "ab"]
    for file in files:
        file.write_text("one")
    before = digest_of(files)
    assert digest_of(files) == before
    files[1].write_text("two")
    assert digest_of(files) != before
