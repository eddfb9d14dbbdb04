"""The digits in the package."""

from __future__ import annotations

import hashlib

from vaecli.datasets import builtin


def test_the_last_fifty_of_each_digit_are_held_out() -> None:
    train, held_out = builtin.digits()
    assert train.shape == (4500, builtin.SIDE, builtin.SIDE, 1)
    assert held_out.shape == (10 * builtin.HELD_OUT_PER_DIGIT, builtin.SIDE, builtin.SIDE, 1)
    assert (int(train.min()), int(train.max())) == (0, 255)


def test_the_digits_never_change() -> None:
    digests = [hashlib.sha256(part.tobytes()).hexdigest()[:16] for part in builtin.digits()]
    assert digests == ["5299b60220e5b492", "ea46fd984a40c7af"]


def test_digits_are_in_class_order() -> None:
    """Each held-out digit is nearer to its own class's mean than to others', mostly."""
    train, held_out = builtin.digits()
    means = train.reshape(10, 450, -1).mean(1)
    nearest = ((held_out.reshape(500, 1, -1).astype(float) - means) ** 2).sum(-1).argmin(1)
    assert (nearest == builtin.classes().labels[4500:]).mean() > 0.75
