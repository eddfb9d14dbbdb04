"""The page of `vae explore` in a browser: its size, the time to its first picture, the time of a decode.

    python -m tests.benchmarks.exploring PAGE.html...

Each page is opened five times. A decode is of one latent; its times are means of
ten decodes each, the first thirty not counted.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from tests.explore.browser import Browser, find

OPENED = 5
DECODED = 300
DECODE = """(async () => {
  const times = [];
  for (let index = 0; index < COUNT; index++) {
    const start = performance.now();
    for (let again = 0; again < 10; again++) await explore.network.decode([explore.state.latent], explore.state.label);
    times.push((performance.now() - start) / 10);
  }
  return times.slice(3);
})()"""  # ten at a time: a browser's clock has steps of 0.1 ms


def main(pages: list[str]) -> int:
    program = find()
    if program is None or not pages:
        sys.stderr.write("usage: python -m tests.benchmarks.exploring PAGE.html...; it needs a Chromium\n")
        return 1
    with Browser(program) as browser:
        for page in map(Path, pages):
            first = []
            for _ in range(OPENED):
                browser.open(page.resolve().as_uri())
                first.append(float(browser.run("document.documentElement.dataset.first")) / 1000)
            browser.run("new Promise((done) => setTimeout(done, 5000))")  # the pictures behind the points are drawn
            times = browser.run(DECODE.replace("COUNT", str(DECODED // 10 + 3)))
            late = statistics.quantiles(times, n=20)[-1]
            sys.stdout.write(
                f"{page}: {page.stat().st_size / 1e6:.1f} MB, first picture after {statistics.median(first):.1f} s, "
                f"decode {statistics.median(times):.2f} ms, 95th percentile {late:.2f} ms\n"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
