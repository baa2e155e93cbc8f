//! Keys of the state's rows as bytes: a kind byte, then numbers big-endian, so that rows lie in the order in which they are restored
//! and the attempts of one index lie together. Kind bytes are never used again for something else.

use muster_core::model::breaker::BreakerKey;
use muster_core::model::budget::Scope;
use muster_core::model::ids::{IndexRef, JobId, TaskNo, Token, WorkerId};
use muster_core::state::Key;

const META: u8 = 0x01;
const SPEC: u8 = 0x02;
const JOB: u8 = 0x03;
const TASK: u8 = 0x04;
const BLOCK: u8 = 0x05;
const ARTIFACTS: u8 = 0x06;
const WORKER: u8 = 0x07;
const LIVE: u8 = 0x08;
const REQUEST: u8 = 0x09;
const PART: u8 = 0x0a;
const MEMBERS: u8 = 0x0b;
const DEVICE: u8 = 0x0c;
const BREAKER_OF_WORKER: u8 = 0x0d;
const BREAKER_OF_COMMAND: u8 = 0x0e;
const CHECKPOINTS: u8 = 0x0f;
const POOL: u8 = 0x10;
const FLEET: u8 = 0x11;
const SCALE: u8 = 0x12;
const LEDGER: u8 = 0x13;
const ACCOUNT: u8 = 0x14;
const METER: u8 = 0x15;
const TAB: u8 = 0x16;
const SPENT: u8 = 0x17;
const BUDGET: u8 = 0x18;
/// Ended attempts. Above all others: restoring the state stops here.
pub const HISTORY: u8 = 0x40;

struct Bytes(Vec<u8>);

impl Bytes {
    fn of(kind: u8) -> Self {
        Self(vec![kind])
    }
    fn long(mut self, n: u64) -> Self {
        self.0.extend(n.to_be_bytes());
        self
    }
    fn short(mut self, n: u32) -> Self {
        self.0.extend(n.to_be_bytes());
        self
    }
    fn text(mut self, text: &str) -> Self {
        self.0.extend(text.as_bytes());
        self
    }
}

/// The bytes of a key.
#[must_use]
pub fn encode(key: &Key) -> Vec<u8> {
    match key {
        Key::Meta => Bytes::of(META),
        Key::Spec(job) => Bytes::of(SPEC).long(job.0),
        Key::Job(job) => Bytes::of(JOB).long(job.0),
        Key::Task(job, task) => Bytes::of(TASK).long(job.0).short(task.0),
        Key::Block(job, task, block) => Bytes::of(BLOCK).long(job.0).short(task.0).short(*block),
        Key::Artifacts(job, task, index) => Bytes::of(ARTIFACTS).long(job.0).short(task.0).short(*index),
        Key::Worker(worker) => Bytes::of(WORKER).long(worker.0),
        Key::Live(token) => Bytes::of(LIVE).long(token.0),
        Key::Request(request) => Bytes::of(REQUEST).text(request),
        Key::Part(request, part) => Bytes::of(PART).text(request).short(*part),
        Key::Members => Bytes::of(MEMBERS),
        Key::Device(uuid) => Bytes::of(DEVICE).text(uuid),
        Key::Breaker(BreakerKey::Worker(worker)) => Bytes::of(BREAKER_OF_WORKER).long(worker.0),
        Key::Breaker(BreakerKey::Command(digest)) => Bytes::of(BREAKER_OF_COMMAND).long(*digest),
        Key::Pool(name) => Bytes::of(POOL).text(name),
        Key::Fleet => Bytes::of(FLEET),
        Key::Scale(pool) => Bytes::of(SCALE).text(pool),
        Key::Ledger => Bytes::of(LEDGER),
        Key::Account(number) => Bytes::of(ACCOUNT).long(*number),
        Key::Meter(worker) => Bytes::of(METER).long(worker.0),
        Key::Tab(token) => Bytes::of(TAB).long(token.0),
        Key::Spent(job) => Bytes::of(SPENT).long(job.0),
        Key::Budget(scope) => Bytes::of(BUDGET).text(&scope.to_string()),
        Key::Checkpoints(at) => Bytes::of(CHECKPOINTS).long(at.job.0).short(at.task.0).short(at.index),
    }
    .0
}

