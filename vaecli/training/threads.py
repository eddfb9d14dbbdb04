"""How many threads a training on the CPU computes with: all that it may use, or fewer while fewer are faster.

PyTorch's threads wait for each other after every operation. Where another program keeps one of two processors busy,
one thread trains more than twice as fast as two, and on many processors a small network is slower with all of them.
So a batch is timed, and the number may change from one epoch to the next. Within an epoch it never does.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import torch

from vaecli.processors import asked_for, usable
from vaecli.wording import how_many

Work = Callable[[int], None]  # computes the gradients of this many images

TIMED = 0.1  # seconds for which a number of threads is timed
LONGEST = 0.2  # seconds of a timed batch, which has fewer images where the network is slow
TIMED_IMAGES = 8  # images in the smallest timed batch
HALVE_BELOW = 0.8  # half as many threads are taken where they need at most this share of the time
DOUBLE_BELOW = 0.9  # and twice as many where they need at most this share
SLOWER = 1.25  # an epoch that takes this many times the fastest one is a reason to measure again
SHARE = 0.02  # of the time of a training that measuring may take


class Threads:
    """The number of threads from epoch to epoch."""

    def __init__(self, device: torch.device, *, fixed: bool = False) -> None:
        """Take all threads that this process may use: PyTorch counts the machine's processors, not the container's.

        The number stays the same where it is `fixed`, where OMP_NUM_THREADS is set, and on a GPU.
        """
        self.most = min(torch.get_num_threads(), usable())
        self.count = self.most
        self._fixed = fixed or device.type != "cpu" or asked_for() is not None
        self._cost = 0.0  # seconds of the last measurement
        self._trained = 0.0  # seconds since then
        self._last: float | None = None  # seconds an image, in the last epoch
        self._fastest: dict[int, float] = {}  # seconds an image in the fastest epoch, by number of threads
        torch.set_num_threads(self.count)

    def __str__(self) -> str:
        return how_many(self.count, "thread")

    def resume(self, count: int | None) -> None:
        """Begin with the number of threads that a checkpoint has, as far as they may be used here."""
        if count is not None and not self._fixed:
            self._use(min(count, self.most))

    def trained(self, images: int, seconds: float) -> None:
        """Take note of an epoch."""
        self._last = seconds / images
        self._trained += seconds
        self._fastest[self.count] = min(self._fastest.get(self.count, self._last), self._last)

    def choose(self, work: Work, batch_size: int, images_left: int) -> None:
        """Set the number of threads for the next epoch, measured where that can pay.

        That is: before the first epoch, where the training takes long enough; after an epoch that was slower than
        another one; and now and then as long as not all threads are used. `images_left` are those still to be
        trained on, in all epochs.
        """
        if self._fixed or self.most == 1:
            return
        each = self._last or _seconds_per_image(work)
        if not self._due(images_left * each):
            return
        start = perf_counter()
        size = min(batch_size, max(TIMED_IMAGES, int(LONGEST / each)))
        count, seconds = self.count, self._time(self.count, work, size)
        while count > 1 and (found := self._time(count // 2, work, size)) <= HALVE_BELOW * seconds:
            count, seconds = count // 2, found
        if count == self.count:
            while (
                count < self.most
                and (found := self._time(min(2 * count, self.most), work, size)) <= DOUBLE_BELOW * seconds
            ):
                count, seconds = min(2 * count, self.most), found
        self._use(count)
        self._trained, self._cost = 0.0, perf_counter() - start

    def _due(self, seconds_left: float) -> bool:
        # One number of threads at least is timed beside the present one, for TIMED seconds each.
        if SHARE * seconds_left < 2 * TIMED:
            return False
        if self._last is None:
            return True
        slower = self._last > SLOWER * self._fastest[self.count]
        return SHARE * self._trained >= self._cost and (self.count < self.most or slower)

    def _use(self, count: int) -> None:
        self.count = count
        torch.set_num_threads(count)

    def _time(self, count: int, work: Work, size: int) -> float:
        """Seconds of a batch with `count` threads."""
        torch.set_num_threads(count)
        work(size)  # starts the threads and prepares the kernels
        start, passed, runs = perf_counter(), 0.0, 0
        while passed < TIMED:
            work(size)
            passed, runs = perf_counter() - start, runs + 1
        return passed / runs


def _seconds_per_image(work: Work) -> float:
    work(TIMED_IMAGES)
    start = perf_counter()
    work(TIMED_IMAGES)
    return (perf_counter() - start) / TIMED_IMAGES
