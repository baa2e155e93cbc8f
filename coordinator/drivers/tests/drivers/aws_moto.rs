//! `aws-asg` against moto. It knows no lifecycle actions and no bounds; what it does know was not written by us.

use crate::moto::Moto;
use crate::{Key, driver};
use aws_credential_types::Credentials;
use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::config::{BehaviorVersion, Builder, Region};
use aws_sdk_autoscaling::types::Tag;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use muster_drivers::{DriverError, Phase};
use serde_json::json;

/// The administrator's own client, who makes the group.
fn administrator(endpoint: &str) -> Client {
    let http =
        aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let config = Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("testing", "testing", None, None, "test"))
        .http_client(http)
        .endpoint_url(endpoint);
    Client::from_conf(config.build())
}

#[tokio::test]
async fn a_group_that_others_made_is_described_grown_and_shrunk_by_name() {
    let Some(moto) = Moto::start() else { return };
    let endpoint = format!("http://{}", moto.address);
    let aws = administrator(&endpoint);
    aws.create_launch_configuration()
        .launch_configuration_name("p5")
        .image_id("ami-12c6146b")
        .instance_type("t2.micro")
        .send()
        .await
        .unwrap();
    aws.create_auto_scaling_group()
        .auto_scaling_group_name("gpu")
        .launch_configuration_name("p5")
        .availability_zones("eu-west-1a")
        .min_size(0)
        .max_size(5)
        .desired_capacity(0)
        .tags(Tag::builder().key("muster:label:class").value("p5").build())
        .send()
        .await
        .unwrap();
    let key = Key::new("testing", "testing");
    let asg = key.asg(&endpoint, "");

    let empty = asg.describe().await.unwrap().unwrap();
    assert_eq!((empty.desired, empty.min, empty.max, empty.instances.len()), (0, 0, 5, 0));
    assert_eq!(empty.labels, [("class".to_owned(), "p5".to_owned())].into());

    asg.set_desired(2, 1).await.unwrap();
    let two = asg.describe().await.unwrap().unwrap();
    assert_eq!((two.desired, two.instances.len()), (2, 2));
    for machine in &two.instances {
        assert_eq!((machine.phase, machine.protected), (Phase::InService, false));
        assert_eq!(machine.image.as_deref(), Some("p5"));
    }

    let (goes, stays) = (two.instances[0].id.clone(), two.instances[1].id.clone());
    asg.protect(&[stays.clone(), "i-0123456789abcdef0".into()], true).await.unwrap();
    asg.terminate(&goes, 2).await.unwrap();
    asg.terminate(&goes, 3).await.unwrap();
    asg.terminate("i-0123456789abcdef0", 4).await.unwrap();
    let one = asg.describe().await.unwrap().unwrap();
    assert_eq!(one.desired, 1);
    let left: Vec<_> = one.instances.iter().filter(|machine| machine.phase != Phase::Going).collect();
    assert!(left.len() == 1 && left[0].id == stays && left[0].protected, "{left:?}");

    // The last one is in service: a lower number would be AWS's choice.
    assert!(matches!(asg.set_desired(0, 5).await, Err(DriverError::Refused { .. })));
    asg.protect(std::slice::from_ref(&stays), false).await.unwrap();
    assert!(!asg.describe().await.unwrap().unwrap().instances[0].protected);
}

#[tokio::test]
async fn a_group_that_is_not_there_is_called_missing() {
    let Some(moto) = Moto::start() else { return };
    let key = Key::new("testing", "testing");
    let asg = driver(json!({
        "kind": "aws-asg", "group": "none", "region": "eu-west-1", "endpoint": format!("http://{}", moto.address),
        "credentials_file": key.file.path(),
    }));
    let error = asg.describe().await.unwrap_err();
    assert!(
        matches!(error, DriverError::NoGroup { .. }) && error.to_string().contains("\"none\""),
        "{error}"
    );
    assert!(matches!(asg.set_desired(1, 1).await, Err(DriverError::NoGroup { .. })));
}
