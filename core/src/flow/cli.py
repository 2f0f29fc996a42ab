r"""What commands of plugins are made of: stores and the runs in them, apps, tables, and the words for times and sums.

A command that works with stored runs finds them, names them and prints them as the kernel's own commands do:

    >>> from flow.cli import duration, one_line, store_of
    >>> duration(75), one_line("two\nlines")
    ('1 min 15 s', 'two lines')
    >>> store_of("sqlite:///runs.db").name
    'sqlite:///runs.db'

This door is lazy, so that ``--help`` of a command stays quick: import from it inside the functions.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._answers import questions_of
    from ._blocking import run_program as run_sync
    from ._cli.interruption import Interruption
    from ._cli.remembered import app_of
    from ._cli.report import print_json
    from ._cli.run_filters import Filters, checked_statuses, moment_of
    from ._cli.run_views import as_dict as run_as_dict
    from ._cli.run_views import how_to_continue, is_orphaned, metadata_of, remark_on, short_ids
    from ._cli.session import Session
    from ._cli.store import Store, every_run, find_run, store_of, without_secrets
    from ._cli.table import aligned, terminal_width
    from ._cli.table import fitted as fitted_rows
    from ._cli.target import load_flow
    from ._cli.wording import ago, columns, cut, duration, iso, lines_of, moment, one_line, quoted
    from ._dsl import find_renderer

__all__ = [
    "Filters",
    "Interruption",
    "Session",
    "Store",
    "ago",
    "aligned",
    "app_of",
    "checked_statuses",
    "columns",
    "cut",
    "duration",
    "every_run",
    "find_renderer",
    "find_run",
    "fitted_rows",
    "how_to_continue",
    "is_orphaned",
    "iso",
    "lines_of",
    "load_flow",
    "metadata_of",
    "moment",
    "moment_of",
    "one_line",
    "print_json",
    "questions_of",
    "quoted",
    "remark_on",
    "run_as_dict",
    "run_sync",
    "short_ids",
    "store_of",
    "terminal_width",
    "without_secrets",
]

_HOMES = {
    "_answers": "questions_of",
    "_blocking": "run_sync=run_program",
    "_cli.interruption": "Interruption",
    "_cli.remembered": "app_of",
    "_cli.report": "print_json",
    "_cli.run_filters": "Filters checked_statuses moment_of",
    "_cli.run_views": "how_to_continue is_orphaned metadata_of remark_on run_as_dict=as_dict short_ids",
    "_cli.session": "Session",
    "_cli.store": "Store every_run find_run store_of without_secrets",
    "_cli.table": "aligned fitted_rows=fitted terminal_width",
    "_cli.target": "load_flow",
    "_cli.wording": "ago columns cut duration iso lines_of moment one_line quoted",
    "_dsl": "find_renderer",
}
_HOME_OF = {
    name.partition("=")[0]: (module, name.rpartition("=")[2])
    for module, names in _HOMES.items()
    for name in names.split()
}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'flow.cli' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"flow.{home[0]}"), home[1])
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
