//! `{{ … }}` in commands and environment values: checked at submission, rendered per index by the leader when it starts one, never in
//! apply. Only expressions: `{% … %}` and `{# … #}` have no meaning here, so that `${#list[@]}` in a shell text stays what it is.
//!
//! A text without `{{` never meets the engine. Fuel bounds the work of one text; what is undefined is an error, not an empty text.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior};

use super::error::nearest;
use super::limits;
use crate::model::ids::{JobId, TaskNo};
use crate::model::job_spec::{ArraySpec, Indices, JobSpec, Run, TaskSpec};

/// Work one text may cost: an operation costs 1, 64 bytes made or copied cost 1. Four times the longest text leaves room for filters.
const FUEL: u64 = 4 * limits::RENDERED_BYTES as u64 / 64;
/// Jobs whose parameters a renderer keeps at hand.
const CACHED_JOBS: usize = 64;

/// A command and its environment, ready to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The command.
    pub run: Run,
    /// The job's and the task's environment, merged.
    pub env: BTreeMap<String, String>,
}

/// Why a template can't be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The text between the braces is no expression, or its evaluation failed.
    #[error("template {place}: {reason}")]
    Evaluate {
        /// Which text: `run` or `env NAME`.
        place: String,
        /// What the engine says.
        reason: String,
    },
    /// A name that does not exist there.
    #[error("template {place} names \"{name}\", which is not there")]
    Undefined {
        /// Which text.
        place: String,
        /// The name.
        name: String,
        /// What is known there instead, nearest first.
        hint: String,
    },
    /// The rendered text is over the limit.
    #[error("template {place} makes {bytes} bytes; a command has at most {most}", most = limits::RENDERED_BYTES)]
    TooLarge {
        /// Which text.
        place: String,
        /// Its length.
        bytes: usize,
    },
    /// The job has no such task or index.
    #[error("the job has no task {0} with the index position {1}")]
    NoSuchIndex(TaskNo, u32),
}

/// Whether a text is a template at all.
#[must_use]
pub(super) fn is_template(text: &str) -> bool {
    text.contains("{{")
}

/// Renders templates. Keep one: it holds the engine and the parameters of recent jobs.
pub struct Renderer {
    engine: Environment<'static>,
    params: Mutex<BTreeMap<JobId, Value>>,
}

impl Default for Renderer {
    fn default() -> Self {
        Self::new()
    }
}

impl Renderer {
    /// A renderer with the filters of Jinja that make texts and numbers, and `quote` for the shell.
    ///
    /// # Panics
    /// Never: the delimiters are constants.
    #[must_use]
    pub fn new() -> Self {
        let mut engine = Environment::new();
        // Delimiters with a NUL byte can't occur: a command can't hold one.
        let mut syntax = SyntaxConfig::builder();
        syntax
            .block_delimiters("{%\0", "\0%}")
            .comment_delimiters("{#\0", "\0#}")
            .keep_trailing_newline(true);
        engine.set_syntax(syntax.build().expect("the delimiters differ"));
        engine.set_undefined_behavior(UndefinedBehavior::Strict);
        engine.set_fuel(Some(FUEL));
        engine.set_recursion_limit(64);
        engine.add_filter("quote", quote);
        for global in ["range", "dict", "debug", "namespace"] {
            engine.remove_global(global);
        }
        Self { engine, params: Mutex::default() }
    }

    /// The command and environment of the index at `position` of `task`.
    ///
    /// # Errors
    /// A template that fails, or a task or position that is not there.
    pub fn render(
        &self,
        spec: &JobSpec,
        job: JobId,
        task: TaskNo,
        position: u32,
    ) -> Result<Rendered, TemplateError> {
        let no_such = || TemplateError::NoSuchIndex(task, position);
        let found = spec.task(task).filter(|t| position < t.count()).ok_or_else(no_such)?;
        let common = spec.common(found);
        let mut context: Option<Value> = None;
        let mut text = |place: &str, text: &str| -> Result<String, TemplateError> {
            if !is_template(text) {
                return Ok(text.to_owned());
            }
            let context = context.get_or_insert_with(|| self.context(spec, job, found, position));
            self.text(place, text, context)
        };
        let run = match &found.run {
            Run::Shell(command) => Run::Shell(text("run", command)?.into()),
            Run::Exec(words) => Run::Exec(words.iter().map(|w| text("run", w)).collect::<Result<_, _>>()?),
        };
        let mut env = BTreeMap::new();
        for (name, value) in
            spec.env.iter().filter(|(name, _)| !common.env.contains_key(*name)).chain(&common.env)
        {
            env.insert(name.clone(), text(&format!("env {name}"), value)?);
        }
        Ok(Rendered { run, env })
    }

