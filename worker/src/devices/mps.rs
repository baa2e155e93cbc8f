//! Parts of a GPU, where NVIDIA's Multi-Process Service runs: it enforces what a task may use of the processor and the memory. Where it does
//! not run, a part is a matter of accounting: the scheduler adds the parts up, and nothing holds a task to its own.

use std::path::{Path, PathBuf};

/// Where the control daemon listens, unless it was told otherwise.
const DEFAULT_PIPES: &str = "/tmp/nvidia-mps";
/// Its own variable for that.
const PIPES: &str = "CUDA_MPS_PIPE_DIRECTORY";

/// The directory of a control daemon, if there is one: it listens at a pipe called `control`.
#[must_use]
pub fn find() -> Option<PathBuf> {
    let dir = std::env::var_os(PIPES).map_or_else(|| DEFAULT_PIPES.into(), PathBuf::from);
    is_served(&dir).then_some(dir)
}

fn is_served(dir: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    // A file that a dead daemon left is a pipe too; whether somebody answers is seen by the task.
    let kind = std::fs::symlink_metadata(dir.join("control")).map(|m| m.file_type());
    kind.is_ok_and(|kind| kind.is_fifo() || kind.is_socket())
}

/// The variables that hold a task to its part of its one device. `milli`: thousandths of the processor; `memory`: bytes.
#[must_use]
pub fn limits(pipes: &Path, milli: u16, memory: u64) -> Vec<(String, String)> {
    // It takes whole percents, and none of them is none at all.
    let percent = (milli / 10).clamp(1, 100);
    let mut limits = vec![
        (PIPES.to_owned(), pipes.display().to_string()),
        ("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE".to_owned(), percent.to_string()),
    ];
    if memory > 0 {
        // By the number that the task sees: it has one device. In whole megabytes, rounded up so that what was asked for fits.
        limits.push((
            "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT".to_owned(),
            format!("0={}M", memory.div_ceil(1 << 20)),
        ));
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_whole_percents_and_megabytes() {
        let shown = |milli, memory| {
            let all = limits(Path::new("/p"), milli, memory);
            all.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        let expected = [
            "CUDA_MPS_PIPE_DIRECTORY=/p",
            "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=25",
            "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0=20480M",
        ];
        assert_eq!(shown(250, 20 << 30), expected);
        assert_eq!(shown(5, 0)[1..], ["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=1".to_owned()]);
    }

    #[test]
    fn a_daemon_is_a_pipe() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_served(dir.path()));
        std::fs::write(dir.path().join("control"), "").unwrap();
        assert!(!is_served(dir.path()));
        std::fs::remove_file(dir.path().join("control")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("control"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(is_served(dir.path()));
    }
}
