//! What the document says of one call: built beside its handler, from the types that the handler takes and gives. Left out: routing ([`super::openapi`]).

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// Makes the schema of a type.
type Make = fn(&mut SchemaGenerator) -> Schema;

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn text(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "type": "string" })
}

/// What is said of one call.
#[derive(Clone)]
pub struct Operation {
    id: &'static str,
    summary: &'static str,
    description: &'static str,
    tag: &'static str,
    path: Option<Value>,
    query: Option<Make>,
    headers: Vec<Value>,
    body: Vec<(&'static str, Make)>,
    body_required: bool,
    status: u16,
    answer: &'static str,
    content: Vec<(&'static str, Make)>,
    answer_headers: Map<String, Value>,
    links: Map<String, Value>,
    refusals: Vec<u16>,
    public: bool,
}

/// What a status that refuses means here.
fn reason(status: u16) -> &'static str {
    match status {
        304 => "It is what the caller has",
        400 => "The request can't be read",
        401 => "No token of a user",
        404 => "There is no such thing",
        409 => {
            "It is in a state in which this can't be done, or the idempotency key was used for something else"
        }
        413 => "The body is too large",
        415 => "The body is of another content type",
        422 => "The job can be read and can't be run",
        500 => "A fault of the member or its store",
        503 => "No leader, no majority, or no room; the same call may go through later",
        _ => "Refused",
    }
}

impl Operation {
    /// A call named `id`, of the group `tag`. The first line of `about` is its summary.
    #[must_use]
    pub fn new(tag: &'static str, id: &'static str, about: &'static str) -> Self {
        let (summary, description) = about.split_once('\n').unwrap_or((about, ""));
        Self {
            id,
            summary: summary.trim_end_matches('.'),
            description: description.trim(),
            tag,
            path: None,
            query: None,
            headers: Vec::new(),
            body: Vec::new(),
            body_required: false,
            status: 200,
            answer: "Done",
            content: Vec::new(),
            answer_headers: Map::new(),
            links: Map::new(),
            refusals: Vec::new(),
            public: false,
        }
    }

    /// Nobody has to say who they are.
    #[must_use]
    pub fn public(mut self) -> Self {
        self.public = true;
        self
    }

    /// The parameter of the path, described by a schema.
    #[must_use]
    pub fn path(mut self, name: &'static str, about: &'static str, schema: Value) -> Self {
        self.path = Some(json!({
            "name": name, "in": "path", "required": true, "description": about, "schema": schema
        }));
        self.refuses(&[400, 404])
    }

    /// The query is this struct.
    #[must_use]
    pub fn query<T: JsonSchema>(mut self) -> Self {
        self.query = Some(schema_of::<T>);
        self.refuses(&[400])
    }

    /// A header that the call looks at.
    #[must_use]
    pub fn header(mut self, name: &'static str, about: &'static str, schema: Value) -> Self {
        self.headers.push(json!({
            "name": name, "in": "header", "required": false, "description": about, "schema": schema
        }));
        self
    }

    /// It changes something, once for each `Idempotency-Key`.
    #[must_use]
    pub fn mutation(self) -> Self {
        let about = "The same key gives the same answer for at least 24 hours and changes nothing again; it is refused for another payload.";
        let schema = json!({ "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$" });
        self.header("Idempotency-Key", about, schema).refuses(&[400, 409])
    }

    /// The body is this type as JSON, and may be absent.
    #[must_use]
    pub fn body<T: JsonSchema>(mut self) -> Self {
        self.body.push(("application/json", schema_of::<T>));
        self.refuses(&[400, 413, 415])
    }