    fn text(&self, place: &str, text: &str, context: &Value) -> Result<String, TemplateError> {
        let fault = |e: &Error| TemplateError::Evaluate { place: place.to_owned(), reason: reason(e) };
        let rendered = self.engine.render_str(text, context.clone()).map_err(|e| fault(&e))?;
        if rendered.len() > limits::RENDERED_BYTES {
            return Err(TemplateError::TooLarge { place: place.to_owned(), bytes: rendered.len() });
        }
        if rendered.contains('\0') {
            return Err(TemplateError::Evaluate {
                place: place.to_owned(),
                reason: "it makes a NUL byte, which no command can hold".into(),
            });
        }
        Ok(rendered)
    }

    fn context(&self, spec: &JobSpec, job: JobId, task: &TaskSpec, position: u32) -> Value {
        let mut cache = self.params.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if cache.len() >= CACHED_JOBS && !cache.contains_key(&job) {
            cache.clear();
        }
        let params = cache.entry(job).or_insert_with(|| {
            spec.params
                .iter()
                .map(|(name, value)| (name.clone(), Value::from(Serde(value.value()))))
                .collect::<BTreeMap<_, _>>()
                .into()
        });
        context(params.clone(), &spec.name, job, task.array(), position)
    }
}

/// What templates see: `params`, `job`, and in arrays `index` and `matrix`.
fn context(params: Value, name: &str, job: JobId, array: Option<&ArraySpec>, position: u32) -> Value {
    let job = BTreeMap::from([("id", Value::from(job.0)), ("name", Value::from(name))]);
    let mut names = BTreeMap::from([("params", params), ("job", Value::from(job))]);
    if let Some(array) = array {
        names.insert("index", array.index(position).map_or_else(Value::default, Value::from));
        if matches!(array.indices, Indices::Matrix(_)) {
            let values: BTreeMap<String, Value> = array
                .value(position)
                .into_iter()
                .map(|(axis, value)| (axis.to_owned(), Value::from(Serde(value.value()))))
                .collect();
            names.insert("matrix", values.into());
        }
    }
    names.into()
}

/// Checks templates at submission: they compile, name only what is there, and render for the first index.
pub(super) struct Checker<'a> {
    renderer: Renderer,
    params: &'a BTreeMap<String, serde_json::Value>,
    value: Value,
    job: &'a str,
}

impl<'a> Checker<'a> {
    pub fn new(job: &'a str, params: &'a BTreeMap<String, serde_json::Value>) -> Self {
        let value = params
            .iter()
            .map(|(name, value)| (name.clone(), Value::from(Serde(value))))
            .collect::<BTreeMap<_, _>>()
            .into();
        Self { renderer: Renderer::new(), params, value, job }
    }

    /// Checks one text of a task with this array.
    ///
    /// # Errors
    /// The first thing wrong with it.
    pub fn check(&self, place: &str, text: &str, array: Option<&ArraySpec>) -> Result<(), TemplateError> {
        if !is_template(text) {
            return Ok(());
        }
        let fault = |e: &Error| TemplateError::Evaluate { place: place.to_owned(), reason: reason(e) };
        let template = self.renderer.engine.template_from_str(text).map_err(|e| fault(&e))?;
        let names: BTreeSet<String> = template.undeclared_variables(true).into_iter().collect();
        for name in &names {
            if let Some(hint) = self.unknown(name, array) {
                return Err(TemplateError::Undefined { place: place.to_owned(), name: name.clone(), hint });
            }
        }
        let context = context(self.value.clone(), self.job, JobId(1), array, 0);
        self.renderer.text(place, text, &context).map(drop)
    }

