//! What every cloud's driver makes of a server that is slow, broken or full.

use muster_cloud_groups::serve_json::{Cloud, Fault, Kind, Reply, Server};
use muster_drivers::{Driver, DriverError};
use std::sync::Arc;
use std::time::Duration;

pub fn fault<C: Cloud>(server: &Server<C>, path: &'static str, kind: Kind) {
    server.fault(Fault { kind, path, times: 1 });
}

/// Moves the clock of everybody in this test; nobody may be waiting for the network meanwhile.
pub async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// `path` is in the path of every call of the driver, and in none of its tokens'.
pub async fn are_told_apart<C: Cloud>(server: &Server<C>, driver: Arc<dyn Driver>, path: &'static str) {
    let describe = async |kind| {
        fault(server, path, kind);
        driver.describe().await.expect_err("a fault")
    };
    let answer = |status: u16| Kind::Answer(Reply::new(status, ""));
    let after = |status: u16| Kind::Answer(Reply::new(status, "").with("retry-after", "7"));

    let seven = Some(Duration::from_secs(7));
    assert!(matches!(describe(after(429)).await, DriverError::Throttled { after, .. } if after == seven));
    assert!(matches!(describe(after(503)).await, DriverError::Throttled { after, .. } if after == seven));
    assert!(matches!(describe(answer(429)).await, DriverError::Throttled { after: None, .. }));
    assert!(matches!(describe(answer(500)).await, DriverError::Unavailable { .. }));
    assert!(matches!(describe(answer(503)).await, DriverError::Unavailable { .. }));
    assert!(matches!(describe(answer(403)).await, DriverError::Denied { .. }));
    assert!(matches!(describe(answer(404)).await, DriverError::NoGroup { .. }));
    assert!(matches!(describe(answer(409)).await, DriverError::Refused { .. }));
    assert!(matches!(describe(answer(412)).await, DriverError::Refused { .. }));
    assert!(matches!(describe(Kind::Junk).await, DriverError::Garbled { .. }));
    let large = describe(Kind::Large).await;
    assert!(matches!(&large, DriverError::Garbled { reason, .. } if reason.ends_with("bytes")), "{large}");
    assert!(matches!(describe(Kind::Cut).await, DriverError::Unavailable { .. }));
    assert!(matches!(describe(Kind::Lost).await, DriverError::Unavailable { .. }));
    driver.describe().await.expect("all is well again");

    // A redirect is not followed: nobody is asked where it points.
    let calls = server.arrivals();
    let to_us = Reply::new(307, "").with("location", format!("{}/elsewhere", server.url()));
    assert!(matches!(describe(Kind::Answer(to_us)).await, DriverError::Garbled { .. }));
    assert_eq!(server.arrivals(), calls + 1);

    // No answer at all.
    let calls = server.arrivals();
    fault(server, path, Kind::Hang);
    let waiting = tokio::spawn({
        let driver = driver.clone();
        async move { driver.describe().await }
    });
    server.arrived(calls + 1).await;
    pass(Duration::from_secs(21)).await;
    let error = waiting.await.expect("no panic").expect_err("no answer");
    assert!(matches!(error, DriverError::TimedOut { seconds: 20, .. }), "{error}");
    assert!(error.is_transient());
}

/// Who is refused says so, and shows no token.
pub fn shows_no_secret(driver: &dyn Driver, error: &DriverError) {
    let DriverError::Denied { reason, .. } = error else { panic!("not denied: {error}") };
    assert!(reason.contains("(hidden)"), "the server quotes it: {reason}");
    for text in [error.to_string(), format!("{error:?}"), format!("{driver:?}")] {
        assert!(!text.contains("secret"), "{text}");
    }
}
