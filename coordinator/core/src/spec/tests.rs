//! Tests over the whole way of a job file: text → `load` → `JobSpec`, and every rule that refuses one.

use std::fmt::Write as _;

use super::{Format, JobFile, SpecBytes, SpecCode, SpecErrors, check, load, parse};
use crate::model::gang::Gang;
use crate::model::ids::{JobId, TaskNo};
use crate::model::job_spec::{JobSpec, NeedWhen, Run, TriggerRule};
use crate::model::resources::GpuAmount;
use crate::spec::Renderer;

/// A job of SPEC section 3 as far as this version runs it.
pub(super) const DIGITS: &str = r#"
name: digits
queue: research
priority: 70
labels: {team: vision}
params: {epochs: 20, seeds: [1, 2, 3]}
env: {PYTHONUNBUFFERED: 1, VERSION: 1.10, RUN: "{{ job.name }}-{{ job.id }}"}
workdir: {path: ., ignore: ["*.pyc"]}
defaults: {retry: {attempts: 3}}
tasks:
  prepare:
    run: python prepare.py --out $MUSTER_OUTPUT_DIR/data.npz
    resources: {cpus: 2, memory: 4GiB, disk: 10GiB}
    outputs:
      data: {path: data.npz}
  train:
    needs: [prepare]
    rule: all_success
    inputs: {data: prepare.data}
    array: {matrix: {seed: "{{ params.seeds }}", lr: [0.1, 0.01]}, max_running: 4}
    run: python train.py --data $MUSTER_INPUT_DATA --seed {{ matrix.seed }} --lr {{ matrix.lr }} --epochs {{ params.epochs }}
    resources:
      cpus: 8
      memory: 32GiB
      gpus: {count: 1, model: [H100, A100], memory: 40GiB, compute_capability: ">=8.0", link: any}
    workers: 1
    constraints: ["worker.labels.zone == 'eu1'", "worker.cuda >= '12.4'"]
    spot: avoid
    checkpoint: {grace: 60s, signal: SIGUSR1}
    retry:
      attempts: 5
      backoff: {initial: 10s, factor: 2, max: 5m, jitter: 0.2}
      on: {exit_codes: [1, 139], oom: false, timeout: false}
    timeout: 6h
  report:
    needs: [{task: train, when: finished}]
    rule: all_done
    when: "tasks.train.succeeded_count > 0"
    run: [python, report.py, --n, 3]
"#;

fn yaml(text: &str) -> Result<JobSpec, SpecErrors> {
    load(text.as_bytes(), Format::Yaml, "job.yaml", &[] as &[&str]).map(|(_, checked)| checked.spec)
}

/// A job whose only task has these lines.
fn task(lines: &str) -> String {
    format!(
        "name: x\ntasks:\n  a:\n    run: \"true\"\n{}",
        lines.lines().map(|l| format!("    {l}\n")).collect::<String>()
    )
}

#[test]
fn the_job_of_the_contract_is_resolved() {
    let spec = yaml(DIGITS).expect("job");
    assert_eq!(
        (spec.name.as_str(), spec.queue.as_str(), spec.priority, spec.tasks.len()),
        ("digits", "research", 70, 3)
    );
    assert_eq!(spec.env["VERSION"], "1.10");
    let train = &spec.tasks[1];
    assert_eq!((train.count(), train.max_running(), spec.index_total()), (6, Some(4), 8));
    let common = spec.common(train);
    assert_eq!(common.constraints, ["worker.labels.zone == 'eu1'", "worker.cuda >= '12.4'", "!worker.spot"]);
    assert_eq!(
        (common.retry.attempts, common.retry.backoff.factor_milli, common.retry.backoff.jitter_permille),
        (5, 2_000, 200)
    );
    assert_eq!((common.stop.signal, common.stop.grace_ms, common.timeout_ms), (10, 60_000, Some(21_600_000)));
    assert_eq!(spec.common(&spec.tasks[2]).retry.attempts, 3);
    let report = &spec.tasks[2];
    assert_eq!((report.needs[0].task, report.needs[0].when), (TaskNo(1), NeedWhen::Finished));
    assert_eq!(spec.common(report).rule, TriggerRule::AllDone);
    assert_eq!(report.run, Run::Exec(["python", "report.py", "--n", "3"].into_iter().collect()));
    assert_eq!(SpecBytes::encode(&spec).decode(), Ok(spec));
}