    /// The hint, if `name` (`params.epochs`) does not exist in a task with this array.
    fn unknown(&self, name: &str, array: Option<&ArraySpec>) -> Option<String> {
        let (root, field) =
            name.split_once('.').map_or((name, None), |(root, rest)| (root, rest.split('.').next()));
        let among = |name: &str, prefix: &str, known: Vec<&str>| -> Option<String> {
            if known.contains(&name) {
                return None;
            }
            Some(match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean \"{prefix}{near}\"?"),
                None if known.is_empty() => format!("there is nothing in \"{prefix}\"").replace(".\"", "\""),
                None => format!(
                    "known there: {}",
                    known.iter().map(|k| format!("{prefix}{k}")).collect::<Vec<_>>().join(", ")
                ),
            })
        };
        let axes = match array.map(|a| &a.indices) {
            Some(Indices::Matrix(axes)) => Some(axes),
            _ => None,
        };
        match (root, field) {
            ("params", Some(field)) => {
                among(field, "params.", self.params.keys().map(String::as_str).collect())
            }
            ("job", Some(field)) => among(field, "job.", vec!["id", "name"]),
            ("params" | "job", None) => None,
            ("index", _) if array.is_some() => None,
            ("index", _) => Some("`index` exists only in a task with an `array`".into()),
            ("matrix", _) if axes.is_none() => {
                Some("`matrix` exists only in a task with `array: {matrix: …}`".into())
            }
            ("matrix", None) => None,
            ("matrix", Some(field)) => {
                among(field, "matrix.", axes.into_iter().flatten().map(|a| a.name.as_str()).collect())
            }
            _ => {
                let mut known = vec!["params", "job"];
                known.extend(array.map(|_| "index"));
                known.extend(axes.map(|_| "matrix"));
                let hint = among(root, "", known)?;
                let first =
                    self.params.contains_key(root).then(|| format!("did you mean \"params.{root}\"?"));
                Some(first.unwrap_or(hint))
            }
        }
    }
}

/// What the engine says, without its own place in the text.
fn reason(error: &Error) -> String {
    let what = match error.kind() {
        ErrorKind::UndefinedError => "a value that is used is not there".to_owned(),
        ErrorKind::OutOfFuel => "it does too much work".to_owned(),
        kind => kind.to_string(),
    };
    error.detail().map_or(what.clone(), |detail| format!("{what}: {detail}"))
}

/// The text as one word of a POSIX shell.
fn quote(value: &Value) -> String {
    format!("'{}'", value.to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::job_spec::{Axis, IndexRange, JsonText};
    use serde_json::json;

    fn check(text: &str, array: Option<&ArraySpec>) -> Result<(), String> {
        let params = BTreeMap::from([("epochs".to_owned(), json!(20)), ("seeds".to_owned(), json!([1, 2]))]);
        Checker::new("digits", &params).check("run", text, array).map_err(|e| match e {
            TemplateError::Undefined { name, hint, .. } => format!("{name}: {hint}"),
            other => other.to_string(),
        })
    }

    fn range() -> ArraySpec {
        ArraySpec {
            count: 10,
            indices: Indices::Ranges(vec![IndexRange { first: 5, count: 10, step: 1 }]),
            max_running: None,
        }
    }

    fn matrix() -> ArraySpec {
        let values = vec![JsonText("0.1".into()), JsonText("\"auto\"".into())];
        ArraySpec {
            count: 2,
            indices: Indices::Matrix(vec![Axis { name: "lr".into(), values }]),
            max_running: None,
        }
    }

    #[test]
    fn good_templates_pass() {
        for text in [
            "plain ${#list[@]} {% not a block %} {# not a comment #}",
            "{{ params.epochs }} ${#list[@]} {% x %}",
            "{{ job.name }}-{{ job.id }}",
            "{{ params.seeds | join(',') }} {{ params.epochs + 1 }} {{ job.name | upper | quote }}",
        ] {
            assert_eq!(check(text, None), Ok(()), "{text}");
        }
        assert_eq!(check("{{ index }} {{ '%03d' | format(index) }}", Some(&range())), Ok(()));
        assert_eq!(check("{{ matrix.lr }} {{ index }}", Some(&matrix())), Ok(()));
    }

    #[test]
    fn bad_templates_say_why() {
        for (text, array, part) in [
            ("{{ params.epoch }}", None, "params.epoch: did you mean \"params.epochs\"?"),
            ("{{ epochs }}", None, "epochs: did you mean \"params.epochs\"?"),
            ("{{ parms.epochs }}", None, "did you mean \"params\"?"),
            ("{{ index }}", None, "`index` exists only in a task with an `array`"),
            ("{{ matrix.lr }}", Some(range()), "`matrix` exists only in"),
            ("{{ matrix.rl }}", Some(matrix()), "did you mean \"matrix.lr\"?"),
            ("{{ job.user }}", None, "known there: job.id, job.name"),
            ("{{ params.epochs", None, "template run: syntax error"),
            ("{{ params.epochs | nofilter }}", None, "unknown filter"),
            ("{{ params.seeds[7] }}", None, "not there"),
            ("{{ 'x' * 50000000 }}", None, "too much work"),
        ] {
            let error = check(text, array.as_ref()).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn quoting_is_for_the_shell() {
        let renderer = Renderer::new();
        let context = Value::from(BTreeMap::from([("x", "it's $HOME")]));
        assert_eq!(
            renderer.text("run", "echo {{ x | quote }}\n", &context).expect("text"),
            "echo 'it'\\''s $HOME'\n"
        );
    }
}
