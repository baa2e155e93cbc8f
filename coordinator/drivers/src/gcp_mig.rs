//! Google Cloud: a managed instance group, zonal or regional, over Compute Engine's REST API.
//!
//! The group never chooses which machine goes: `resize` only makes it larger, and machines end by name. A machine is known by its
//! number (`instance/id` of its metadata), because a group gives the name of a machine that it made anew to the next one.
//!
//! Left out: lifecycle hooks, which such groups do not have (a preempted machine says so itself, to its worker), protection from
//! scale-in, which they do not have either, and the group's own autoscaler, which has to be off: two cannot hold one number.
//! A machine that is stopped or suspended counts as going.

mod credentials;
mod wire;

use crate::http::{Answer, BATCH_MAX, Call, Cloud, PAGES_MAX, Words, address};
use crate::{Driver, DriverError, Group};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use wire::{Managed, Manager, Operation, Page};

const ENDPOINT: &str = "https://compute.googleapis.com";
/// Google ignores a request whose id it has seen in the last hour; more changes of one group than these in an hour are not ours.
const REQUESTS_MAX: usize = 1024;

/// `driver = { kind = "gcp-mig", … }`.
///
/// A worker's label `instance_id` is the machine's number: `curl -H Metadata-Flavor:Google
/// http://metadata.google.internal/computeMetadata/v1/instance/id`. The account needs `compute.instanceGroupManagers.get` and
/// `.update` (role `compute.instanceAdmin.v1` has both).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GcpMigConfig {
    pub project: String,
    /// Of a zonal group. Either this or `region`.
    #[serde(default)]
    pub zone: String,
    /// Of a regional group.
    #[serde(default)]
    pub region: String,
    /// The group's name.
    pub group: String,
    /// Default: `https://compute.googleapis.com`.
    #[serde(default)]
    pub endpoint: String,
    /// Where tokens come from. Default: the metadata server, or what the key file names.
    #[serde(default)]
    pub token_endpoint: String,
    /// The JSON key of a service account. Default: the account of the machine that the coordinator runs on.
    #[serde(default)]
    pub credentials_file: String,
}

impl GcpMigConfig {
    pub(crate) fn group_key(&self) -> String {
        format!("gcp-mig {}/{}{}/{}", self.project, self.zone, self.region, self.group)
    }
}

/// One managed instance group.
#[derive(Debug)]
pub struct GcpMig {
    name: String,
    url: Url,
    cloud: Cloud,
    requests: Requests,
}

impl GcpMig {
    /// Reads the key file, if there is one; reaches nobody.
    ///
    /// # Errors
    /// The configuration names no place, or two; the key file is missing or no key; an endpoint is no address.
    pub fn open(config: &GcpMigConfig) -> Result<Self, DriverError> {
        let name = config.group_key();
        let place = match (config.zone.as_str(), config.region.as_str()) {
            (zone, "") if !zone.is_empty() => ["zones", zone],
            ("", region) if !region.is_empty() => ["regions", region],
            _ => {
                let reason = "give `zone` or `region`: one of them".to_owned();
                return Err(DriverError::Unusable { what: name, reason });
            }
        };
        let [places, place] = place;
        let path = [
            "compute",
            "v1",
            "projects",
            &config.project,
            places,
            place,
            "instanceGroupManagers",
            &config.group,
        ];
        let url = address(&name, &config.endpoint, ENDPOINT, &path)?;
        let source = credentials::source(&name, &config.credentials_file, &config.token_endpoint)?;
        let cloud = Cloud::new(&name, source)?;
        Ok(Self { name, url, cloud, requests: Requests::default() })
    }

    async fn manager(&self, what: &str) -> Result<Manager, DriverError> {
        let call = Call { what, method: Method::GET, url: self.url.clone(), if_match: None, body: None };
        self.ask(&call).await?.read(what)
    }

