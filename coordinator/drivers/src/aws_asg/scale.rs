//! More machines, fewer, this one less; hooks and protection.

use super::driver::AwsAsg;
use super::view::count;
use crate::DriverError;
use aws_sdk_autoscaling::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_autoscaling::types::{AutoScalingGroup, Instance, LifecycleState};

/// AWS's own bound for one call.
const PROTECT_BATCH: usize = 50;
/// What a hook at a machine's end is called.
const TERMINATING: &str = "autoscaling:EC2_INSTANCE_TERMINATING";
/// How AWS begins to say that nobody waits (any more).
const NO_ACTION: &str = "No active Lifecycle Action found";
/// How it says that it has no such machine.
const NO_INSTANCE: &str = "Instance Id not found";

impl AwsAsg {
    /// Up, or down to where every machine in service stays.
    pub(super) async fn scale_to(&self, desired: u32) -> Result<(), DriverError> {
        const CALL: &str = "SetDesiredCapacity";
        let group = self.look().await?;
        self.view(&group)?;
        let now = count(group.desired_capacity());
        if desired == now {
            return Ok(());
        }
        if desired < now {
            self.make_safe(CALL, &group, desired).await?;
        }
        let Ok(wanted) = i32::try_from(desired) else {
            return Err(self.refused(CALL, format!("{desired} machines are more than AWS can count")));
        };
        let ask = self
            .client()
            .await
            .set_desired_capacity()
            .auto_scaling_group_name(&self.config.group)
            .desired_capacity(wanted)
            // The caller has waited for as long as it thinks right.
            .honor_cooldown(false);
        match ask.send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed(CALL, error).await),
        }
    }

    /// Before the number goes down: it covers all machines in service, and none of them can be chosen. One that comes up between the
    /// two calls can be, and has no work yet.
    async fn make_safe(&self, call: &str, group: &AutoScalingGroup, desired: u32) -> Result<(), DriverError> {
        // Standby and terminating ones are not in the number.
        let in_service: Vec<&Instance> = group
            .instances()
            .iter()
            .filter(|i| i.lifecycle_state() == Some(&LifecycleState::InService))
            .collect();
        if in_service.len() > desired as usize {
            let reason = format!(
                "{} machines are in service, so with {desired} AWS would choose one of them; they are ended by id",
                in_service.len()
            );
            return Err(self.refused(call, reason));
        }
        let open = in_service.iter().filter(|i| !i.protected_from_scale_in().unwrap_or_default());
        let open: Vec<String> = open.filter_map(|i| i.instance_id().map(str::to_owned)).collect();
        self.set_protection(&open, true).await
    }

    /// This machine, and one less. AWS decrements at each call and takes any group's machine, so both are looked at first.
    pub(super) async fn end(&self, instance: &str) -> Result<(), DriverError> {
        const CALL: &str = "TerminateInstanceInAutoScalingGroup";
        let client = self.client().await;
        let found = match client.describe_auto_scaling_instances().instance_ids(instance).send().await {
            Ok(found) => found.auto_scaling_instances.unwrap_or_default(),
            Err(error) => return Err(self.failed("DescribeAutoScalingInstances", error).await),
        };
        let Some(found) = found.iter().find(|found| found.instance_id() == Some(instance)) else {
            return Ok(());
        };
        if found.auto_scaling_group_name() != Some(&self.config.group) {
            let other = found.auto_scaling_group_name().unwrap_or_default();
            return Err(self.refused(CALL, format!("{instance} is a machine of group \"{other}\"")));
        }
        if found.lifecycle_state().is_some_and(|state| state.starts_with("Terminat")) {
            return Ok(());
        }
        let ask = client
            .terminate_instance_in_auto_scaling_group()
            .instance_id(instance)
            .should_decrement_desired_capacity(true);
        match ask.send().await {
            Ok(_) => Ok(()),
            Err(error) if says(&error, NO_INSTANCE) => Ok(()),
            Err(error) => Err(self.failed(CALL, error).await),
        }
    }

    pub(super) async fn keep_waiting(&self, instance: &str) -> Result<(), DriverError> {
        let client = self.client().await;
        for hook in self.hooks().await? {
            let ask = client
                .record_lifecycle_action_heartbeat()
                .auto_scaling_group_name(&self.config.group)
                .lifecycle_hook_name(hook)
                .instance_id(instance);
            match ask.send().await {
                Err(error) if !says(&error, NO_ACTION) => {
                    return Err(self.failed("RecordLifecycleActionHeartbeat", error).await);
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) async fn let_go(&self, instance: &str) -> Result<(), DriverError> {
        let client = self.client().await;
        for hook in self.hooks().await? {
            let ask = client
                .complete_lifecycle_action()
                .auto_scaling_group_name(&self.config.group)
                .lifecycle_hook_name(hook)
                .instance_id(instance)
                // The machine ends either way; ABANDON would cut short the hooks of others.
                .lifecycle_action_result("CONTINUE");
            match ask.send().await {
                Err(error) if !says(&error, NO_ACTION) => {
                    return Err(self.failed("CompleteLifecycleAction", error).await);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The hooks that are ours.
    async fn hooks(&self) -> Result<Vec<String>, DriverError> {
        if !self.config.lifecycle_hook.is_empty() {
            return Ok(vec![self.config.lifecycle_hook.clone()]);
        }
        let client = self.client().await;
        let hooks =
            client.describe_lifecycle_hooks().auto_scaling_group_name(&self.config.group).send().await;
        let hooks = match hooks {
            Ok(hooks) => hooks.lifecycle_hooks.unwrap_or_default(),
            Err(error) => return Err(self.failed("DescribeLifecycleHooks", error).await),
        };
        let ending = hooks.into_iter().filter(|hook| hook.lifecycle_transition() == Some(TERMINATING));
        Ok(ending.filter_map(|hook| hook.lifecycle_hook_name).collect())
    }

    /// Those of them that are here, can be protected and are not as wanted: AWS refuses a whole batch for one that has gone.
    pub(super) async fn shield(&self, instances: &[String], on: bool) -> Result<(), DriverError> {
        if instances.is_empty() {
            return Ok(());
        }
        let group = self.look().await?;
        let due = group.instances().iter().filter(|i| {
            let can = matches!(
                i.lifecycle_state(),
                Some(LifecycleState::InService | LifecycleState::EnteringStandby | LifecycleState::Standby)
            );
            can && i.protected_from_scale_in().unwrap_or_default() != on
        });
        let ids = due.filter_map(Instance::instance_id).filter(|id| instances.iter().any(|i| i == id));
        self.set_protection(&ids.map(str::to_owned).collect::<Vec<_>>(), on).await
    }

    async fn set_protection(&self, ids: &[String], on: bool) -> Result<(), DriverError> {
        let client = self.client().await;
        for batch in ids.chunks(PROTECT_BATCH) {
            let ask = client
                .set_instance_protection()
                .auto_scaling_group_name(&self.config.group)
                .set_instance_ids(Some(batch.to_vec()))
                .protected_from_scale_in(on);
            if let Err(error) = ask.send().await {
                return Err(self.failed("SetInstanceProtection", error).await);
            }
        }
        Ok(())
    }

    fn refused(&self, call: &str, reason: String) -> DriverError {
        DriverError::Refused { what: self.config.what(call), reason }
    }
}

/// Whether AWS's words of a refusal begin so: it has one code for all of them.
fn says<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>, words: &str) -> bool {
    error
        .as_service_error()
        .and_then(ProvideErrorMetadata::message)
        .is_some_and(|said| said.starts_with(words))
}
