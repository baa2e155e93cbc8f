//! Groups and machines as Compute Engine writes them, and what they are to us.
//! Source: REST resources `instanceGroupManagers` and `regionInstanceGroupManagers`, Compute Engine API v1.

use crate::{Instance, Phase};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manager {
    pub target_size: u32,
}

/// One page of `listManagedInstances`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    #[serde(default)]
    pub managed_instances: Vec<Managed>,
    pub next_page_token: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Managed {
    /// A number, as text. None: the machine does not exist yet.
    id: Option<String>,
    /// Its URL; there before the machine is.
    instance: Option<String>,
    name: Option<String>,
    /// What the group does with it.
    #[serde(default)]
    current_action: String,
    /// What the machine does. None: it does not exist yet.
    instance_status: Option<String>,
    version: Option<Version>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    instance_template: Option<String>,
}

/// An answer to a change: done later, unless it was refused at once.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Operation {
    #[serde(default)]
    pub error: OperationError,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct OperationError {
    #[serde(default)]
    pub errors: Vec<Reason>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Reason {
    #[serde(default)]
    pub code: String,
    #[serde(default)]
    pub message: String,
}

impl Managed {
    /// The number, which is never used again; a machine that does not exist yet has only its name, which a group gives again to the
    /// machine that takes a place.
    pub fn id(&self) -> &str {
        let id = self.id.as_deref().filter(|id| !matches!(*id, "" | "0"));
        id.unwrap_or_else(|| self.name())
    }

    fn name(&self) -> &str {
        let last = || self.instance.as_deref().and_then(|url| url.rsplit('/').next());
        self.name.as_deref().or_else(last).unwrap_or_default()
    }

    pub fn is(&self, instance: &str) -> bool {
        self.id() == instance || self.name() == instance
    }

    /// `zones/ZONE/instances/NAME`, as calls that end machines want it.
    pub fn url(&self) -> Option<&str> {
        let url = self.instance.as_deref()?;
        url.rfind("zones/").map(|at| &url[at..])
    }

    pub fn exists(&self) -> bool {
        self.instance_status.is_some()
    }

    /// The group ends it already, or lets go of it.
    pub fn is_leaving(&self) -> bool {
        matches!(self.current_action.as_str(), "DELETING" | "ABANDONING")
    }

    /// It is being made and does not run: no worker of ours is on it.
    pub fn has_never_run(&self) -> bool {
        matches!(self.current_action.as_str(), "CREATING" | "CREATING_WITHOUT_RETRIES" | "RECREATING")
            && matches!(self.instance_status.as_deref(), None | Some("PROVISIONING" | "STAGING"))
    }

    pub fn phase(&self) -> Phase {
        match self.current_action.as_str() {
            "DELETING" | "ABANDONING" | "STOPPING" | "SUSPENDING" => return Phase::Going,
            // The old machine goes first; the new one has no status until it is there.
            "RECREATING" => {
                let old = matches!(
                    self.instance_status.as_deref(),
                    Some("RUNNING" | "STOPPING" | "STOPPED" | "TERMINATED")
                );
                return if old { Phase::Going } else { Phase::Booting };
            }
            "CREATING" | "CREATING_WITHOUT_RETRIES" | "STARTING" | "RESUMING" | "RESTARTING" => {
                return Phase::Booting;
            }
            // NONE, VERIFYING, REFRESHING, and what there may be one day: the machine's own word.
            _ => {}
        }
        match self.instance_status.as_deref() {
            Some("RUNNING") => Phase::InService,
            None | Some("" | "PROVISIONING" | "STAGING" | "REPAIRING") => Phase::Booting,
            // STOPPING, STOPPED, TERMINATED (a preempted one), SUSPENDED, …: nothing runs there any more.
            Some(_) => Phase::Going,
        }
    }

    pub fn to_instance(&self) -> Instance {
        let template = self.version.as_ref().and_then(|version| version.instance_template.as_deref());
        Instance {
            id: self.id().to_owned(),
            phase: self.phase(),
            protected: false,
            image: template.and_then(|url| url.rsplit('/').next()).map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn managed(action: &str, status: Option<&str>) -> Managed {
        let instance = "https://www.googleapis.com/compute/v1/projects/p/zones/z/instances/gpu-x1";
        let value = json!({ "instance": instance, "name": "gpu-x1", "currentAction": action, "instanceStatus": status });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn action_and_status_make_the_phase() {
        let table = [
            ("NONE", Some("RUNNING"), Phase::InService),
            ("VERIFYING", Some("RUNNING"), Phase::InService),
            ("REFRESHING", Some("RUNNING"), Phase::InService),
            ("NONE", Some("STAGING"), Phase::Booting),
            ("NONE", None, Phase::Booting),
            ("NONE", Some("REPAIRING"), Phase::Booting),
            ("CREATING", None, Phase::Booting),
            ("CREATING", Some("PROVISIONING"), Phase::Booting),
            ("CREATING_WITHOUT_RETRIES", None, Phase::Booting),
            ("RESTARTING", Some("RUNNING"), Phase::Booting),
            ("RECREATING", None, Phase::Booting),
            ("RECREATING", Some("STOPPING"), Phase::Going),
            ("DELETING", Some("RUNNING"), Phase::Going),
            ("ABANDONING", Some("RUNNING"), Phase::Going),
            ("NONE", Some("TERMINATED"), Phase::Going),
            ("NONE", Some("SUSPENDED"), Phase::Going),
        ];
        for (action, status, phase) in table {
            assert_eq!(managed(action, status).phase(), phase, "{action} {status:?}");
        }
    }

    #[test]
    fn only_what_is_being_made_and_does_not_run_has_never_run() {
        for (action, status, never) in [
            ("CREATING", None, true),
            ("CREATING", Some("STAGING"), true),
            ("RECREATING", Some("PROVISIONING"), true),
            ("CREATING", Some("RUNNING"), false),
            ("RECREATING", Some("RUNNING"), false),
            ("NONE", Some("STAGING"), false),
            ("RESTARTING", Some("STAGING"), false),
            ("DELETING", None, false),
        ] {
            assert_eq!(managed(action, status).has_never_run(), never, "{action} {status:?}");
        }
    }

    #[test]
    fn a_machine_is_known_by_its_number_once_it_has_one() {
        let mut machine = managed("CREATING", None);
        assert_eq!((machine.id(), machine.url()), ("gpu-x1", Some("zones/z/instances/gpu-x1")));
        machine.id = Some("7".into());
        assert_eq!(machine.id(), "7");
        assert!(machine.is("7") && machine.is("gpu-x1") && !machine.is("8"));
    }
}
