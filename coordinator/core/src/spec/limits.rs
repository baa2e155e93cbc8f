//! The limits of a job file, each named in the error that it causes.

/// Longest job file in bytes.
pub const FILE_BYTES: usize = 64 << 20;
/// Most tasks of one job.
pub const TASKS: usize = 100_000;
/// Most task indices of one job, arrays counted out.
pub const INDICES: u64 = 1_000_000;
/// Longest environment string, `NAME=value`, in bytes (Linux's own limit for one string).
pub const ENV_STRING_BYTES: usize = 128 << 10;
/// All environment strings of a task together, in bytes.
pub const ENV_BYTES: usize = 256 << 10;
/// Longest inline script in bytes.
pub const SCRIPT_BYTES: usize = 4 << 20;
/// Longest job name.
pub const JOB_NAME: usize = 63;
/// Longest task name.
pub const TASK_NAME: usize = 128;
/// Longest CEL expression in bytes: evaluation and its recursion stay small.
pub const EXPRESSION_BYTES: usize = 2 << 10;
/// All parameters together as JSON, in bytes: each template sees them.
pub const PARAMS_BYTES: usize = 1 << 20;
/// Longest text that a template may make, in bytes.
pub const RENDERED_BYTES: usize = SCRIPT_BYTES;
/// Most faults reported at once; the first ones say enough.
pub const ERRORS: usize = 50;
/// All words of a command given as a list together, in bytes.
pub const EXEC_BYTES: usize = 1 << 20;
