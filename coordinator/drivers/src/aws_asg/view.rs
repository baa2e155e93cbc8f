//! AWS's description of a group in our words.

use crate::{DriverError, Group, Instance, Phase};
use aws_sdk_autoscaling::types::{AutoScalingGroup, Instance as AwsInstance, LifecycleState};

/// Tags of the group that say labels of its workers: `muster:label:KEY`.
const LABEL_TAG: &str = "muster:label:";

/// The group.
///
/// # Errors
/// It counts something other than machines.
pub fn group(what: &str, told: &AutoScalingGroup) -> Result<Group, DriverError> {
    let refused = |reason: &str| DriverError::Refused { what: what.to_owned(), reason: reason.to_owned() };
    if told.desired_capacity_type().is_some_and(|kind| !kind.is_empty() && kind != "units") {
        return Err(refused("the group counts vCPUs or memory, not machines"));
    }
    if told.instances().iter().any(|i| i.weighted_capacity().is_some_and(|weight| weight != "1")) {
        return Err(refused("the group counts weights, not machines"));
    }
    let tags = told.tags().iter();
    let labels = tags
        .filter_map(|tag| Some((tag.key()?.strip_prefix(LABEL_TAG)?.to_owned(), tag.value()?.to_owned())));
    Ok(Group {
        desired: count(told.desired_capacity()),
        min: count(told.min_size()),
        max: count(told.max_size()),
        instances: told.instances().iter().filter_map(instance).collect(),
        labels: labels.collect(),
    })
}

/// A number of machines; AWS's are never negative.
pub fn count(told: Option<i32>) -> u32 {
    told.and_then(|n| u32::try_from(n).ok()).unwrap_or_default()
}

/// A machine; None for one without an id, which AWS has not started yet.
fn instance(told: &AwsInstance) -> Option<Instance> {
    Some(Instance {
        id: told.instance_id()?.to_owned(),
        phase: told.lifecycle_state().map_or(Phase::Booting, phase),
        protected: told.protected_from_scale_in().unwrap_or_default(),
        image: image(told),
    })
}

/// Launch template with version, or launch configuration.
fn image(told: &AwsInstance) -> Option<String> {
    let template = told.launch_template().and_then(|template| {
        let name = template.launch_template_id().or(template.launch_template_name())?;
        Some(format!("{name}:{}", template.version().unwrap_or_default()))
    });
    template.or_else(|| told.launch_configuration_name().map(str::to_owned))
}

/// ```text
/// Pending, Pending:Wait, Pending:Proceed          Booting
/// InService, EnteringStandby, Standby             InService   Standby: the group does not count it, but its worker lives
/// Terminating:Wait                                Held        a hook waits, ours or another's
/// Terminating, Terminating:Proceed, Detaching …   Going
/// ```
/// What we do not know counts as in service: nothing is ended for a word.
pub fn phase(state: &LifecycleState) -> Phase {
    match state.as_str() {
        "Quarantined" => Phase::Booting,
        "Terminating:Wait" => Phase::Held,
        "Detaching" | "Detached" => Phase::Going,
        s if s.starts_with("Pending") || s.starts_with("ReplacingRootVolume") => Phase::Booting,
        s if s.starts_with("Terminat") => Phase::Going,
        _ => Phase::InService,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_autoscaling::types::{LaunchTemplateSpecification, TagDescription};

    #[test]
    fn every_state_has_its_phase() {
        let table = [
            ("Pending", Phase::Booting),
            ("Pending:Wait", Phase::Booting),
            ("Pending:Proceed", Phase::Booting),
            ("InService", Phase::InService),
            ("EnteringStandby", Phase::InService),
            ("Standby", Phase::InService),
            ("Terminating", Phase::Going),
            ("Terminating:Wait", Phase::Held),
            ("Terminating:Proceed", Phase::Going),
            ("Terminating:Retained", Phase::Going),
            ("Terminated", Phase::Going),
            ("Detaching", Phase::Going),
            ("SomethingOfNextYear", Phase::InService),
        ];
        for (state, wanted) in table {
            assert_eq!(phase(&LifecycleState::from(state)), wanted, "{state}");
        }
    }

    #[test]
    fn a_description_is_taken_over_whole() {
        let template = LaunchTemplateSpecification::builder().launch_template_id("lt-1").version("3").build();
        let machine = AwsInstance::builder()
            .instance_id("i-1")
            .lifecycle_state(LifecycleState::InService)
            .protected_from_scale_in(true)
            .launch_template(template);
        let tag = |key: &str| TagDescription::builder().key(key).value("a100").build();
        let told = AutoScalingGroup::builder()
            .min_size(1)
            .max_size(4)
            .desired_capacity(2)
            .instances(machine.clone().build())
            .tags(tag("muster:label:class"))
            .tags(tag("team"));

        let wanted = Group {
            desired: 2,
            min: 1,
            max: 4,
            instances: vec![Instance {
                id: "i-1".into(),
                phase: Phase::InService,
                protected: true,
                image: Some("lt-1:3".into()),
            }],
            labels: [("class".to_owned(), "a100".to_owned())].into(),
        };
        assert_eq!(group("x", &told.clone().build()), Ok(wanted));

        let weighted = told.clone().instances(machine.weighted_capacity("4").build()).build();
        assert!(matches!(group("x", &weighted), Err(DriverError::Refused { .. })));
        let by_cpu = told.desired_capacity_type("vcpu").build();
        assert!(matches!(group("x", &by_cpu), Err(DriverError::Refused { .. })));
    }
}