#[test]
fn an_index_is_rendered_with_its_values() {
    let spec = yaml(DIGITS).expect("job");
    let rendered = Renderer::new().render(&spec, JobId(42), TaskNo(1), 3).expect("rendered");
    assert_eq!(
        rendered.run,
        Run::Shell("python train.py --data $MUSTER_INPUT_DATA --seed 2 --lr 0.01 --epochs 20".into())
    );
    assert_eq!(rendered.env["RUN"], "digits-42");
    assert!(Renderer::new().render(&spec, JobId(42), TaskNo(1), 6).is_err());
}

#[test]
fn the_three_languages_mean_the_same() {
    let from_yaml = parse(DIGITS.as_bytes(), Format::Yaml, "digits.yaml").expect("yaml");
    let from_json = parse(from_yaml.to_json().as_bytes(), Format::Json, "digits.json").expect("json");
    assert_eq!(from_yaml, from_json);
    let toml = r#"
        name = "x"
        [params]
        day = 2026-01-01
        [tasks.z]
        run = "true"
        [tasks.a]
        needs = ["z", {task = "m", when = "failed"}]
        run = ["echo", "hi"]
        [tasks.m]
        run = "true"
        array = "0-9%2"
    "#;
    let (job, checked) = load(toml.as_bytes(), Format::Toml, "x.toml", &[] as &[&str]).expect("toml");
    assert_eq!(
        checked.spec.tasks.iter().map(|t| &*t.name).collect::<Vec<_>>(),
        ["z", "a", "m"],
        "file order"
    );
    assert_eq!(job.params["day"], "2026-01-01");
}

#[test]
fn the_whole_example_of_the_contract_is_read_and_what_is_not_run_is_named() {
    let full = DIGITS
        .replace("defaults:", "budget: {usd: 25, on_exceed: hold}\nschedule: {cron: \"0 3 * * *\", timezone: Europe/Madrid, overlap: skip, backfill: {from: 2026-01-01}}\non: [{artifact: raw-images}, {job: ingest, when: succeeded}, {webhook: nightly}]\nnotify: [{webhook: \"https://x\", events: [failed, succeeded, budget]}]\ndefaults:")
        .replace("data: {path: data.npz}", "data: {path: data.npz, check: python check.py, schema: schema.json}\n    cache: true")
        .replace("workers: 1", "elastic: {min: 2, max: 8}\n    topology: {prefer: rack}\n    container: {image: pytorch.sif, runtime: podman}\n    secrets: [HF_TOKEN]");
    let errors = yaml(&full).expect_err("refused");
    let fields: Vec<&str> = errors
        .0
        .iter()
        .filter(|e| e.code == SpecCode::Unsupported)
        .filter_map(|e| e.field.as_deref())
        .collect();
    assert_eq!(
        fields,
        [
            "schedule",
            "on",
            "tasks.prepare.cache",
            "tasks.prepare.outputs.data.check",
            "tasks.prepare.outputs.data.schema",
            "tasks.train.container",
            "tasks.train.secrets",
        ]
    );
    assert_eq!(errors.0.len(), fields.len());
    assert_eq!(errors.0[0].line, Some(10));
}

