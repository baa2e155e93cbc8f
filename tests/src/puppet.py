"""A task on strings: it evaluates what a test asks for, one expression a file, and answers in another file.

    PUPPET/start.ATTEMPT.RANK       its environment, when it has started (JSON)
    PUPPET/ask.ATTEMPT.RANK.N       the test's Nth question, an expression
    PUPPET/answer.ATTEMPT.RANK.N    what it gives, as text
    PUPPET/signals.ATTEMPT.RANK     a line a signal, once `trap()` was asked for

Every file appears whole, by renaming. Standard library only.
"""

import datetime
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

HOME = pathlib.Path(os.environ["PUPPET"])
ME = f"{os.environ['MUSTER_ATTEMPT']}.{os.environ.get('MUSTER_RANK') or 0}"
CHECKPOINTS = pathlib.Path(os.environ["MUSTER_CHECKPOINT_DIR"])
DEADLINE = pathlib.Path(os.environ["MUSTER_DEADLINE_FILE"])
background = []


def put(name, text):
    part = HOME / f".{name}.part"
    part.write_text(text)
    part.rename(HOME / name)


def save(step):
    """A directory below the checkpoint directory with something that changes, and something that does not. → its path"""
    part = CHECKPOINTS / f"step-{step}.part"
    part.mkdir()
    (part / "steady").write_bytes(bytes(range(256)) * 1024)
    (part / "state").write_text(str(step))
    return str(part.rename(CHECKPOINTS / f"step-{step}"))


def resumed():
    """What the resume directory holds: the step in its file; `-` without one; an error in words when it is torn."""
    directory = os.environ["MUSTER_RESUME_FROM"]
    if not directory:
        return "-"
    if (pathlib.Path(directory) / "steady").read_bytes() != bytes(range(256)) * 1024:
        return "torn"
    return (pathlib.Path(directory) / "state").read_text()


def command(path, step, *flags):
    return ["muster", "checkpoint", "commit", str(path), "--step", str(step), *flags]


def commit(path, step, *flags):
    """The exit code, and what it said."""
    done = subprocess.run(command(path, step, *flags), capture_output=True, text=True)
    return f"{done.returncode} {done.stdout}{done.stderr}"


def begin(path, step, *flags):
    """The same without waiting for its end."""
    background.append(subprocess.Popen(command(path, step, *flags)))
    return "begun"


def ended():
    """The exit code of the newest that was begun, or None."""
    return background[-1].poll()


def trap():
    """From now on signals are written down, and nothing else: the deadline file's text beside each."""
    def note(number, _):
        deadline = DEADLINE.read_text().strip() if DEADLINE.exists() else "-"
        with open(HOME / f"signals.{ME}", "a") as out:
            out.write(f"{signal.Signals(number).name} {deadline}\n")

    for each in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(each, note)
    return "trapped"


def seconds_until(stamp):
    """From now to a time of RFC 3339."""
    return datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp() - time.time()


put(f"start.{ME}", json.dumps(dict(os.environ)))
number = 1
while True:
    question = HOME / f"ask.{ME}.{number}"
    if not question.exists():
        time.sleep(0.01)
        continue
    try:
        answer = str(eval(question.read_text()))
    except Exception as error:  # the test shows it
        answer = f"{type(error).__name__}: {error}"
    put(f"answer.{ME}.{number}", answer)
    number += 1
