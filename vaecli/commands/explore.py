"""`vae explore`: a model's latent space in a browser."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from vaecli.commands import options
from vaecli.commands.using import Use
from vaecli.config import PORT, RUN
from vaecli.errors import UsageError
from vaecli.streams import STDOUT

EXAMPLES = (
    "vae explore",
    "vae explore -o page.html",
)  # at the top of the help page


def explore(
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", help="Write the page as one .html file that works offline; - for stdout. Serves nothing."
        ),
    ] = None,
    data: options.HeldOutOf = None,
    data_dir: options.DataDir = None,
    port: Annotated[
        int,
        typer.Option(
            "--port", min=1, max=2**16 - 1, help="Serve the page on this port of 127.0.0.1, or the next free one."
        ),
    ] = PORT,
    open_browser: Annotated[
        bool | None,
        typer.Option("--open/--no-open", help="Open the page in a browser.", show_default="on a terminal of a desktop"),
    ] = None,
    run: options.Run = RUN,
    no_clobber: options.NoClobber = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """The page computes everything in the browser. Held-out pictures are its points. Ctrl-C ends the server.

    Needs no PyTorch.
    """
    use = Use(json=json, quiet=quiet)
    from vaecli import outputs

    if output is not None and open_browser:
        raise UsageError("`open` and `output`: the page is written, not served", "open the file")
    target = None
    if output is not None:
        target = outputs.parse(output, outputs.PAGES, on_stdout="html", clobber=not no_clobber, json=json)
    named = run if target is None else _name_without_path(run)
    with use.console.waiting("computing the page"):
        model = use.load(run, "cpu")
        page = model.page(data, data_dir=data_dir, run=named, on_event=use.console.report)
    if target is not None:
        with target.open() as stream:
            stream.write(page)
        if target.name != STDOUT:
            use.console.note(f"wrote {target.name}: {len(page) / 1e6:.1f} MB, open it in a browser")
        use.console.emit({"output": target.name, "bytes": len(page)})
        return
    from vaecli.explore.server import PageServer

    with contextlib.suppress(KeyboardInterrupt), PageServer(page, port) as server:  # a signal is how a server ends
        if server.port != port:
            use.console.note(f"port {port} is in use: taking {server.port}")
        use.console.result.line(server.address)
        use.console.emit({"address": server.address, "bytes": len(page)})
        use.console.note("Ctrl-C ends it")
        if open_browser or (open_browser is None and _has_desktop(use)):
            import webbrowser

            webbrowser.open(server.address)
        server.serve_forever()


def _name_without_path(run: Path) -> Path:
    """The run folder, as a file names it that others may get: from the working folder, or its own name alone.

    A whole path would tell them the name of its user and where things are. From the folder above, the commands on the
    page still work.
    """
    place, here = Path(os.path.normpath(Path.cwd() / run)), Path.cwd()
    return place.relative_to(here) if here in place.parents else Path(place.name)


def _has_desktop(use: Use) -> bool:
    """Whether a person at a terminal has a browser with windows: one of text would take the terminal."""
    windows = sys.platform in ("darwin", "win32") or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    return windows and sys.stdin is not None and sys.stdin.isatty() and use.console.messages.is_terminal
