//! AWS: the instance metadata service, version 2 only. Three things are looked at: the interruption of a spot machine, the
//! recommendation that often comes before it, and what an autoscaling group wants of the machine. At the start it is asked which machine
//! this is.

use super::Pace;
use super::config::{AWS_NOTICE, Rebalance};
use super::http::{Answer, Ask, AskError, Endpoint, ask, object};
use super::merge::Standing;
use super::mouth::{Mouth, Trouble};
use super::which::Facts;
use hyper::Method;
use jiff::Timestamp;
use serde::Deserialize;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What is asked for; the service gives at most 6 h.
const TOKEN_TTL_S: &str = "21600";
/// Longest token that is taken; they have 56 characters.
const TOKEN_MAX: usize = 1024;
/// What stands is taken back when it was not there so many times in a row: a single 404 may be the service's own trouble, and a machine
/// that goes all the same would go with what was started on it.
const ABSENT_MAX: u32 = 2;

const ACTION: &str = "/latest/meta-data/spot/instance-action";
const REBALANCE: &str = "/latest/meta-data/events/recommendations/rebalance";
const LIFECYCLE: &str = "/latest/meta-data/autoscaling/target-lifecycle-state";
const INSTANCE_ID: &str = "/latest/meta-data/instance-id";
const IMAGE: &str = "/latest/meta-data/ami-id";
const ZONE: &str = "/latest/meta-data/placement/availability-zone";

/// Why a look at something failed.
#[derive(Debug, thiserror::Error)]
pub enum AwsError {
    #[error("no session token: {0}")]
    Token(Box<AwsError>),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("the answer has status {0}")]
    Status(u16),
    #[error("the token is no token")]
    BadToken,
    #[error("the answer cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the answer is no text")]
    NoText,
}

/// Looks for as long as the worker runs.
pub async fn watch(endpoint: Endpoint, rebalance: Rebalance, pace: Pace, mouth: Mouth) {
    let mut session = Session { endpoint, within: pace.answer, token: None };
    let mut looks =
        vec![Look::new(ACTION, read_action, &mouth), Look::new(LIFECYCLE, read_lifecycle, &mouth)];
    if rebalance == Rebalance::Drain {
        looks.push(Look::new(REBALANCE, read_rebalance, &mouth));
    }
    loop {
        for look in &mut looks {
            look.once(&mut session, &mouth).await;
        }
        sleep(pace.aws).await;
    }
}

/// Which machine this is.
///
/// # Errors
/// Its id cannot be read. An image or a zone that is not there is none.
pub async fn facts(endpoint: Endpoint, within: Duration) -> Result<Facts, AwsError> {
    let mut session = Session { endpoint, within, token: None };
    let id = text(session.get(INSTANCE_ID).await?)?.ok_or(AwsError::Status(404))?;
    let image = text(session.get(IMAGE).await?)?;
    let zone = text(session.get(ZONE).await?)?;
    Ok(Facts { instance_id: id, image, zone })
}

/// None: there is no such thing here.
fn text(answer: Answer) -> Result<Option<String>, AwsError> {
    match answer.status {
        200 => answer.text().map(|text| Some(text.to_owned())).ok_or(AwsError::NoText),
        404 => Ok(None),
        status => Err(AwsError::Status(status)),
    }
}

/// How an answer is read. None: nothing is announced.
type Read = fn(&Answer, Instant) -> Result<Option<Standing>, AwsError>;

/// One thing that is looked at.
struct Look {
    path: &'static str,
    read: Read,
    trouble: Trouble,
    /// The body that stands: its time was set when it was seen first.
    seen: Option<Vec<u8>>,
    absent: u32,
}

impl Look {
    fn new(path: &'static str, read: Read, mouth: &Mouth) -> Self {
        Self { path, read, trouble: mouth.trouble(path), seen: None, absent: 0 }
    }

    async fn once(&mut self, session: &mut Session, mouth: &Mouth) {
        let answer = session.get(self.path).await;
        let standing = match &answer {
            // Nothing is announced; on a machine outside any group, nothing ever.
            Ok(answer) if answer.status == 404 => Ok(None),
            Ok(answer) if answer.status != 200 => Err(AwsError::Status(answer.status)),
            Ok(answer) if self.seen.as_deref() == Some(&answer.body[..]) => {
                self.absent = 0;
                self.trouble.over();
                return;
            }
            Ok(answer) => (self.read)(answer, Instant::now()),
            Err(error) => return self.trouble.met(error),
        };
        match (standing, answer) {
            (Ok(Some(standing)), Ok(answer)) => {
                self.trouble.over();
                (self.seen, self.absent) = (Some(answer.body.to_vec()), 0);
                mouth.say(self.path, Some(standing));
            }
            (Ok(_), _) => {
                self.trouble.over();
                self.absent += u32::from(self.seen.is_some());
                if self.absent >= ABSENT_MAX {
                    (self.seen, self.absent) = (None, 0);
                    mouth.say(self.path, None);
                }
            }
            (Err(error), _) => self.trouble.met(&error),
        }
    }
}

/// A session of the service: its token.
struct Session {
    endpoint: Endpoint,
    within: Duration,
    token: Option<Token>,
}

struct Token {
    text: String,
    renew_at: Instant,
}

impl Session {
    async fn get(&mut self, path: &str) -> Result<Answer, AwsError> {
        let answer = self.get_with_token(path).await?;
        if answer.status != 401 {
            return Ok(answer);
        }
        // The token ran out before its time; the service was started anew, for one.
        self.token = None;
        self.get_with_token(path).await
    }

