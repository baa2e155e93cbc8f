//! The JSON Schema of a job file, made from the same structs that parse it. Formats of our own (`muster-size`, `muster-duration`,
//! `muster-cpus`) let `diagnose` check the text of a value; other readers ignore them.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::array_file::{ArrayFile, AxisFile, MatrixFile};
use super::file::JobFile;
use super::request::{GpuTable, GpusFile};
use super::value::{
    Cpus, NeedFile, NeedTable, NeedsFile, Ordered, RunFile, Texts, WorkdirFile, WorkdirTable,
};
use crate::model::duration::Millis;
use crate::model::size::Size;

/// The JSON Schema of a job file (draft 2020-12), as `muster schema job` prints it.
///
/// # Panics
/// Never: a schema is JSON.
#[must_use]
pub fn job_schema() -> serde_json::Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<JobFile>();
    schema.insert("$id".to_owned(), "https://muster-cluster.github.io/schema/job.json".into());
    schema.insert("title".to_owned(), "Muster job file".into());
    schema.to_value()
}

/// The same with everything in place instead of referenced: what `diagnose` walks.
pub(super) fn inlined() -> serde_json::Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<JobFile>().to_value()
}

/// Implements `JsonSchema` by an expression over the generator.
macro_rules! schema {
    ($type:ty, $name:literal, $inline:literal, |$generator:ident| $schema:expr) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn inline_schema() -> bool {
                $inline
            }
            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

schema!(Size, "Size", false, |_g| json_schema!({
    "description": "A size: a number with B, KiB, MiB, GiB, TiB, KB, MB, GB or TB, or a number of bytes.",
    "type": ["string", "integer"], "format": "muster-size", "examples": ["4GiB", "512MiB"]
}));
schema!(Millis, "Duration", false, |_g| json_schema!({
    "description": "A duration: a number with ms, s, m, h or d.",
    "type": "string", "format": "muster-duration", "examples": ["30s", "2h", "1h30m"]
}));
schema!(Cpus, "Cpus", false, |_g| json_schema!({
    "description": "A number of CPUs, fractions too.",
    "type": ["number", "string"], "format": "muster-cpus", "examples": [2, 0.5]
}));
schema!(RunFile, "Run", false, |_g| json_schema!({
    "description": "A text for /bin/sh -c, or a list of words that is executed as it is.",
    "type": ["string", "array"], "items": {"type": "string"}
}));
schema!(
    Texts,
    "Texts",
    true,
    |_g| json_schema!({ "type": ["string", "array"], "items": {"type": "string"} })
);
schema!(NeedFile, "Need", false, |g| {
    let table = g.subschema_for::<NeedTable>();
    json_schema!({ "description": "The name of a task, or a table with task and when.", "anyOf": [{"type": "string"}, table] })
});
schema!(NeedsFile, "Needs", false, |g| {
    let (need, table) = (g.subschema_for::<NeedFile>(), g.subschema_for::<NeedTable>());
    json_schema!({ "description": "The tasks it waits for.", "anyOf": [{"type": "string"}, table, {"type": "array", "items": need}] })
});
schema!(ArrayFile, "Array", false, |g| {
    let matrix = g.subschema_for::<MatrixFile>();
    json_schema!({
        "description": "A range such as \"0-99%10\" (at most 10 at once) or \"0-99:2\" (every second), a list of indices, or a matrix.",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": u32::MAX}}, matrix]
    })
});
schema!(AxisFile, "Axis", false, |_g| json_schema!({
    "description": "A list of values, or a template of one parameter that is a list.",
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": ["string", "number", "boolean"]}}]
}));
schema!(GpusFile, "Gpus", false, |g| {
    let table = g.subschema_for::<GpuTable>();
    json_schema!({ "description": "A number of GPUs, `2xH100`, or a table.", "anyOf": [{"type": ["integer", "string"], "format": "muster-gpus"}, table] })
});
schema!(WorkdirFile, "Workdir", false, |g| {
    let table = g.subschema_for::<WorkdirTable>();
    json_schema!({ "description": "A path, or a table with path and ignore.", "anyOf": [{"type": "string"}, table] })
});

impl<T: JsonSchema> JsonSchema for Ordered<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Ordered{}", T::schema_name()).into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(g: &mut SchemaGenerator) -> Schema {
        let value = g.subschema_for::<T>();
        json_schema!({ "type": "object", "additionalProperties": value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_there_with_its_meaning() {
        let schema = job_schema();
        let job = schema["properties"].as_object().expect("properties");
        for field in [
            "name", "queue", "priority", "params", "workdir", "budget", "schedule", "on", "notify",
            "defaults", "tasks",
        ] {
            assert!(job.contains_key(field), "{field}");
        }
        let task = schema["$defs"]["TaskFile"]["properties"].as_object().expect("task");
        for field in [
            "run",
            "needs",
            "rule",
            "when",
            "array",
            "resources",
            "retry",
            "timeout",
            "checkpoint",
            "container",
            "secrets",
            "elastic",
        ] {
            assert!(task[field].get("description").is_some() || task[field].get("$ref").is_some(), "{field}");
        }
        assert_eq!(schema["additionalProperties"], false);
        assert!(!inlined().to_string().contains("$ref"));
    }
}
