"""The command `vae`, which is `python -m vaecli` as well."""

from __future__ import annotations

import gc
from typing import NoReturn

# New objects until the garbage collector runs. Imports make tens of thousands, and all of them stay: with Python's own
# threshold of 700, `vae --help` takes 8 % more processor time (medians of 25 pairs).
YOUNG = 50_000


def main() -> NoReturn:
    """Run the command line."""
    gc.set_threshold(YOUNG)
    from vaecli import cli

    cli.main()


if __name__ == "__main__":
    main()
