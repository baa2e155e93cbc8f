//! Expressions that hold, that do not, and that are refused, each with what it says.

use super::super::expr_facts::{TaskFacts, WorkerFacts};
use super::*;
use crate::model::ids::JobId;
use crate::model::job_spec::JsonText;

fn worker() -> WorkerFacts {
    WorkerFacts {
        name: "w1".into(),
        pool: "h100".into(),
        labels: BTreeMap::from([("zone".into(), "eu1".into()), ("rack-id".into(), "r7".into())]),
        cpu_milli: 96_000,
        memory: 1 << 40,
        gpus: 8,
        gpu_model: "H100-80GB".into(),
        gpu_memory: 80_000_000_000,
        spot: true,
        cuda: Some("12.10".into()),
        ..WorkerFacts::default()
    }
}

fn constraint(text: &str) -> Result<bool, String> {
    check(text, &Scope::Worker).map_err(|e| e.to_string())?;
    Expressions::new().constraint(text, &WorkerValue::new(&worker())).map_err(|e| e.to_string())
}

#[test]
fn constraints_ask_about_a_worker() {
    for (text, truth) in [
        ("worker.labels.zone == 'eu1'", true),
        ("worker.labels['rack-id'] == 'r7'", true),
        ("worker.labels.row == 'x'", false),
        ("has(worker.labels.row)", false),
        ("!has(worker.labels.row) || worker.labels.row == 'x'", true),
        ("worker.cuda >= '12.4'", true),
        ("'12.4' <= worker.cuda", true),
        ("worker.cuda < '9.2'", false),
        ("worker.driver >= '550'", false),
        ("worker.memory >= '512GiB'", true),
        ("worker.memory > '1TiB'", false),
        ("worker.memory == 1099511627776", true),
        ("worker.cpus >= 8 && worker.gpus == 8", true),
        ("worker.cpus >= 8.5", true),
        ("worker.gpu_model.startsWith('H100')", true),
        ("worker.gpu_model.matches('^[AH]100')", true),
        ("!worker.spot", false),
        ("worker.pool in ['a', 'h100']", true),
        ("['a', 'w1'].exists(n, n == worker.name)", true),
    ] {
        assert_eq!(constraint(text), Ok(truth), "{text}");
    }
}

#[test]
fn wrong_constraints_say_why() {
    let nested = "[1].all(a, [1].all(b, [1].all(c, true)))";
    for (text, part) in [
        ("worker.zone == 'eu1'", "names \"worker.zone\""),
        ("wroker.spot", "names \"wroker\""),
        ("spot", "names \"spot\""),
        ("worker.labels.zone = 'eu1'", "no valid expression"),
        ("", "no valid expression"),
        ("worker.cuda >= 'new'", "compares worker.cuda with \"new\", which is no version"),
        ("worker.memory >= '64G'", "which is no size"),
        ("worker.name", "is a string, not true or false"),
        ("1 / 0 == 1", "failed"),
        (nested, "too complex"),
    ] {
        let error = constraint(text).expect_err(text);
        assert!(error.contains(part), "{text}: {error}");
    }
    let long = format!("worker.spot{}", " || worker.spot".repeat(200));
    assert!(constraint(&long).expect_err("long").contains("the most is 2048"));
    for deep in [
        "(".repeat(1_000),
        "!".repeat(1_500) + "true",
        "[".repeat(2_000),
        "a.".repeat(1_000),
        "-".repeat(2_000) + "1",
    ] {
        assert!(check(&deep, &Scope::Worker).is_err(), "{}", &deep[..10]);
    }
    for (deep, fine) in
        [("!".repeat(100) + "worker.spot", true), ("(".repeat(8) + "worker.spot" + &")".repeat(8), true)]
    {
        assert_eq!(check(&deep, &Scope::Worker).is_ok(), fine, "{}", &deep[..10]);
    }
}

#[test]
fn when_asks_about_tasks() {
    let train = TaskFacts {
        state: "failed".into(),
        succeeded_count: 3,
        failed_count: 1,
        total: 4,
        ..TaskFacts::default()
    };
    let facts = WhenFacts {
        job: JobId(42),
        name: "digits".into(),
        params: BTreeMap::from([
            ("mode".into(), JsonText("\"full\"".into())),
            ("n".into(), JsonText("3".into())),
        ]),
        tasks: BTreeMap::from([("train".into(), train.clone()), ("pre-train".into(), train)]),
    };
    let mut expressions = Expressions::new();
    for (text, truth) in [
        ("tasks.train.succeeded_count > 0", true),
        ("tasks['pre-train'].failed_count == 1", true),
        ("tasks.`pre-train`.failed_count == 1", true),
        ("tasks.train.state == 'succeeded'", false),
        ("params.mode == 'full' && params.n == 3 && job.name == 'digits' && job.id == 42", true),
        ("tasks.train.succeeded_count * 2 >= tasks.train.total", true),
    ] {
        assert_eq!(expressions.when(text, &facts), Ok(truth), "{text}");
    }
    let names = Names { tasks: &["train", "pre-train"], params: &["mode"] };
    for (text, part) in [
        ("tasks.trian.total > 0", "did you mean \"tasks.train\"?"),
        ("tasks.evaluate.total > 0", "add \"evaluate\" to `needs`"),
        ("tasks.train.suceeded_count > 0", "did you mean \"tasks.train.succeeded_count\"?"),
        ("params.mod == 'x'", "did you mean \"params.mode\"?"),
        ("worker.spot", "known there: tasks, params, job"),
    ] {
        let Err(ExprError::Unknown { hint, .. }) = check(text, &Scope::When(Some(names))) else {
            panic!("{text}")
        };
        assert!(hint.contains(part), "{text}: {hint}");
    }
}
