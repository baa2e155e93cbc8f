//! `muster graph ID`: the DAG of a job as text, dot or JSON.

use super::get;
use crate::args::Global;
use crate::client::Client;
use crate::client::mutate::target;
use crate::failure::{DONE, Done};
use crate::output;
use clap::ValueEnum;
use muster_core::view_doc::{JobDoc, TaskDoc};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;

/// How the DAG is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum GraphFormat {
    /// One line a task, in the order they run.
    #[value(alias = "table")]
    Text,
    /// For graphviz: `muster graph 42 -o dot | dot -Tsvg`.
    Dot,
    /// Nodes and edges.
    Json,
}

/// Shows the DAG of a job.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  muster graph 42\n  muster graph 42 --output dot | dot -Tsvg > job.svg")]
pub struct Args {
    /// The job.
    #[arg(value_name = "ID")]
    id: String,
    /// How to print it.
    #[arg(long, short, value_enum, value_name = "FORMAT", default_value = "text")]
    output: GraphFormat,
}

impl Args {
    /// # Errors
    /// No such job; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let name = target(&self.id)?;
        let (_, job) = get(&mut Client::new(global)?, name.job).await?;
        let text = match self.output {
            GraphFormat::Text => text(&job),
            GraphFormat::Dot => dot(&job),
            GraphFormat::Json => serde_json::to_string_pretty(&document(&job)).unwrap_or_default(),
        };
        output::data(&text)?;
        Ok(DONE)
    }
}

/// Tasks with their layer: one more than the deepest task they need.
fn layers(job: &JobDoc) -> Vec<(usize, &TaskDoc)> {
    let position: BTreeMap<&str, usize> =
        job.tasks.iter().enumerate().map(|(n, t)| (t.name.as_str(), n)).collect();
    let needs: Vec<Vec<usize>> = job
        .tasks
        .iter()
        .map(|t| t.needs.iter().filter_map(|n| position.get(n.task.as_str()).copied()).collect())
        .collect();
    let mut children = vec![Vec::new(); needs.len()];
    let mut missing: Vec<usize> = needs.iter().map(Vec::len).collect();
    for (task, parents) in needs.iter().enumerate() {
        for parent in parents {
            children[*parent].push(task);
        }
    }
    let mut layer = vec![0usize; needs.len()];
    let mut open: Vec<usize> = (0..needs.len()).filter(|n| missing[*n] == 0).collect();
    while let Some(task) = open.pop() {
        for child in &children[task] {
            layer[*child] = layer[*child].max(layer[task] + 1);
            missing[*child] -= 1;
            if missing[*child] == 0 {
                open.push(*child);
            }
        }
    }
    let mut order: Vec<(usize, &TaskDoc)> = layer.into_iter().zip(&job.tasks).collect();
    order.sort_by_key(|(layer, _)| *layer);
    order
}

fn text(job: &JobDoc) -> String {
    let order = layers(job);
    let width = order.iter().map(|(layer, t)| 2 * layer + t.name.len()).max().unwrap_or(0);
    let mut out = format!("job {} `{}` {}\n", job.id, job.name, job.state);
    for (layer, task) in order {
        let name = format!("{}{}", "  ".repeat(layer), task.name);
        let _ =
            write!(out, "{name:width$}  {:9}  {}/{}", task.state, task.counts.finished(), task.counts.total);
        if !task.needs.is_empty() {
            let needs: Vec<String> = task
                .needs
                .iter()
                .map(|n| {
                    if matches!(n.when.as_str(), "" | "succeeded") {
                        n.task.clone()
                    } else {
                        format!("{} ({})", n.task, n.when)
                    }
                })
                .collect();
            let _ = write!(out, "  ← {}", needs.join(", "));
        }
        out.push('\n');
    }
    out
}

fn dot(job: &JobDoc) -> String {
    let mut out = format!("digraph \"job {}\" {{\n  rankdir=LR;\n  node [shape=box];\n", job.id);
    for task in &job.tasks {
        let colour = match task.state.as_str() {
            "succeeded" => "palegreen",
            "failed" | "cancelled" => "lightpink",
            "running" | "starting" | "stopping" => "lightblue",
            _ => "white",
        };
        let _ = writeln!(
            out,
            "  \"{}\" [label=\"{}\\n{} {}/{}\", style=filled, fillcolor={colour}];",
            task.name,
            task.name,
            task.state,
            task.counts.finished(),
            task.counts.total
        );
    }
    for task in &job.tasks {
        for need in &task.needs {
            let label = if matches!(need.when.as_str(), "" | "succeeded") {
                String::new()
            } else {
                format!(" [label=\"{}\"]", need.when)
            };
            let _ = writeln!(out, "  \"{}\" -> \"{}\"{label};", need.task, task.name);
        }
    }
    out.push_str("}\n");
    out
}

fn document(job: &JobDoc) -> serde_json::Value {
    let nodes: Vec<_> =
        job.tasks.iter().map(|t| json!({"task": t.name, "state": t.state, "counts": t.counts})).collect();
    let edges: Vec<_> = job
        .tasks
        .iter()
        .flat_map(|t| t.needs.iter().map(|n| json!({"from": n.task, "to": t.name, "when": n.when})))
        .collect();
    json!({"job": job.id, "name": job.name, "state": job.state, "nodes": nodes, "edges": edges})
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::view_doc::NeedDoc;

    fn task(name: &str, needs: &[&str]) -> TaskDoc {
        let needs = needs.iter().map(|n| NeedDoc { task: (*n).into(), when: "succeeded".into() }).collect();
        TaskDoc { name: name.into(), state: "waiting".into(), needs, ..TaskDoc::default() }
    }

    #[test]
    fn a_diamond_is_drawn_in_the_order_it_runs() {
        let tasks = vec![task("d", &["b", "c"]), task("b", &["a"]), task("c", &["a"]), task("a", &[])];
        let job = JobDoc { id: 1, name: "x".into(), state: "pending".into(), tasks, ..JobDoc::default() };
        let names: Vec<(usize, &str)> = layers(&job).into_iter().map(|(l, t)| (l, t.name.as_str())).collect();
        assert_eq!(names, [(0, "a"), (1, "b"), (1, "c"), (2, "d")]);
        assert!(text(&job).ends_with("    d  waiting    0/0  ← b, c\n"), "{}", text(&job));
        assert!(dot(&job).contains("\"a\" -> \"b\";"));
        assert_eq!(document(&job)["edges"].as_array().unwrap().len(), 4);
    }
}
