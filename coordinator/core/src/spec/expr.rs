//! CEL in job files: `when:` over `tasks`, `params` and `job`, `constraints:` over `worker`. Compiled and checked at submission,
//! evaluated by the leader and in the plan, never in apply.
//!
//! Two comforts, done when compiling: a version field compared with a text compares as versions (`worker.cuda >= '12.4'` holds for
//! 12.10), and a field of bytes compared with a text compares with that size (`worker.memory >= '64GiB'`).

use std::collections::BTreeMap;

use cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, SelectExpr, operators};
use cel::parser::{Expression, Parser};
use cel::{ExecutionError, Value};

use super::error::nearest;
use super::expr_facts::{
    SIZE_FIELDS, TASK_FIELDS, VERSION_FIELDS, WORKER_FIELDS, WhenFacts, WorkerValue, hidden, version_number,
};
use super::limits;
use crate::model::size::Size;

/// Why an expression can't be used or evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExprError {
    /// It is no CEL.
    #[error("no valid expression: {0}")]
    Syntax(String),
    /// It is over the limit.
    #[error("the expression has {0} bytes; the most is {most}", most = limits::EXPRESSION_BYTES)]
    TooLarge(usize),
    /// It names something that is not there.
    #[error("the expression names \"{name}\", which is not there")]
    Unknown {
        /// The name.
        name: String,
        /// The next step.
        hint: String,
    },
    /// Loops within loops, brackets within brackets, or very many operators.
    #[error(
        "the expression is too complex: at most two loops (all, exists, map, filter) and 8 brackets within each other, and 128 operators"
    )]
    TooDeep,
    /// A text stands where a version or a size is needed.
    #[error("the expression compares {field} with \"{text}\", which is no {kind}")]
    Literal {
        /// The field.
        field: String,
        /// The text.
        text: String,
        /// `version` or `size`.
        kind: &'static str,
    },
    /// Its evaluation failed.
    #[error("the expression failed: {0}")]
    Evaluate(String),
    /// Its value is neither true nor false.
    #[error("the expression is {0}, not true or false")]
    NotBool(String),
}

/// A checked expression.
#[derive(Clone, Debug)]
struct Compiled(Expression);

/// Which expressions are wanted, and what they may name.
pub(super) enum Scope<'a> {
    /// `constraints:`.
    Worker,
    /// `when:` with the tasks it may ask about and the parameters of the job. `None`: compiled before, all names are known good.
    When(Option<Names<'a>>),
}

/// What a `when:` may name.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    pub tasks: &'a [&'a str],
    pub params: &'a [&'a str],
}

/// Expressions of a leader, each compiled once. Bounded: it begins anew after 10,000.
#[derive(Default)]
pub struct Expressions {
    when: BTreeMap<Box<str>, Result<Compiled, ExprError>>,
    constraints: BTreeMap<Box<str>, Result<Compiled, ExprError>>,
}

const CACHED: usize = 10_000;

impl Expressions {
    /// An empty cache.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a task with `when: text` runs.
    ///
    /// # Errors
    /// An expression that does not compile, fails, or is neither true nor false: the task should be skipped with this as its reason.
    pub fn when(&mut self, text: &str, facts: &WhenFacts) -> Result<bool, ExprError> {
        let compiled = cached(&mut self.when, text, &Scope::When(None))?;
        truth(Value::resolve(&compiled.0, &facts.context()), false)
    }

    /// Whether the worker satisfies a constraint. What the worker does not have (a label, a GPU) makes it false, not an error.
    ///
    /// # Errors
    /// An expression that does not compile, fails for another reason, or is neither true nor false.
    pub fn constraint(&mut self, text: &str, worker: &WorkerValue) -> Result<bool, ExprError> {
        let compiled = cached(&mut self.constraints, text, &Scope::Worker)?;
        truth(Value::resolve(&compiled.0, &worker.0), true)
    }
}

fn cached<'c>(
    cache: &'c mut BTreeMap<Box<str>, Result<Compiled, ExprError>>,
    text: &str,
    scope: &Scope<'_>,
) -> Result<&'c Compiled, ExprError> {
    if cache.len() >= CACHED && !cache.contains_key(text) {
        cache.clear();
    }
    if !cache.contains_key(text) {
        cache.insert(text.into(), compile(text, scope));
    }
    match &cache[text] {
        Ok(compiled) => Ok(compiled),
        Err(error) => Err(error.clone()),
    }
}