    /// All machines, those that are being made or ended too.
    async fn machines(&self, what: &str) -> Result<Vec<Managed>, DriverError> {
        let mut machines = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut url = self.verb(what, "listManagedInstances")?;
            if let Some(token) = &token {
                url.query_pairs_mut().append_pair("pageToken", token);
            }
            let call = Call { what, method: Method::POST, url, if_match: None, body: None };
            let page: Page = self.ask(&call).await?.read(what)?;
            machines.extend(page.managed_instances);
            token = page.next_page_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(machines);
            }
        }
        let reason = format!("a listing of more than {PAGES_MAX} pages");
        Err(DriverError::Garbled { what: what.to_owned(), reason })
    }

    /// Ends `machines` and wants so many fewer. Those that are gone meanwhile are passed over.
    async fn end(&self, what: &str, machines: &[&Managed], generation: u64) -> Result<(), DriverError> {
        for batch in machines.chunks(BATCH_MAX) {
            let urls: Vec<&str> = batch.iter().filter_map(|machine| machine.url()).collect();
            if urls.len() < batch.len() {
                let reason = "a machine without a URL".to_owned();
                return Err(DriverError::Garbled { what: what.to_owned(), reason });
            }
            let change = format!("{generation} deleteInstances {}", urls.join(" "));
            let body = json!({ "instances": urls, "skipInstancesOnValidationError": true });
            self.change(what, "deleteInstances", None, Some(body), &change).await?;
        }
        Ok(())
    }

    /// Makes a change; `change` tells it from every other one of this group.
    async fn change(
        &self,
        what: &str,
        verb: &str,
        size: Option<u32>,
        body: Option<Value>,
        change: &str,
    ) -> Result<(), DriverError> {
        let change = format!("{}\0{change}", self.name);
        let mut url = self.verb(what, verb)?;
        if let Some(size) = size {
            url.query_pairs_mut().append_pair("size", &size.to_string());
        }
        url.query_pairs_mut().append_pair("requestId", &self.requests.id(&change));
        let call = Call { what, method: Method::POST, url, if_match: None, body };
        let (answer, words) = self.answer(&call).await?;
        self.requests.accepted(change);
        // The operation goes on without us: the next description shows what came of it.
        let operation: Operation = answer.read(what)?;
        match operation.error.errors.first() {
            None => Ok(()),
            Some(error) => {
                let reason = words.of(&format!("{} {}", error.code, error.message));
                Err(DriverError::Refused { what: what.to_owned(), reason })
            }
        }
    }

    fn verb(&self, what: &str, verb: &str) -> Result<Url, DriverError> {
        address(what, self.url.as_str(), ENDPOINT, &[verb])
    }

    async fn ask(&self, call: &Call<'_>) -> Result<Answer, DriverError> {
        self.answer(call).await.map(|(answer, _)| answer)
    }

    /// An answer that is a success.
    async fn answer(&self, call: &Call<'_>) -> Result<(Answer, Words), DriverError> {
        let (answer, words) = self.cloud.ask(call).await?;
        if answer.is_success() {
            return Ok((answer, words));
        }
        let error = answer.error();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let reason = text(&error["errors"][0]["reason"]);
        // Google counts calls with 403 as well as with 429.
        if matches!(
            reason.as_str(),
            "rateLimitExceeded" | "userRateLimitExceeded" | "concurrentLimitExceeded"
        ) {
            return Err(DriverError::Throttled { what: call.what.to_owned(), after: answer.after });
        }
        Err(answer.refusal(call.what, &words.of(&format!("{reason} {}", text(&error["message"])))))
    }

    fn what(&self, doing: &str) -> String {
        format!("{doing} of {}", self.name)
    }
}

