"""What the fork server does before it makes processes: import all they need, compiled or loaded."""

import gc
import importlib

from engine.heap import give_back
from engine.roles import told_to_load
from engine.warm_apart import warm_fork_server

_told = told_to_load()
for _module in _told.modules:
    importlib.import_module(_module)
warm_fork_server(_told.book, _told.steps)
gc.collect()
give_back()  # what loading has freed: each process would copy the pages where it takes some of it
gc.freeze()  # shared with all processes made from here: a collection would copy what it looks at
