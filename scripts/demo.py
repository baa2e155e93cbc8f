"""The demo: three members and two workers as real processes on loopback, a real DAG, and a leader that dies.

It is a user with a stopwatch: it starts the binary, reads `--output json`, and waits for states, never for time. At the
end every process it started is gone, whatever happened. Standard library only; started by scripts/demo.sh.

  MUSTER_BIN        the binary (default target/release/muster)
  MUSTER_DEMO_DIR   where the demo's directory is made (default: the system's temporary directory)
  MUSTER_DEMO_KEEP  1: keep data directories and logs after a success too
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
JOB_FILE = REPOSITORY / "examples" / "digits" / "job.yaml"
BINARY = os.environ.get("MUSTER_BIN", str(REPOSITORY / "target" / "release" / "muster"))
MEMBERS, WORKERS = 3, 2
START_SECONDS = 60  # for a cluster to form; takes about two
JOB_SECONDS = 600  # for the job; takes under a minute on two cores
FAILOVER_SECONDS = 30  # without a leader before the demo gives up; an election takes about two


class Failed(Exception):
    """What went wrong, in one sentence."""


class Unreachable(Exception):
    """No coordinator answered (exit code 3): normal for a moment after the leader died."""


def say(text):
    print(text, flush=True)


class Cluster:
    """The processes of one demo, their directory, and the verbs of the command line against them."""

    def __init__(self, root):
        self.root = root
        self.processes = {}
        self.logs = root / "logs"
        self.logs.mkdir()
        self.addresses = free_addresses(MEMBERS)
        # The demo's own variables would be read as configuration by the daemons, so none of them goes through.
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("MUSTER_")}
        self.env["MUSTER_CONFIG_DIR"] = str(root / "config")

    # --- processes

    def start(self, name, *arguments):
        with open(self.logs / f"{name}.log", "wb") as log:
            self.processes[name] = subprocess.Popen(
                [BINARY, *map(str, arguments)], cwd=self.root, env=self.env,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )

    def start_member(self, number):
        name = f"c{number}"
        entry = ("--bootstrap",) if number == 1 else self.join(self.addresses[:1])
        self.start(name, "coordinator", "--data-dir", self.root / name, "--listen", self.addresses[number - 1],
                   "--store-url", f"file://{self.root}/store", *entry)

    def start_worker(self, number):
        name = f"w{number}"
        self.start(name, "worker", "--data-dir", self.root / name, "--name", name,
                   "--gpus", "2xH100-80GB", *self.join(self.addresses))

    def join(self, addresses):
        return ("--join", ",".join(addresses), "--join-token-file", self.root / "c1" / "join-token")

    def check_alive(self, killed=()):
        for name, process in self.processes.items():
            if name not in killed and process.poll() is not None:
                raise Failed(f"{name} ended by itself with code {process.returncode}")

    def stop(self):
        """Ends everything: politely, then for good, then whatever a dead agent left (its shim, its tasks)."""
        for name in sorted(self.processes, reverse=True):  # workers before members
            if self.processes[name].poll() is None:
                self.processes[name].terminate()
        deadline = time.monotonic() + 5
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            if process.poll() is None:
                process.kill()
                process.wait()
        for pid in processes_of(self.root):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    # --- verbs

    def muster(self, *arguments):
        """stdout of one call. An error of the command line is the demo's error, with its own words."""
        done = subprocess.run([BINARY, *map(str, arguments)], cwd=self.root, env=self.env, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=JOB_SECONDS)
        if done.returncode == 3:
            raise Unreachable(done.stderr.strip())
        if done.returncode != 0:
            raise Failed(f"muster {' '.join(map(str, arguments))} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def json(self, *arguments):
        return json.loads(self.muster(*arguments, "--output", "json"))

    def wait_for(self, what, question, seconds=START_SECONDS, killed=()):
        """Asks until the answer is something, or the time is over. A moment without coordinator is part of life."""
        deadline, last = time.monotonic() + seconds, "it was never so"
        while time.monotonic() < deadline:
            self.check_alive(killed)
            try:
                answer = question()
                if answer:
                    return answer
            except (Unreachable, Failed) as error:
                last = str(error)
            time.sleep(0.1)
        raise Failed(f"waited {seconds} s for {what}; {last}")

    def members(self, count):
        """The status, once `count` members vote and one of them leads."""
        status = self.json("cluster", "status")
        voters = [member for member in status["members"] if member["role"] in ("leader", "follower")]
        return status if status.get("leader") and len(voters) >= count else None

    def leader(self, status):
        """(name of its process, its member id)"""
        member = next(member for member in status["members"] if member["id"] == status["leader"])
        address = member["address"].removeprefix("http://")
        return f"c{self.addresses.index(address) + 1}", member["id"]


def free_addresses(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses


def processes_of(root):
    """Processes that carry the demo's directory in their command line or environment."""
    mark = os.fsencode(str(root))
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark in (entry / "cmdline").read_bytes() or mark in (entry / "environ").read_bytes():
                    yield int(entry.name)


# --- what the demo reads from `show`

def attempts(shown):
    """[(task, index, attempt)] of everything that was tried."""
    return [(task["name"], attempt.get("index"), attempt) for task in shown["tasks"] for attempt in task["attempts"]]


def progress_line(shown):
    """`prepare ✓  train ████····  5/12, 4 running  evaluate waiting  report waiting`"""
    return "   ".join(task_progress(task) for task in shown["tasks"])


def task_progress(task):
    counts = task["counts"]
    if task["state"] == "succeeded":
        return f"{task['name']} ✓"
    if counts["total"] == 1:
        return f"{task['name']} {task['state']}"
    done, total = counts["succeeded"], counts["total"]
    return f"{task['name']} {'█' * done}{'·' * (total - done)} {done}/{total}, {counts['running']} running"


def in_the_middle(shown):
    """A third of the training is done, and some of it runs at this moment."""
    train = next(task["counts"] for task in shown["tasks"] if task["name"] == "train")
    return train["running"] > 0 and train["succeeded"] >= train["total"] // 3


# --- the play, in order

def play(cluster):
    say(f"demo: {MEMBERS} members and {WORKERS} workers on loopback, data and logs in {cluster.root}")
    for number in range(1, MEMBERS + 1):
        cluster.start_member(number)
        status = cluster.wait_for(f"member {number} to vote", lambda: cluster.members(number))
    name, member = cluster.leader(status)
    say(f"demo: {MEMBERS} members vote, member {member} leads in term {status['term']}")
    for number in range(1, WORKERS + 1):
        cluster.start_worker(number)
    cluster.wait_for("the workers to be ready", lambda: sum(
        worker["state"] == "ready" for worker in cluster.json("workers")["workers"]) == WORKERS)
    say(f"demo: {WORKERS} workers are ready, with 2 simulated GPUs each")

    report = cluster.root / "report.html"
    started = time.monotonic()
    job = cluster.json("submit", JOB_FILE, "--param", f"report_path={report}")["job"]
    say(f"demo: submitted {JOB_FILE.relative_to(REPOSITORY)} as job {job}")

    killed = follow(cluster, job, started)
    try:
        cluster.muster("wait", job)
    except Failed as error:
        raise Failed(f"{error}\n{cluster.muster('logs', job, '--stderr', '--tail', 20)}") from None
    seconds = time.monotonic() - started
    if not killed:
        raise Failed("the job ended before the leader was killed: nothing was shown")

    shown = cluster.json("show", job)
    tried = attempts(shown)
    run = len({(task, index) for task, index, attempt in tried if attempt["state"] == "succeeded"})
    retried = sum(attempt["number"] > 1 for _, _, attempt in tried)
    lost = sum(attempt["state"] == "lost" for _, _, attempt in tried)
    if run != shown["counts"]["total"]:
        raise Failed(f"{run} of {shown['counts']['total']} tasks succeeded")
    if "<svg" not in report.read_text():
        raise Failed(f"{report} is not the report")
    return report, f"tasks {run} run, {retried} retried, {lost} lost, leader killed once, time {seconds:.1f} s"


def follow(cluster, job, started):
    """Shows progress until the job ends; kills the leader when a third of the training is done. → (name,) killed"""
    killed, last, lost_since = (), None, None
    while True:
        cluster.check_alive(killed)
        try:
            shown = cluster.json("show", job)
            lost_since = None
        except (Unreachable, Failed) as error:
            lost_since = lost_since or time.monotonic()
            if time.monotonic() - lost_since > FAILOVER_SECONDS:
                raise Failed(f"no answer for {FAILOVER_SECONDS} s: {error}") from None
            time.sleep(0.1)
            continue
        line = progress_line(shown)
        if line != last:
            say(f"{time.monotonic() - started:7.1f} s  {line}")
            last = line
        if shown["state"] not in ("pending", "running"):
            return killed
        if time.monotonic() - started > JOB_SECONDS:
            raise Failed(f"job {job} still is {shown['state']} after {JOB_SECONDS} s")
        if not killed and in_the_middle(shown):
            killed = kill_leader(cluster, started)
        time.sleep(0.2)


def kill_leader(cluster, started):
    status = cluster.wait_for("a leader", lambda: cluster.members(1))
    name, member = cluster.leader(status)
    process = cluster.processes[name]
    say(f"{time.monotonic() - started:7.1f} s  SIGKILL to the leader: member {member}, pid {process.pid}, in the middle of training")
    process.send_signal(signal.SIGKILL)
    process.wait()
    at = time.monotonic()

    def successor():
        status = cluster.json("cluster", "status")
        return status if status.get("leader") not in (None, member) else None

    status = cluster.wait_for("a new leader", successor, FAILOVER_SECONDS, killed=(name,))
    say(f"{time.monotonic() - started:7.1f} s  member {status['leader']} leads in term {status['term']}, "
        f"{time.monotonic() - at:.1f} s later")
    return (name,)


def main():
    if not os.access(BINARY, os.X_OK):
        print(f"error: {BINARY} is not there\nhint: make build", file=sys.stderr)
        return 1
    parent = os.environ.get("MUSTER_DEMO_DIR")
    if parent:
        os.makedirs(parent, exist_ok=True)
    # Short on purpose: sockets of the workers live below, and their paths end at 108 bytes.
    root = pathlib.Path(tempfile.mkdtemp(prefix="muster-demo-", dir=parent)).resolve()
    cluster = Cluster(root)
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda *_: sys.exit(1))
    try:
        report, line = play(cluster)
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    except Exception as error:  # whatever it is, the logs are what a person needs next
        for log in sorted(cluster.logs.glob("*.log")):
            tail = log.read_text(errors="replace").splitlines()[-25:]
            print(f"--- {log}", *tail, sep="\n", file=sys.stderr)
        text = str(error) if isinstance(error, (Failed, Unreachable)) else f"{type(error).__name__}: {error}"
        print(f"error: the demo failed: {text}\nhint: data and logs are kept in {root}", file=sys.stderr)
        return 1
    finally:
        cluster.stop()
    if os.environ.get("MUSTER_DEMO_KEEP") != "1":
        for entry in root.iterdir():
            if entry != report:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    say(f"demo: the report is {report}")
    say(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
