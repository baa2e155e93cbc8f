//! The promises, one case each, on every backend that the machine has.

use std::io::Write;
use std::process::{Command, Stdio};

use libtest_mimic::{Failed, Trial};
use muster_worker::cgroup::devices::Node;
use muster_worker::cgroup::{Kind, Limits};
use muster_worker::executor::{ExitStatus, LaunchFailure, ShimEvent};
use muster_worker::shim::clock::boot_ms;

use crate::support::{LONG_MS, Shims, alive, exe, kinds, launch, lock_is_free, pid_in, signal, until};

type Case = fn(Kind) -> std::pin::Pin<Box<dyn Future<Output = ()>>>;

macro_rules! cases {
    ($($name:ident),* $(,)?) => { vec![$((stringify!($name), (|kind| Box::pin($name(kind))) as Case)),*] };
}

/// Every case on every backend.
pub fn all() -> Vec<Trial> {
    let cases = cases![
        an_exit_code_and_a_signal_are_told,
        a_program_that_is_missing_is_named,
        logs_are_captured_and_a_silent_task_has_none,
        a_flood_stays_under_the_cap_and_leaves_timers_alone,
        a_stop_is_signal_then_grace_then_term_then_kill,
        a_stopped_agent_does_not_keep_a_task_alive,
        a_stuck_disk_does_not_hold_the_fencer,
        a_killed_agent_kills_no_task,
        a_killed_shim_takes_its_tasks_along,
        leftovers_in_directories_of_before_are_killed,
        an_escaped_process_is_killed_before_the_end_is_told,
        out_of_memory_is_named,
        a_fork_bomb_dies,
        a_renewal_extends_all_but_the_excepted,
        a_hundred_at_once_end_once_each,
        the_environment_is_exact,
        a_denied_device_cannot_be_opened,
        an_attempt_begins_on_its_cpus,
    ];
    let kinds = kinds();
    let _ = writeln!(
        std::io::stderr(),
        "cgroup backends here: {kinds:?}; {}",
        muster_worker::cgroup::probe().reason
    );
    let of = |kind: Kind| {
        move |(name, case): (&'static str, Case)| {
            Trial::test(format!("{kind}::{name}"), move || -> Result<(), Failed> {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(case(kind));
                Ok(())
            })
        }
    };
    kinds.into_iter().flat_map(|kind| cases.clone().into_iter().map(of(kind))).collect()
}

fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

async fn an_exit_code_and_a_signal_are_told(kind: Kind) {
    let mut shims = Shims::start(kind).await;
    let dir = shims.dir.path().to_owned();
    for (token, script, status) in [
        (1, "exit 0", ExitStatus::Code(0)),
        (2, "exit 7", ExitStatus::Code(7)),
        (3, "kill -11 $$", ExitStatus::Signal(11)),
    ] {
        let exit = shims.run(launch(&dir, token, &["/bin/sh", "-c", script])).await;
        assert_eq!(
            (exit.status, exit.oom, exit.fenced, exit.stopped),
            (status, false, false, false),
            "{script}"
        );
        assert!(exit.max_rss_bytes > 0 && exit.ended_boot_ms >= exit.started_boot_ms);
    }
    // An answered token is answered again and not run twice, until it is released.
    let again = shims.run(launch(&dir, 2, &["/bin/sh", "-c", "exit 8"])).await;
    assert_eq!(again.status, ExitStatus::Code(7));
    // A release may be lost with its agent; the next one gives it again.
    shims.client.release(vec![1, 2, 3]);
    loop {
        shims = shims.again().await;
        assert_eq!(shims.held.running, []);
        if shims.held.exited.is_empty() {
            break;
        }
        shims.client.release(shims.held.exited.iter().map(|e| e.token).collect());
    }
}

