//! The v2 form: a `BPF_PROG_TYPE_CGROUP_DEVICE` program, assembled by hand, because a list of numbers needs no compiler.
//!
//! ```text
//!  r2 = type of the device; not a character device → allow
//!  r3 = major, r4 = minor; for each denied node: both equal → deny
//!  allow
//! ```

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::Node;

/// `bpf(2)`: load, attach, detach; a device program; the hook of a cgroup; others may be attached beside it.
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// In the lower half of `access_type`.
const CHARACTER: i32 = 2;
/// Most nodes: a jump reaches 32,767 instructions, and each node takes two.
const NODES_MAX: usize = 4096;

/// One instruction, as linux/bpf.h has it; registers are two halves of a byte.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn op(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: to | from << 4, offset, immediate }
}

/// `BPF_LDX | BPF_MEM | BPF_W`, `BPF_ALU64 | BPF_AND | BPF_K`, `BPF_ALU64 | BPF_MOV | BPF_K`, `BPF_JMP | BPF_JNE | BPF_K`,
/// `BPF_JMP | BPF_JEQ | BPF_K`, `BPF_JMP | BPF_EXIT`.
const LOAD: u8 = 0x61;
const AND: u8 = 0x57;
const MOVE: u8 = 0xb7;
const JUMP_NOT_EQUAL: u8 = 0x55;
const JUMP_EQUAL: u8 = 0x15;
const EXIT: u8 = 0x95;

fn assemble(denied: &[Node]) -> Vec<Instruction> {
    let body = i16::try_from(2 * denied.len()).unwrap_or(i16::MAX);
    let mut code = vec![
        op(LOAD, 2, 1, 0, 0),
        op(AND, 2, 0, 0, 0xffff),
        op(JUMP_NOT_EQUAL, 2, 0, body + 2, CHARACTER),
        op(LOAD, 3, 1, 4, 0),
        op(LOAD, 4, 1, 8, 0),
    ];
    for (n, node) in (0i16..).zip(denied) {
        code.push(op(JUMP_NOT_EQUAL, 3, 0, 1, node.major.cast_signed()));
        // Past the nodes that follow and the two instructions that allow.
        code.push(op(JUMP_EQUAL, 4, 0, body - 2 * n, node.minor.cast_signed()));
    }
    code.extend([op(MOVE, 0, 0, 0, 1), op(EXIT, 0, 0, 0, 0)]);
    // The verifier refuses instructions that nothing leads to.
    if !denied.is_empty() {
        code.extend([op(MOVE, 0, 0, 0, 0), op(EXIT, 0, 0, 0, 0)]);
    }
    code
}

/// A program that the kernel has accepted.
#[derive(Debug)]
pub struct Filter(OwnedFd);

/// `union bpf_attr` for a load, up to what is used.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel: u32,
    flags: u32,
    name: [u8; 16],
}

/// `union bpf_attr` for attaching.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

impl Filter {
    /// Loads the program that denies these nodes.
    ///
    /// # Errors
    /// The kernel refuses: no permission, no such program type, or too many nodes.
    pub fn load(denied: &[Node]) -> io::Result<Self> {
        if denied.len() > NODES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many device nodes for a filter"));
        }
        let code = assemble(denied);
        let mut attributes = Load {
            kind: TYPE_CGROUP_DEVICE,
            count: u32::try_from(code.len()).unwrap_or(u32::MAX),
            instructions: code.as_ptr() as u64,
            license: c"Apache-2.0".as_ptr() as u64,
            ..Load::default()
        };
        attributes.name[..14].copy_from_slice(b"muster_devices");
        // SAFETY: the attributes name memory that lives until the call returns.
        let fd = unsafe { bpf(PROG_LOAD, &mut attributes)? };
        // SAFETY: a descriptor that is ours from here on.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Puts it in force for a group, beside what is in force already.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn attach(&self, group: &OwnedFd) -> io::Result<()> {
        self.command(PROG_ATTACH, group, ALLOW_MULTI)
    }

    /// Takes it out of force again.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn detach(&self, group: &OwnedFd) -> io::Result<()> {
        self.command(PROG_DETACH, group, 0)
    }

    fn command(&self, command: libc::c_int, group: &OwnedFd, flags: u32) -> io::Result<()> {
        let number = |fd: &OwnedFd| fd.as_raw_fd().cast_unsigned();
        let mut attributes =
            Attach { target: number(group), program: number(&self.0), kind: ATTACH_CGROUP_DEVICE, flags };
        // SAFETY: plain numbers.
        unsafe { bpf(command, &mut attributes).map(|_| ()) }
    }
}

/// # Safety
/// Whatever addresses `attributes` holds must be right for `command`.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the caller's promise.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    libc::c_int::try_from(result).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would, for the instructions that it has.
    fn run(code: &[Instruction], context: [u32; 3]) -> i32 {
        let mut registers = [0i64; 5];
        let mut at = 0usize;
        loop {
            let Instruction { code: op, registers: halves, offset, immediate } = code[at];
            let (to, value) = (usize::from(halves & 15), i64::from(immediate.cast_unsigned()));
            at += 1;
            let mut jump = |taken: bool| {
                if taken {
                    at = at.checked_add_signed(offset.into()).unwrap();
                }
            };
            match op {
                LOAD => registers[to] = i64::from(context[usize::try_from(offset).unwrap() / 4]),
                AND => registers[to] &= value,
                MOVE => registers[to] = value,
                JUMP_NOT_EQUAL => jump(registers[to] != value),
                JUMP_EQUAL => jump(registers[to] == value),
                EXIT => return i32::try_from(registers[0]).unwrap(),
                other => panic!("{other:#x} is not an instruction of ours"),
            }
        }
    }

    #[test]
    fn exactly_the_denied_character_devices_are_denied() {
        let denied =
            [Node { major: 195, minor: 1 }, Node { major: 195, minor: 255 }, Node { major: 511, minor: 0 }];
        let code = assemble(&denied);
        // Reading and writing, in the upper half of the type.
        let ask = |kind: u32, major, minor| run(&code, [6 << 16 | kind, major, minor]);
        for (kind, major, minor, allowed) in [
            (2, 195, 1, 0),
            (2, 195, 255, 0),
            (2, 511, 0, 0),
            (2, 195, 0, 1),
            (2, 511, 1, 1),
            (2, 1, 255, 1),
            // A block device of the same numbers.
            (1, 195, 1, 1),
        ] {
            assert_eq!(ask(kind, major, minor), allowed, "{kind} {major}:{minor}");
        }
        assert_eq!(run(&assemble(&[]), [2, 195, 0]), 1);
    }

    #[test]
    fn the_kernel_takes_it_where_we_may_load_programs() {
        let nodes: Vec<Node> = (0..64).map(|minor| Node { major: 195, minor }).collect();
        match Filter::load(&nodes).and_then(|_| Filter::load(&[])) {
            Ok(_) => {}
            Err(e) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) => {
                tracing::warn!("skipped: this user may not load programs: {e}");
            }
            Err(e) => panic!("the verifier refuses the program: {e}"),
        }
        assert!(Filter::load(&vec![nodes[0]; NODES_MAX + 1]).is_err());
    }
}