impl Driver for GcpMig {
    fn kind(&self) -> &'static str {
        "gcp-mig"
    }

    fn describe(&self) -> BoxFuture<'_, Result<Option<Group>, DriverError>> {
        Box::pin(async {
            let what = self.what("description");
            let manager = self.manager(&what).await?;
            let machines = self.machines(&what).await?;
            let instances = machines.iter().map(Managed::to_instance).collect();
            // Such a group has no bounds of its own: its quota speaks when it is reached.
            Ok(Some(Group { desired: manager.target_size, max: u32::MAX, instances, ..Group::default() }))
        })
    }

    /// Between the look at the group's size and the change of it another may have made it larger, and Google knows no condition for
    /// `resize`: then it would choose. It takes two who hold one number, or a leader whose call is late by an election and lands in
    /// the second between the two calls; the next description tells.
    fn set_desired(&self, desired: u32, generation: u64) -> BoxFuture<'_, Result<(), DriverError>> {
        Box::pin(async move {
            let what = self.what("resize");
            let target = self.manager(&what).await?.target_size;
            if desired == target {
                return Ok(());
            }
            if desired > target {
                let change = format!("{generation} resize {target} {desired}");
                return self.change(&what, "resize", Some(desired), None, &change).await;
            }
            let fewer = (target - desired) as usize;
            let machines = self.machines(&what).await?;
            let mut idle: Vec<&Managed> = machines.iter().filter(|machine| machine.has_never_run()).collect();
            if idle.len() < fewer {
                let reason = format!(
                    "{fewer} fewer than {target} are asked for, and only {} machines do not run yet: others are ended one by one",
                    idle.len()
                );
                return Err(DriverError::Refused { what, reason });
            }
            // The same ones each time; those that do not even exist first.
            idle.sort_by(|a, b| (a.exists(), a.url()).cmp(&(b.exists(), b.url())));
            idle.truncate(fewer);
            self.end(&what, &idle, generation).await
        })
    }

    fn terminate<'a>(&'a self, instance: &'a str, generation: u64) -> BoxFuture<'a, Result<(), DriverError>> {
        Box::pin(async move {
            let what = self.what(&format!("end of machine {instance}"));
            let machines = self.machines(&what).await?;
            match machines.iter().find(|machine| machine.is(instance)) {
                Some(machine) if !machine.is_leaving() => self.end(&what, &[machine], generation).await,
                _ => Ok(()),
            }
        })
    }
}

/// Ids of requests. Google does a request once however often it arrives with the same id, for an hour. So one that is sent again
/// because no answer came has the same id, from a new leader too; one that was accepted and is asked for again has another: what it
/// began may have failed since, and would not be begun again.
#[derive(Debug, Default)]
struct Requests {
    accepted: Mutex<BTreeMap<String, u32>>,
}

impl Requests {
    fn id(&self, change: &str) -> String {
        let times = self.accepted.lock().get(change).copied().unwrap_or_default();
        let hash = Sha256::digest(format!("{change}\0{times}"));
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        // The form of a random UUID, which is what Google's APIs ask for.
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }

    fn accepted(&self, change: String) {
        let mut accepted = self.accepted.lock();
        if accepted.len() >= REQUESTS_MAX {
            accepted.clear();
        }
        *accepted.entry(change).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_that_changes_with_the_change_and_once_it_was_accepted() {
        let requests = Requests::default();
        let first = requests.id("a");
        assert_eq!(first.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_eq!((&first[14..15], requests.id("a")), ("4", first.clone()));
        assert_eq!(Requests::default().id("a"), first, "another leader's");
        assert_ne!(requests.id("b"), first);
        requests.accepted("a".into());
        assert_ne!(requests.id("a"), first);
    }

    #[test]
    fn a_group_has_one_place() {
        let config = GcpMigConfig { project: "p".into(), group: "g".into(), ..GcpMigConfig::default() };
        let zonal = GcpMigConfig { zone: "z".into(), ..config.clone() };
        assert!(GcpMig::open(&zonal).is_ok());
        assert!(GcpMig::open(&GcpMigConfig { region: "r".into(), ..config.clone() }).is_ok());
        for bad in [GcpMigConfig { region: "r".into(), ..zonal }, config] {
            assert!(matches!(GcpMig::open(&bad), Err(DriverError::Unusable { .. })));
        }
    }
}
