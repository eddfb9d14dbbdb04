"""The command `vae`, which is `python -m vaecli` as well."""

from __future__ import annotations

import gc
import signal
from typing import NoReturn

# New objects until the garbage collector runs. Imports make tens of thousands, and all of them stay: with Python's own
# threshold of 700, `vae --help` takes 8 % more processor time (medians of 25 pairs).
YOUNG = 50_000
COMPLETION = "_VAE_COMPLETE"  # set where the shell asks for completions, of any command


def main() -> NoReturn:
    """Run the command line."""
    gc.set_threshold(YOUNG)
    # Until `main` installs its handlers, Ctrl-C ends the process without a message.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and not ignored, as in a script's background
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from vaecli.cli import main

    main.main()


if __name__ == "__main__":
    main()
