"""What people and clients touch.

A folder of a program's own by the name of one of the product's would be imported in its place.
"""

from importlib.util import find_spec
from pathlib import Path

_HERE = Path(__file__).resolve().parent.parent

for _name in ("engine", "ipc", "configs"):
    _found = find_spec(_name)
    _places = list(_found.submodule_search_locations or [_found.origin or ""]) if _found else []
    if not any(Path(place).resolve() == _HERE / _name for place in _places):
        raise ImportError(
            f"Shardbook's package {_name!r} in {_HERE} is shadowed by {', '.join(_places)}: "
            "rename that, or run the program from another directory"
            if _places
            else f"Shardbook's package {_name!r} is missing in {_HERE}"
        )