fn truth(result: Result<Value, ExecutionError>, missing_is_false: bool) -> Result<bool, ExprError> {
    match result {
        Ok(Value::Bool(truth)) => Ok(truth),
        Ok(other) => Err(ExprError::NotBool(format!("a {}", other.type_of()))),
        Err(ExecutionError::NoSuchKey(_)) if missing_is_false => Ok(false),
        Err(error) => Err(ExprError::Evaluate(error.to_string())),
    }
}

/// Checks an expression at submission.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(text: &str, scope: &Scope<'_>) -> Result<(), ExprError> {
    compile(text, scope).map(drop)
}

fn compile(text: &str, scope: &Scope<'_>) -> Result<Compiled, ExprError> {
    if text.len() > limits::EXPRESSION_BYTES {
        return Err(ExprError::TooLarge(text.len()));
    }
    if too_complex(text) {
        return Err(ExprError::TooDeep);
    }
    let parser =
        Parser::new().max_recursion_depth(32).error_recovery_limit(2).enable_ident_escape_syntax(true);
    let mut expression = parser.parse(text).map_err(|e| {
        let first = e.errors.first().map_or_else(|| "it can't be read".to_owned(), |e| e.msg.clone());
        let line = first.lines().next().unwrap_or_default().trim().trim_start_matches("Syntax error: ");
        ExprError::Syntax(line.chars().take(200).collect())
    })?;
    let mut walk = Walk { scope, bound: Vec::new(), loops: 0 };
    walk.visit(&mut expression.expr)?;
    Ok(Compiled(expression))
}

/// Whether a text could nest deeper than the stack of a thread likes: the parser recurses once for each of these.
fn too_complex(text: &str) -> bool {
    let (mut depth, mut operators, mut quote, mut before) = (0_u32, 0_u32, None, ' ');
    for c in text.chars() {
        match (quote, c) {
            (Some(q), c) if c == q && before != '\\' => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"' | '`') => quote = Some(c),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            (None, c) if "!-+*/%?.".contains(c) => operators += 1,
            (None, c) if "=<>&|".contains(c) && c != before => operators += 1,
            _ => {}
        }
        if depth > 8 || operators > 128 {
            return true;
        }
        before = c;
    }
    false
}

struct Walk<'a> {
    scope: &'a Scope<'a>,
    /// Names bound by the loops around.
    bound: Vec<String>,
    loops: usize,
}

