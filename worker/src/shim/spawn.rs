//! Starting one process, cheaply: `clone(CLONE_VM | CLONE_VFORK)`, so that no page table is copied, and the child itself joins its
//! groups before it executes the program. On cgroup v2 it is born in its group, by `clone3` with `CLONE_INTO_CGROUP`.
//!
//! Between clone and exec the child shares memory with the shim, which waits: it allocates nothing, takes no lock, and only makes
//! system calls. What went wrong it writes into [`Report`].

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::ptr;

use super::protocol::{Launch, LaunchFailure};

const STACK_BYTES: usize = 64 << 10;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Where in the child something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
enum Step {
    Join = 1,
    Output = 2,
    Orphan = 3,
    Directory = 4,
    Exec = 5,
}

/// Filled by the child: the step that failed (0 while none has) and the error number. A shared mapping, for where the child is a copy.
#[repr(C)]
struct Report {
    step: c_int,
    errno: c_int,
}

/// Everything the child needs, made beforehand.
struct Plan {
    candidates: *const *const c_char,
    argv: *mut *const c_char,
    shell_argv: *const *const c_char,
    envp: *const *const c_char,
    cwd: *const c_char,
    stdout: RawFd,
    stderr: RawFd,
    join: *const RawFd,
    join_count: usize,
    descriptors: libc::rlimit,
    data_limit: u64,
    /// Where it begins; all zero: anywhere.
    cpus: libc::cpu_set_t,
    parent: libc::pid_t,
    report: *mut Report,
}

/// Starts processes; owns the child's stack.
pub struct Spawner {
    stack: *mut c_void,
    report: *mut Report,
    descriptors: libc::rlimit,
    parent: libc::pid_t,
}

/// Where a child is put and what it writes to.
pub struct Place<'a> {
    /// Write end for standard output.
    pub stdout: RawFd,
    /// Write end for standard error.
    pub stderr: RawFd,
    /// `cgroup.procs` files to join by writing.
    pub join: &'a [OwnedFd],
    /// Directory of the v2 group to be born in.
    pub into: Option<&'a OwnedFd>,
    /// `RLIMIT_DATA` in bytes; 0 sets none.
    pub data_limit: u64,
}

impl Spawner {
    /// Takes `descriptors` as the limit of open files that children get back (the shim raises its own).
    ///
    /// # Errors
    /// When there is no memory for the stack.
    pub fn new(descriptors: libc::rlimit) -> std::io::Result<Self> {
        let map = |bytes: usize, flags: c_int| {
            // SAFETY: an anonymous mapping at an address of the kernel's choice.
            let at = unsafe {
                libc::mmap(
                    ptr::null_mut(),
                    bytes,
                    libc::PROT_READ | libc::PROT_WRITE,
                    flags | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                )
            };
            if at == libc::MAP_FAILED { Err(std::io::Error::last_os_error()) } else { Ok(at) }
        };
        let stack = map(STACK_BYTES, libc::MAP_PRIVATE | libc::MAP_STACK)?;
        let report = map(size_of::<Report>(), libc::MAP_SHARED)?.cast();
        // SAFETY: getpid has no preconditions.
        Ok(Self { stack, report, descriptors, parent: unsafe { libc::getpid() } })
    }

    /// Starts the program of `launch`. Returns its process id once the program is executing.
    ///
    /// # Errors
    /// Why it is not; nothing is left running then.
    pub fn spawn(&mut self, launch: &Launch, place: &Place<'_>) -> Result<i32, LaunchFailure> {
        let program = launch.argv.first().filter(|p| !p.is_empty()).ok_or(LaunchFailure::Empty)?;
        let c = |text: &str, what: &str| {
            CString::new(text).map_err(|_| LaunchFailure::ZeroByte { what: what.to_owned() })
        };
        let argv = launch.argv.iter().map(|a| c(a, "an argument")).collect::<Result<Vec<_>, _>>()?;
        let mut env = Vec::with_capacity(launch.env.len());
        for (name, value) in &launch.env {
            let mut entry = Vec::with_capacity(name.len() + value.len() + 2);
            entry.extend_from_slice(name.as_bytes());
            entry.push(b'=');
            entry.extend_from_slice(value.as_bytes());
            env.push(
                CString::new(entry)
                    .map_err(|_| LaunchFailure::ZeroByte { what: format!("the variable {name}") })?,
            );
        }
        let cwd = c(&launch.cwd, "the working directory")?;
        let candidates = candidates(program, &launch.env)
            .into_iter()
            .map(|p| c(&p, "PATH"))
            .collect::<Result<Vec<_>, _>>()?;

        let pointers = |all: &[CString]| -> Vec<*const c_char> {
            all.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
        };
        let (candidate_ptrs, mut argv_ptrs, env_ptrs) =
            (pointers(&candidates), pointers(&argv), pointers(&env));
        // For a script without `#!`: /bin/sh PROGRAM ARGS…, as shells and execvp do. The child fills in the program's path.
        let mut shell_ptrs = vec![c"/bin/sh".as_ptr(), ptr::null()];
        shell_ptrs.extend_from_slice(&argv_ptrs[1..]);
        let join: Vec<RawFd> = place.join.iter().map(AsRawFd::as_raw_fd).collect();
        let mut plan = Plan {
            candidates: candidate_ptrs.as_ptr(),
            argv: argv_ptrs.as_mut_ptr(),
            shell_argv: shell_ptrs.as_mut_ptr(),
            envp: env_ptrs.as_ptr(),
            cwd: cwd.as_ptr(),
            stdout: place.stdout,
            stderr: place.stderr,
            join: join.as_ptr(),
            join_count: join.len(),
            descriptors: self.descriptors,
            data_limit: place.data_limit,
            cpus: cpu_set(&launch.limits.cpus),
            parent: self.parent,
            report: self.report,
        };

        // SAFETY: `report` is our mapping; no child is alive between two spawns that could write to it.
        unsafe { self.report.write(Report { step: 0, errno: 0 }) };
        let pid = match place.into {
            Some(dir) => self.born_inside(dir, &mut plan),
            None => self.born_here(&mut plan),
        };
        if pid < 0 {
            return Err(system("starting a process", std::io::Error::last_os_error()));
        }
        // SAFETY: the child has executed its program or ended, so nobody writes to the report now.
        let Report { step, errno } = unsafe { self.report.read() };
        if step == 0 {
            return Ok(pid);
        }
        // SAFETY: reaps our own child, which is ending.
        unsafe { libc::waitpid(pid, ptr::null_mut(), libc::__WALL) };
        let bytes = launch.argv.iter().map(|a| a.len() + 9).sum::<usize>()
            + env.iter().map(|e| e.as_bytes().len() + 9).sum::<usize>();
        Err(explain(step, errno, launch, program, &candidates, bytes as u64))
    }