async fn a_program_that_is_missing_is_named(kind: Kind) {
    let mut shims = Shims::start(kind).await;
    let dir = shims.dir.path().to_owned();
    std::fs::write(dir.join("plain"), "x").unwrap();
    std::fs::write(dir.join("orphan"), "#!/no/such/interpreter\n").unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir.join("orphan"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let long = "x".repeat(3 << 20);
    let named = |program: &str| program.to_owned();
    for (token, argv, failure) in [
        (1, vec!["no-such-program"], LaunchFailure::NotFound { program: named("no-such-program") }),
        (2, vec!["./plain"], LaunchFailure::NotExecutable { program: named("./plain") }),
        (3, vec!["./orphan"], LaunchFailure::NoInterpreter { program: named("./orphan") }),
        (4, vec![], LaunchFailure::Empty),
        (5, vec!["a\0b"], LaunchFailure::ZeroByte { what: "an argument".into() }),
    ] {
        shims.client.launch(vec![launch(&dir, token, &argv)]);
        assert_eq!(shims.event().await, ShimEvent::LaunchFailed { token, reason: failure });
    }
    shims.client.launch(vec![launch(&dir, 6, &["/bin/true", &long])]);
    assert!(matches!(
        shims.event().await,
        ShimEvent::LaunchFailed { reason: LaunchFailure::TooLong { .. }, .. }
    ));
    let mut nowhere = launch(&dir, 7, &["/bin/true"]);
    nowhere.cwd = "/no/such/dir".into();
    shims.client.launch(vec![nowhere]);
    assert!(matches!(
        shims.event().await,
        ShimEvent::LaunchFailed { reason: LaunchFailure::Directory { .. }, .. }
    ));
    let mut late = launch(&dir, 8, &["/bin/true"]);
    late.deadline_boot_ms = boot_ms();
    shims.client.launch(vec![late]);
    assert_eq!(
        shims.event().await,
        ShimEvent::LaunchFailed { token: 8, reason: LaunchFailure::DeadlinePassed }
    );
    assert_eq!(LaunchFailure::NotFound { program: named("x") }.to_string(), "program \"x\" not found");
}

async fn logs_are_captured_and_a_silent_task_has_none(kind: Kind) {
    let mut shims = Shims::start(kind).await;
    let dir = shims.dir.path().to_owned();
    shims.run(launch(&dir, 1, &["/bin/sh", "-c", "echo out; echo err >&2"])).await;
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).ok();
    assert_eq!(
        (read("1.stdout.log").as_deref(), read("1.stderr.log").as_deref()),
        (Some("out\n"), Some("err\n"))
    );
    shims.run(launch(&dir, 2, &["true"])).await;
    assert_eq!((read("2.stdout.log"), read("2.stderr.log")), (None, None));
}

async fn a_flood_stays_under_the_cap_and_leaves_timers_alone(kind: Kind) {
    let mut shims = Shims::start(kind).await;
    let dir = shims.dir.path().to_owned();
    let mut flood = launch(&dir, 1, &["/bin/sh", "-c", "trap '' TERM; yes floodfloodflood"]);
    flood.deadline_boot_ms = boot_ms() + 3_000;
    let deadline = flood.deadline_boot_ms;
    let cap = flood.log_cap;
    let exit = shims.run(flood).await;
    assert!(
        exit.fenced && exit.ended_boot_ms <= deadline,
        "killed {} ms late",
        exit.ended_boot_ms as i64 - deadline as i64
    );
    let size: u64 = std::fs::read_dir(&dir)
        .unwrap()
        .flatten()
        .filter(|e| e.file_name().to_str().unwrap().starts_with("1.stdout.log"))
        .map(|e| e.metadata().unwrap().len())
        .sum();
    assert!(size > cap / 2 && size <= cap + 200, "{size} bytes under a cap of {cap}");
    let head = std::fs::read(dir.join("1.stdout.log")).unwrap();
    assert!(head.ends_with(muster_worker::shim::logs::CUT_MARK.as_bytes()));
}

