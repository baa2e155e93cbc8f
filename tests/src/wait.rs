//! Waiting for a state.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Asks `probe` until it answers `Ok`, for at most `limit`; between two asks it yields the processor for 20 ms.
///
/// # Panics
/// With `what` and the last `Err` when the state does not come.
pub fn until<T, E: Debug>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(seen) if start.elapsed() > limit => {
                panic!("waited {limit:?} for {what}; last seen: {seen:?}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
