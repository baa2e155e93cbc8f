//! Virtual machine scale sets of mode Uniform, as far as a driver needs them.
//! Sources: "Virtual Machine Scale Sets" and "Virtual Machine Scale Set VMs", Azure compute REST API, version 2024-07-01; "Instance
//! protection for Azure Virtual Machine Scale Set instances"; "Track asynchronous Azure operations".

mod tokens;

use crate::serve_json::{Ask, Cloud, Reply};
use hyper::Method;
use serde_json::{Value, json};
pub use tokens::Tokens;

/// Versions that have all of what is here.
const VERSIONS: [&str; 4] = ["2024-03-01", "2024-07-01", "2024-11-01", "2025-04-01"];

/// A subscription with one scale set.
#[derive(Debug)]
pub struct Azure {
    pub tokens: Tokens,
    pub set: ScaleSet,
    /// The set's path, without capitals.
    path: String,
    url: String,
}

/// A scale set.
#[derive(Debug)]
pub struct ScaleSet {
    pub capacity: usize,
    pub machines: Vec<Machine>,
    pub mode: String,
    /// Most machines; beyond it a change is refused.
    pub max: usize,
    /// Most machines on a page.
    pub page: usize,
    /// Machines that the set chose to end when its capacity was lowered.
    pub chosen: Vec<String>,
    /// Where the next page is said to be, instead of here.
    pub next_link: Option<String>,
    /// Whether the set is being changed by another, and refuses.
    pub busy: bool,
    changes: u64,
    made: u64,
    name: String,
}

/// A machine.
#[derive(Debug, Clone)]
pub struct Machine {
    pub instance_id: String,
    pub vm_id: String,
    pub provisioning: String,
    /// None: it has never been up.
    pub power: Option<String>,
    pub protected: bool,
}

impl Azure {
    /// A scale set whose `size` machines run. `url` is the server's own, whose tokens alone are good.
    #[must_use]
    pub fn new(url: &str, subscription: &str, resource_group: &str, name: &str, size: usize) -> Self {
        let path = format!(
            "/subscriptions/{subscription}/resourceGroups/{resource_group}/providers/Microsoft.Compute/virtualMachineScaleSets/{name}"
        );
        let mut set = ScaleSet {
            capacity: 0,
            machines: Vec::new(),
            mode: "Uniform".into(),
            max: 100,
            page: 100,
            chosen: Vec::new(),
            next_link: None,
            busy: false,
            changes: 1,
            made: 0,
            name: name.to_owned(),
        };
        set.resize(size);
        set.settle();
        Self { tokens: Tokens::new(url), set, path: path.to_ascii_lowercase(), url: url.to_owned() }
    }

    fn act(&mut self, ask: &Ask<'_>) -> Reply {
        let path = ask.path.to_ascii_lowercase();
        if !ask.parameter("api-version").is_some_and(|version| VERSIONS.contains(&version)) {
            return error(
                400,
                "MissingApiVersionParameter",
                "The api-version query parameter is missing or not known",
            );
        }
        let Some(rest) = path.strip_prefix(&self.path) else {
            return error(404, "ResourceNotFound", "The Resource under the resource group was not found.");
        };
        let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
        let changes = *ask.method != Method::GET;
        if changes && self.set.busy {
            return error(409, "Conflict", "The request failed due to conflict with a concurrent request.");
        }
        match (ask.method, parts.as_slice()) {
            (&Method::GET, []) => Reply::json(200, &self.set.document()),
            (&Method::PATCH, []) => self.set.patch(ask, &self.url),
            (&Method::GET, ["virtualmachines"]) => self.set.list(ask, &self.url),
            (&Method::POST, ["delete"]) => self.set.delete(ask, &self.url),
            (&Method::PUT, ["virtualmachines", id]) => self.set.protect(id, ask, &self.url),
            _ => error(404, "ResourceNotFound", "No such resource or method."),
        }
    }
}

impl Cloud for Azure {
    fn answer(&mut self, ask: &Ask<'_>) -> Reply {
        if let Some(reply) = self.tokens.answer(ask) {
            return reply;
        }
        match self.tokens.check(ask) {
            Ok(()) => self.act(ask),
            Err(reply) => reply,
        }
    }
}

impl ScaleSet {
    /// Everything that was begun is done: machines are made and run, or are gone.
    pub fn settle(&mut self) {
        self.machines.retain(|machine| machine.provisioning != "Deleting");
        for machine in &mut self.machines {
            machine.provisioning = "Succeeded".into();
            machine.power = Some("running".into());
        }
    }

    /// By hand or by another: the ETag changes too.
    pub fn resize(&mut self, size: usize) {
        self.changes += 1;
        self.capacity = size;
        while self.staying() < size {
            self.made += 1;
            self.machines.push(Machine {
                // The lowest that is free: they are used again.
                instance_id: (0..).map(|id: u32| id.to_string()).find(|id| !self.has(id)).unwrap_or_default(),
                vm_id: format!("5d0ff2f6-0000-4000-8000-{:012x}", self.made),
                provisioning: "Creating".into(),
                power: None,
                protected: false,
            });
        }
        while self.staying() > size {
            let mut staying = self.machines.iter_mut().filter(|machine| machine.provisioning != "Deleting");
            let Some(victim) = staying.find(|machine| !machine.protected) else { return };
            victim.provisioning = "Deleting".into();
            self.chosen.push(victim.vm_id.clone());
        }
    }

    fn staying(&self) -> usize {
        self.machines.iter().filter(|machine| machine.provisioning != "Deleting").count()
    }

    fn has(&self, instance_id: &str) -> bool {
        self.machines.iter().any(|machine| machine.instance_id == instance_id)
    }

