"""Run by torchrun: train with each settings in a JSON file, one after the other. several.py SETTINGS FOLDER"""

import json
import sys
from pathlib import Path

import vaecli

if __name__ == "__main__":
    for name, settings in json.loads(Path(sys.argv[1]).read_bytes()).items():
        vaecli.train(settings, Path(sys.argv[2], name))
