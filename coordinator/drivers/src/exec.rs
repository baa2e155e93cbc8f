//! Somebody's own program: `command… ACTION [ARGUMENT]` with the same as JSON on its stdin.
//!
//! The program answers by its exit code: 0 = done, 75 (`EX_TEMPFAIL`) = try again, 77 (`EX_NOPERM`) = not allowed, else refused, in the
//! words of the first line of its stderr. `describe` prints a group, or nothing where it cannot say.

use crate::process::{self, Cut, Ended, Run};
use crate::wire::{self, ANSWER_MAX, Action, Order};
use crate::{Driver, DriverError, Group};
use futures::future::BoxFuture;
use muster_core::model::duration::Millis;
use serde::Deserialize;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `EX_TEMPFAIL` of sysexits.h.
const TRY_AGAIN: i32 = 75;
/// `EX_NOPERM` of sysexits.h.
const DENIED: i32 = 77;
/// Most time that a program may be given: other pools wait for nobody, but a decision this old is no longer one.
const TIMEOUT_MAX: Millis = Millis::from_secs(3600);

/// `driver = { kind = "exec", command = ["/path/to/program", "argument"] }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecConfig {
    /// The program, by its whole path, and arguments that come before the action. No shell is in between.
    pub command: Vec<String>,
    /// How long one call may take. Then its process group gets SIGTERM, and SIGKILL 2 s later. Default: 60s.
    #[serde(default = "timeout")]
    pub timeout: Millis,
}

fn timeout() -> Millis {
    Millis::from_secs(60)
}

/// The driver.
#[derive(Debug)]
pub struct Exec {
    pool: String,
    program: PathBuf,
    args: Vec<String>,
    within: Duration,
}

impl Exec {
    /// # Errors
    /// [`DriverError::Unusable`]: no command, a relative path, a program that is not there.
    pub fn open(config: &ExecConfig, pool: &str) -> Result<Self, DriverError> {
        let unusable = |reason| DriverError::Unusable { what: format!("driver exec of pool {pool}"), reason };
        let [program, args @ ..] = config.command.as_slice() else {
            return Err(unusable("command is empty".to_owned()));
        };
        if !Path::new(program).is_absolute() {
            return Err(unusable(format!("{program:?} is not a whole path: coordinators start anywhere")));
        }
        if config.timeout.0 == 0 || config.timeout > TIMEOUT_MAX {
            return Err(unusable(format!(
                "timeout is {}; it is more than 0 and at most {TIMEOUT_MAX}",
                config.timeout
            )));
        }
        let program = process::find(Path::new(program)).map_err(|error| unusable(error.to_string()))?;
        let within = Duration::from_millis(config.timeout.0);
        Ok(Self { pool: pool.to_owned(), program, args: args.to_vec(), within })
    }

    async fn call(&self, order: &Order<'_>, argument: Option<&str>) -> Result<Vec<u8>, DriverError> {
        let what = || format!("driver exec of pool {}: {}", self.pool, order.action.as_str());
        let mut args = process::words(&self.args);
        args.push(order.action.as_str().into());
        args.extend(argument.map(OsString::from));
        let mut env =
            vec![("MUSTER_POOL", self.pool.clone().into()), ("MUSTER_ACTION", order.action.as_str().into())];
        env.extend(order.generation.map(|generation| ("MUSTER_GENERATION", generation.to_string().into())));
        let stdin = order.json().map_err(|e| DriverError::Garbled { what: what(), reason: e.to_string() })?;
        let run =
            Run { program: &self.program, args, env, stdin, within: self.within, stdout_max: ANSWER_MAX };
        match process::run(run).await {
            Ok(ended) if ended.status.success() => Ok(ended.stdout),
            Ok(ended) => Err(failure(what(), &ended)),
            Err(Cut::TimedOut) => {
                Err(DriverError::TimedOut { what: what(), seconds: self.within.as_secs_f64().ceil() as u64 })
            }
            Err(cut @ Cut::Flood(_)) => Err(DriverError::Garbled { what: what(), reason: cut.to_string() }),
            Err(Cut::Io(error)) => Err(DriverError::Unavailable {
                what: what(),
                reason: format!("cannot run {}: {error}", self.program.display()),
            }),
        }
    }

    async fn order(&self, order: Order<'_>, argument: &str) -> Result<(), DriverError> {
        wire::check(&order).map_err(|error| DriverError::Refused {
            what: format!("driver exec of pool {}: {}", self.pool, order.action.as_str()),
            reason: error.to_string(),
        })?;
        self.call(&order, Some(argument)).await.map(drop)
    }
}

fn failure(what: String, ended: &Ended) -> DriverError {
    let reason = ended.reason();
    match ended.status.code() {
        Some(TRY_AGAIN) => DriverError::Unavailable { what, reason },
        Some(DENIED) => DriverError::Denied { what, reason },
        _ => DriverError::Refused { what, reason },
    }
}

impl Driver for Exec {
    fn kind(&self) -> &'static str {
        "exec"
    }

    fn describe(&self) -> BoxFuture<'_, Result<Option<Group>, DriverError>> {
        Box::pin(async {
            let answer = self.call(&Order::new(&self.pool, Action::Describe), None).await?;
            wire::group(&answer).map_err(|error| DriverError::Garbled {
                what: format!("driver exec of pool {}: describe", self.pool),
                reason: error.to_string(),
            })
        })
    }

    fn set_desired(&self, desired: u32, generation: u64) -> BoxFuture<'_, Result<(), DriverError>> {
        Box::pin(async move {
            let order = Order::set_desired(&self.pool, desired, generation);
            self.order(order, &desired.to_string()).await
        })
    }

    fn terminate<'a>(&'a self, instance: &'a str, generation: u64) -> BoxFuture<'a, Result<(), DriverError>> {
        Box::pin(self.order(Order::terminate(&self.pool, instance, generation), instance))
    }

    fn hold<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, Result<(), DriverError>> {
        Box::pin(self.order(Order::of(&self.pool, Action::Hold, instance), instance))
    }

    fn release<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, Result<(), DriverError>> {
        Box::pin(self.order(Order::of(&self.pool, Action::Release, instance), instance))
    }

    fn protects(&self) -> bool {
        true
    }

    fn protect<'a>(&'a self, instances: &'a [String], on: bool) -> BoxFuture<'a, Result<(), DriverError>> {
        let argument = if on { "on" } else { "off" };
        Box::pin(self.order(Order::protect(&self.pool, instances, on), argument))
    }
}
