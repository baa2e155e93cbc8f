//! Azure: a virtual machine scale set of orchestration mode Uniform, over the Azure Resource Manager's REST API.
//!
//! The set never chooses which machine goes: its capacity is only raised, with the set's ETag as a condition, and machines end by
//! instance id, which lowers the capacity with them. A machine is known by its `vmId`, because a set may give the instance id and the
//! name (`SET_3`) of a machine that is gone to a new one.
//!
//! Long operations are answered 202 and go on without us; the next description shows what came of them. Left out: scale sets of mode
//! Flexible, whose machines are resources of their own (refused, and said), termination notifications, which the worker hears itself as
//! scheduled events, and workload identity of Kubernetes.

mod credentials;
mod wire;

use crate::http::{Answer, BATCH_MAX, Call, Cloud, PAGES_MAX, Words, address};
use crate::{Driver, DriverError, Group};
use futures::future::BoxFuture;
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use wire::{Machine, Page, ScaleSet};

const ENDPOINT: &str = "https://management.azure.com";
/// Of the compute API. ETags of scale sets came with 2024-03-01.
const API_VERSION: &str = "2024-07-01";
/// What Azure says when an instance id names no machine, or one that is being ended.
const NOT_ACTIVE: &str = "not an active Virtual Machine Scale Set VM instanceId";

/// `driver = { kind = "azure-vmss", … }`.
///
/// A worker's label `instance_id` is the machine's `vmId`: `curl -H Metadata:true
/// 'http://169.254.169.254/metadata/instance/compute/vmId?api-version=2021-02-01&format=text'`. It is not the scale set's instance id.
///
/// Who the coordinator is: with `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and `AZURE_CLIENT_SECRET` in its environment that service
/// principal, otherwise the identity of its machine. It needs to read and write scale sets and their machines (role `Virtual Machine
/// Contributor` on the scale set). A set of spot machines should have the eviction policy Delete: with Deallocate an evicted machine
/// keeps its place in the capacity and does not come back. Overprovisioning should be off.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AzureVmssConfig {
    /// Its id.
    pub subscription: String,
    pub resource_group: String,
    /// The scale set's name.
    pub group: String,
    /// Default: `https://management.azure.com`. Tokens are asked for this endpoint, so clouds of states need it and
    /// `AZURE_AUTHORITY_HOST`.
    #[serde(default)]
    pub endpoint: String,
    /// Where tokens come from. Default: the instance metadata service, or Entra for a service principal.
    #[serde(default)]
    pub token_endpoint: String,
    /// Of a user-assigned identity. Default: the identity that the system assigned.
    #[serde(default)]
    pub client_id: String,
}

impl AzureVmssConfig {
    /// Azure knows no capitals in names.
    pub(crate) fn group_key(&self) -> String {
        format!("azure-vmss {}/{}/{}", self.subscription, self.resource_group, self.group)
            .to_ascii_lowercase()
    }
}

/// One scale set.
#[derive(Debug)]
pub struct AzureVmss {
    name: String,
    url: Url,
    cloud: Cloud,
}

