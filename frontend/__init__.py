"""What people and clients touch.

A folder of a program's own by the name of one of the product's would be imported in its place.
"""

# Nothing is imported here that Python has not loaded by itself: a Ctrl-C meanwhile would be its
# traceback, as the command line cannot take it yet.
import os.path
from importlib.util import find_spec

_HERE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))

for _name in ("engine", "ipc", "configs"):
    _found = find_spec(_name)
    _places = list(_found.submodule_search_locations or [_found.origin or ""]) if _found else []
    if not any(os.path.realpath(place) == os.path.join(_HERE, _name) for place in _places):
        raise ImportError(
            f"Shardbook's package {_name!r} in {_HERE} is shadowed by {', '.join(_places)}: "
            "rename that, or run the program from another directory"
            if _places
            else f"Shardbook's package {_name!r} is missing in {_HERE}"
        )
