//! `muster cost report`: GPU time and money by what they went to.

use super::month::Month;
use crate::args::Global;
use crate::client::Client;
use crate::failure::{DONE, Done, Failure};
use crate::output::{self, money::usd, table::Table};
use clap::ValueEnum;
use muster_core::view_doc::{ClassesDoc, CostDoc, CostRowDoc};
use muster_proto::api::CostRequest;

/// What rows are by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum By {
    Job,
    User,
    #[default]
    Queue,
    Pool,
    Label,
}

impl By {
    fn as_str(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::User => "user",
            Self::Queue => "queue",
            Self::Pool => "pool",
            Self::Label => "label",
        }
    }
}

/// How it is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CostFormat {
    /// GPU-hours by class, for people.
    Table,
    /// The document, for programs.
    Json,
    /// GPU-seconds and USD by class, for spreadsheets.
    Csv,
}

/// Shows where every GPU-hour and every USD went. The classes are useful, idle, held empty, waiting for peers, starting, restarting, lost
/// and unhealthy; they sum to what there was.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster cost report\n  muster cost report --by user --from 2026-10 --to 2026-11\n  muster cost report --by label --label team --output csv > team.csv"
)]
pub struct Args {
    /// What a row is of.
    #[arg(long, value_enum, value_name = "WHAT", default_value = "queue")]
    by: By,
    /// The label of which each value is a row, with --by label.
    #[arg(long, value_name = "KEY", required_if_eq("by", "label"))]
    label: Option<String>,
    /// The first month counted (UTC) [default: all that is kept].
    #[arg(long, value_name = "MONTH")]
    from: Option<Month>,
    /// The last month counted [default: this one].
    #[arg(long, value_name = "MONTH")]
    to: Option<Month>,
    /// How to print it.
    #[arg(long, short, value_enum, value_name = "FORMAT", default_value = "table")]
    output: CostFormat,
}

impl Args {
    fn check(&self) -> Result<(), Failure> {
        if self.label.is_some() && self.by != By::Label {
            return Err(Failure::usage("--label goes with --by label"));
        }
        match (&self.from, &self.to) {
            (Some(_), _) | (_, Some(_)) if self.by == By::Job => {
                Err(Failure::usage("a job is counted whole: leave --from and --to out"))
            }
            (Some(from), Some(to)) if from > to => {
                Err(Failure::usage(format!("--from {} is after --to {}", from.as_str(), to.as_str())))
            }
            _ => Ok(()),
        }
    }

    /// # Errors
    /// Wrong usage; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        self.check()?;
        let month = |month: &Option<Month>| month.as_ref().map(|m| m.as_str().to_owned()).unwrap_or_default();
        let request = CostRequest {
            by: self.by.as_str().to_owned(),
            label: self.label.clone().unwrap_or_default(),
            from: month(&self.from),
            to: month(&self.to),
        };
        let mut client = Client::new(global)?;
        let (json, cost) =
            client.document::<CostDoc>(async |api| api.get_cost(request.clone()).await).await?;
        match self.output {
            CostFormat::Json => output::document(&json)?,
            CostFormat::Csv => output::data(&csv(&cost))?,
            CostFormat::Table => {
                output::data(&table(&cost))?;
                beside(&cost).iter().for_each(|line| output::talk(line));
            }
        }
        Ok(DONE)
    }
}

/// Names of the classes, as in SPEC section 10, and the total.
const CLASSES: [&str; 9] = [
    "useful",
    "idle",
    "held_empty",
    "waiting_for_peers",
    "starting",
    "restarting",
    "lost",
    "unhealthy",
    "total",
];

/// The amounts in the order of [`CLASSES`].
fn amounts(classes: &ClassesDoc) -> [f64; 9] {
    [
        classes.useful,
        classes.idle,
        classes.held_empty,
        classes.waiting_for_peers,
        classes.starting,
        classes.restarting,
        classes.lost,
        classes.unhealthy,
        classes.total,
    ]
}

fn hours(seconds: f64) -> String {
    format!("{:.2}", seconds / 3_600.0)
}

/// GPU-hours by class, then money: all of it, and what was not useful.
fn table(cost: &CostDoc) -> String {
    let by_job = cost.by == "job";
    let key = cost.label.as_deref().unwrap_or(&cost.by).to_uppercase();
    let mut headings = vec![key.as_str()];
    headings.extend(by_job.then_some("NAME"));
    headings.extend([
        ">USEFUL",
        ">IDLE",
        ">HELD EMPTY",
        ">FOR PEERS",
        ">STARTING",
        ">RESTARTING",
        ">LOST",
        ">UNHEALTHY",
        ">GPU-HOURS",
        ">USD",
        ">NOT USEFUL",
    ]);
    let mut table = Table::new(&headings);
    let mut add = |key: String, row: &CostRowDoc| {
        let mut cells = vec![key];
        cells.extend(by_job.then(|| row.name.clone().unwrap_or_default()));
        cells.extend(amounts(&row.gpu_seconds).map(hours));
        // What rounding leaves is no cost.
        let rest = (row.usd.total - row.usd.useful).max(0.0);
        cells.extend([usd(row.usd.total), usd(rest)]);
        table.row(cells);
    };
    cost.rows.iter().for_each(|row| add(row.key.clone(), row));
    add("total".to_owned(), &cost.total);
    table.render()
}