#[test]
fn every_unknown_key_is_named_with_its_line_and_the_nearest_one() {
    let text = "name: x\nqueu: a\ntasks:\n  a:\n    rnu: \"true\"\n    resources:\n      cpu: 1\n      memory: 4G\n      gpus: {cuont: 1}\n    timeout: 30\n    rule: all_sucess\n";
    let errors = yaml(text).expect_err("unknown");
    let shown: Vec<String> =
        errors.0.iter().map(|e| format!("{e} / {}", e.hint.as_deref().unwrap_or(""))).collect();
    assert_eq!(
        shown,
        [
            "job.yaml:2: queu: unknown field \"queu\" / did you mean \"queue\"?",
            "job.yaml:5: tasks.a.rnu: unknown field \"rnu\" / did you mean \"run\"?",
            "job.yaml:7: tasks.a.resources.cpu: unknown field \"cpu\" / did you mean \"cpus\"?",
            "job.yaml:8: tasks.a.resources.memory: `4G` has the unknown unit `G`: sizes take B, KiB, MiB, GiB, TiB (1024) and KB, MB, GB, TB (1000) / ",
            "job.yaml:9: tasks.a.resources.gpus.cuont: unknown field \"cuont\" / did you mean \"count\"?",
            "job.yaml:10: tasks.a.timeout: `30` has no unit: durations take ms, s, m, h and d, as in `30s` / ",
            "job.yaml:11: tasks.a.rule: \"all_sucess\" is not one of all_success, all_done, all_failed, one_success, one_failed, none_failed, none_failed_min_one_success, always / did you mean \"all_success\"?",
        ]
    );
    for (text, format, line) in [
        ("{\n\"tasks\": {\"a\": {\n\"rnu\": \"true\"}}}", Format::Json, 3),
        ("[tasks.a]\nrun = \"true\"\nrnu = 1\n", Format::Toml, 3),
    ] {
        let errors = parse(text.as_bytes(), format, "x").expect_err("unknown");
        assert_eq!((errors.0[0].code, errors.0[0].line), (SpecCode::UnknownField, Some(line)));
    }
}