impl AzureVmss {
    /// Reaches nobody yet. `variable` gives a variable of the environment.
    ///
    /// # Errors
    /// An endpoint is no address, or a service principal is named by half.
    pub fn open(
        config: &AzureVmssConfig,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, DriverError> {
        let name = config.group_key();
        let path = [
            "subscriptions",
            &config.subscription,
            "resourceGroups",
            &config.resource_group,
            "providers",
            "Microsoft.Compute",
            "virtualMachineScaleSets",
            &config.group,
        ];
        let url = address(&name, &config.endpoint, ENDPOINT, &path)?;
        let audience = address(&name, &config.endpoint, ENDPOINT, &[])?;
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let audience = audience.as_str().trim_end_matches('/');
        let source =
            credentials::source(&name, &config.client_id, &config.token_endpoint, audience, &variable)?;
        let cloud = Cloud::new(&name, source)?;
        Ok(Self { name, url, cloud })
    }

    /// The set itself.
    async fn set(&self, what: &str) -> Result<ScaleSet, DriverError> {
        let set: ScaleSet =
            self.ask(what, Method::GET, self.path(what, &[])?, None, None).await?.read(what)?;
        if set.is_flexible() {
            let reason =
                "the scale set's orchestration mode is Flexible; this driver works with Uniform".to_owned();
            return Err(DriverError::Refused { what: what.to_owned(), reason });
        }
        Ok(set)
    }

    async fn machines(&self, what: &str) -> Result<Vec<Machine>, DriverError> {
        let garbled = |reason: String| DriverError::Garbled { what: what.to_owned(), reason };
        let mut url = self.path(what, &["virtualMachines"])?;
        url.query_pairs_mut().append_pair("$expand", "instanceView");
        let mut machines = Vec::new();
        for _ in 0..PAGES_MAX {
            let page: Page = self.ask(what, Method::GET, url, None, None).await?.read(what)?;
            machines.extend(page.value);
            let Some(next) = page.next_link.filter(|next| !next.is_empty()) else { return Ok(machines) };
            url = Url::parse(&next).map_err(|error| garbled(format!("nextLink: {error}")))?;
            // Our token goes with the question.
            if url.origin() != self.url.origin() {
                return Err(garbled("nextLink leads to another server".to_owned()));
            }
        }
        Err(garbled(format!("a listing of more than {PAGES_MAX} pages")))
    }

    /// Ends `machines`; the capacity is lowered with them. Those that are gone meanwhile are passed over.
    async fn end(&self, what: &str, machines: &[&Machine]) -> Result<(), DriverError> {
        for batch in machines.chunks(BATCH_MAX) {
            match self.end_batch(what, batch).await {
                // Azure names only the first that is gone, and does nothing: one by one then.
                Err(Ending::NotActive) if batch.len() > 1 => {
                    for machine in batch {
                        self.end_batch(what, std::slice::from_ref(machine)).await.or_else(Ending::gone)?;
                    }
                }
                done => done.or_else(Ending::gone)?,
            }
        }
        Ok(())
    }

    async fn end_batch(&self, what: &str, machines: &[&Machine]) -> Result<(), Ending> {
        let ids: Vec<&str> = machines.iter().map(|machine| machine.instance_id.as_str()).collect();
        // Other calls of this API take an empty list for all machines.
        if ids.is_empty() || ids.iter().any(|id| id.is_empty() || *id == "*") {
            let reason = "a machine without an instance id".to_owned();
            return Err(Ending::Other(DriverError::Garbled { what: what.to_owned(), reason }));
        }
        let url = self.path(what, &["delete"]).map_err(Ending::Other)?;
        let body = json!({ "instanceIds": ids });
        let call = Call { what, method: Method::POST, url, if_match: None, body: Some(body) };
        let (answer, words) = self.cloud.ask(&call).await.map_err(Ending::Other)?;
        let text = answer.error()["message"].as_str().unwrap_or_default().to_owned();
        if answer.status == 400 && text.contains(NOT_ACTIVE) {
            return Err(Ending::NotActive);
        }
        succeeded(what, &answer, &words).map_err(Ending::Other)
    }

    async fn ask(
        &self,
        what: &str,
        method: Method,
        url: Url,
        if_match: Option<&str>,
        body: Option<Value>,
    ) -> Result<Answer, DriverError> {
        let (answer, words) = self.cloud.ask(&Call { what, method, url, if_match, body }).await?;
        succeeded(what, &answer, &words).map(|()| answer)
    }

    fn path(&self, what: &str, segments: &[&str]) -> Result<Url, DriverError> {
        let mut url = address(what, self.url.as_str(), ENDPOINT, segments)?;
        url.query_pairs_mut().append_pair("api-version", API_VERSION);
        Ok(url)
    }

    fn what(&self, doing: &str) -> String {
        format!("{doing} of {}", self.name)
    }
}

/// Why machines were not ended.
enum Ending {
    NotActive,
    Other(DriverError),
}

impl Ending {
    /// One that is gone already is no error.
    fn gone(self) -> Result<(), DriverError> {
        match self {
            Self::NotActive => Ok(()),
            Self::Other(error) => Err(error),
        }
    }
}

fn succeeded(what: &str, answer: &Answer, words: &Words) -> Result<(), DriverError> {
    if answer.is_success() {
        return Ok(());
    }
    let error = answer.error();
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    let reason = words.of(&format!("{} {}", text("code"), text("message")));
    Err(answer.refusal(what, &reason))
}

impl Driver for AzureVmss {
    fn kind(&self) -> &'static str {
        "azure-vmss"
    }

