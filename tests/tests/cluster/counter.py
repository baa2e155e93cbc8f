"""Counts, saves, and writes down every step: what a test of evictions judges afterwards.

LEDGER.INDEX gets a line for each thing, with the attempt: `start 2 w1 40`, `step 2 41`, `committed 2 60`, `done 2 99 SUM`; and
`torn`, `unasked` or `refused` for what must not be. It commits every 20 steps, in the background, and when it is asked to leave. It
ends when the file STOP is there.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

asked = False


def ask(*_):
    global asked
    asked = True


signal.signal(signal.SIGUSR1, ask)
ATTEMPT = os.environ["MUSTER_ATTEMPT"]
CHECKPOINTS = pathlib.Path(os.environ["MUSTER_CHECKPOINT_DIR"])
DEADLINE = pathlib.Path(os.environ["MUSTER_DEADLINE_FILE"])
STEADY = bytes(range(256)) * 1024
ledger = os.open(f"{os.environ['LEDGER']}.{os.environ['MUSTER_INDEX']}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def say(what, *words):
    os.write(ledger, (" ".join(map(str, (what, ATTEMPT, *words))) + "\n").encode())


def save():
    part = CHECKPOINTS / f"{step}.part"
    part.mkdir()
    (part / "steady").write_bytes(STEADY)
    (part / "state").write_text(json.dumps([step, total]))
    return part.rename(CHECKPOINTS / str(step))


def commit():
    arguments = ["muster", "checkpoint", "commit", save(), "--step", str(step)]
    # The order to leave goes to the whole process group, and ends what has hardly begun.
    return step, subprocess.Popen(arguments, start_new_session=True)


def settle(committing):
    at, process = committing
    code = process.wait()
    if code >= 0:  # else the order to leave ended it before it ran: the newer one that follows makes up for it
        say("committed" if code == 0 else "refused", at)


step, total = 0, 0
resume = os.environ["MUSTER_RESUME_FROM"]
if resume:
    whole = pathlib.Path(resume, "steady").read_bytes() == STEADY
    step, total = json.loads(pathlib.Path(resume, "state").read_text())
    if not whole or str(step) != os.environ["MUSTER_RESUME_STEP"]:
        say("torn")
say("start", os.environ["MUSTER_WORKER"], step)
committing = None
while not os.path.exists(os.environ["STOP"]):
    time.sleep(0.005)
    step += 1
    total = (total * 6364136223846793005 + step) % 2**64
    say("step", step)
    if committing and committing[1].poll() is not None:
        settle(committing)
        committing = None
    if asked:
        if not DEADLINE.exists():
            say("unasked")
        if committing:
            settle(committing)
        settle(commit())
        sys.exit(85)
    if not committing and step % 20 == 0:
        committing = commit()
say("done", step, total)
