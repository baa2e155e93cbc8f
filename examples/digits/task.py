"""What the four tasks share: where inputs and outputs are, the time they took, and a clear error without numpy.

It knows Muster only through the environment of a task (no client library, nothing to import), so each script also runs
by hand: `MUSTER_OUTPUT_DIR=/tmp/o python3 prepare.py`.
"""

import importlib.util
import json
import os
import pathlib
import sys
from datetime import datetime, timezone

NEEDED = {"numpy": "numpy", "sklearn": "scikit-learn", "matplotlib": "matplotlib"}


def require_packages():
    """Ends the task with what is missing and the next step; `prepare` calls it for the whole job, before any work."""
    missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        print(f"error: {sys.executable} has no {', '.join(missing)}", file=sys.stderr)
        print(
            "hint: on the worker, python3 -m pip install -r examples/digits/requirements.txt, or start the worker with "
            "a virtual environment that has them first in PATH",
            file=sys.stderr,
        )
        sys.exit(1)


def input_path(name):
    """The file (or, from an array, the directory) that Muster placed for the input `name`."""
    key = f"MUSTER_INPUT_{name.upper()}"
    if key not in os.environ:
        sys.exit(f"error: {key} is not set; run this script as a task, or set it by hand")
    return pathlib.Path(os.environ[key])


def array_inputs(name):
    """[(index, path)] of an input that comes from an array, in order of the index."""
    entries = [entry for entry in input_path(name).iterdir() if entry.name.isdigit()]
    return sorted((int(entry.name), only_file(entry)) for entry in entries)


def only_file(path):
    """The file itself: an entry of an array is either the file or a directory that holds only it."""
    while path.is_dir():
        (path,) = path.iterdir()
    return path


def output_path(name):
    directory = pathlib.Path(os.environ.get("MUSTER_OUTPUT_DIR", "."))
    directory.mkdir(parents=True, exist_ok=True)
    return directory / name


def write_json(name, value):
    output_path(name).write_text(json.dumps(value, indent=1))


class Timing:
    """Start and end of this attempt as the task itself saw them, with who ran it: the report's timeline."""

    def __init__(self):
        self.started = datetime.now(timezone.utc)

    def finish(self):
        return {
            "task": os.environ.get("MUSTER_TASK", "by hand"),
            "index": os.environ.get("MUSTER_INDEX", ""),
            "attempt": int(os.environ.get("MUSTER_ATTEMPT") or 1),
            "worker": os.environ.get("MUSTER_WORKER", "this machine"),
            "started": self.started.isoformat(),
            "ended": datetime.now(timezone.utc).isoformat(),
        }