#[test]
fn every_rule_refuses_with_its_code() {
    let many_env = format!("env: {{A: {}}}", "x".repeat(200_000));
    let env_sum = format!(
        "env: {{{}}}",
        (0..3).map(|i| format!("A{i}: {}", "x".repeat(100_000))).collect::<Vec<_>>().join(", ")
    );
    let long_name = format!("name: {}\ntasks: {{a: {{run: x}}}}", "n".repeat(64));
    let script = format!("name: x\ntasks: {{a: {{run: \"{}\"}}}}", "x".repeat((4 << 20) + 1));
    for (text, code, part) in [
        ("name: Big\ntasks: {a: {run: x}}".to_owned(), SpecCode::InvalidName, "is no name of a job"),
        (long_name, SpecCode::InvalidName, "from 1 to 63"),
        ("name: x\ntasks: {a b: {run: x}}".to_owned(), SpecCode::InvalidName, "is no name of a task"),
        ("name: x\ntasks: {}".to_owned(), SpecCode::MissingField, "no task"),
        ("name: x".to_owned(), SpecCode::MissingField, "has no \"tasks\""),
        ("name: x\npriority: 101\ntasks: {a: {run: x}}".to_owned(), SpecCode::InvalidValue, "from 0 to 100"),
        ("name: x\ntasks: {a: {}}".to_owned(), SpecCode::MissingField, "has no `run`"),
        ("name: x\ntasks: {a: {run: \" \"}}".to_owned(), SpecCode::InvalidValue, "the command is empty"),
        ("name: x\ntasks: {a: {run: []}}".to_owned(), SpecCode::InvalidValue, "no program"),
        (script, SpecCode::TooLarge, "at most 4194304 (4 MiB)"),
        (task("needs: [b]"), SpecCode::UnknownTask, "needs \"b\""),
        (task("needs: [a]"), SpecCode::Cycle, "needs itself"),
        (
            "name: x\ntasks: {a: {run: x}, b: {run: x, needs: [a, a]}}".to_owned(),
            SpecCode::Duplicate,
            "needs \"a\" twice",
        ),
        (
            "name: x\ntasks: {a: {run: x, needs: [c]}, b: {run: x, needs: [a]}, c: {run: x, needs: [b]}}"
                .to_owned(),
            SpecCode::Cycle,
            "a → b → c → a",
        ),
        (task("inputs: {d: b.data}"), SpecCode::UnknownTask, "task \"b\", which is not there"),
        (task("inputs: {d: data}"), SpecCode::InvalidValue, "is no output of a task"),
        (
            "name: x\ntasks: {a: {run: x, outputs: {data: {path: d}}}, b: {run: x, inputs: {d: a.dato}}}"
                .to_owned(),
            SpecCode::UnknownOutput,
            "no output \"dato\"",
        ),
        (task("outputs: {d: {path: ../x}}"), SpecCode::InvalidValue, "leaves $MUSTER_OUTPUT_DIR"),
        (task("outputs: {d: {path: /x}}"), SpecCode::InvalidValue, "is absolute"),
        (task("array: 5-1"), SpecCode::InvalidArray, "write 1-5"),
        (task("array: 0-1000000"), SpecCode::TooLarge, "at most 1000000"),
        (
            "name: x\ntasks: {a: {run: x, array: 0-599999}, b: {run: x, array: 0-599999}}".to_owned(),
            SpecCode::TooLarge,
            "1200000 task indices",
        ),
        (task("constraints: [\"worker.zon == 'x'\"]"), SpecCode::InvalidExpression, "names \"worker.zon\""),
        (task("when: tasks.b.total > 0"), SpecCode::InvalidExpression, "names \"tasks.b\""),
        (task("when: 1 +"), SpecCode::InvalidExpression, "no valid expression"),
        (task("env: {A: \"{{ params.x }}\"}"), SpecCode::InvalidTemplate, "names \"params.x\""),
        (task("env: {MUSTER_TASK: x}"), SpecCode::InvalidValue, "Muster's own"),
        (task(&many_env), SpecCode::InvalidValue, "at most 131072 (128 KiB)"),
        (task(&env_sum), SpecCode::TooLarge, "at most 262144 (256 KiB)"),
        (task("retry: {attempts: 0}"), SpecCode::InvalidValue, "the first try counts"),
        (task("retry: {backoff: {factor: 0.5}}"), SpecCode::InvalidValue, "outside 1 to 100"),
        (task("retry: {backoff: {initial: 10m, max: 5m}}"), SpecCode::InvalidValue, "longer than `max`"),
        (task("retry: {on: {exit_codes: [0]}}"), SpecCode::InvalidValue, "no exit code of a failure"),
        (task("timeout: 0"), SpecCode::InvalidValue, "timeout is 0"),
        (task("checkpoint: {signal: SIGKILL}"), SpecCode::InvalidValue, "no program can react"),
        (task("checkpoint: {signal: SIGNOPE}"), SpecCode::InvalidValue, "is no signal"),
        (task("checkpoint: {keep: 0}"), SpecCode::InvalidValue, "keep is 0; 1 to 100 are kept"),
        (task("checkpoint: {every: 10ms}"), SpecCode::InvalidValue, "once a second at most"),
        (task("checkpoint: {watch: ../x}"), SpecCode::InvalidValue, "no glob below"),
        (task("workers: 0"), SpecCode::InvalidValue, "workers is 0"),
        (task("workers: 2000"), SpecCode::InvalidValue, "at most 1024"),
        (task("workers: 2\nelastic: {min: 1, max: 2}"), SpecCode::InvalidValue, "`workers: 2` contradict"),
        (task("elastic: {min: 3, max: 2}"), SpecCode::InvalidValue, "`min` is 3 and `max` is 2"),
        (task("elastic: {min: 0, max: 2}"), SpecCode::InvalidValue, "elastic is 0"),
        (task("workers: 2\ntopology: {require: \"\"}"), SpecCode::InvalidValue, "label's name is empty"),
        (task("resources: {gpus: {fraction: 1.5}}"), SpecCode::InvalidValue, "1.5 is no part of one GPU"),
        (task("resources: {gpus: {fraction: 0}}"), SpecCode::InvalidValue, "0 is no part of one GPU"),
        (task("resources: {gpus: {fraction: 0.0001}}"), SpecCode::InvalidValue, "too little"),
        (task("resources: {gpus: {fraction: 0.5, count: 2}}"), SpecCode::InvalidValue, "`count` is 2"),
        (task("resources: {gpus: {fraction: 0.5, link: nvlink}}"), SpecCode::InvalidValue, "joins several"),
        (task("resources: {gpus: {fraction: 0.5, mig: 1g.10gb}}"), SpecCode::InvalidValue, "contradict"),
        (task("resources: {gpus: {mig: half}}"), SpecCode::InvalidValue, "\"half\" is no MIG profile"),
        (task("resources: {gpus: {mig: 1g.10gb, link: nvlink}}"), SpecCode::InvalidValue, "not linked"),
        (
            task("resources: {gpus: {compute_capability: new}}"),
            SpecCode::InvalidValue,
            "no compute capability",
        ),
        (
            "name: x\nparams: {a: null}\ntasks: {a: {run: x}}".to_owned(),
            SpecCode::UnknownParam,
            "has no value",
        ),
        (
            "name: x\nignore: [\"*.o\"]\ntasks: {a: {run: x}}".to_owned(),
            SpecCode::InvalidValue,
            "nothing is shipped",
        ),
        ("name: x\nname: y\ntasks: {a: {run: x}}".to_owned(), SpecCode::Duplicate, "name"),
        ("name: x\ntasks: {a: {run: x}, a: {run: y}}".to_owned(), SpecCode::Duplicate, "a"),
        ("name: [x".to_owned(), SpecCode::Syntax, "no valid YAML"),
        ("- a\n- b".to_owned(), SpecCode::InvalidValue, "this is a list"),
        (String::new(), SpecCode::InvalidValue, "the job file is empty"),
    ] {
        let errors = yaml(&text).expect_err(&text[..text.len().min(200)]);
        let error = errors.first();
        assert_eq!(error.code, code, "{error} for {}", &text[..text.len().min(200)]);
        assert!(error.message.contains(part), "{error}");
        assert_eq!(errors.0.len(), 1, "{errors}");
        assert!(error.line.is_some() || text.is_empty(), "{error}");
    }
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let errors = parse(b"name: x\nqueue: \xff\xfe\n", Format::Yaml, "j.yaml").expect_err("not UTF-8");
    assert_eq!((errors.0[0].code, errors.0[0].line), (SpecCode::NotUtf8, Some(2)));
    let errors = parse(&vec![b' '; (64 << 20) + 1], Format::Yaml, "j.yaml").expect_err("too large");
    assert_eq!(errors.0[0].code, SpecCode::TooLarge);
    assert!(errors.0[0].message.contains("(64 MiB)"));
}