async fn a_stop_is_signal_then_grace_then_term_then_kill(kind: Kind) {
    let mut shims = Shims::start(kind).await;
    let script = "trap 'echo usr1 >>got' USR1; trap 'echo term >>got' TERM; echo $$ >pid; while :; do sleep 0.05; done";
    shims.launch(1, &["/bin/sh", "-c", script]);
    pid_in(&shims.path("pid")).await;
    shims.client.stop(1, libc::SIGUSR1, 200);
    let exit = shims.exit(1).await;
    assert_eq!((exit.status, exit.stopped, exit.fenced), (ExitStatus::Signal(9), true, false));
    assert_eq!(std::fs::read_to_string(shims.path("got")).unwrap(), "usr1\nterm\n");

    shims.launch(2, &["/bin/sh", "-c", "trap 'exit 3' USR1; echo $$ >pid2; while :; do sleep 0.05; done"]);
    pid_in(&shims.path("pid2")).await;
    shims.client.stop(2, libc::SIGUSR1, LONG_MS);
    assert_eq!(shims.exit(2).await.status, ExitStatus::Code(3));

    shims.launch(3, &["sleep", "1000"]);
    shims.client.kill(3);
    let exit = shims.exit(3).await;
    assert_eq!((exit.status, exit.stopped), (ExitStatus::Signal(9), true));
}

