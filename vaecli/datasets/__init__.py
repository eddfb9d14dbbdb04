"""Pictures to learn from: a `source` as uint8 images. The names that other packages use are exported here."""

from __future__ import annotations

from vaecli.datasets.dataset import Dataset
from vaecli.datasets.listing import data_sets
from vaecli.datasets.loading import load, prepared_earlier
from vaecli.datasets.source import is_here, located, missing_source
from vaecli.datasets.surveys import survey

__all__ = ["Dataset", "data_sets", "is_here", "load", "located", "missing_source", "prepared_earlier", "survey"]
