//! Full disks, failing fsync, damaged files: of real processes on real file systems. What needs root or a loop device says so and skips.

use crate::scaled;
use muster_tests::cluster::free_port;
use muster_tests::{Cli, Cluster, until};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(90);

/// A file system of its own, gone with the test.
struct Mount(PathBuf);

impl Mount {
    /// A tmpfs of `mib` MiB; none where the test may not mount.
    fn tmpfs(at: &Path, mib: u32) -> Option<Self> {
        std::fs::create_dir_all(at).expect("make");
        let size = format!("size={mib}m");
        mounted(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "muster-test"]).arg(at), at)
    }

    /// An ext4 in a file, on a loop device.
    fn ext4(file: &Path, at: &Path, mib: u64) -> Option<Self> {
        std::fs::create_dir_all(at).expect("make");
        std::fs::File::create(file).and_then(|file| file.set_len(mib << 20)).expect("a file");
        let made = Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(file).output();
        if !made.is_ok_and(|made| made.status.success()) {
            eprintln!("skipped: there is no mkfs.ext4 here (e2fsprogs)");
            return None;
        }
        mounted(Command::new("mount").args(["-o", "loop"]).arg(file).arg(at), at)
    }
}

fn mounted(mount: &mut Command, at: &Path) -> Option<Mount> {
    match mount.output() {
        Ok(done) if done.status.success() => Some(Mount(at.to_owned())),
        Ok(done) => {
            eprintln!("skipped: cannot mount (not root?): {}", String::from_utf8_lossy(&done.stderr).trim());
            None
        }
        Err(error) => {
            eprintln!("skipped: there is no mount(8) here: {error}");
            None
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Uses up the disk but for `left` bytes.
fn fill(dir: &Path, left: u64) -> PathBuf {
    let path = dir.join("filler");
    let mut file = std::fs::File::create(&path).expect("a file");
    let mut written = 0;
    for block in [1 << 20, 1 << 12, 1] {
        while file.write_all(&vec![7; block]).is_ok() {
            written += block as u64;
        }
    }
    // What a failed write left in part counts too.
    let length = file.metadata().expect("metadata").len().max(written);
    file.set_len(length.saturating_sub(left)).expect("shorter");
    path
}

struct Member {
    cli: Cli,
    args: Vec<String>,
    log: PathBuf,
    process: Child,
}

impl Member {
    /// A cluster of one member whose data directory is `data`.
    fn start(dir: &Path, data: &Path, env: &[(&str, &str)]) -> Self {
        let cli = Cli { config_dir: dir.join("config") };
        let listen = format!("127.0.0.1:{}", free_port());
        let store = format!("file://{}", dir.join("store").display());
        let data = data.display().to_string();
        let args = [
            "coordinator",
            "--data-dir",
            &data,
            "--listen",
            &listen,
            "--bootstrap",
            "--store-url",
            &store,
            "--ballast",
            "8MiB",
        ];
        let args: Vec<String> = args.map(str::to_owned).to_vec();
        let log = dir.join("member.log");
        let process = cli.daemon_with(&args, &log, env);
        Self { cli, args, log, process }
    }

    fn ready(&self) {
        until("the member", SOON, || {
            self.cli.json(&["cluster", "status"]).and_then(|doc| {
                doc["leader"].is_u64().then_some(()).ok_or_else(|| format!("{doc} {}", self.text()))
            })
        });
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn submit(&self, file: &Path, request: &str) -> muster_tests::Ran {
        self.cli.run(&["submit", &file.display().to_string(), "--request-id", request])
    }

    fn again(&mut self) {
        self.process = self.cli.daemon(&self.args, &self.log);
        self.ready();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn job(dir: &Path) -> PathBuf {
    let path = dir.join("job.yaml");
    std::fs::write(&path, "name: j\ntasks: {t: {run: 'true'}}\n").expect("write");
    path
}

#[test]
fn a_full_disk_refuses_jobs_and_nothing_else_and_recovers_by_itself() {
    let dir = tempfile::Builder::new().prefix("mu").tempdir().expect("dir");
    let Some(disk) = Mount::tmpfs(&dir.path().join("disk"), 128) else { return };
    let member = Member::start(dir.path(), &disk.0.join("c"), &[]);
    member.ready();
    let file = job(dir.path());
    assert_eq!(member.submit(&file, "r1").ok(), "1\n");
    let mut jobs = 1;
    for round in 0..scaled(1, 10) {
        let filler = fill(&disk.0, 1 << 20);
        let refused = until("a refusal", SOON, || {
            let ran = member.submit(&file, &format!("full{round}-{jobs}"));
            jobs += u64::from(ran.code == Some(0));
            if ran.code == Some(0) { Err(ran) } else { Ok(ran) }
        });
        assert_eq!(refused.code, Some(1), "{}", refused.stderr);
        for word in ["error:", "disk of member 1 is full", "% of 128.0 MiB", "hint:"] {
            assert!(refused.stderr.contains(word), "{word:?} is not in {}", refused.stderr);
        }
        let json = member.cli.run(&["submit", &file.display().to_string(), "--output", "json"]);
        assert!((json.stdout + &json.stderr).contains("DISK_FULL"));
        // The ballast is room for what must go on.
        until("the ballast to be given back", SOON, || {
            let length = std::fs::metadata(disk.0.join("c/ballast")).expect("ballast").len();
            if length == 0 { Ok(()) } else { Err(length) }
        });
        let cancelled = member.cli.run(&["cancel", "1"]);
        assert!([Some(0), Some(1)].contains(&cancelled.code), "{}", cancelled.stderr);
        assert!(!cancelled.stderr.contains("full"), "{}", cancelled.stderr);
        assert_eq!(
            member.cli.json(&["ps"]).expect("reads work")["jobs"].as_array().map(Vec::len),
            Some(jobs as usize)
        );
        std::fs::remove_file(filler).expect("remove");
        let id = until("jobs to be taken again", Duration::from_secs(10), || {
            let ran = member.submit(&file, &format!("again{round}"));
            ran.stdout.trim().parse::<u64>().map_err(|_| ran.stderr)
        });
        jobs += 1;
        assert_eq!(id, jobs);
        until("the ballast to be whole", SOON, || {
            let length = std::fs::metadata(disk.0.join("c/ballast")).expect("ballast").len();
            if length > 0 { Ok(()) } else { Err(length) }
        });
    }
}

#[test]
fn a_member_that_meets_the_end_of_its_disk_ends_and_comes_back_whole() {
    let dir = tempfile::Builder::new().prefix("mu").tempdir().expect("dir");
    let Some(disk) = Mount::ext4(&dir.path().join("image"), &dir.path().join("disk"), 96) else { return };
    let mut member = Member::start(dir.path(), &disk.0.join("c"), &[]);
    member.ready();
    let file = job(dir.path());
    assert_eq!(member.submit(&file, "r1").ok(), "1\n");
    // Not even the ballast is left to it, and the log grows by what is not refused.
    std::fs::remove_file(disk.0.join("c/ballast")).expect("remove");
    let filler = fill(&disk.0, 0);
    let status = until("its end", SOON, || {
        let big = "x".repeat(60_000);
        for n in 0..20 {
            let _ = member.cli.run(&["hold", "1", "--request-id", &format!("h{n}{big}").as_str()[..120]]);
            let _ = member.cli.run(&["release", "1"]);
        }
        member.process.try_wait().expect("wait").ok_or("it runs")
    });
    let text = member.text();
    assert!(status.code().is_some_and(|code| code != 0), "{status}: {text}");
    assert!(text.contains("storage failed") || text.contains("No space left"), "{text}");
    std::fs::remove_file(filler).expect("remove");
    member.again();
    assert_eq!(member.submit(&file, "r1").ok(), "1\n");
    assert_eq!(member.submit(&file, "r2").ok(), "2\n");
}

/// fsync and fdatasync that fail once a file exists, for a preload.
const FAILING_SYNC: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int failing(void) { const char *flag = getenv("MUSTER_TEST_EIO"); return flag && access(flag, F_OK) == 0; }
int fsync(int fd) { if (failing()) { errno = EIO; return -1; } return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd); }
int fdatasync(int fd) { if (failing()) { errno = EIO; return -1; } return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd); }
"#;

#[test]
fn an_fsync_that_fails_ends_the_member_before_it_acknowledges_anything() {
    let dir = tempfile::Builder::new().prefix("mu").tempdir().expect("dir");
    let (source, library) = (dir.path().join("eio.c"), dir.path().join("eio.so"));
    std::fs::write(&source, FAILING_SYNC).expect("write");
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl").output();
    if !compiled.is_ok_and(|compiled| compiled.status.success()) {
        eprintln!("skipped: there is no C compiler here (cc)");
        return;
    }
    let flag = dir.path().join("fail").display().to_string();
    let file = job(dir.path());
    for round in 0..scaled(2, 50) {
        let _ = std::fs::remove_file(&flag);
        let env = [("LD_PRELOAD", &*library.display().to_string()), ("MUSTER_TEST_EIO", &flag)]
            .map(|(k, v)| (k, v.to_owned()));
        let env: Vec<(&str, &str)> = env.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let mut member = Member::start(dir.path(), &dir.path().join("c"), &env);
        member.ready();
        let first = member.submit(&file, &format!("a{round}")).ok();
        std::fs::write(&flag, "").expect("write");
        let after = member.submit(&file, &format!("b{round}"));
        assert_ne!(after.code, Some(0), "acknowledged after a failed fsync");
        let status = until("its end", SOON, || member.process.try_wait().expect("wait").ok_or("it runs"));
        let text = member.text();
        assert!(status.code().is_some_and(|code| code != 0), "{status}: {text}");
        assert!(text.contains("storage failed"), "{text}");
        std::fs::remove_file(&flag).expect("remove");
        member.again();
        assert_eq!(
            member.submit(&file, &format!("a{round}")).ok(),
            first,
            "what was acknowledged before is there"
        );
        member.process.kill().expect("kill");
        member.process.wait().expect("reap");
    }
}

#[test]
fn a_damaged_member_of_three_is_left_out_and_all_damaged_name_the_way_back() {
    let mut cluster = Cluster::start(3, 0, &[]);
    let file = cluster.file("j.yaml", "name: j\ntasks: {t: {run: 'true'}}\n");
    assert_eq!(cluster.submit(&file), 1);
    let (leader, _) = cluster.leader();
    cluster.kill_member(leader);
    let logs = |cluster: &Cluster, at: usize| cluster.dir.path().join(format!("c{}/log", at + 1));
    std::fs::remove_file(logs(&cluster, leader).join("CURRENT")).expect("remove");
    cluster.restart_member(leader);
    let status = until("its refusal", SOON, || cluster.member_ended(leader).ok_or_else(|| cluster.logs()));
    assert_eq!(status.code(), Some(1), "{}", cluster.logs());
    let text = std::fs::read_to_string(cluster.dir.path().join(format!("c{}.log", leader + 1))).expect("log");
    for word in
        ["log/CURRENT is missing", "muster cluster restore FILE --data-dir DIR", "join as a new member"]
    {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
    // The others go on without it, and lose nothing.
    assert_eq!(cluster.submit(&file), 2);
    for at in (0..3).filter(|at| *at != leader) {
        cluster.kill_member(at);
        let manifest =
            std::fs::read_dir(logs(&cluster, at)).expect("list").flatten().map(|entry| entry.path());
        let manifest = manifest
            .into_iter()
            .find(|path| path.to_string_lossy().contains("MANIFEST-"))
            .expect("a manifest");
        let mut bytes = std::fs::read(&manifest).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        std::fs::write(&manifest, bytes).expect("write");
        cluster.restart_member(at);
        let status = until("its refusal", SOON, || cluster.member_ended(at).ok_or_else(|| cluster.logs()));
        assert_eq!(status.code(), Some(1), "{}", cluster.logs());
        let text = std::fs::read_to_string(cluster.dir.path().join(format!("c{}.log", at + 1))).expect("log");
        for word in ["/log", "muster cluster restore FILE --data-dir DIR"] {
            assert!(text.contains(word), "{word:?} is not in {text}");
        }
    }
}

#[test]
fn a_worker_whose_disk_is_full_fails_tasks_with_the_cause_and_lives() {
    let mut cluster = Cluster::start(1, 0, &[]);
    let Some(disk) = Mount::tmpfs(&cluster.dir.path().join("w1"), 32) else { return };
    let free = || {
        nix::sys::statvfs::statvfs(&disk.0)
            .map(|d| d.blocks_available() * d.fragment_size())
            .expect("statvfs")
    };
    cluster.add_worker("w1", &[]);
    cluster.wait_workers(1);
    let empty = free();
    // The task fills its scratch directory: that is its own failure.
    let ran = cluster.cli.run(&["run", "--", "sh", "-c", "cat /dev/zero > big"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    until("its scratch directory to go", SOON, || {
        let left = free();
        if left + (4 << 20) > empty { Ok(()) } else { Err(left) }
    });
    // Others find the disk full before they start: a failure of the launch, with the reason.
    let filler = fill(&disk.0, 0);
    let file = cluster.file("t.yaml", "name: t\ntasks: {t: {run: 'echo hi'}}\n");
    let id = cluster.submit(&file);
    let doc = cluster.finished(id, SOON);
    let cause = doc["tasks"][0]["attempts"][0]["cause"].as_str().unwrap_or_default().to_owned();
    assert_eq!(doc["state"], "failed", "{doc:#}");
    assert!(
        cause.contains("launch") && (cause.contains("No space left") || cause.contains("journal")),
        "{cause}"
    );
    // The agent lives, and works again as soon as there is room.
    std::fs::remove_file(filler).expect("remove");
    let ran = cluster.cli.run(&["run", "--", "echo", "hi"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "hi\n"), "{}{}", ran.stderr, cluster.logs());
}