/// What the table has no place for, for people.
fn beside(cost: &CostDoc) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(capacity) = cost.capacity_gpu_seconds {
        lines.push(format!(
            "the workers had {} GPU-hours in that time, counted on their own",
            hours(capacity)
        ));
    }
    lines.extend(cost.note.clone());
    lines
}

/// One line a row, numbers in full; no total, so that a column may be summed.
fn csv(cost: &CostDoc) -> String {
    let mut out = String::from("key,name");
    for (unit, class) in
        [("gpu_seconds", CLASSES), ("usd", CLASSES)].iter().flat_map(|(u, all)| all.map(|c| (*u, c)))
    {
        out.extend([",", unit, "_", class]);
    }
    out.push_str("\r\n");
    for row in &cost.rows {
        out.push_str(&quoted(&row.key));
        out.push(',');
        out.push_str(&quoted(row.name.as_deref().unwrap_or_default()));
        for amount in amounts(&row.gpu_seconds).into_iter().chain(amounts(&row.usd)) {
            out.push(',');
            out.push_str(&amount.to_string());
        }
        out.push_str("\r\n");
    }
    out
}

/// A field by RFC 4180. What a spreadsheet would take for a formula is text there: labels and names are other people's.
fn quoted(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    if guard.is_empty() && !text.contains([',', '"', '\n', '\r']) {
        return text.to_owned();
    }
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, useful: f64, idle: f64, usd: f64) -> CostRowDoc {
        let classes =
            |useful, idle| ClassesDoc { useful, idle, total: useful + idle, ..ClassesDoc::default() };
        let gpu_seconds = classes(useful, idle);
        let usd = classes(usd * useful / (useful + idle), usd * idle / (useful + idle));
        CostRowDoc { key: key.into(), name: None, gpu_seconds, usd }
    }

    fn cost() -> CostDoc {
        CostDoc {
            by: "queue".into(),
            rows: vec![row("research", 5_400.0, 1_800.0, 8.0), row("", 0.0, 3_600.0, 4.0)],
            total: row("", 5_400.0, 5_400.0, 12.0),
            capacity_gpu_seconds: Some(10_800.0),
            ..CostDoc::default()
        }
    }

    #[test]
    fn hours_by_class_and_money_with_what_was_not_useful() {
        let expected = "\
QUEUE     USEFUL  IDLE  HELD EMPTY  FOR PEERS  STARTING  RESTARTING  LOST  UNHEALTHY  GPU-HOURS    USD  NOT USEFUL
research    1.50  0.50        0.00       0.00      0.00        0.00  0.00       0.00       2.00   8.00        2.00
-           0.00  1.00        0.00       0.00      0.00        0.00  0.00       0.00       1.00   4.00        4.00
total       1.50  1.50        0.00       0.00      0.00        0.00  0.00       0.00       3.00  12.00        6.00
";
        assert_eq!(table(&cost()), expected);
        assert_eq!(beside(&cost()), ["the workers had 3.00 GPU-hours in that time, counted on their own"]);
    }

    #[test]
    fn jobs_have_their_names() {
        let named = CostRowDoc { name: Some("digits".into()), ..row("42", 3_600.0, 0.0, 1.0) };
        let cost =
            CostDoc { by: "job".into(), total: named.clone(), rows: vec![named], ..CostDoc::default() };
        let text = table(&cost);
        let cells = |n: usize| text.lines().nth(n).unwrap().split_whitespace().take(2).collect::<Vec<_>>();
        assert_eq!((cells(0), cells(1)), (vec!["JOB", "NAME"], vec!["42", "digits"]));
    }

    #[test]
    fn a_spreadsheet_gets_every_class_and_no_formula() {
        let named = CostRowDoc { name: Some("=cmd()".into()), ..row("a,\"b\"", 2.0, 1.0, 3.0) };
        let text = csv(&CostDoc { rows: vec![named], ..cost() });
        let expected = "key,name,gpu_seconds_useful,gpu_seconds_idle,gpu_seconds_held_empty,gpu_seconds_waiting_for_peers,\
gpu_seconds_starting,gpu_seconds_restarting,gpu_seconds_lost,gpu_seconds_unhealthy,gpu_seconds_total,usd_useful,usd_idle,usd_held_empty,\
usd_waiting_for_peers,usd_starting,usd_restarting,usd_lost,usd_unhealthy,usd_total\r\n\
\"a,\"\"b\"\"\",\"'=cmd()\",2,1,0,0,0,0,0,0,3,2,1,0,0,0,0,0,0,3\r\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn questions_without_an_answer_are_wrong_usage() {
        let args = |from: &str, to: &str, by, label: Option<&str>| Args {
            by,
            label: label.map(str::to_owned),
            from: Some(from.parse().unwrap()),
            to: Some(to.parse().unwrap()),
            output: CostFormat::Table,
        };
        assert_eq!(args("2026-10", "2026-10", By::Label, Some("team")).check(), Ok(()));
        let error = args("2026-11", "2026-10", By::Queue, None).check().unwrap_err();
        assert_eq!(error, Failure::usage("--from 2026-11 is after --to 2026-10"));
        assert!(args("2026-10", "2026-10", By::User, Some("team")).check().is_err());
        assert!(args("2026-10", "2026-10", By::Job, None).check().is_err());
    }
}
