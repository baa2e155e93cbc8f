//! A drill in order: may it be, what runs, the fault, what becomes of it, everything as it was, the grades.

use super::Common;
use super::fault::{Fault, ask};
use super::grade::{Facts, all_met, rows, table};
use super::probe::{Report, probe};
use super::scene::{Scene, Seen};
use super::story::Story;
use crate::args::Global;
use crate::client::Client;
use crate::commands::daemon::ending;
use crate::commands::job::plural;
use crate::failure::{DONE, Done, Failure, REFUSED, UNREACHABLE};
use crate::output;
use muster_core::model::duration::Millis;
use muster_core::view_doc::rfc3339;
use serde_json::json;
use std::cell::Cell;
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(250);

/// What a drill left to be graded.
struct Account {
    at: i64,
    seen: Seen,
    others: Vec<Story>,
    missing: u64,
    not_back: Option<String>,
}

/// Runs the drill and prints its account.
///
/// # Errors
/// It may not be, or cannot; it was interrupted. What was begun is undone first.
pub async fn perform(mut fault: Fault, common: Common, global: &Global) -> Done {
    let begun = Instant::now();
    let mut client = Client::new(global)?;
    // 1. Whether it may be, and whether all is well to begin with.
    ask(&mut client, common.yes, None).await?;
    fault.check(&mut client).await?;
    // 2. What runs.
    let scene = Scene::before(&mut client, &fault).await?;
    output::talk(&format!(
        "drill {} on {}: {} and {} elsewhere",
        fault.name(),
        fault.target(),
        plural(scene.hit.len() as u64, "attempt"),
        scene.others.len()
    ));
    // 3. The fault and what becomes of it, while somebody submits.
    let alone = matches!(fault, Fault::LeaderDeath { alone: true, .. });
    let done = Cell::new(false);
    let course = async {
        let account = course(&mut client, &fault, &common, &scene).await;
        done.set(true);
        account
    };
    let (account, submissions) =
        futures::join!(course, probe(Client::new(global)?, fault.name(), alone, &done));
    let account = account?;
    // 4. The grades.
    conclude(&fault, &scene, &account, &submissions, &common, begun.elapsed())
}

/// Makes the fault, watches, and puts things back, also when it is interrupted.
async fn course(
    client: &mut Client,
    fault: &Fault,
    common: &Common,
    scene: &Scene,
) -> Result<Account, Failure> {
    let mut seen = Seen::default();
    let watched = tokio::select! {
        watched = watch(client, fault, common, scene, &mut seen) => watched,
        _ = ending() => {
            output::talk("interrupted: putting things back; Ctrl-C again leaves them as they are");
            Err(Failure::new("INTERRUPTED", "the drill was interrupted"))
        }
    };
    let back = tokio::select! {
        back = fault.put_back(client, common.yes) => back,
        _ = ending() => Err(Failure::new("INTERRUPTED", "interrupted twice: the drill was not undone")),
    };
    let at = match (watched, &back) {
        (Ok(at), _) => at,
        // What it was about comes first; that it was not undone is said beside it.
        (Err(failure), Ok(())) => return Err(failure),
        (Err(failure), Err(other)) => return Err(Failure { also: vec![other.clone()], ..failure }),
    };
    let others = scene.others(client).await?;
    let missing = scene.missing(client).await?;
    let not_back = back.err().map(|failure| match failure.hint {
        Some(hint) => format!("{}; {hint}", failure.message),
        None => failure.message,
    });
    Ok(Account { at, seen, others, missing, not_back })
}

/// When it was made, once it has shown what it was to show, or after the time for that.
async fn watch(
    client: &mut Client,
    fault: &Fault,
    common: &Common,
    scene: &Scene,
    seen: &mut Seen,
) -> Result<i64, Failure> {
    let at = fault.make(client, common.yes).await?;
    let made = Instant::now();
    let Millis(within_ms) = common.within;
    let within_ms = within_ms.max(fault.least_ms());
    loop {
        match seen.look(client, fault, scene).await {
            Ok(()) if fault.is_over(made.elapsed(), scene, seen) => return Ok(at),
            Ok(()) => {}
            // A leader that is alone is away for a while.
            Err(failure) if failure.exit == UNREACHABLE => {}
            Err(failure) => return Err(failure),
        }
        if made.elapsed() >= Duration::from_millis(within_ms) {
            output::talk(&format!("not all goes on after {} s", within_ms / 1_000));
            return Ok(at);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn conclude(
    fault: &Fault,
    scene: &Scene,
    account: &Account,
    submissions: &Report,
    common: &Common,
    took: Duration,
) -> Done {
    let stories = account.seen.stories(scene);
    let rows = rows(&Facts {
        fault,
        at: account.at,
        hit: scene.hit.len(),
        stories: &stories,
        others: &account.others,
        noted: account.seen.noted_ms(),
        is_out: account.seen.is_out(),
        missing: account.missing,
        probe: submissions,
        not_back: account.not_back.clone(),
    });
    let met = all_met(&rows);
    if common.output.is_json() {
        let document = json!({
            "drill": fault.name(),
            "target": fault.target(),
            "started": rfc3339(account.at),
            "took_seconds": took.as_secs_f64(),
            "met": met,
            "rows": rows,
            "attempts": stories,
        });
        output::document(&document.to_string())?;
    } else {
        output::data(&table(&rows))?;
    }
    let missed = rows.iter().filter(|row| row.met == Some(false)).count();
    output::talk(&if met {
        "all targets are met".to_owned()
    } else {
        format!("{} missed", plural(missed as u64, "target"))
    });
    Ok(if met { DONE } else { REFUSED })
}