#[test]
fn bombs_end_early() {
    let mut laughs =
        String::from("name: x\nparams:\n  a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for i in 1..12 {
        let refs = vec![format!("*a{}", i - 1); 9].join(", ");
        writeln!(laughs, "  a{i}: &a{i} [{refs}]").expect("text");
    }
    laughs.push_str("tasks: {a: {run: x}}\n");
    assert!(parse(laughs.as_bytes(), Format::Yaml, "bomb.yaml").is_err());
    for deep in [
        "[".repeat(100_000),
        "{\"a\":".repeat(100_000),
        "a: ".repeat(50_000),
        "- ".repeat(50_000),
        "[[a]]\n".repeat(10_000),
    ] {
        for format in [Format::Yaml, Format::Json, Format::Toml] {
            assert!(parse(deep.as_bytes(), format, "deep").is_err());
            assert!(parse(format!("params: {deep}").as_bytes(), format, "deep").is_err());
        }
    }
}

#[test]
fn an_input_makes_its_producer_needed() {
    let spec =
        yaml("name: x\ntasks: {a: {run: x, outputs: {data: {path: d}}}, b: {run: x, inputs: {d: a.data}}}")
            .expect("job");
    assert_eq!((spec.tasks[1].needs[0].task, spec.tasks[1].needs[0].when), (TaskNo(0), NeedWhen::Unsaid));
    assert_eq!(&*spec.tasks[1].inputs()[0].output, "data");
}

#[test]
fn tasks_that_ask_alike_share_what_they_ask() {
    let mut text =
        String::from("name: x\ndefaults: {resources: {cpus: 2, memory: 1GiB}, env: {A: 1}}\ntasks:\n");
    for i in 0..100 {
        writeln!(text, "  t{i}: {{run: x, resources: {{cpus: {}}}}}", i % 2 + 1).expect("text");
    }
    let spec = yaml(&text).expect("job");
    assert_eq!(spec.commons.len(), 2);
    assert_eq!(
        (
            spec.commons[0].resources.cpu_milli,
            spec.commons[0].resources.memory,
            spec.commons[0].env["A"].as_str()
        ),
        (1_000, 1 << 30, "1")
    );
}

#[test]
fn a_million_indices_are_some_bytes() {
    let spec = yaml(&task("array: 0-999999%50")).expect("job");
    assert_eq!(spec.index_total(), 1_000_000);
    assert!(SpecBytes::encode(&spec).0.len() < 400);
}

#[test]
fn parameters_are_overridden_before_the_check() {
    let text = "name: x\nparams: {n: null, seeds: []}\ntasks: {a: {run: \"echo {{ params.n }}\", array: {matrix: {s: \"{{ params.seeds }}\"}}}}";
    assert!(yaml(text).is_err());
    let (_, checked) = load(text.as_bytes(), Format::Yaml, "x.yaml", &["n=7", "seeds=[a, b]"]).expect("job");
    assert_eq!(checked.spec.tasks[0].count(), 2);
}

