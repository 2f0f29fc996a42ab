"""``python -m flow`` is the ``flow`` command."""

from flow._cli.main import main

raise SystemExit(main())