    async fn get_with_token(&mut self, path: &str) -> Result<Answer, AwsError> {
        let token = match &self.token {
            Some(token) if Instant::now() < token.renew_at => token.text.clone(),
            _ => {
                let token = self.open().await.map_err(|error| AwsError::Token(Box::new(error)))?;
                self.token.insert(token).text.clone()
            }
        };
        let headers = [("x-aws-ec2-metadata-token", token.as_str())];
        Ok(ask(&self.endpoint, Ask::get(path, &headers, self.within)).await?)
    }

    async fn open(&self) -> Result<Token, AwsError> {
        let headers = [("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_TTL_S)];
        let question = Ask { method: &Method::PUT, ..Ask::get("/latest/api/token", &headers, self.within) };
        let answer = ask(&self.endpoint, question).await?;
        if answer.status != 200 {
            return Err(AwsError::Status(answer.status));
        }
        let text = answer.text().filter(|text| {
            (1..=TOKEN_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
        });
        let text = text.ok_or(AwsError::BadToken)?.to_owned();
        let ttl =
            answer.header("x-aws-ec2-metadata-token-ttl-seconds").and_then(|ttl| ttl.parse::<u32>().ok());
        let ttl = Duration::from_secs(ttl.unwrap_or(60).into());
        // A tenth before its end: a poll in between must not find it dead.
        Ok(Token { text, renew_at: Instant::now() + ttl.mul_f64(0.9) })
    }
}

#[derive(Deserialize)]
struct Action {
    action: String,
    #[serde(default)]
    time: String,
}

/// `{"action": "terminate", "time": "2017-09-18T08:22:00Z"}`.
fn read_action(answer: &Answer, now: Instant) -> Result<Option<Standing>, AwsError> {
    let action: Action = object(&answer.body)?;
    let left = match action.time.parse::<Timestamp>() {
        // A machine that is put to sleep falls asleep at once.
        _ if action.action == "hibernate" => Some(Duration::ZERO),
        Ok(time) => Some(until(time, answer.date()).min(Duration::from_millis(AWS_NOTICE.get()))),
        // It goes, whenever.
        Err(_) => None,
    };
    let detail = format!("spot interruption: {}", action.action);
    Ok(Some(Standing::preemption(left.map(|left| now + left), &detail)))
}

/// From the one to the other, by the server's clock: this machine's may be wrong. What is over is now.
fn until(time: Timestamp, date: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(date)).unwrap_or_default()
}

#[derive(Deserialize)]
struct Recommendation {
    #[serde(rename = "noticeTime")]
    notice_time: String,
}

/// `{"noticeTime": "2020-10-27T08:22:00Z"}`.
fn read_rebalance(answer: &Answer, _now: Instant) -> Result<Option<Standing>, AwsError> {
    let recommendation: Recommendation = object(&answer.body)?;
    let detail = format!("rebalance recommendation of {}", recommendation.notice_time);
    Ok(Some(Standing::advice(None, &detail)))
}

/// `InService`, or `Terminated` once the group has decided.
fn read_lifecycle(answer: &Answer, _now: Instant) -> Result<Option<Standing>, AwsError> {
    let state = answer.text().ok_or(AwsError::NoText)?;
    let goes = state == "Terminated";
    Ok(goes.then(|| Standing::preemption(None, "the autoscaling group terminates the machine")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderMap, HeaderValue};
    use muster_core::model::notice::NoticeKind;

    fn answer(body: &str) -> Answer {
        let date = HeaderValue::from_static("Mon, 18 Sep 2017 08:20:00 GMT");
        let headers = HeaderMap::from_iter([(hyper::header::DATE, date)]);
        Answer { status: 200, headers, body: body.to_owned().into() }
    }

    #[test]
    fn the_time_left_is_by_the_servers_clock_and_at_most_two_minutes() {
        let now = Instant::now();
        let left = |body: &str| {
            let standing = read_action(&answer(body), now).unwrap().unwrap();
            assert_eq!(standing.kind, NoticeKind::Preemption);
            standing.at.map(|at| (at - now).as_secs())
        };
        assert_eq!(left(r#"{"action": "terminate", "time": "2017-09-18T08:21:30Z"}"#), Some(90));
        assert_eq!(left(r#"{"action": "stop", "time": "2017-09-18T09:00:00Z"}"#), Some(120));
        assert_eq!(left(r#"{"action": "terminate", "time": "2017-09-18T08:00:00Z"}"#), Some(0));
        assert_eq!(left(r#"{"action": "hibernate", "time": "2017-09-18T08:21:30Z"}"#), Some(0));
        // It goes all the same.
        assert_eq!(left(r#"{"action": "terminate", "time": "soon"}"#), None);
        assert_eq!(left(r#"{"action": "evaporate"}"#), None);
        assert_eq!(left(r#"{"action": "stop", "time": "9999-12-30T00:00:00Z"}"#), Some(120));
        assert_eq!(left(r#"{"action": "stop", "time": "0001-01-01T00:00:00Z"}"#), Some(0));
    }

    #[test]
    fn what_is_no_announcement_is_an_error_and_no_notice() {
        let now = Instant::now();
        for bad in [
            "",
            "null",
            "[]",
            "[\"stop\"]",
            "{}",
            "{\"action\": 7}",
            "<html>404</html>",
            "{\"action\": \"stop\"",
        ] {
            assert!(read_action(&answer(bad), now).is_err(), "{bad}");
            assert!(read_rebalance(&answer(bad), now).is_err(), "{bad}");
            assert!(read_lifecycle(&answer(bad), now).unwrap().is_none(), "{bad}");
        }
        let deep = "[".repeat(60_000);
        assert!(read_action(&answer(&deep), now).is_err());
        assert!(read_lifecycle(&answer("Terminated\n"), now).unwrap().is_some());
        assert!(read_lifecycle(&answer("InService"), now).unwrap().is_none());
    }
}