/// The key in `bytes`; none when they are no key of the state.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Key> {
    let (kind, rest) = bytes.split_first()?;
    let long = |at: usize| Some(u64::from_be_bytes(rest.get(at..at + 8)?.try_into().ok()?));
    let short = |at: usize| Some(u32::from_be_bytes(rest.get(at..at + 4)?.try_into().ok()?));
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let wanted = match *kind {
        META | MEMBERS | FLEET | LEDGER => 0,
        SPEC | JOB | WORKER | LIVE | BREAKER_OF_WORKER | BREAKER_OF_COMMAND | ACCOUNT | METER | TAB
        | SPENT => 8,
        TASK => 12,
        BLOCK | ARTIFACTS | CHECKPOINTS => 16,
        _ => rest.len(),
    };
    if rest.len() != wanted {
        return None;
    }
    Some(match *kind {
        META => Key::Meta,
        MEMBERS => Key::Members,
        SPEC => Key::Spec(JobId(long(0)?)),
        JOB => Key::Job(JobId(long(0)?)),
        TASK => Key::Task(JobId(long(0)?), TaskNo(short(8)?)),
        BLOCK => Key::Block(JobId(long(0)?), TaskNo(short(8)?), short(12)?),
        ARTIFACTS => Key::Artifacts(JobId(long(0)?), TaskNo(short(8)?), short(12)?),
        WORKER => Key::Worker(WorkerId(long(0)?)),
        LIVE => Key::Live(Token(long(0)?)),
        REQUEST => Key::Request(text(rest)?),
        PART => {
            let at = rest.len().checked_sub(4)?;
            Key::Part(text(&rest[..at])?, short(at)?)
        }
        DEVICE => Key::Device(text(rest)?),
        POOL => Key::Pool(text(rest)?),
        FLEET => Key::Fleet,
        SCALE => Key::Scale(text(rest)?),
        LEDGER => Key::Ledger,
        ACCOUNT => Key::Account(long(0)?),
        METER => Key::Meter(WorkerId(long(0)?)),
        TAB => Key::Tab(Token(long(0)?)),
        SPENT => Key::Spent(JobId(long(0)?)),
        BUDGET => Key::Budget(Scope::parse(&text(rest)?)?),
        BREAKER_OF_WORKER => Key::Breaker(BreakerKey::Worker(WorkerId(long(0)?))),
        BREAKER_OF_COMMAND => Key::Breaker(BreakerKey::Command(long(0)?)),
        CHECKPOINTS => Key::Checkpoints(IndexRef::new(JobId(long(0)?), TaskNo(short(8)?), short(12)?)),
        _ => return None,
    })
}

/// Where an ended attempt lies: job, task, index, number.
#[must_use]
pub fn history(at: IndexRef, number: u32) -> Vec<u8> {
    Bytes::of(HISTORY).long(at.job.0).short(at.task.0).short(at.index).short(number).0
}

/// The range (from, to) of the ended attempts of a job, of one task of it, or of one index.
#[must_use]
pub fn history_range(job: JobId, task: Option<TaskNo>, index: Option<u32>) -> (Vec<u8>, Vec<u8>) {
    let mut from = Bytes::of(HISTORY).long(job.0);
    if let Some(task) = task {
        from = from.short(task.0);
        if let Some(index) = index {
            from = from.short(index);
        }
    }
    let to = after(&from.0);
    (from.0, to)
}

/// The first key behind all that begin with `prefix`, whose kind byte is below 255.
fn after(prefix: &[u8]) -> Vec<u8> {
    let mut to = prefix.to_vec();
    while to.last() == Some(&0xff) {
        to.pop();
    }
    if let Some(last) = to.last_mut() {
        *last += 1;
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_and_keep_their_order() {
        let (job, task) = (JobId(0x0102), TaskNo(7));
        let keys = [
            Key::Meta,
            Key::Spec(job),
            Key::Job(job),
            Key::Job(JobId(u64::MAX)),
            Key::Task(job, task),
            Key::Block(job, task, 3),
            Key::Artifacts(job, task, 9),
            Key::Worker(WorkerId(1)),
            Key::Live(Token(1)),
            Key::Request("ada/x".into()),
            Key::Part("ada/x".into(), 256),
            Key::Members,
            Key::Device("GPU-a".into()),
            Key::Breaker(BreakerKey::Worker(WorkerId(1))),
            Key::Breaker(BreakerKey::Command(1)),
            Key::Pool("spot".into()),
            Key::Fleet,
            Key::Scale("spot".into()),
            Key::Ledger,
            Key::Account(1),
            Key::Meter(WorkerId(1)),
            Key::Tab(Token(1)),
            Key::Spent(job),
            Key::Budget(Scope::Job(job)),
            Key::Budget(Scope::Queue("a:b".into())),
        ];
        let bytes: Vec<_> = keys.iter().map(encode).collect();
        assert!(bytes.is_sorted());
        assert!(bytes.iter().all(|key| key[0] < HISTORY));
        assert_eq!(
            bytes.iter().map(|b| decode(b)).collect::<Vec<_>>(),
            keys.iter().cloned().map(Some).collect::<Vec<_>>()
        );
        for bad in
            [&[][..], &[JOB, 1], &[0x30], &[PART, 1], &[META, 0], &history(IndexRef::new(job, task, 0), 1)]
        {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_range_holds_its_own_attempts_only() {
        let key = |job, task, index, number| history(IndexRef::new(JobId(job), TaskNo(task), index), number);
        let (from, to) = history_range(JobId(255), Some(TaskNo(1)), None);
        let inside = |key: &Vec<u8>| *key >= from && *key < to;
        assert!(inside(&key(255, 1, 0, 1)) && inside(&key(255, 1, u32::MAX, u32::MAX)));
        assert!(
            !inside(&key(255, 0, u32::MAX, 1)) && !inside(&key(255, 2, 0, 1)) && !inside(&key(256, 1, 0, 1))
        );
        let (from, to) = history_range(JobId(u64::MAX), None, None);
        assert!(from < key(u64::MAX, u32::MAX, 1, 1) && key(u64::MAX, u32::MAX, 1, 1) < to);
    }
}