    fn describe(&self) -> BoxFuture<'_, Result<Option<Group>, DriverError>> {
        Box::pin(async {
            let what = self.what("description");
            let set = self.set(&what).await?;
            let machines = self.machines(&what).await?;
            let instances = machines.iter().map(Machine::to_instance).collect();
            Ok(Some(Group { desired: set.sku.capacity, max: set.max(), instances, ..Group::default() }))
        })
    }

    fn set_desired(&self, desired: u32, _generation: u64) -> BoxFuture<'_, Result<(), DriverError>> {
        Box::pin(async move {
            let what = self.what("change of capacity");
            let set = self.set(&what).await?;
            let capacity = set.sku.capacity;
            if desired == capacity {
                return Ok(());
            }
            if desired > capacity {
                let mut sku = json!({ "capacity": desired });
                for (key, value) in [("name", set.sku.name), ("tier", set.sku.tier)] {
                    if let Some(value) = value {
                        sku[key] = Value::String(value);
                    }
                }
                let (url, body) = (self.path(&what, &[])?, json!({ "sku": sku }));
                // On the condition that nobody has changed it since: a late call of an older leader never lowers it.
                return self.ask(&what, Method::PATCH, url, set.etag.as_deref(), Some(body)).await.map(drop);
            }
            let fewer = (capacity - desired) as usize;
            let machines = self.machines(&what).await?;
            let mut idle: Vec<&Machine> = machines.iter().filter(|machine| machine.has_never_run()).collect();
            if idle.len() < fewer {
                let reason = format!(
                    "{fewer} fewer than {capacity} are asked for, and only {} machines do not run yet: others are ended one by one",
                    idle.len()
                );
                return Err(DriverError::Refused { what, reason });
            }
            // The same ones each time.
            idle.sort_by_key(|machine| machine.id());
            idle.truncate(fewer);
            self.end(&what, &idle).await
        })
    }

    fn terminate<'a>(
        &'a self,
        instance: &'a str,
        _generation: u64,
    ) -> BoxFuture<'a, Result<(), DriverError>> {
        Box::pin(async move {
            let what = self.what(&format!("end of machine {instance}"));
            let machines = self.machines(&what).await?;
            match machines.iter().find(|machine| machine.is(instance)) {
                Some(machine) if !machine.is_leaving() => self.end(&what, &[machine]).await,
                _ => Ok(()),
            }
        })
    }

    fn protects(&self) -> bool {
        true
    }

    fn protect<'a>(&'a self, instances: &'a [String], on: bool) -> BoxFuture<'a, Result<(), DriverError>> {
        Box::pin(async move {
            let what = self.what("protection of machines");
            let machines = self.machines(&what).await?;
            let named = |machine: &&Machine| instances.iter().any(|instance| machine.is(instance));
            let others = machines.iter().filter(named);
            for machine in others.filter(|machine| machine.is_protected() != on && !machine.is_leaving()) {
                let url = self.path(&what, &["virtualMachines", &machine.instance_id])?;
                let body = json!({ "properties": { "protectionPolicy": { "protectFromScaleIn": on } } });
                match self.ask(&what, Method::PUT, url, None, Some(body)).await {
                    // Gone since the listing.
                    Err(DriverError::NoGroup { .. }) | Ok(_) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
    }
}
