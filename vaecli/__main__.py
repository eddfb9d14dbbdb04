"""`python -m vaecli` is `vae`."""

from vaecli.cli import main

main()
