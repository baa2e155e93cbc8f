//! Compute Engine's managed instance groups, zonal and regional, as far as a driver needs them.
//! Sources: REST resources `instanceGroupManagers` and `regionInstanceGroupManagers`, Compute Engine API v1; "Access VM metadata".

mod tokens;

use crate::serve_json::{Ask, Cloud, Reply};
use hyper::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
pub use tokens::Tokens;

/// Most machines in one `deleteInstances`.
const DELETED_MAX: usize = 1000;

/// A project.
#[derive(Debug)]
pub struct Gcp {
    pub tokens: Tokens,
    project: String,
    /// By `zones/Z/instanceGroupManagers/G` or `regions/R/instanceGroupManagers/G`.
    groups: BTreeMap<String, Group>,
    /// Requests by id: a second one with the same changes nothing.
    requests: BTreeMap<String, String>,
}

/// A group.
#[derive(Debug)]
pub struct Group {
    pub target: usize,
    pub machines: Vec<Machine>,
    /// Most machines on a page, whatever is asked for.
    pub page: usize,
    /// Machines that the group chose to end when its size was lowered.
    pub chosen: Vec<String>,
    /// Instead of an operation that goes on.
    pub operation_error: Option<(String, String)>,
    zones: Vec<String>,
    /// Numbers that were given.
    made: u64,
}

/// A machine.
#[derive(Debug, Clone)]
pub struct Machine {
    pub name: String,
    pub zone: String,
    /// Empty until it exists.
    pub id: String,
    pub action: String,
    /// None until it exists.
    pub status: Option<String>,
}

impl Gcp {
    #[must_use]
    pub fn new(project: &str) -> Self {
        Self {
            tokens: Tokens::default(),
            project: project.to_owned(),
            groups: BTreeMap::new(),
            requests: BTreeMap::new(),
        }
    }

    /// A group at `place` (`zones/Z` or `regions/R`) whose `size` machines run.
    pub fn add(&mut self, place: &str, name: &str, size: usize) {
        let zones = match place.split_once('/') {
            Some(("regions", region)) => {
                ["a", "b"].iter().map(|letter| format!("{region}-{letter}")).collect()
            }
            _ => vec![place.trim_start_matches("zones/").to_owned()],
        };
        let mut group = Group {
            target: 0,
            machines: Vec::new(),
            page: 500,
            chosen: Vec::new(),
            operation_error: None,
            zones,
            made: 0,
        };
        group.resize(size);
        group.settle();
        self.groups.insert(format!("{place}/instanceGroupManagers/{name}"), group);
    }

    /// The only group, or the first.
    ///
    /// # Panics
    /// There is none.
    pub fn group(&mut self) -> &mut Group {
        self.groups.values_mut().next().expect("a group was added")
    }

    fn act(&mut self, ask: &Ask<'_>, path: &str) -> Reply {
        let prefix = format!("projects/{}/", self.project);
        let Some(rest) = path.strip_prefix(&prefix) else {
            return error(404, "notFound", &format!("The resource '{path}' was not found"));
        };
        let Some(key) = self.groups.keys().find(|key| rest.starts_with(key.as_str())).cloned() else {
            return error(404, "notFound", &format!("The resource '{path}' was not found"));
        };
        let verb = rest[key.len()..].trim_start_matches('/');
        let changes = matches!(verb, "resize" | "deleteInstances");
        if changes && let Some(id) = ask.parameter("requestId") {
            if !is_uuid(id) {
                return error(400, "invalid", "Invalid value for field 'requestId'");
            }
            let asked = format!("{verb} {:?} {}", ask.parameter("size"), ask.json());
            if let Some(before) = self.requests.get(id) {
                let same = *before == asked;
                let again = || operation(verb, None);
                return if same {
                    again()
                } else {
                    error(400, "invalid", "requestId was used for another request")
                };
            }
            self.requests.insert(id.to_owned(), asked);
        }
        let project = self.project.clone();
        let Some(group) = self.groups.get_mut(&key) else { return error(500, "backendError", "") };
        match (ask.method, verb) {
            (&Method::GET, "") => Reply::json(
                200,
                &json!({
                    "kind": "compute#instanceGroupManager", "name": key.rsplit('/').next(), "targetSize": group.target,
                    "status": { "isStable": group.is_stable() },
                }),
            ),
            (&Method::POST, "listManagedInstances") => group.list(ask, &project),
            (&Method::POST, "resize") => match ask.parameter("size").and_then(|size| size.parse().ok()) {
                Some(size) => {
                    group.resize(size);
                    operation(verb, group.operation_error.as_ref())
                }
                None => error(400, "invalid", "Invalid value for field 'size'"),
            },
            (&Method::POST, "deleteInstances") => group.delete(ask),
            _ => error(404, "notFound", "no such method"),
        }
    }
}

impl Cloud for Gcp {
    fn answer(&mut self, ask: &Ask<'_>) -> Reply {
        if let Some(reply) = self.tokens.answer(ask) {
            return reply;
        }
        let Some(path) = ask.path.strip_prefix("/compute/v1/") else { return Reply::new(404, "") };
        match self.tokens.check(ask) {
            Ok(()) => self.act(ask, path),
            Err(reply) => reply,
        }
    }
}

impl Group {
    fn is_stable(&self) -> bool {
        self.machines.iter().all(|machine| machine.action == "NONE")
    }

    /// Everything that was begun is done: machines are made and run, or are gone.
    pub fn settle(&mut self) {
        self.machines.retain(|machine| !matches!(machine.action.as_str(), "DELETING" | "ABANDONING"));
        for machine in &mut self.machines {
            if machine.id.is_empty() {
                self.made += 1;
                // Numbers of Google are large and in no order.
                machine.id = (4_611_686_018_427_387_904 + self.made).to_string();
            }
            machine.action = "NONE".into();
            machine.status = Some("RUNNING".into());
        }
    }