    /// The common road: no copy of the page table, the child runs on a stack of its own.
    fn born_here(&mut self, plan: &mut Plan) -> c_int {
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: the stack is ours, used by one child at a time because CLONE_VFORK suspends us until it has executed or ended;
        // `plan` outlives that; `child` only makes system calls.
        unsafe { libc::clone(child, self.stack.byte_add(STACK_BYTES), flags, ptr::from_mut(plan).cast()) }
    }

    /// The v2 road, with `CLONE_INTO_CGROUP`: no write to `cgroup.procs`, so no migration lock.
    fn born_inside(&mut self, dir: &OwnedFd, plan: &mut Plan) -> c_int {
        let mut args = CloneArgs {
            flags: CLONE_INTO_CGROUP | libc::CLONE_VFORK as u64,
            exit_signal: libc::SIGCHLD as u64,
            cgroup: dir.as_raw_fd() as u64,
            ..CloneArgs::default()
        };
        if cfg!(target_arch = "x86_64") {
            args.flags |= libc::CLONE_VM as u64;
            args.stack = self.stack as u64;
            args.stack_size = STACK_BYTES as u64;
        }
        // SAFETY: with CLONE_VM as in `born_here`; else the child is a copy, and makes system calls only all the same.
        unsafe { clone3(&args, plan) }
    }
}

/// `struct clone_args` up to `cgroup`, as linux/sched.h has it.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// The C library has no `clone3`. A child on a stack of its own has nowhere to return to, so it goes on in `child` from here and ends.
///
/// # Safety
/// `args` must name a stack of which no other thread makes use, and `plan` be one for [`child`].
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(args: &CloneArgs, plan: &mut Plan) -> c_int {
    let result: i64;
    // SAFETY: in the parent this is one system call, which clobbers rcx and r11. In the child the stack pointer is the top of the
    // stack in `args`, aligned to 16, and everything from the call on happens there; it ends with `exit` and never reaches the label.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "mov edi, eax",
            "mov eax, {exit}",
            "syscall",
            "ud2",
            "2:",
            exit = const libc::SYS_exit,
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") ptr::from_ref(args),
            in("rsi") size_of::<CloneArgs>(),
            in("r12") ptr::from_mut(plan),
            in("r13") child as extern "C" fn(*mut c_void) -> c_int,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    if result < 0 {
        // SAFETY: our own thread's errno, which the road through the C library sets too.
        unsafe { *libc::__errno_location() = c_int::try_from(-result).unwrap_or(libc::EINVAL) };
        return -1;
    }
    c_int::try_from(result).unwrap_or(-1)
}

/// Elsewhere the child is a copy of this process, as with fork, and may return from the system call. It costs a copy of the page table.
///
/// # Safety
/// `plan` must be one for [`child`], and `args` without `CLONE_VM`.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn clone3(args: &CloneArgs, plan: &mut Plan) -> c_int {
    // SAFETY: the child makes system calls only, and ends without unwinding or running destructors.
    unsafe {
        let pid = libc::syscall(libc::SYS_clone3, ptr::from_ref(args), size_of::<CloneArgs>());
        if pid == 0 {
            libc::_exit(child(ptr::from_mut(plan).cast()));
        }
        c_int::try_from(pid).unwrap_or(-1)
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        // SAFETY: both mappings were made in `new` with these sizes and no child uses them any more.
        unsafe {
            libc::munmap(self.stack, STACK_BYTES);
            libc::munmap(self.report.cast(), size_of::<Report>());
        }
    }
}