/// The agent as a process of its own, with one attempt that holds a lock and ignores SIGTERM.
async fn agent(kind: Kind, dir: &std::path::Path, lease_ms: u64) -> (std::process::Child, i32) {
    let (lock, mark) = (dir.join("lock"), dir.join("mark"));
    let name = match kind {
        Kind::V2 => "v2",
        Kind::V1 => "v1",
        Kind::None => "none",
    };
    let child = Command::new(exe())
        .arg("client")
        .arg(dir)
        .args([name, "5", &lease_ms.to_string()])
        .args([exe().as_os_str(), "hold".as_ref(), lock.as_os_str(), mark.as_os_str()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let task = pid_in(mark.to_str().unwrap()).await;
    assert!(!lock_is_free(lock.to_str().unwrap()));
    (child, task)
}

async fn a_stopped_agent_does_not_keep_a_task_alive(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let begun = boot_ms();
    let lease = 2_500;
    let (mut child, task) = agent(kind, dir.path(), lease).await;
    signal(child.id() as i32, libc::SIGSTOP);
    until("the task to end", || (!alive(task)).then_some(())).await;
    assert!(lock_is_free(dir.path().join("lock").to_str().unwrap()));
    assert!(boot_ms() >= begun, "the clock runs forward");
    signal(child.id() as i32, libc::SIGKILL);
    child.wait().unwrap();
    // A new agent hears that it was the lease, and that the end came before the deadline.
    let shims = Shims::at(dir, kind).await;
    let exit = &shims.held.exited[0];
    assert!(exit.fenced && exit.status == ExitStatus::Signal(9), "{exit:?}");
    assert!(
        exit.ended_boot_ms - exit.started_boot_ms <= lease,
        "{} ms",
        exit.ended_boot_ms - exit.started_boot_ms
    );
    shims.client.release(vec![5]);
}

async fn a_stuck_disk_does_not_hold_the_fencer(kind: Kind) {
    let mut shims = Shims::start(kind).await;
    let dir = shims.dir.path().to_owned();
    // A log on which the shim's loop blocks: opening a pipe that nobody reads.
    let (fifo, mark, lock) = (shims.path("fifo"), shims.path("mark"), shims.path("lock"));
    nix::unistd::mkfifo(fifo.as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = format!("echo stuck; exec {} hold {lock} {mark}", exe().display());
    let mut one = launch(&dir, 1, &["/bin/sh", "-c", &script]);
    one.stdout = fifo.clone();
    one.deadline_boot_ms = boot_ms() + 2_500;
    let deadline = one.deadline_boot_ms;
    shims.client.launch(vec![one]);
    let task = pid_in(&mark).await;
    until("the task to end", || (!alive(task)).then_some(())).await;
    assert!(boot_ms() <= deadline && lock_is_free(&lock));
    // With a reader the loop goes on, and tells.
    let _reader = std::fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    let exit = shims.exit(1).await;
    assert_eq!((exit.fenced, exit.status), (true, ExitStatus::Signal(9)));
}

async fn a_killed_agent_kills_no_task(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, task) = agent(kind, dir.path(), LONG_MS).await;
    signal(child.id() as i32, libc::SIGKILL);
    child.wait().unwrap();
    let mut shims = Shims::at(dir, kind).await;
    let running: Vec<_> = shims.held.running.iter().map(|r| (r.token, r.pid as i32)).collect();
    assert_eq!(running, [(5, task)]);
    assert!(alive(task));
    signal(task, libc::SIGKILL);
    assert_eq!(shims.exit(5).await.status, ExitStatus::Signal(9));
}

async fn a_killed_shim_takes_its_tasks_along(kind: Kind) {
    let mut shims = Shims::start(kind).await;
    let (lock, mark, child_mark) = (shims.path("lock"), shims.path("mark"), shims.path("child"));
    let me = exe();
    let me = me.to_str().unwrap();
    // The first process holds nothing; what it leaves in the background does.
    let script = format!("{me} hold {lock} {mark} & echo $$ >{child_mark}; wait");
    shims.launch(1, &["/bin/sh", "-c", &script]);
    let (background, first) = (pid_in(&mark).await, pid_in(&child_mark).await);
    let shim = match kind {
        Kind::None => {
            let dir = shims.dir.path().join("shims/1");
            let stream = muster_worker::shim::socket::connect(&dir).unwrap();
            rustix::net::sockopt::socket_peercred(&stream).unwrap().pid.as_raw_nonzero().get()
        }
        _ => shims.shim_pid(),
    };
    signal(shim, libc::SIGKILL);
    loop {
        match shims.event().await {
            ShimEvent::Vanished { token: 1 } => break,
            ShimEvent::Started { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    until("both to be gone", || (!alive(first) && !alive(background)).then_some(())).await;
    assert!(lock_is_free(&lock));
    // And the next shim works.
    let dir = shims.dir.path().to_owned();
    assert_eq!(shims.run(launch(&dir, 2, &["/bin/sh", "-c", "exit 4"])).await.status, ExitStatus::Code(4));
}

async fn leftovers_in_directories_of_before_are_killed(kind: Kind) {
    let parent = match kind {
        Kind::V1 => muster_worker::cgroup::probe::v1_parents().unwrap().freezer,
        Kind::V2 => muster_worker::cgroup::probe::v2_parent().unwrap(),
        Kind::None => return skip("there are no directories without cgroups"),
    };
    // As if the worker had been started from another cgroup before.
    let base = parent.join(format!("muster-before-{}", std::process::id()));
    let group = base.join("g3");
    std::fs::create_dir_all(&group).unwrap();
    let mut left = Command::new("sleep").arg("1000").spawn().unwrap();
    std::fs::write(group.join("cgroup.procs"), left.id().to_string()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("cgroups"), format!("{}\t{}\n", kind.name(), base.display())).unwrap();

    let mut shims = Shims::at(dir, kind).await;
    assert!(!alive(left.id() as i32) && !group.exists());
    left.wait().unwrap();
    assert!(!base.exists(), "an empty one goes");
    let dir = shims.dir.path().to_owned();
    assert_eq!(shims.run(launch(&dir, 1, &["true"])).await.status, ExitStatus::Code(0));
}

async fn an_escaped_process_is_killed_before_the_end_is_told(kind: Kind) {
    let mut shims = Shims::start(kind).await;
    let (lock, mark) = (shims.path("lock"), shims.path("mark"));
    let dir = shims.dir.path().to_owned();
    let exit = shims.run(launch(&dir, 1, &[exe().to_str().unwrap(), "escape", &lock, &mark])).await;
    assert_eq!(exit.status, ExitStatus::Code(7));
    let escaped: i32 = std::fs::read_to_string(&mark).unwrap().parse().unwrap();
    assert!(!alive(escaped) && lock_is_free(&lock));
}

async fn out_of_memory_is_named(kind: Kind) {
    if kind != Kind::V1 && kind != muster_worker::cgroup::probe().kind || kind == Kind::None {
        return skip("this backend has no memory controller here");
    }
    let mut shims = Shims::start(kind).await;
    let dir = shims.dir.path().to_owned();
    let mut hog = launch(&dir, 1, &[exe().to_str().unwrap(), "hog"]);
    hog.limits = Limits { memory_bytes: 32 << 20, pids: 64, cpu_millis: 1000, ..Limits::default() };
    let limits = hog.limits.clone();
    let exit = shims.run(hog).await;
    assert_eq!((exit.status, exit.oom), (ExitStatus::Signal(9), true));
    // The same group again, for a task that is killed for another reason.
    let mut plain = launch(&dir, 2, &["/bin/sh", "-c", "kill -9 $$"]);
    plain.limits = limits;
    let exit = shims.run(plain).await;
    assert_eq!((exit.status, exit.oom), (ExitStatus::Signal(9), false));
}

async fn a_fork_bomb_dies(kind: Kind) {
    let mut shims = Shims::start(kind).await;
    let dir = shims.dir.path().to_owned();
    // Bounded by itself where no controller does it.
    let bomb = "echo $$ >begun; i=0; while [ $i -lt 200 ]; do (while :; do sleep 0.01 & wait; done) & i=$((i+1)); done; wait";
    let mut one = launch(&dir, 1, &["/bin/sh", "-c", bomb]);
    one.limits = Limits { pids: 150, ..Limits::default() };
    shims.client.launch(vec![one]);
    pid_in(&shims.path("begun")).await;
    shims.client.kill(1);
    shims.exit(1).await;
    let needle = format!("MUSTER_SCRATCH_DIR={}", dir.join("attempts/1/scratch").display());
    assert_eq!(muster_worker::cgroup::none::kill_by_environment(&[needle]), 0, "nothing is left");
}

async fn a_renewal_extends_all_but_the_excepted(kind: Kind) {
    let mut shims = Shims::start(kind).await;
    let dir = shims.dir.path().to_owned();
    let lease = |token| {
        let mut one = launch(&dir, token, &["sleep", "1000"]);
        one.deadline_boot_ms = boot_ms() + 2_500;
        one
    };
    shims.client.launch(vec![lease(1), lease(2)]);
    for _ in 0..2 {
        assert!(matches!(shims.event().await, ShimEvent::Started { .. }));
    }
    shims.client.renew(boot_ms() + LONG_MS, vec![2]);
    let exit = shims.exit(2).await;
    assert_eq!((exit.fenced, exit.status), (true, ExitStatus::Signal(15)));
    let mut shims = shims.again().await;
    assert_eq!(shims.held.running.iter().map(|r| r.token).collect::<Vec<_>>(), [1]);
    shims.client.kill(1);
    shims.exit(1).await;
}

async fn a_hundred_at_once_end_once_each(kind: Kind) {
    let mut shims = Shims::start(kind).await;
    let dir = shims.dir.path().to_owned();
    let many = if kind == Kind::None { 20 } else { 100 };
    shims.client.launch(
        (1..=many).map(|t| launch(&dir, t, &["/bin/sh", "-c", &format!("exit {}", t % 50)])).collect(),
    );
    let mut ended = std::collections::BTreeMap::new();
    while ended.len() < many as usize {
        match shims.event().await {
            ShimEvent::Exited(exit) => assert_eq!(ended.insert(exit.token, exit.status), None),
            ShimEvent::Started { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(ended.iter().all(|(t, s)| *s == ExitStatus::Code((t % 50) as i32)));
}

async fn the_environment_is_exact(kind: Kind) {
    let mut shims = Shims::start(kind).await;
    let dir = shims.dir.path().to_owned();
    let one = launch(&dir, 1, &["/usr/bin/env", "-0"]);
    let mut expected: Vec<String> = one.env.iter().map(|(n, v)| format!("{n}={v}")).collect();
    shims.run(one).await;
    let text = std::fs::read_to_string(dir.join("1.stdout.log")).unwrap();
    let mut seen: Vec<String> = text.split_terminator('\0').map(str::to_owned).collect();
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
    // No descriptor but the three, and each signal at its default.
    shims
        .run(launch(
            &dir,
            2,
            &["/bin/sh", "-c", "ls /proc/$$/fd; exec grep -E '^Sig(Blk|Ign)' /proc/self/status"],
        ))
        .await;
    let text = std::fs::read_to_string(dir.join("2.stdout.log")).unwrap();
    assert_eq!(text, "0\n1\n2\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

/// Nodes with the numbers of GPUs stand for GPUs: without a driver the kernel says that there is no such device, and where the group
/// denies it, that it is not permitted. Both answers come before any driver is asked.
async fn a_denied_device_cannot_be_opened(kind: Kind) {
    let mut shims = Shims::start(kind).await;
    let dir = shims.dir.path().to_owned();
    if let Some(why) = &shims.client.backend().devices_open {
        return skip(why);
    }
    let nodes: Vec<String> = (0..2u32).map(|minor| node(&dir, minor)).collect();
    let script = r#"for node in "$@"; do (exec 3<"$node") 2>&1 | grep -o 'No such device\|not permitted' || echo open; done"#;
    let mut opened = std::collections::BTreeMap::new();
    for (token, denied) in [(1, vec![0, 1]), (2, vec![1]), (3, vec![]), (4, vec![0])] {
        let mut one = launch(&dir, token, &["/bin/sh", "-c", script, "sh", &nodes[0], &nodes[1]]);
        let denied = denied.into_iter().map(|minor| Node { major: 195, minor });
        one.limits = Limits { denied: denied.collect(), pids: 64, ..Limits::default() };
        assert_eq!(shims.run(one).await.status, ExitStatus::Code(0));
        let said = std::fs::read_to_string(dir.join(format!("{token}.stdout.log"))).unwrap_or_default();
        opened.insert(token, said.lines().map(|line| line != "not permitted").collect::<Vec<_>>());
    }
    let expected =
        [(1, vec![false, false]), (2, vec![true, false]), (3, vec![true, true]), (4, vec![false, true])];
    assert_eq!(opened, expected.into());
}

/// A character device of NVIDIA's major number.
fn node(dir: &std::path::Path, minor: u32) -> String {
    let path = dir.join(format!("nvidia{minor}"));
    let kind = nix::sys::stat::SFlag::S_IFCHR;
    let number = nix::sys::stat::makedev(195, u64::from(minor));
    nix::sys::stat::mknod(&path, kind, nix::sys::stat::Mode::from_bits_truncate(0o666), number).unwrap();
    path.to_str().unwrap().to_owned()
}

async fn an_attempt_begins_on_its_cpus(kind: Kind) {
    let mut shims = Shims::start(kind).await;
    let dir = shims.dir.path().to_owned();
    let mut one = launch(&dir, 1, &["/bin/sh", "-c", "grep Cpus_allowed_list /proc/self/status"]);
    one.limits = Limits { cpus: vec![0], ..Limits::default() };
    shims.run(one).await;
    let said = std::fs::read_to_string(dir.join("1.stdout.log")).unwrap();
    assert_eq!(said.split_whitespace().last(), Some("0"));
}
