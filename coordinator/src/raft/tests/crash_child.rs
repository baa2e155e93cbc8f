//! A member in a process of its own, for tests that kill it: this test binary, started again. It talks in lines.
//!
//! It prints `ack LIFE N` once a write is acknowledged, `refused TEXT` when its directory is not used, `stopped TEXT` when it ends by
//! itself; and answers `state` with `state APPLIED DIGEST ROLE BEGINS LAST WRITE…`.
//! `write` makes it propose one more write. The end of its input ends it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

use super::ledger::{Ledger, Writes};
use crate::raft::node::{Config, Node, Role, StartError};
use crate::raft::record;
use crate::storage::{Disk, Table};

const VARIABLE: &str = "MUSTER_CRASH_CHILD";
/// Callers that write at the same time.
const CALLERS: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(60);

/// What a child is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Orders {
    pub dir: PathBuf,
    pub member: u64,
    /// Of all members, by id from 1.
    pub addresses: Vec<SocketAddr>,
    pub bootstrap: bool,
    /// Names its writes.
    pub life: u64,
    /// How many it makes while it leads.
    pub writes: u64,
}

/// The member itself. Without orders it is not a test.
#[test]
#[ignore = "started by the crash tests"]
fn child() {
    let Ok(orders) = std::env::var(VARIABLE) else { return };
    let orders: Orders = serde_json::from_str(&orders).expect("orders");
    muster_failpoint::arm_from_environment().expect("failpoints");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("runtime").block_on(live(orders));
    std::process::exit(0);
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("the parent listens");
}

fn end(line: String) -> ! {
    say(&line);
    std::process::exit(4);
}

async fn live(orders: Orders) {
    let mut config = Config::new(&orders.dir, "crash", orders.member, "secret");
    (config.snapshot_entries, config.keep_entries) = (40, 5);
    (config.heartbeat, config.election) =
        (Duration::from_millis(50), (Duration::from_millis(300), Duration::from_millis(400)));
    let machine = Arc::new(RwLock::new(Ledger::default()));
    let node = match Node::start(config, machine.clone()).await {
        Ok(node) => node,
        Err(StartError::Storage(error)) => end(format!("refused {error} hint: {}", error.hint())),
        Err(error) => end(format!("stopped {error}")),
    };
    let address = orders.addresses[orders.member as usize - 1];
    let listener = TcpListener::bind(address).await.expect("bind");
    let service = node.service();
    tokio::spawn(async move {
        let mut server = muster_proto::channel::listen(address, None).expect("listen");
        server
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .expect("serve");
    });
    if orders.bootstrap {
        let members = orders.addresses.iter().enumerate().map(|(at, to)| (at as u64 + 1, to.to_string()));
        let _ = node.bootstrap(members).await;
    }
    say("ready");
    let mut status = node.status();
    let watch = tokio::spawn(async move {
        let _ = status.wait_for(|status| status.role == Role::Stopped).await;
        end("stopped raft ended".to_owned());
    });
    for caller in 0..CALLERS {
        tokio::spawn(write(node.clone(), orders.clone(), caller));
    }
    let (asked, runtime) = (node.clone(), tokio::runtime::Handle::current());
    let answers = tokio::task::spawn_blocking(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            match line.as_str() {
                "state" => say(&state(&asked)),
                "write" => {
                    let (node, life) = (asked.clone(), orders.life);
                    // Nobody waits for it, and nobody was told of it.
                    runtime.spawn(async move { node.propose(&Writes(vec![(life, u64::MAX)])).await.is_ok() });
                }
                other => panic!("{other:?} is no order"),
            }
        }
    });
    answers.await.expect("no panic");
    watch.abort();
    node.shutdown().await;
    // As the program does: without the destructors of C++, while a task may still hold the databases open.
    std::io::stdout().flush().expect("the parent listens");
    // SAFETY: it ends the process; nothing of it runs afterwards.
    unsafe { libc::_exit(0) }
}

async fn write(node: Node<Ledger>, orders: Orders, caller: u64) {
    for n in (0..orders.writes).filter(|n| n % CALLERS == caller) {
        // Another leads, or nobody yet: the same write again, as it may have been committed.
        while node.propose(&Writes(vec![(orders.life, n)])).await.is_err() {
            let _ = node.status().wait_for(|status| status.role == Role::Leader).await;
        }
        say(&format!("ack {} {n}", orders.life));
    }
}

fn state(node: &Node<Ledger>) -> String {
    let machine = node.machine().read();
    let digest: String = machine.digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let (role, (_, begins)) = (node.status().borrow().role, node.log_bounds());
    let last = node.disks()[1].last(Table::Data).expect("read").and_then(|(key, _)| record::index_of(&key));
    let mut line =
        format!("state {} {digest} {role:?} {begins} {}", machine.stored, last.unwrap_or_default());
    for (life, n) in machine.writes.keys() {
        line += &format!(" {life}:{n}");
    }
    line
}

/// What `state` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub applied: u64,
    pub digest: String,
    pub leads: bool,
    /// The first entry still in the log.
    pub begins: u64,
    /// The last entry in the log, committed or not.
    pub last: u64,
    pub writes: BTreeSet<(u64, u64)>,
}

#[derive(Default)]
struct Heard {
    lines: Vec<String>,
    ended: bool,
}

