//! The answers of AWS's query protocol.

use super::Refusal;
use super::group::{Group, Instance};
use crate::serve::Reply;

const NAMESPACE: &str = "http://autoscaling.amazonaws.com/doc/2011-01-01/";
/// Every answer has one; nobody here reads it.
const REQUEST_ID: &str = "7c6e177f-f082-11e1-ac58-3714bEXAMPLE";
/// One zone is enough.
const ZONE: &str = "eu-west-1a";

/// The answer to `action`, `body` being what is in its result.
pub fn result(action: &str, body: &str) -> Reply {
    let text = format!(
        "<{action}Response xmlns=\"{NAMESPACE}\"><{action}Result>{body}</{action}Result>\
         <ResponseMetadata><RequestId>{REQUEST_ID}</RequestId></ResponseMetadata></{action}Response>"
    );
    Reply { headers: xml(), ..Reply::new(200, text) }
}

pub fn refusal(refusal: &Refusal) -> Reply {
    error(refusal.status, refusal.code, &refusal.message)
}

pub fn error(status: u16, code: &str, message: &str) -> Reply {
    let side = if status < 500 { "Sender" } else { "Receiver" };
    let text = format!(
        "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>{side}</Type><Code>{}</Code><Message>{}</Message></Error>\
         <RequestId>{REQUEST_ID}</RequestId></ErrorResponse>",
        escape(code),
        escape(message)
    );
    Reply { headers: xml(), code: code.to_owned(), ..Reply::new(status, text) }
}

pub fn group(group: &Group) -> String {
    let instances: String = group.instances.iter().map(|(id, i)| member(&instance(id, i, ""))).collect();
    let tags = group.tags.iter().map(|(key, value)| {
        member(&format!(
            "<Key>{}</Key><Value>{}</Value><PropagateAtLaunch>true</PropagateAtLaunch><ResourceId>{}</ResourceId>\
             <ResourceType>auto-scaling-group</ResourceType>",
            escape(key),
            escape(value),
            escape(&group.name)
        ))
    });
    member(&format!(
        "<AutoScalingGroupName>{}</AutoScalingGroupName><MinSize>{}</MinSize><MaxSize>{}</MaxSize>\
         <DesiredCapacity>{}</DesiredCapacity><DefaultCooldown>300</DefaultCooldown>\
         <AvailabilityZones><member>{ZONE}</member></AvailabilityZones><HealthCheckType>EC2</HealthCheckType>\
         <CreatedTime>2026-01-01T00:00:00.000Z</CreatedTime><Instances>{instances}</Instances><Tags>{}</Tags>",
        escape(&group.name),
        group.min,
        group.max,
        group.desired,
        tags.collect::<String>(),
    ))
}

/// In a group, or with `group` by itself.
pub fn instance(id: &str, instance: &Instance, group: &str) -> String {
    let (template, version) = instance.template.split_once(':').unwrap_or((&instance.template, "1"));
    let group = if group.is_empty() {
        String::new()
    } else {
        format!("<AutoScalingGroupName>{}</AutoScalingGroupName>", escape(group))
    };
    let template = if template.is_empty() {
        "<LaunchConfigurationName>by-hand</LaunchConfigurationName>".to_owned()
    } else {
        format!(
            "<LaunchTemplate><LaunchTemplateId>{}</LaunchTemplateId><Version>{}</Version></LaunchTemplate>",
            escape(template),
            escape(version)
        )
    };
    format!(
        "<InstanceId>{id}</InstanceId>{group}<AvailabilityZone>{ZONE}</AvailabilityZone><LifecycleState>{}</LifecycleState>\
         <HealthStatus>Healthy</HealthStatus>{template}<ProtectedFromScaleIn>{}</ProtectedFromScaleIn>",
        instance.state.as_str(),
        instance.protected
    )
}

pub fn hook(group: &Group, name: &str, seconds: u64) -> String {
    member(&format!(
        "<LifecycleHookName>{}</LifecycleHookName><AutoScalingGroupName>{}</AutoScalingGroupName>\
         <LifecycleTransition>autoscaling:EC2_INSTANCE_TERMINATING</LifecycleTransition>\
         <HeartbeatTimeout>{seconds}</HeartbeatTimeout><GlobalTimeout>{}</GlobalTimeout><DefaultResult>ABANDON</DefaultResult>",
        escape(name),
        escape(&group.name),
        (seconds * 100).min(172_800)
    ))
}

pub fn member(text: &str) -> String {
    format!("<member>{text}</member>")
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn xml() -> Vec<(&'static str, String)> {
    vec![("content-type", "text/xml".to_owned())]
}
