"""Pictures to a portable generative model: train a VAE in PyTorch, use it through ONNX Runtime.

    result = vaecli.train({"training": {"epochs": 40}}, "runs/mine")
    vaecli.export("runs/mine")
    model = vaecli.load("runs/mine")
    images = model.sample(9, seed=1)

`train` and `export` need the packages of vaecli[train]; everything else works without PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaecli import jobs as jobs
    from vaecli import plots as plots
    from vaecli import recipes as recipes
    from vaecli.config import Config as Config
    from vaecli.config import DataConfig as DataConfig
    from vaecli.config import ModelConfig as ModelConfig
    from vaecli.config import TrainingConfig as TrainingConfig
    from vaecli.datasets import data_sets as data_sets
    from vaecli.errors import DeviceError as DeviceError
    from vaecli.errors import Interrupted as Interrupted
    from vaecli.errors import ParityError as ParityError
    from vaecli.errors import UsageError as UsageError
    from vaecli.errors import VaeError as VaeError
    from vaecli.errors import VaeWarning as VaeWarning
    from vaecli.evaluation.evaluate import Evaluation as Evaluation
    from vaecli.evaluation.score import Scores as Scores
    from vaecli.events import BlockDone as BlockDone
    from vaecli.events import EpochMetrics as EpochMetrics
    from vaecli.events import Event as Event
    from vaecli.events import Note as Note
    from vaecli.events import Progress as Progress
    from vaecli.events import Step as Step
    from vaecli.events import TrainingDone as TrainingDone
    from vaecli.events import TrainingStarted as TrainingStarted
    from vaecli.exporting.result import ExportResult as ExportResult
    from vaecli.exporting.stage import export as export
    from vaecli.inspection import Inspection as Inspection
    from vaecli.inspection import RunSummary as RunSummary
    from vaecli.inspection import inspect as inspect
    from vaecli.inspection import runs as runs
    from vaecli.machine import Machine as Machine
    from vaecli.machine import doctor as doctor
    from vaecli.model import Manifold as Manifold
    from vaecli.model import Model as Model
    from vaecli.model import Traversal as Traversal
    from vaecli.model import load as load
    from vaecli.run_folder import history as history
    from vaecli.training.stage import train as train

__version__ = "1.0.0"

# The public names and where they are: imported when first used, so that `import vaecli` and `vae --help` stay light.
_HOMES = {
    "BlockDone": "vaecli.events:BlockDone",
    "Config": "vaecli.config:Config",
    "data_sets": "vaecli.datasets:data_sets",
    "DataConfig": "vaecli.config:DataConfig",
    "DeviceError": "vaecli.errors:DeviceError",
    "doctor": "vaecli.machine:doctor",
    "EpochMetrics": "vaecli.events:EpochMetrics",
    "Evaluation": "vaecli.evaluation.evaluate:Evaluation",
    "Event": "vaecli.events:Event",
    "export": "vaecli.exporting.stage:export",
    "ExportResult": "vaecli.exporting.result:ExportResult",
    "history": "vaecli.run_folder:history",
    "inspect": "vaecli.inspection:inspect",
    "Inspection": "vaecli.inspection:Inspection",
    "Interrupted": "vaecli.errors:Interrupted",
    "jobs": "vaecli.jobs",
    "load": "vaecli.model:load",
    "Machine": "vaecli.machine:Machine",
    "Manifold": "vaecli.model:Manifold",
    "Model": "vaecli.model:Model",
    "ModelConfig": "vaecli.config:ModelConfig",
    "Note": "vaecli.events:Note",
    "ParityError": "vaecli.errors:ParityError",
    "plots": "vaecli.plots",
    "Progress": "vaecli.events:Progress",
    "recipes": "vaecli.recipes",
    "runs": "vaecli.inspection:runs",
    "RunSummary": "vaecli.inspection:RunSummary",
    "Scores": "vaecli.evaluation.score:Scores",
    "Step": "vaecli.events:Step",
    "train": "vaecli.training.stage:train",
    "TrainingConfig": "vaecli.config:TrainingConfig",
    "TrainingDone": "vaecli.events:TrainingDone",
    "TrainingStarted": "vaecli.events:TrainingStarted",
    "Traversal": "vaecli.model:Traversal",
    "UsageError": "vaecli.errors:UsageError",
    "VaeError": "vaecli.errors:VaeError",
    "VaeWarning": "vaecli.errors:VaeWarning",
}
__all__ = ["__version__", *_HOMES]


if not TYPE_CHECKING:  # a type checker reads the imports above, and knows which names do not exist

    def __getattr__(name: str) -> Any:  # noqa: ANN401 - the name decides its type
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, _, attribute = _HOMES[name].partition(":")
        found = importlib.import_module(module)
        return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
    return __all__