/// A running child, as its parent sees it.
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    heard: Arc<(Mutex<Heard>, Condvar)>,
}

impl Process {
    /// Starts one, with `failpoints` armed.
    pub fn start(orders: &Orders, failpoints: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command
            .args(["--ignored", "--exact", "--nocapture", "raft::tests::crash_child::child"])
            .env(VARIABLE, serde_json::to_string(orders).expect("orders"))
            .env(muster_failpoint::VARIABLE, failpoints)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        // SAFETY: one system call between fork and exec: the child does not outlive a test that was ended.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child = command.spawn().expect("start");
        let output = child.stdout.take().expect("piped");
        let heard = Arc::new((Mutex::new(Heard::default()), Condvar::new()));
        let tell = heard.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                tell.0.lock().lines.push(line);
                tell.1.notify_all();
            }
            tell.0.lock().ended = true;
            tell.1.notify_all();
        });
        let input = child.stdin.take();
        Self { child, input, heard }
    }

    /// Every write that it said was acknowledged.
    pub fn acknowledged(&self) -> BTreeSet<(u64, u64)> {
        let heard = self.heard.0.lock();
        heard.lines.iter().filter_map(|line| pair(line.strip_prefix("ack ")?, ' ')).collect()
    }

    /// Waits for a line that `find` takes, from now on or said before; none when the process ended without it.
    pub fn wait<T>(&self, from: usize, mut find: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = self.heard.0.lock();
        let mut at = from;
        loop {
            while at < heard.lines.len() {
                if let Some(found) = find(&heard.lines[at]) {
                    return Some(found);
                }
                at += 1;
            }
            if heard.ended {
                return None;
            }
            let late = self.heard.1.wait_until(&mut heard, deadline).timed_out();
            assert!(!late, "nothing more after {:?}", heard.lines.iter().rev().take(5).collect::<Vec<_>>());
        }
    }

    /// Waits until it has acknowledged `count` writes; false when it ended before.
    pub fn acknowledges(&self, count: usize) -> bool {
        let mut seen = 0;
        let reached = self.wait(0, |line| {
            seen += usize::from(line.starts_with("ack "));
            (seen >= count).then_some(())
        });
        reached.is_some()
    }

    /// What it holds; none when it has ended.
    pub fn state(&mut self) -> Option<Seen> {
        let from = self.heard.0.lock().lines.len();
        writeln!(self.input.as_mut()?, "state").ok()?;
        self.wait(from, |line| {
            let mut words = line.strip_prefix("state ")?.split(' ');
            Some(Seen {
                applied: words.next()?.parse().ok()?,
                digest: words.next()?.to_owned(),
                leads: words.next()? == "Leader",
                begins: words.next()?.parse().ok()?,
                last: words.next()?.parse().ok()?,
                writes: words.filter_map(|word| pair(word, ':')).collect(),
            })
        })
    }

    /// Has it propose a write.
    pub fn write(&mut self) {
        let _ = self.input.as_mut().map(|input| writeln!(input, "write"));
    }

    /// Asks for its state until `enough` says so. None when it ends before.
    pub fn until(&mut self, what: &str, mut enough: impl FnMut(&Seen) -> bool) -> Option<Seen> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.state()?;
            if enough(&seen) {
                return Some(seen);
            }
            assert!(
                Instant::now() < deadline,
                "waited for {what}; it has {} of {}",
                seen.writes.len(),
                seen.applied
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end by itself. Returns its exit code (none: a signal) and what it said last.
    pub fn ended(mut self) -> (Option<i32>, String, BTreeSet<(u64, u64)>) {
        let _ = self.wait(usize::MAX, |_| None::<()>);
        let status = self.child.wait().expect("reap");
        let acknowledged = self.acknowledged();
        let heard = self.heard.0.lock();
        let last = |line: &&String| line.starts_with("refused ") || line.starts_with("stopped ");
        let said = heard.lines.iter().rev().find(last).cloned();
        (status.code(), said.unwrap_or_else(|| status.to_string()), acknowledged)
    }

    /// Asks it to end.
    pub fn stop(mut self) -> BTreeSet<(u64, u64)> {
        drop(self.input.take());
        let (code, said, acknowledged) = self.ended();
        assert_eq!(code, Some(0), "{said}");
        acknowledged
    }

    /// SIGKILL.
    pub fn kill(mut self) -> BTreeSet<(u64, u64)> {
        self.child.kill().expect("kill");
        self.ended().2
    }
}

fn pair(text: &str, between: char) -> Option<(u64, u64)> {
    let (life, n) = text.split_once(between)?;
    Some((life.parse().ok()?, n.parse().ok()?))
}

/// A free port of loopback, below those that the kernel hands out for outgoing connections: one of these could take it meanwhile.
pub fn free() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Tests are processes with neighbouring ids, and each takes dozens of ports.
    let start = (std::process::id().wrapping_mul(7_919) % 12_000) as u16;
    loop {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if let Ok(listener) = std::net::TcpListener::bind(("127.0.0.1", port)) {
            return listener.local_addr().expect("an address");
        }
    }
}

/// Copies a directory tree.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("make");
    for entry in std::fs::read_dir(from).expect("list") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copy");
        }
    }
}
