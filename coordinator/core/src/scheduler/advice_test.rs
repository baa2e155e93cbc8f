//! What is said of saves that were measured.

use super::advice;
use crate::command::Command;
use crate::model::checkpoint::Checkpoint;
use crate::model::ids::{IndexRef, JobId, TaskNo, Token, WorkerId};
use crate::model::time::Stamp;
use crate::model::worker::{Incarnation, WorkerSpec};
use crate::state::test_state::{TestJob, TestState, at, worker_spec};
use crate::state::{Key, Row, State};

/// A checkpoint of the index whose save took so long.
fn with_save(test: &mut TestState, at: IndexRef, took_ms: u64) {
    let checkpoint = Checkpoint {
        step: 3,
        token: Token(0),
        attempt: 1,
        parts: vec![crate::model::checkpoint::Part::default()],
        committed: Stamp::default(),
        took_ms,
        worked_ms: 0,
    };
    let keys = test.state.keys();
    let rows = keys.into_iter().filter_map(|key| test.state.row(&key).map(|row| (key, row)));
    let more = (Key::Checkpoints(at), Row::Checkpoints(vec![checkpoint]));
    test.state = State::restore(rows.chain([more])).expect("its own rows");
}

fn said(test: &TestState, job: u64) -> Vec<String> {
    let job = test.state.job(JobId(job)).expect("there");
    advice(&test.state, job, TaskNo(0), test.state.tick())
}

fn spot(test: &mut TestState, name: &str, notice_ms: u64) {
    let spec = WorkerSpec { pool: "spot".into(), notice_ms: Some(notice_ms), ..worker_spec(name, 8, 1) };
    let incarnation = Incarnation("a".to_owned());
    test.apply(Command::Register { spec: Box::new(spec), incarnation, held: Vec::new() });
}

#[test]
fn a_save_that_does_not_fit_the_shortest_notice_or_the_own_grace() {
    let mut test = TestState::new();
    spot(&mut test, "w1", 30_000);
    spot(&mut test, "w2", 120_000);
    let job = test.submit(&TestJob::new().task(&[]).gpus(1));
    assert_eq!(said(&test, job), [""; 0], "nothing was measured");
    with_save(&mut test, at(job, 0, 0), 45_000);
    assert_eq!(
        said(&test, job),
        [
            "saving takes 45 s; pool spot gives 30 s of notice",
            "saving takes 45 s; its grace is 10 s: raise checkpoint.grace"
        ]
    );
    with_save(&mut test, at(job, 0, 0), 9_000);
    assert_eq!(said(&test, job), [""; 0]);
}

#[test]
fn how_often_to_save_comes_from_the_pools_losses() {
    let mut test = TestState::new();
    spot(&mut test, "w1", 120_000);
    let job = test.submit(&TestJob::new().task(&[]));
    with_save(&mut test, at(job, 0, 0), 5_000);
    test.tick = 4 * 3_600_000;
    let incarnation = Incarnation("a".to_owned());
    test.apply(Command::LoseWorker { worker: WorkerId(1), incarnation });
    spot(&mut test, "w1", 120_000);
    assert_eq!(
        said(&test, job),
        ["saving takes 5 s and a worker of pool spot lasts 4 h: saving every 6 min 20 s loses least"]
    );
}