    /// The body must be there, in one of these content types.
    #[must_use]
    pub fn bodies<T: JsonSchema>(mut self, types: &[&'static str]) -> Self {
        self.body.extend(types.iter().map(|media| (*media, schema_of::<T> as Make)));
        self.body_required = true;
        self.refuses(&[400, 413, 415])
    }

    /// The answer is this type as JSON.
    #[must_use]
    pub fn answers<T: JsonSchema>(mut self, about: &'static str) -> Self {
        self.answer = about;
        self.content.push(("application/json", schema_of::<T>));
        self
    }

    /// The answer is, or may be, a text of this content type.
    #[must_use]
    pub fn text(mut self, about: &'static str, media: &'static str) -> Self {
        self.answer = about;
        self.content.push((media, text));
        self
    }

    /// The status of success, 200 unless it is said.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// A header of the answer.
    #[must_use]
    pub fn answer_header(mut self, name: &str, about: &str) -> Self {
        let header = json!({ "description": about, "schema": { "type": "string" } });
        self.answer_headers.insert(name.to_owned(), header);
        self
    }

    /// What of the answer names another call: a field of it is that call's `id`.
    #[must_use]
    pub fn link(mut self, operation: &str, field: &str) -> Self {
        let link =
            json!({ "operationId": operation, "parameters": { "id": format!("$response.body#/{field}") } });
        self.links.insert(operation.to_owned(), link);
        self
    }

    /// Statuses that refuse. Those of every call (401, 500, 503) need not be said.
    #[must_use]
    pub fn refuses(mut self, statuses: &[u16]) -> Self {
        self.refusals.extend_from_slice(statuses);
        self
    }

    /// Its part of the document. `inputs` makes schemas of what is sent, `outputs` of what is answered: a field with a default may be left out of the
    /// one and is always in the other.
    pub(super) fn doc(&self, inputs: &mut SchemaGenerator, outputs: &mut SchemaGenerator) -> Value {
        let mut parameters: Vec<Value> = self.path.iter().cloned().collect();
        if let Some(make) = self.query {
            parameters.extend(query_parameters(make, inputs));
        }
        parameters.extend(self.headers.iter().cloned());

        let content = |types: &[(&'static str, Make)],
                       generator: &mut SchemaGenerator|
         -> Map<String, Value> {
            let each =
                types.iter().map(|(media, make)| ((*media).to_owned(), json!({ "schema": make(generator) })));
            each.collect()
        };
        let mut success = Map::from_iter([("description".to_owned(), json!(self.answer))]);
        if !self.content.is_empty() {
            success.insert("content".to_owned(), content(&self.content, outputs).into());
        }
        if !self.answer_headers.is_empty() {
            success.insert("headers".to_owned(), self.answer_headers.clone().into());
        }
        if !self.links.is_empty() {
            success.insert("links".to_owned(), self.links.clone().into());
        }
        let mut responses = Map::from_iter([(self.status.to_string(), Value::from(success))]);
        let common: &[u16] = if self.public { &[] } else { &[401, 500, 503] };
        for status in self.refusals.iter().chain(common) {
            let problem = json!({ "$ref": "#/components/schemas/Problem" });
            let mut refusal = json!({ "description": reason(*status) });
            if *status >= 400 {
                refusal["content"] = json!({ super::problem::PROBLEM_JSON: { "schema": problem } });
            }
            responses.insert(status.to_string(), refusal);
        }

        let mut doc = json!({
            "operationId": self.id,
            "summary": self.summary,
            "tags": [self.tag],
            "responses": responses,
        });
        if !self.description.is_empty() {
            doc["description"] = self.description.into();
        }
        if !parameters.is_empty() {
            doc["parameters"] = parameters.into();
        }
        if !self.body.is_empty() {
            doc["requestBody"] =
                json!({ "required": self.body_required, "content": content(&self.body, inputs) });
        }
        if self.public {
            doc["security"] = json!([]);
        }
        doc
    }
}

/// Each field of the struct is a parameter.
fn query_parameters(make: Make, inputs: &mut SchemaGenerator) -> Vec<Value> {
    // The struct itself is no component: only its fields are seen. The generator's last touches, which it keeps for components, come now.
    let reference = make(inputs);
    let name = reference.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
    let name = name.map(str::to_owned);
    let mut schema = name.and_then(|name| inputs.definitions_mut().remove(&name)).unwrap_or_default();
    if let Ok(schema) = <&mut Schema>::try_from(&mut schema) {
        inputs.transforms_mut().for_each(|transform| transform.transform(schema));
    }
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let fields = schema["properties"].as_object().cloned().unwrap_or_default();
    let parameter = |(name, mut schema): (String, Value)| {
        let about =
            schema.as_object_mut().and_then(|schema| schema.remove("description")).unwrap_or_default();
        let is_required = required.iter().any(|field| field == &name);
        // What is left out of a query is absent; there is no null.
        if let Some(types) = schema["type"].as_array_mut() {
            types.retain(|kind| kind != "null");
            if let [only] = types.as_slice() {
                schema["type"] = only.clone();
            }
        }
        json!({ "name": name, "in": "query", "required": is_required, "description": about, "schema": schema })
    };
    fields.into_iter().map(parameter).collect()
}