/// The child's life before the program. Never returns on success.
extern "C" fn child(plan: *mut c_void) -> c_int {
    // SAFETY: `plan` is what `spawn` made, alive until we execute or end; every pointer in it likewise. Only system calls here.
    unsafe {
        let plan = &mut *plan.cast::<Plan>();
        let fail = |step: Step| -> c_int {
            (*plan.report).errno = *libc::__errno_location();
            (*plan.report).step = step as c_int;
            127
        };
        for i in 0..plan.join_count {
            if libc::write(*plan.join.add(i), c"0".as_ptr().cast(), 1) < 0 {
                return fail(Step::Join);
            }
        }
        libc::setsid();
        // The task must not outlive its shim. If the shim died before this line, nobody would tell us.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() != plan.parent {
            return fail(Step::Orphan);
        }
        if libc::dup2(plan.stdout, 1) < 0 || libc::dup2(plan.stderr, 2) < 0 {
            return fail(Step::Output);
        }
        if libc::chdir(plan.cwd) < 0 {
            return fail(Step::Directory);
        }
        libc::setrlimit(libc::RLIMIT_NOFILE, &plan.descriptors);
        if plan.data_limit > 0 {
            let limit = libc::rlimit { rlim_cur: plan.data_limit, rlim_max: plan.data_limit };
            libc::setrlimit(libc::RLIMIT_DATA, &limit);
        }
        // A machine that lost one of these CPUs runs the task all the same.
        if libc::CPU_COUNT(&plan.cpus) > 0 {
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const plan.cpus);
        }
        // The shim ignores SIGPIPE and blocks what it reads through a descriptor; a task starts with defaults.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());

        let mut denied = 0;
        let mut last = libc::ENOENT;
        let mut candidate = plan.candidates;
        while !(*candidate).is_null() {
            libc::execve(*candidate, plan.argv.cast(), plan.envp);
            last = *libc::__errno_location();
            match last {
                libc::ENOEXEC => {
                    *plan.shell_argv.cast_mut().add(1) = *candidate;
                    libc::execve(c"/bin/sh".as_ptr(), plan.shell_argv, plan.envp);
                    last = *libc::__errno_location();
                    break;
                }
                libc::EACCES => denied = last,
                libc::ENOENT | libc::ENOTDIR => {}
                _ => break,
            }
            candidate = candidate.add(1);
        }
        *libc::__errno_location() =
            if denied != 0 && matches!(last, libc::ENOENT | libc::ENOTDIR) { denied } else { last };
        fail(Step::Exec)
    }
}

/// CPUs beyond what the kernel's set holds are left out.
fn cpu_set(cpus: &[u32]) -> libc::cpu_set_t {
    // SAFETY: an all-zero set is the empty one; CPU_SET stays in its bounds.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for cpu in cpus.iter().map(|cpu| *cpu as usize).filter(|cpu| *cpu < libc::CPU_SETSIZE as usize) {
            libc::CPU_SET(cpu, &mut set);
        }
        set
    }
}

/// The files to try: the program itself when it holds a `/`, else one a directory of the task's own `PATH`.
fn candidates(program: &str, env: &[(String, String)]) -> Vec<String> {
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    let path = env.iter().rev().find(|(name, _)| name == "PATH").map_or("/usr/bin:/bin", |(_, value)| value);
    path.split(':')
        .map(|dir| if dir.is_empty() { format!("./{program}") } else { format!("{dir}/{program}") })
        .collect()
}

fn explain(
    step: c_int,
    errno: c_int,
    launch: &Launch,
    program: &str,
    tried: &[CString],
    bytes: u64,
) -> LaunchFailure {
    let error = std::io::Error::from_raw_os_error(errno);
    let program = program.to_owned();
    if step == Step::Directory as c_int {
        return LaunchFailure::Directory { path: launch.cwd.clone(), error: error.to_string() };
    }
    if step == Step::Join as c_int {
        return LaunchFailure::Cgroup { error: error.to_string() };
    }
    if step != Step::Exec as c_int {
        return system("preparing the process", error);
    }
    match errno {
        libc::E2BIG => LaunchFailure::TooLong { bytes },
        libc::EACCES | libc::EPERM | libc::EISDIR => LaunchFailure::NotExecutable { program },
        // The kernel says ENOENT for a script whose interpreter is missing too.
        libc::ENOENT if tried.iter().any(|t| is_file(t, &launch.cwd)) => {
            LaunchFailure::NoInterpreter { program }
        }
        libc::ENOENT | libc::ENOTDIR => LaunchFailure::NotFound { program },
        _ => system("executing the program", error),
    }
}

fn is_file(path: &CString, cwd: &str) -> bool {
    path.to_str().is_ok_and(|p| Path::new(cwd).join(p).is_file())
}

fn system(step: &str, error: std::io::Error) -> LaunchFailure {
    LaunchFailure::System { step: step.to_owned(), error: error.to_string() }
}
