//! Job files of the benchmarks, as JSON text of the public schema.

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Map, Value, json};

/// The command of every task: a real program that does nothing.
fn noop() -> Value {
    json!(["/bin/true"])
}

fn job(name: &str, tasks: Map<String, Value>) -> String {
    json!({"name": name, "tasks": tasks}).to_string()
}

/// One task.
#[must_use]
pub fn single() -> String {
    json!({"name": "single", "tasks": {"t": {"run": noop()}}}).to_string()
}

/// One task with `count` indices.
#[must_use]
pub fn array(count: u32) -> String {
    let range = format!("0-{}", count.saturating_sub(1));
    json!({"name": "array", "tasks": {"t": {"run": noop(), "array": range}}}).to_string()
}

/// `count` tasks that need nothing.
#[must_use]
pub fn explicit(count: u32) -> String {
    job("explicit", (0..count).map(|number| (format!("t{number:06}"), json!({"run": noop()}))).collect())
}

/// The same as YAML text, one line a task.
#[must_use]
pub fn explicit_yaml(count: u32) -> String {
    let mut text = String::from("name: explicit\ntasks:\n");
    for number in 0..count {
        text.push_str(&format!("  t{number:06}: {{run: [/bin/true]}}\n"));
    }
    text
}

/// `layers` × `width` tasks; each needs `parents` tasks of the layer before, drawn by `seed`.
#[must_use]
pub fn layers(layers: u32, width: u32, parents: u32, seed: u64) -> String {
    let mut chance = StdRng::seed_from_u64(seed);
    let name = |layer: u32, at: usize| format!("l{layer:03}-{at:03}");
    let mut tasks = Map::new();
    for layer in 0..layers {
        for at in 0..width as usize {
            let mut task = json!({"run": noop()});
            if layer > 0 {
                let drawn =
                    rand::seq::index::sample(&mut chance, width as usize, parents.min(width) as usize);
                task["needs"] = drawn.into_iter().map(|parent| name(layer - 1, parent)).collect();
            }
            tasks.insert(name(layer, at), task);
        }
    }
    job("layers", tasks)
}

/// One task, `width` tasks that need it, one that needs all of those.
#[must_use]
pub fn fan(width: u32) -> String {
    let names: Vec<String> = (0..width).map(|at| format!("m{at:05}")).collect();
    let mut tasks = Map::new();
    tasks.insert("first".to_owned(), json!({"run": noop()}));
    tasks.extend(names.iter().map(|name| (name.clone(), json!({"run": noop(), "needs": ["first"]}))));
    tasks.insert("last".to_owned(), json!({"run": noop(), "needs": names}));
    job("fan", tasks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::spec::{Format, load};

    fn counts(text: &str, format: Format) -> (usize, u64) {
        let (_, checked) =
            load(text.as_bytes(), format, "bench", &[] as &[&str]).unwrap_or_else(|error| panic!("{error}"));
        (checked.spec.tasks.len(), checked.spec.index_total())
    }

    #[test]
    fn every_job_is_valid() {
        assert_eq!(counts(&single(), Format::Json), (1, 1));
        assert_eq!(counts(&array(1_000), Format::Json), (1, 1_000));
        assert_eq!(counts(&explicit(50), Format::Json), (50, 50));
        assert_eq!(counts(&explicit_yaml(50), Format::Yaml), (50, 50));
        assert_eq!(counts(&fan(100), Format::Json), (102, 102));
        assert_eq!(counts(&layers(10, 5, 3, 1), Format::Json), (50, 50));
    }

    #[test]
    fn the_same_seed_is_the_same_graph() {
        assert_eq!(layers(5, 9, 3, 7), layers(5, 9, 3, 7));
        assert_ne!(layers(5, 9, 3, 7), layers(5, 9, 3, 8));
    }
}
