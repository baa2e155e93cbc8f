//! Scale sets and their machines as Azure Resource Manager writes them, and what they are to us.
//! Source: "Virtual Machine Scale Sets" and "Virtual Machine Scale Set VMs", Azure compute REST API.

use crate::{Instance, Phase};
use serde::Deserialize;
use serde_json::Value;

/// Most machines of a scale set; in one placement group, as scale sets with the fast network between machines are, 100.
const MACHINES_MAX: u32 = 1000;
const PLACEMENT_GROUP_MAX: u32 = 100;

#[derive(Debug, Deserialize)]
pub(super) struct ScaleSet {
    pub sku: Sku,
    /// Changes with every change: a condition for the next one. None: an old server.
    pub etag: Option<String>,
    #[serde(default)]
    properties: SetProperties,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SetProperties {
    orchestration_mode: Option<String>,
    single_placement_group: Option<bool>,
}

/// Sent back as it came, but for the number: a change of it names size and tier too.
#[derive(Debug, Deserialize)]
pub(super) struct Sku {
    pub capacity: u32,
    pub name: Option<String>,
    pub tier: Option<String>,
}

impl ScaleSet {
    pub fn is_flexible(&self) -> bool {
        self.properties
            .orchestration_mode
            .as_deref()
            .is_some_and(|mode| mode.eq_ignore_ascii_case("flexible"))
    }

    pub fn max(&self) -> u32 {
        if self.properties.single_placement_group == Some(true) { PLACEMENT_GROUP_MAX } else { MACHINES_MAX }
    }
}

/// One page of machines.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    pub value: Vec<Machine>,
    pub next_link: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Machine {
    /// A small number that the set may give to another machine once this one is gone.
    pub instance_id: String,
    name: Option<String>,
    #[serde(default)]
    properties: Properties,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    vm_id: Option<String>,
    #[serde(default)]
    provisioning_state: String,
    instance_view: Option<View>,
    protection_policy: Option<Protection>,
    storage_profile: Option<Storage>,
}

#[derive(Debug, Clone, Deserialize)]
struct View {
    #[serde(default)]
    statuses: Vec<Status>,
}

#[derive(Debug, Clone, Deserialize)]
struct Status {
    #[serde(default)]
    code: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Protection {
    #[serde(default)]
    protect_from_scale_in: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Storage {
    #[serde(default)]
    image_reference: Value,
}

impl Machine {
    /// What the machine's metadata says as `vmId`: never used again, unlike name and instance id.
    pub fn id(&self) -> String {
        let id = self.properties.vm_id.as_deref().filter(|id| !id.is_empty());
        id.map_or_else(|| self.name.clone().unwrap_or_default(), str::to_ascii_lowercase)
    }

    /// Some tools show such ids in capitals.
    pub fn is(&self, instance: &str) -> bool {
        self.id().eq_ignore_ascii_case(instance)
    }

    pub fn is_protected(&self) -> bool {
        self.properties.protection_policy.as_ref().is_some_and(|policy| policy.protect_from_scale_in)
    }

    fn is_provisioning(&self, state: &str) -> bool {
        self.properties.provisioning_state.eq_ignore_ascii_case(state)
    }

    pub fn is_leaving(&self) -> bool {
        self.is_provisioning("deleting")
    }

    /// `running`, `deallocated`, …; None: it has never been up, or nobody says.
    fn power(&self) -> Option<&str> {
        let statuses = self.properties.instance_view.as_ref().map_or(&[][..], |view| &view.statuses);
        statuses.iter().find_map(|status| status.code.strip_prefix("PowerState/"))
    }

    /// It is being made, or could not be made, and does not run: no worker of ours is on it.
    pub fn has_never_run(&self) -> bool {
        (self.is_provisioning("creating") || self.is_provisioning("failed"))
            && matches!(self.power(), None | Some("starting" | "unknown"))
    }

    pub fn phase(&self) -> Phase {
        if self.is_leaving() {
            return Phase::Going;
        }
        match self.power() {
            // Extensions are still being installed while it is `creating`, but it runs.
            Some("running") => Phase::InService,
            Some("stopping" | "stopped" | "deallocating" | "deallocated") => Phase::Going,
            Some(_) => Phase::Booting,
            None if self.is_provisioning("succeeded") => Phase::InService,
            None => Phase::Booting,
        }
    }

    pub fn to_instance(&self) -> Instance {
        Instance { id: self.id(), phase: self.phase(), protected: self.is_protected(), image: self.image() }
    }

    /// The image's id, or publisher, offer, sku and version.
    fn image(&self) -> Option<String> {
        let image = &self.properties.storage_profile.as_ref()?.image_reference;
        if let Some(id) = image["id"].as_str() {
            return Some(id.to_owned());
        }
        let version = image["exactVersion"].as_str().or_else(|| image["version"].as_str())?;
        let part = |key: &str| image[key].as_str().unwrap_or_default();
        Some([part("publisher"), part("offer"), part("sku"), version].join(":"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn machine(state: &str, power: Option<&str>) -> Machine {
        let statuses = power.map(
            |power| json!([{ "code": "ProvisioningState/x" }, { "code": format!("PowerState/{power}") }]),
        );
        let view = statuses.map(|statuses| json!({ "statuses": statuses }));
        let properties = json!({ "vmId": "AB-1", "provisioningState": state, "instanceView": view });
        serde_json::from_value(json!({ "instanceId": "3", "name": "gpu_3", "properties": properties }))
            .unwrap()
    }

    #[test]
    fn states_make_the_phase() {
        let table = [
            ("Succeeded", Some("running"), Phase::InService, false),
            ("Updating", Some("running"), Phase::InService, false),
            ("Creating", Some("running"), Phase::InService, false),
            ("Succeeded", None, Phase::InService, false),
            ("Creating", None, Phase::Booting, true),
            ("Creating", Some("starting"), Phase::Booting, true),
            ("Succeeded", Some("starting"), Phase::Booting, false),
            ("Failed", None, Phase::Booting, true),
            ("Failed", Some("running"), Phase::InService, false),
            ("Updating", None, Phase::Booting, false),
            ("Succeeded", Some("deallocated"), Phase::Going, false),
            ("Creating", Some("stopped"), Phase::Going, false),
            ("Deleting", Some("running"), Phase::Going, false),
            ("Deleting", None, Phase::Going, false),
        ];
        for (state, power, phase, never) in table {
            let machine = machine(state, power);
            assert_eq!((machine.phase(), machine.has_never_run()), (phase, never), "{state} {power:?}");
        }
    }

    #[test]
    fn a_machine_is_known_by_its_vm_id() {
        let machine = machine("Succeeded", None);
        assert_eq!(machine.id(), "ab-1");
        assert!(machine.is("AB-1") && !machine.is("3") && !machine.is("gpu_3"));
    }

    #[test]
    fn an_image_is_an_id_or_a_version() {
        let image = |image: Value| {
            let mut machine = machine("Succeeded", None);
            machine.properties.storage_profile = Some(Storage { image_reference: image });
            machine.image()
        };
        assert_eq!(image(json!({ "id": "/images/7" })).as_deref(), Some("/images/7"));
        let gallery =
            json!({ "publisher": "p", "offer": "o", "sku": "s", "version": "latest", "exactVersion": "1.2" });
        assert_eq!(image(gallery).as_deref(), Some("p:o:s:1.2"));
        assert_eq!(image(Value::Null), None);
    }
}
