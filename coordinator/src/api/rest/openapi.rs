//! Routes and the OpenAPI 3.1 document, made together: a call that is routed is described, and one that is described is routed. Schemas come from the
//! same structs that are read and written (`schemars`, which job files use too: JSON Schema 2020-12 is what OpenAPI 3.1 speaks).

use super::super::service::Service;
use super::operation::Operation;
use super::problem::ProblemDoc;
use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodRouter, get, post};
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// Routes with their description.
pub struct Api {
    /// Calls that want the token of a user.
    private: Router<Service>,
    /// Calls that want none.
    public: Router<Service>,
    paths: Map<String, Value>,
    inputs: SchemaGenerator,
    outputs: SchemaGenerator,
}

/// Largest numbers of the formats that JSON Schema does not know: what is larger can't be read.
#[derive(Debug, Clone)]
struct Limits;

impl Transform for Limits {
    fn transform(&mut self, schema: &mut Schema) {
        let max = match schema.get("format").and_then(Value::as_str) {
            Some("uint32") => u64::from(u32::MAX),
            Some("uint64") => u64::MAX,
            _ => return,
        };
        if schema.get("maximum").is_none() {
            schema.insert("maximum".to_owned(), max.into());
        }
    }
}

/// What is answered is said, never left to a default.
#[derive(Debug, Clone)]
struct NoDefaults;

impl Transform for NoDefaults {
    fn transform(&mut self, schema: &mut Schema) {
        schema.remove("default");
    }
}

impl Default for Api {
    fn default() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        let outputs = settings.clone().with_transform(RecursiveTransform(NoDefaults)).for_serialize();
        let inputs = settings.with_transform(RecursiveTransform(Limits)).for_deserialize();
        Self {
            private: Router::new(),
            public: Router::new(),
            paths: Map::new(),
            inputs: inputs.into_generator(),
            outputs: outputs.into_generator(),
        }
    }
}

impl Api {
    /// A `GET` with the token of a user.
    #[must_use]
    pub fn get<T: 'static>(
        self,
        path: &str,
        handler: impl Handler<T, Service>,
        operation: Operation,
    ) -> Self {
        self.private("get", path, get(handler), &operation)
    }

    /// A `POST` with the token of a user.
    #[must_use]
    pub fn post<T: 'static>(
        self,
        path: &str,
        handler: impl Handler<T, Service>,
        operation: Operation,
    ) -> Self {
        self.private("post", path, post(handler), &operation)
    }

    /// The same for a route with layers of its own.
    #[must_use]
    pub fn private(
        mut self,
        method: &str,
        path: &str,
        route: MethodRouter<Service>,
        operation: &Operation,
    ) -> Self {
        self.describe(method, path, operation);
        self.private = self.private.route(path, route);
        self
    }

    /// A `GET` that anybody may call.
    #[must_use]
    pub fn get_public<T: 'static>(
        mut self,
        path: &str,
        handler: impl Handler<T, Service>,
        operation: Operation,
    ) -> Self {
        self.describe("get", path, &operation.public());
        self.public = self.public.route(path, get(handler));
        self
    }

    fn describe(&mut self, method: &str, path: &str, operation: &Operation) {
        let doc = operation.doc(&mut self.inputs, &mut self.outputs);
        let methods = self.paths.entry(path.to_owned()).or_insert_with(|| json!({}));
        debug_assert!(methods.get(method).is_none(), "{method} {path} twice");
        methods[method] = doc;
    }

    /// Routes that want a token, routes that want none, and the document.
    ///
    /// # Panics
    /// When two types that differ have one name: a mistake that the first test finds.
    pub fn finish(mut self) -> (Router<Service>, Router<Service>, Value) {
        self.outputs.subschema_for::<ProblemDoc>();
        let mut schemas = self.outputs.take_definitions(true);
        for (name, schema) in self.inputs.take_definitions(true) {
            let same = schemas.get(&name).is_none_or(|known| *known == schema);
            assert!(same, "two schemas are called {name}");
            schemas.insert(name, schema);
        }
        let document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Muster",
                "version": env!("CARGO_PKG_VERSION"),
                "description": ABOUT,
                "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            },
            "servers": [{ "url": "/", "description": "Any member of the cluster" }],
            "security": [{ "bearer": [] }],
            "tags": TAGS.iter().map(|(name, about)| json!({ "name": name, "description": about })).collect::<Vec<_>>(),
            "paths": self.paths,
            "components": {
                "securitySchemes": {
                    "bearer": { "type": "http", "scheme": "bearer", "description": "The token of a user." },
                },
                "schemas": schemas,
            },
        });
        (self.private, self.public, document)
    }
}

/// The head of the document.
const ABOUT: &str = "The REST face of a Muster cluster. Any member answers; what changes something is carried to the leader. A read sees \
everything that was acknowledged before it. Times are RFC 3339 in UTC, durations seconds, sizes bytes, money USD. Fields are added, never renamed: \
ignore those you don't know. Errors are RFC 9457 problem documents with a stable `code`.";

/// Groups of calls.
const TAGS: &[(&str, &str)] = &[
    ("jobs", "Jobs, their tasks and their output"),
    ("workers", "Machines and their devices"),
    ("scaling", "Pools, and how many machines they are to have"),
    ("cluster", "The members, queues, and how all are"),
];

/// The document alone, as `muster schema openapi` prints it and `/openapi.json` serves it.
#[must_use]
pub fn document() -> Value {
    super::api().finish().2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file in the repository is what this code serves.
    #[test]
    fn the_file_in_the_repository_is_the_document() {
        let file: Value =
            serde_json::from_str(include_str!("../../../openapi.json")).expect("openapi.json is JSON");
        assert!(
            file == document(),
            "coordinator/openapi.json is stale; renew it: muster schema openapi > coordinator/openapi.json"
        );
    }

    #[test]
    fn what_is_serialised_is_required_and_numbers_have_their_format() {
        let schemas = &document()["components"]["schemas"];
        let job = &schemas["JobDoc"];
        assert_eq!(job["properties"]["id"], json!({ "type": "integer", "format": "uint64", "minimum": 0 }));
        let started = &job["properties"]["started"];
        assert_eq!(started["type"], json!(["string", "null"]));
        assert_eq!(started["format"], "date-time");
        let required = job["required"].as_array().expect("required fields");
        assert!(
            required.contains(&json!("started")) && required.contains(&json!("timeline")),
            "{required:?}"
        );
        let task = schemas["TaskDoc"]["required"].as_array().expect("required fields");
        assert!(!task.contains(&json!("notes")), "it is left out while there are none");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        for (at, _) in text.match_indices("\"#/") {
            let pointer = text[at + 2..].split('"').next().expect("an end");
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
