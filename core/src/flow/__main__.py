"""``python -m flow`` is the ``flow`` command."""

from ._cli.main import main

raise SystemExit(main())
