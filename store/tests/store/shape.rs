//! What is asked of Google and Azure. There is no server of theirs to test with: nothing here says that the real ones answer.

use crate::server::{Asked, Server};
use bytes::Bytes;
use muster_store::{Store, StoreOptions};

async fn put(url: &str, environment: &[(&str, &str)]) -> Asked {
    let server = Server::start(None).await;
    let environment: Vec<_> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let options =
        StoreOptions { endpoint: Some(format!("http://{}", server.address)), ..StoreOptions::default() };
    let store = Store::open_in(url, &options, &environment).unwrap();
    // The empty answer lacks an ETag; what matters is what was asked.
    let put = store.put_at("a/b", Bytes::from_static(b"hello")).await;
    server.asked().into_iter().next().unwrap_or_else(|| panic!("nothing was asked: {put:?}"))
}

#[tokio::test]
async fn google_gets_an_object_by_its_bucket_and_name() {
    let account =
        r#"{"private_key": "k", "private_key_id": "i", "client_email": "e", "disable_oauth": true}"#;
    let asked = put("gs://bucket/prefix", &[("GOOGLE_SERVICE_ACCOUNT_KEY", account)]).await;
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("PUT", "/bucket/prefix%2Fa%2Fb"));
    assert_eq!(asked.bytes, 5);
}

#[tokio::test]
async fn azure_gets_a_block_blob_signed_with_the_accounts_key() {
    let environment = [("AZURE_STORAGE_ACCOUNT_NAME", "account"), ("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0")];
    let asked = put("az://container/prefix", &environment).await;
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("PUT", "/container/prefix/a/b"));
    assert_eq!((asked.headers["x-ms-blob-type"].to_str().unwrap(), asked.bytes), ("BlockBlob", 5));
    let signed = asked.headers["authorization"].to_str().unwrap();
    assert!(signed.starts_with("SharedKey account:") && !signed.contains("c2VjcmV0"), "{signed}");
}

#[tokio::test]
async fn s3_may_have_the_bucket_in_the_hosts_name_and_its_region_in_the_signature() {
    let options = StoreOptions {
        endpoint: Some("https://s3.example.com".to_owned()),
        region: Some("eu-west-3".to_owned()),
        path_style: Some(false),
    };
    let store = Store::open_in("s3://bucket/p", &options, &crate::credentials()).unwrap();
    let url = store.signed_url("k", true, std::time::Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!((url.host_str(), url.path()), (Some("bucket.s3.example.com"), "/p/k"));
    assert!(url.query().unwrap().contains("eu-west-3"), "{url}");
}
