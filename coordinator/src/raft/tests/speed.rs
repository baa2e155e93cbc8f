//! The measurement behind `muster bench raft`, run by hand: `cargo test --release -p muster-coordinator speed -- --ignored --nocapture`.

use std::io::Write;
use std::time::Duration;

use crate::raft::bench::Cluster;

#[test]
#[ignore = "a measurement"]
fn speed() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        for members in [1, 3] {
            let dir = tempfile::tempdir().expect("dir");
            let cluster = Cluster::start(dir.path(), members).await.expect("start");
            for callers in [1, 64, 1_000] {
                let report = cluster.run(callers, 200, Duration::from_secs(5)).await.expect("run");
                assert!(report.acknowledged > 0);
                writeln!(std::io::stderr(), "{report:?}").expect("print");
            }
            cluster.stop().await;
        }
    });
}