impl Walk<'_> {
    fn visit(&mut self, expr: &mut Expr) -> Result<(), ExprError> {
        if let Some(path) = path(expr) {
            return self.name(&path);
        }
        match expr {
            Expr::Call(call) => {
                self.comfort(call)?;
                for part in call.target.iter_mut().map(AsMut::as_mut).chain(&mut call.args) {
                    self.visit(&mut part.expr)?;
                }
                Ok(())
            }
            Expr::Comprehension(c) => {
                self.visit(&mut c.iter_range.expr)?;
                self.loops += 1;
                if self.loops > 2 {
                    return Err(ExprError::TooDeep);
                }
                let before = self.bound.len();
                self.bound.extend([c.iter_var.clone(), c.accu_var.clone()]);
                self.bound.extend(c.iter_var2.clone());
                for part in [&mut c.accu_init, &mut c.loop_cond, &mut c.loop_step, &mut c.result] {
                    self.visit(&mut part.expr)?;
                }
                self.bound.truncate(before);
                self.loops -= 1;
                Ok(())
            }
            Expr::List(list) => list.elements.iter_mut().try_for_each(|e| self.visit(&mut e.expr)),
            Expr::Map(map) => self.entries(&mut map.entries),
            Expr::Struct(s) => self.entries(&mut s.entries),
            Expr::Select(select) => self.visit(&mut select.operand.expr),
            Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Ok(()),
        }
    }

    fn entries(&mut self, entries: &mut [cel::common::ast::IdedEntryExpr]) -> Result<(), ExprError> {
        for entry in entries {
            match &mut entry.expr {
                EntryExpr::MapEntry(e) => {
                    self.visit(&mut e.key.expr)?;
                    self.visit(&mut e.value.expr)?;
                }
                EntryExpr::StructField(f) => self.visit(&mut f.value.expr)?,
            }
        }
        Ok(())
    }

    /// Checks a dotted name, such as `worker.labels.zone`.
    fn name(&self, path: &[String]) -> Result<(), ExprError> {
        let root = path[0].as_str();
        if self.bound.iter().any(|b| b == root) || root.starts_with('@') || hidden_name(path) {
            return Ok(());
        }
        let unknown = |parts: usize, known: &[&str], prefix: &str| {
            let name = &path[parts - 1];
            let hint = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean \"{prefix}{near}\"?"),
                None if known.is_empty() => format!("nothing is known as {prefix}…"),
                None => format!(
                    "known there: {}",
                    known.iter().take(20).map(|k| format!("{prefix}{k}")).collect::<Vec<_>>().join(", ")
                ),
            };
            Err(ExprError::Unknown { name: path[..parts].join("."), hint })
        };
        let field = |known: &[&str], prefix: &str| match path.get(1) {
            Some(name) if !known.contains(&name.as_str()) => unknown(2, known, prefix),
            _ => Ok(()),
        };
        match (self.scope, root) {
            (Scope::Worker, "worker") => field(&WORKER_FIELDS, "worker."),
            (Scope::Worker, _) => unknown(1, &["worker"], ""),
            (Scope::When(_), "job") => field(&["id", "name"], "job."),
            (Scope::When(None), "params" | "tasks") => Ok(()),
            (Scope::When(Some(names)), "params") => field(names.params, "params."),
            (Scope::When(Some(names)), "tasks") => {
                match path.get(1) {
                    None => {}
                    Some(task) if names.tasks.contains(&task.as_str()) => {}
                    Some(task) => {
                        let near = nearest(task, names.tasks.iter().copied());
                        let hint = near.map_or_else(
                            || {
                                format!(
                                    "add \"{task}\" to `needs`: `when` sees only the tasks that are needed"
                                )
                            },
                            |n| format!("did you mean \"tasks.{n}\"?"),
                        );
                        return Err(ExprError::Unknown { name: path[..2].join("."), hint });
                    }
                }
                match path.get(2) {
                    Some(name) if !TASK_FIELDS.contains(&name.as_str()) => {
                        unknown(3, &TASK_FIELDS, &format!("tasks.{}.", path[1]))
                    }
                    _ => Ok(()),
                }
            }
            (Scope::When(_), _) => unknown(1, &["tasks", "params", "job"], ""),
        }
    }

    /// Turns the text of a comparison with a version or a size into the number it means.
    fn comfort(&self, call: &mut CallExpr) -> Result<(), ExprError> {
        const COMPARISONS: [&str; 6] = [
            operators::EQUALS,
            operators::NOT_EQUALS,
            operators::LESS,
            operators::LESS_EQUALS,
            operators::GREATER,
            operators::GREATER_EQUALS,
        ];
        if !matches!(self.scope, Scope::Worker) || !COMPARISONS.contains(&call.func_name.as_str()) {
            return Ok(());
        }
        let [left, right] = call.args.as_mut_slice() else { return Ok(()) };
        let (name, literal) = match (&mut left.expr, &mut right.expr) {
            (Expr::Select(select), Expr::Literal(literal))
            | (Expr::Literal(literal), Expr::Select(select)) => (select, literal),
            _ => return Ok(()),
        };
        let (Some(field), LiteralValue::String(text)) = (worker_field(name), &*literal) else {
            return Ok(());
        };
        let text = text.inner().to_owned();
        let fault = |kind| ExprError::Literal { field: format!("worker.{field}"), text: text.clone(), kind };
        let number = if VERSION_FIELDS.contains(&field.as_str()) {
            let number = version_number(&text).ok_or_else(|| fault("version"))?;
            name.field = hidden(&field);
            number
        } else if SIZE_FIELDS.contains(&field.as_str()) {
            let size = Size::parse(&text).map_err(|_| fault("size"))?;
            i64::try_from(size.bytes()).unwrap_or(i64::MAX)
        } else {
            return Ok(());
        };
        *literal = LiteralValue::Int(number.into());
        Ok(())
    }
}

/// The field, if this is `worker.FIELD`.
fn worker_field(select: &SelectExpr) -> Option<String> {
    matches!(&select.operand.expr, Expr::Ident(name) if name == "worker").then(|| select.field.clone())
}

fn hidden_name(path: &[String]) -> bool {
    path.len() == 2 && path[0] == "worker" && VERSION_FIELDS.iter().any(|f| hidden(f) == path[1])
}

/// The parts of a dotted name, `x["y"]` counting as `x.y`; `None` if the expression is more than a name.
fn path(expr: &Expr) -> Option<Vec<String>> {
    match expr {
        Expr::Ident(name) => Some(vec![name.strip_prefix('.').unwrap_or(name).to_owned()]),
        Expr::Select(select) => {
            let mut parts = path(&select.operand.expr)?;
            parts.push(select.field.clone());
            Some(parts)
        }
        Expr::Call(call)
            if call.func_name == operators::INDEX && call.target.is_none() && call.args.len() == 2 =>
        {
            let Expr::Literal(LiteralValue::String(key)) = &call.args[1].expr else { return None };
            let mut parts = path(&call.args[0].expr)?;
            parts.push(key.inner().to_owned());
            Some(parts)
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "expr_test.rs"]
mod tests;
