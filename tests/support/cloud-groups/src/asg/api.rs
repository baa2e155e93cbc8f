//! The calls: what is asked, by whom, and the answer.

use super::{Asg, Refusal, signature, xml};
use crate::call::Call;
use crate::fault::{Fault, FaultKind};
use crate::serve::{Ask, Reply};
use std::collections::BTreeMap;
use std::time::Duration;

pub fn call(ask: &Ask<'_>) -> Call {
    let mut parameters: BTreeMap<String, String> =
        url::form_urlencoded::parse(ask.body).map(|(k, v)| (k.into_owned(), v.into_owned())).collect();
    parameters.remove("Version");
    let action = parameters.remove("Action").unwrap_or_default();
    Call { cloud: "asg", action, parameters, status: 0, code: String::new() }
}

pub fn refuse(fault: &Fault) -> Reply {
    let mut reply = match fault.kind {
        FaultKind::Throttle => xml::error(400, "Throttling", "Rate exceeded"),
        _ => xml::error(fault.status, &fault.code, &fault.message),
    };
    reply.headers.extend(fault.after_s.map(|s| ("retry-after", s.to_string())));
    reply
}

pub fn answer(asg: &mut Asg, ask: &Ask<'_>, call: &Call, now: Duration) -> Reply {
    asg.settle(now);
    let done = signature::check(asg.key.as_ref(), ask).and_then(|()| carry_out(asg, call, now));
    asg.settle(now);
    match done {
        Ok(body) => xml::result(&call.action, &body),
        Err(refusal) => xml::refusal(&refusal),
    }
}

/// What is in the result.
fn carry_out(asg: &mut Asg, call: &Call, now: Duration) -> Result<String, Refusal> {
    match call.action.as_str() {
        "DescribeAutoScalingGroups" => Ok(describe(asg, call)),
        "DescribeAutoScalingInstances" => {
            let wanted = list(call, "InstanceIds.member.");
            let all = asg.groups.values().flat_map(|g| g.instances.iter().map(move |(id, i)| (g, id, i)));
            let found = all.filter(|(_, id, _)| wanted.is_empty() || wanted.contains(id));
            let members = found.map(|(g, id, i)| xml::member(&xml::instance(id, i, &g.name)));
            Ok(format!("<AutoScalingInstances>{}</AutoScalingInstances>", members.collect::<String>()))
        }
        "DescribeLifecycleHooks" => {
            let group = group(asg, call)?;
            let hooks: String =
                group.hooks.iter().map(|(name, seconds)| xml::hook(group, name, *seconds)).collect();
            Ok(format!("<LifecycleHooks>{hooks}</LifecycleHooks>"))
        }
        "SetDesiredCapacity" => {
            let desired = number(call, "DesiredCapacity")?;
            group(asg, call)?.set_desired(desired).map(|()| String::new())
        }
        "TerminateInstanceInAutoScalingGroup" => {
            let id = call.parameter("InstanceId");
            let decrement = flag(call, "ShouldDecrementDesiredCapacity")?;
            let group = asg.group_of(id).ok_or_else(|| {
                let words = format!("Instance Id not found - No managed instance found for instance ID {id}");
                Refusal::validation(words)
            })?;
            group.terminate(id, decrement, now)?;
            Ok(format!(
                "<Activity><ActivityId>0</ActivityId><AutoScalingGroupName>{}</AutoScalingGroupName><Cause>user request</Cause>\
                 <StartTime>2026-01-01T00:00:00.000Z</StartTime><StatusCode>InProgress</StatusCode></Activity>",
                xml::escape(&group.name)
            ))
        }
        "RecordLifecycleActionHeartbeat" => {
            let (hook, id) = (call.parameter("LifecycleHookName"), call.parameter("InstanceId"));
            group(asg, call)?.heartbeat(hook, id, now).map(|()| String::new())
        }
        "CompleteLifecycleAction" => {
            let (hook, id) = (call.parameter("LifecycleHookName"), call.parameter("InstanceId"));
            let result = call.parameter("LifecycleActionResult");
            group(asg, call)?.complete(hook, id, result).map(|()| String::new())
        }
        "SetInstanceProtection" => {
            let ids = list(call, "InstanceIds.member.");
            // AWS's own bound.
            if ids.len() > 50 {
                return Err(Refusal::validation(
                    "The number of instance ids that can be passed in is limited to 50",
                ));
            }
            let on = flag(call, "ProtectedFromScaleIn")?;
            group(asg, call)?.protect(&ids, on).map(|()| String::new())
        }
        action => Err(Refusal {
            status: 400,
            code: "InvalidAction",
            message: format!("Could not find operation {action} for version 2011-01-01"),
        }),
    }
}

fn describe(asg: &mut Asg, call: &Call) -> String {
    if asg.empty_pages > 0 {
        asg.empty_pages -= 1;
        return format!("<AutoScalingGroups/><NextToken>page-{}</NextToken>", asg.empty_pages);
    }
    let wanted = list(call, "AutoScalingGroupNames.member.");
    let found = asg.groups.values().filter(|group| wanted.is_empty() || wanted.contains(&group.name));
    format!("<AutoScalingGroups>{}</AutoScalingGroups>", found.map(xml::group).collect::<String>())
}

fn group<'a>(asg: &'a mut Asg, call: &Call) -> Result<&'a mut super::group::Group, Refusal> {
    let name = call.parameter("AutoScalingGroupName");
    asg.groups
        .get_mut(name)
        .ok_or_else(|| Refusal::validation(format!("AutoScalingGroup name not found - null name: {name}")))
}

fn list(call: &Call, prefix: &str) -> Vec<String> {
    call.parameters
        .iter()
        .filter(|(key, _)| key.starts_with(prefix))
        .map(|(_, value)| value.clone())
        .collect()
}

fn number(call: &Call, name: &str) -> Result<u32, Refusal> {
    let given = call.parameter(name);
    given.parse().map_err(|_| Refusal::validation(format!("Value '{given}' at '{name}' is not a capacity")))
}

fn flag(call: &Call, name: &str) -> Result<bool, Refusal> {
    let given = call.parameter(name);
    given.parse().map_err(|_| Refusal::validation(format!("Value '{given}' at '{name}' is not a boolean")))
}
