"""Workers on a Ray cluster: of this machine alone, and of two nodes, both on this machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs.conftest import MakeShards
from tests.jobs.reading import names_of, rows_of
from vaecli import load
from vaecli.errors import VaeError
from vaecli.events import BlockDone, Event, Note
from vaecli.jobs import Encode, run

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'vaecli[ray]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[str]:
    """The address of a cluster of two nodes, each a process with one processor."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    size = {"num_cpus": 1, "object_store_memory": 2**27}
    head = {"node_ip_address": "127.0.0.2", "include_dashboard": False, **size}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(node_ip_address="127.0.0.3", **size)
    cluster.wait_for_nodes()
    yield cluster.address
    cluster.shutdown()


def test_a_local_cluster_has_the_rows_of_one_process(grey: Path, make_shards: MakeShards, tmp_path: Path) -> None:
    make_shards()
    (tmp_path / "shards/3.tar").write_bytes(b"no tar" * 500)
    model, inputs, heard = load(grey, "cpu"), tmp_path / "shards", list[Event]()
    run(model, Encode(seed=1), inputs, tmp_path / "a.parquet", workers=1)
    result = run(model, Encode(seed=1), inputs, tmp_path / "b.parquet", ray="local", workers=2, on_event=heard.append)
    assert rows_of(tmp_path / "a.parquet") == rows_of(tmp_path / "b.parquet")
    assert (result.rows, result.errors, result.blocks) == (16, 1, 4)
    assert sum(isinstance(event, BlockDone) for event in heard) == 4
    assert not ray.is_initialized()


def test_two_nodes_share_a_job_and_an_actor_that_is_killed_is_replaced(
    two_nodes: str, grey: Path, make_shards: MakeShards, tmp_path: Path
) -> None:
    make_shards(30, 20)
    heard = list[Event]()

    def kill(event: Event) -> None:
        if isinstance(event, BlockDone) and not any(isinstance(one, BlockDone) for one in heard):
            os.kill(actors()[0], signal.SIGKILL)
        heard.append(event)

    result = run(load(grey, "cpu"), Encode(), tmp_path / "shards", tmp_path / "o.parquet", ray=two_nodes, on_event=kill)
    assert any("2 actors on 2 nodes" in event.text for event in heard if isinstance(event, Note))
    assert (result.rows, result.errors) == (600, 0)
    assert names_of(tmp_path / "o.parquet") == [f"{row:04}.png" for row in range(600)]


def test_an_error_on_a_node_is_the_jobs(two_nodes: str, grey: Path, make_shards: MakeShards, tmp_path: Path) -> None:
    shards = make_shards()

    def remove(event: Event) -> None:
        if isinstance(event, Note):
            shards[2].unlink(missing_ok=True)

    with pytest.raises(VaeError, match=r"2\.tar: no such file .*of 3 blocks are finished"):
        run(load(grey, "cpu"), Encode(), tmp_path / "shards", tmp_path / "o.parquet", ray=two_nodes, on_event=remove)


def test_a_cluster_that_is_not_there(grey: Path, blobs: Path, tmp_path: Path) -> None:
    with pytest.raises(VaeError, match=r"`ray` 127\.0\.0\.1:1: nothing answers"):
        run(load(grey, "cpu"), Encode(), blobs, tmp_path / "o.parquet", ray="127.0.0.1:1")
    assert not (tmp_path / "o.parquet").exists()


def actors() -> list[int]:
    """The processes of a job's actors on this machine."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if "ray::MapWorker" in (folder / "cmdline").read_text():
                found.append(int(folder.name))
        except OSError:  # it has ended
            continue
    return found