    fn etag(&self) -> String {
        format!("\"{}\"", self.changes)
    }

    fn document(&self) -> Value {
        json!({
            "name": self.name, "location": "westeurope", "etag": self.etag(),
            "sku": { "name": "Standard_ND96isr_H100_v5", "tier": "Standard", "capacity": self.capacity },
            "properties": {
                "orchestrationMode": self.mode, "singlePlacementGroup": self.max <= 100, "overprovision": false,
                "provisioningState": "Succeeded",
            },
        })
    }

    fn patch(&mut self, ask: &Ask<'_>, url: &str) -> Reply {
        if ask.header("if-match").is_some_and(|tag| tag != self.etag()) {
            return error(412, "PreconditionFailed", "The etag does not match.");
        }
        let body = ask.json();
        let Some(size) = body["sku"]["capacity"].as_u64().and_then(|size| usize::try_from(size).ok()) else {
            return error(400, "InvalidParameter", "Required parameter 'sku.capacity' is missing (null).");
        };
        if size > self.max {
            let message =
                format!("The capacity {size} is more than the {} that the scale set can have.", self.max);
            return error(409, "OperationNotAllowed", &message);
        }
        self.resize(size);
        accepted(url)
    }

    fn list(&self, ask: &Ask<'_>, url: &str) -> Reply {
        let from: usize = ask.parameter("$skiptoken").and_then(|from| from.parse().ok()).unwrap_or_default();
        let views = ask.parameter("$expand") == Some("instanceView");
        let page = self.machines.iter().skip(from).take(self.page).map(|machine| {
            let mut properties = json!({
                "vmId": machine.vm_id, "provisioningState": machine.provisioning, "latestModelApplied": true,
                "storageProfile": { "imageReference": {
                    "publisher": "microsoft-dsvm", "offer": "ubuntu-hpc", "sku": "2204", "version": "latest",
                    "exactVersion": "22.04.2024102301",
                }},
            });
            if machine.protected {
                properties["protectionPolicy"] = json!({ "protectFromScaleIn": true });
            }
            if let Some(power) = machine.power.as_ref().filter(|_| views) {
                let code = format!("PowerState/{power}");
                properties["instanceView"] =
                    json!({ "statuses": [{ "code": "ProvisioningState/x" }, { "code": code }] });
            }
            let name = format!("{}_{}", self.name, machine.instance_id);
            json!({ "instanceId": machine.instance_id, "name": name, "properties": properties })
        });
        let page: Vec<Value> = page.collect();
        let mut body = json!({ "value": page });
        if from + self.page < self.machines.len() {
            let own = || {
                let expand = if views { "&%24expand=instanceView" } else { "" };
                let version = ask.parameter("api-version").unwrap_or_default();
                format!("{url}{}?api-version={version}{expand}&%24skiptoken={}", ask.path, from + self.page)
            };
            body["nextLink"] = Value::String(self.next_link.clone().unwrap_or_else(own));
        }
        Reply::json(200, &body)
    }

    /// All of it or nothing.
    fn delete(&mut self, ask: &Ask<'_>, url: &str) -> Reply {
        let body = ask.json();
        let ids: Option<Vec<&str>> =
            body["instanceIds"].as_array().and_then(|ids| ids.iter().map(Value::as_str).collect());
        let Some(ids) = ids.filter(|ids| !ids.is_empty()) else {
            return error(400, "InvalidParameter", "Required parameter 'instanceIds' is missing (null).");
        };
        let active = |machine: &&Machine| machine.provisioning != "Deleting";
        for id in &ids {
            if !self.machines.iter().filter(active).any(|machine| machine.instance_id == *id) {
                return not_active(id);
            }
        }
        for machine in self.machines.iter_mut().filter(|machine| ids.contains(&machine.instance_id.as_str()))
        {
            machine.provisioning = "Deleting".into();
            self.capacity -= 1;
        }
        self.changes += 1;
        accepted(url)
    }

    fn protect(&mut self, id: &str, ask: &Ask<'_>, url: &str) -> Reply {
        let Some(machine) = self.machines.iter_mut().find(|machine| machine.instance_id == id) else {
            return error(404, "NotFound", &format!("The entity {id} was not found."));
        };
        match &ask.json()["properties"]["protectionPolicy"]["protectFromScaleIn"] {
            Value::Bool(on) => machine.protected = *on,
            _ => return error(400, "InvalidParameter", "protectFromScaleIn"),
        }
        accepted(url)
    }
}

fn not_active(id: &str) -> Reply {
    let message =
        format!("The provided instanceId {id} is not an active Virtual Machine Scale Set VM instanceId.");
    error(400, "InvalidParameter", &message)
}

fn accepted(url: &str) -> Reply {
    let operation =
        format!("{url}/subscriptions/s/providers/Microsoft.Compute/locations/westeurope/operations/1");
    Reply::new(202, "").with("azure-asyncoperation", operation).with("retry-after", "10")
}

/// As Azure writes errors.
#[must_use]
pub fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, &json!({ "error": { "code": code, "message": message } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_set_chooses_a_machine_that_runs_and_is_not_protected() {
        let mut set = Azure::new("http://localhost", "s", "r", "g", 3).set;
        set.machines[0].protected = true;
        let second = set.machines[1].vm_id.clone();
        set.resize(2);
        assert_eq!((set.chosen.clone(), set.capacity), (vec![second], 2));
        set.settle();
        // Its instance id is given again.
        set.resize(3);
        assert_eq!(set.machines.last().map(|machine| machine.instance_id.as_str()), Some("1"));
    }
}
