//! What the shim adds to a task, beside a bare loop in the same run. A measurement, not a check: `cargo test --test shim -- --ignored
//! cost --nocapture`.

use std::io::Write;
use std::time::Instant;

use libtest_mimic::Trial;
use muster_worker::cgroup::{Kind, Limits};
use muster_worker::executor::ShimEvent;

use crate::support::{Shims, kinds, launch};

const TASKS: u64 = 10_000;
const WINDOW: u64 = 8;

pub fn trial() -> Trial {
    Trial::test("cost", || {
        bare();
        let limits = Limits { cpu_millis: 1000, memory_bytes: 1 << 30, pids: 1000, ..Limits::default() };
        for kind in kinds().into_iter().filter(|k| *k != Kind::None) {
            resident(kind, Limits::default(), "no limits");
            resident(kind, limits.clone(), "cpu, memory, pids");
        }
        Ok(())
    })
    .with_ignored_flag(true)
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Two threads of posix_spawn and wait.
fn bare() {
    let (wall, cpu) = (Instant::now(), cpu_ms(libc::RUSAGE_CHILDREN) + cpu_ms(libc::RUSAGE_SELF));
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                (0..TASKS / 2).for_each(|_| {
                    assert!(std::process::Command::new("/bin/true").status().unwrap().success())
                })
            });
        }
    });
    let cpu = cpu_ms(libc::RUSAGE_CHILDREN) + cpu_ms(libc::RUSAGE_SELF) - cpu;
    let each = |x: f64| x / TASKS as f64;
    say(&format!(
        "bare spawn and wait: {:.0}/s, {:.3} ms CPU a task",
        1.0 / each(wall.elapsed().as_secs_f64()),
        each(cpu)
    ));
}

/// One shim; the client keeps a few attempts in flight and releases what ended.
fn resident(kind: Kind, limits: Limits, what: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut shims = Shims::start(kind).await;
        let dir = shims.dir.path().to_owned();
        let mut next = 0;
        let mut task = || {
            next += 1;
            let mut one = launch(&dir, next, &["/bin/true"]);
            one.limits = limits.clone();
            one
        };
        let shim = shims.shim_pid();
        let (wall, client) = (Instant::now(), cpu_ms(libc::RUSAGE_SELF));
        let (own, tree) = process_cpu_ms(shim);
        shims.client.launch((0..WINDOW).map(|_| task()).collect());
        let (mut ended, mut asked) = (0, WINDOW);
        while ended < TASKS {
            if let ShimEvent::Exited(exit) = shims.event().await {
                ended += 1;
                shims.client.release(vec![exit.token]);
                if asked < TASKS {
                    asked += 1;
                    shims.client.launch(vec![task()]);
                }
            }
        }
        let each = |x: f64| x / TASKS as f64;
        let (own_now, tree_now) = process_cpu_ms(shim);
        say(&format!(
            "{kind}, {what}: {:.0}/s, {:.3} ms CPU a task (shim itself {:.3}, children {:.3}, client {:.3})",
            1.0 / each(wall.elapsed().as_secs_f64()),
            each(own_now - own + tree_now - tree + cpu_ms(libc::RUSAGE_SELF) - client),
            each(own_now - own),
            each(tree_now - tree),
            each(cpu_ms(libc::RUSAGE_SELF) - client),
        ));
    });
}

fn cpu_ms(who: libc::c_int) -> f64 {
    // SAFETY: an all-zero rusage is valid, and the pointer too.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(who, &mut usage);
        usage
    };
    let ms = |t: libc::timeval| t.tv_sec as f64 * 1e3 + t.tv_usec as f64 / 1e3;
    ms(usage.ru_utime) + ms(usage.ru_stime)
}

/// Processor time of a process, and of the children it waited for, in steps of 10 ms.
fn process_cpu_ms(pid: i32) -> (f64, f64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .skip(11)
        .take(4)
        .map(|f| f.parse().unwrap())
        .collect();
    ((fields[0] + fields[1]) * 10.0, (fields[2] + fields[3]) * 10.0)
}