    /// A machine that was preempted or is ill is made anew, under its old name.
    pub fn recreate(&mut self, name: &str) {
        for machine in self.machines.iter_mut().filter(|machine| machine.name == name) {
            machine.id.clear();
            machine.action = "RECREATING".into();
            machine.status = None;
        }
    }

    fn staying(&self) -> usize {
        self.machines.iter().filter(|machine| machine.action != "DELETING").count()
    }

    /// A larger group makes machines, a smaller one chooses which go: the oldest.
    fn resize(&mut self, size: usize) {
        self.target = size;
        while self.staying() < size {
            let number = self.machines.len() + self.chosen.len();
            let zone = self.zones[number % self.zones.len()].clone();
            self.made += 1;
            let name = format!("gpu-{:04}", self.made);
            self.machines.push(Machine {
                name,
                zone,
                id: String::new(),
                action: "CREATING".into(),
                status: None,
            });
        }
        while self.staying() > size {
            let Some(victim) = self.machines.iter_mut().find(|machine| machine.action != "DELETING") else {
                return;
            };
            victim.action = "DELETING".into();
            self.chosen.push(victim.name.clone());
        }
    }

    fn list(&self, ask: &Ask<'_>, project: &str) -> Reply {
        let from = match ask.parameter("pageToken").map(|token| token.strip_prefix("page-").map(str::parse)) {
            None => 0,
            Some(Some(Ok(from))) => from,
            Some(_) => return error(400, "invalid", "Invalid value for field 'pageToken'"),
        };
        let page = self.machines.iter().skip(from).take(self.page).map(|machine| {
            let mut value = json!({
                "instance": format!(
                    "https://www.googleapis.com/compute/v1/projects/{project}/zones/{}/instances/{}", machine.zone, machine.name
                ),
                "name": machine.name, "currentAction": machine.action,
                "version": { "instanceTemplate": format!("projects/{project}/global/instanceTemplates/gpu-7") },
            });
            if !machine.id.is_empty() {
                value["id"] = Value::String(machine.id.clone());
            }
            if let Some(status) = &machine.status {
                value["instanceStatus"] = Value::String(status.clone());
            }
            value
        });
        let page: Vec<Value> = page.collect();
        let mut body = json!({ "managedInstances": page });
        if from + self.page < self.machines.len() {
            body["nextPageToken"] = Value::String(format!("page-{}", from + self.page));
        }
        Reply::json(200, &body)
    }

    /// All of it or nothing, unless machines that are no members or are leaving may be passed over.
    fn delete(&mut self, ask: &Ask<'_>) -> Reply {
        let body = ask.json();
        let names: Option<Vec<&str>> =
            body["instances"].as_array().and_then(|names| names.iter().map(Value::as_str).collect());
        let Some(names) = names.filter(|names| (1..=DELETED_MAX).contains(&names.len())) else {
            return error(400, "invalid", "Invalid value for field 'instances'");
        };
        let skip = body["skipInstancesOnValidationError"] == true;
        let mut gone = BTreeSet::new();
        for name in names {
            let parts: Vec<&str> = name.split('/').collect();
            let &["zones", zone, "instances", name] = parts.as_slice() else {
                return error(400, "invalid", &format!("Invalid instance URL '{name}'"));
            };
            let member = |machine: &Machine| {
                machine.zone == zone
                    && machine.name == name
                    && !matches!(machine.action.as_str(), "DELETING" | "ABANDONING")
            };
            match self.machines.iter().position(member) {
                Some(at) => drop(gone.insert(at)),
                None if skip => {}
                None => {
                    return error(400, "invalid", &format!("Instance '{name}' is not a member of the group"));
                }
            }
        }
        for at in &gone {
            self.machines[*at].action = "DELETING".into();
        }
        self.target -= gone.len();
        operation("deleteInstances", self.operation_error.as_ref())
    }
}

/// Eight, four, four, four and twelve hexadecimal digits, not all of them zero.
fn is_uuid(id: &str) -> bool {
    let lengths: Vec<usize> = id.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12]
        && id.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
        && id.chars().any(|c| c != '-' && c != '0')
}

fn operation(verb: &str, error: Option<&(String, String)>) -> Reply {
    let mut body = json!({ "kind": "compute#operation", "operationType": verb, "status": "RUNNING" });
    if let Some((code, message)) = error {
        body["error"] = json!({ "errors": [{ "code": code, "message": message }] });
    }
    Reply::json(200, &body)
}

/// As Google writes errors.
#[must_use]
pub fn error(status: u16, reason: &str, message: &str) -> Reply {
    let errors = json!([{ "message": message, "domain": "global", "reason": reason }]);
    Reply::json(status, &json!({ "error": { "code": status, "message": message, "errors": errors } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_group_chooses_a_machine_that_runs() {
        let mut gcp = Gcp::new("p");
        gcp.add("zones/z", "g", 2);
        gcp.group().resize(3);
        gcp.group().resize(2);
        assert_eq!(
            (gcp.group().chosen.clone(), gcp.group().machines[0].action.as_str()),
            (vec!["gpu-0001".into()], "DELETING")
        );
        gcp.group().settle();
        assert_eq!(gcp.group().machines.len(), 2);
    }

    #[test]
    fn a_uuid_has_its_form_and_is_not_nothing() {
        assert!(is_uuid("0a1b2c3d-0000-4000-8000-000000000000"));
        for bad in
            ["00000000-0000-0000-0000-000000000000", "0a1b2c3d", "0a1b2c3d-0000-4000-8000-00000000000g"]
        {
            assert!(!is_uuid(bad), "{bad}");
        }
    }
}
