"""The command `vae`, which is `python -m vaecli` as well."""

from __future__ import annotations

import gc
from typing import NoReturn

# New objects until the garbage collector looks through them. Imports make tens of thousands, and all stay: at the
# interpreter's own 700 the collector takes a fifteenth of the start.
YOUNG = 50_000


def main() -> NoReturn:
    """Run the command line."""
    gc.set_threshold(YOUNG)
    from vaecli import cli

    cli.main()


if __name__ == "__main__":
    main()