#[test]
fn shares_of_gpus_and_gangs_are_numbers() {
    let common = |text: &str| yaml(&task(text)).expect(text).commons[0].clone();
    for (text, amount) in [
        ("gpus: 2", GpuAmount::Whole(2)),
        ("gpus: {model: H100}", GpuAmount::Whole(1)),
        ("gpus: {fraction: 0.5}", GpuAmount::Fraction(500)),
        ("gpus: {fraction: 1}", GpuAmount::Whole(1)),
        ("gpus: {mig: 1G.10GB}", GpuAmount::Mig("1g.10gb".into(), 1)),
        ("gpus: {mig: 1c.2g.20gb, count: 3}", GpuAmount::Mig("1c.2g.20gb".into(), 3)),
    ] {
        let resources = common(&format!("resources: {{{text}}}")).resources;
        assert_eq!(resources.gpus.map(|g| g.amount), Some(amount), "{text}");
    }
    let gang = |min, max, require: Option<&str>, prefer: &[&str]| {
        let prefer = prefer.iter().map(|l| (*l).to_owned()).collect();
        Some(Box::new(Gang { min, max, require: require.map(str::to_owned), prefer }))
    };
    for (text, expected) in [
        ("workers: 1", None),
        ("workers: 4\ntopology: {prefer: rack}", gang(4, 4, None, &["rack"])),
        (
            "elastic: {min: 2, max: 8}\ntopology: {require: block, prefer: [rack, switch]}",
            gang(2, 8, Some("block"), &["rack", "switch"]),
        ),
    ] {
        assert_eq!(common(text).gang, expected, "{text}");
    }
}

#[test]
fn warnings_say_what_is_not_done() {
    let text = task(
        "checkpoint: {every: 10m, watch: \"checkpoint-*\", keep: 2}\nretry: {log_rules: [{match: CUDA, action: fail}]}\ntopology: {prefer: rack}",
    );
    let text = format!("notify: [{{webhook: \"https://x\"}}]\nbudget: {{usd: 5, on_exceed: warn}}\n{text}");
    let (_, checked) = load(text.as_bytes(), Format::Yaml, "x.yaml", &[] as &[&str]).expect("job");
    let fields: Vec<&str> = checked.warnings.iter().map(|w| w.field.as_str()).collect();
    assert_eq!(checked.spec.budget.map(|budget| budget.micro_usd), Some(5_000_000));
    assert_eq!(fields, ["notify", "tasks.a.topology", "tasks.a.retry.log_rules"]);
}

#[test]
fn a_job_without_a_name_has_that_of_its_file() {
    let job: JobFile = parse(b"tasks: {a: {run: true}}", Format::Yaml, "/x/My Job.v2.yaml").expect("job");
    assert_eq!(job.name.as_deref(), Some("my-job"));
    assert_eq!(check(&job, None).expect("job").spec.tasks[0].run, Run::Shell("true".into()));
    assert_eq!(parse(b"tasks: {a: {run: x}}", Format::Yaml, "-").expect("job").name.as_deref(), Some("job"));
}

/// Measured by hand: `cargo test --release -p muster-core a_hundred_thousand -- --ignored --nocapture` under `time`.
#[test]
#[ignore = "a measurement"]
fn a_hundred_thousand_tasks() {
    let mut text = String::from("name: x\ntasks:\n");
    for i in 0..100_000_u32 {
        let need = if i == 0 { String::new() } else { format!(", needs: [t{}]", i / 2) };
        writeln!(text, "  t{i}: {{run: \"python work.py --part {i}\"{need}}}").expect("text");
    }
    let text = text.replacen("needs: [t0]", "needs: []", 1);
    let (job, checked) = load(text.as_bytes(), Format::Yaml, "x.yaml", &[] as &[&str]).expect("job");
    let json = job.to_json();
    let again = parse(json.as_bytes(), Format::Json, "x.json").expect("json");
    assert_eq!(check(&again, None).expect("job"), checked);
    let bytes = SpecBytes::encode(&checked.spec);
    assert_eq!(bytes.decode().as_ref(), Ok(&checked.spec));
}
