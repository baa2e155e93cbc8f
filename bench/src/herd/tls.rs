//! A test authority: one that exists for this run, and one certificate of it that members, workers and users share.

use anyhow::Result;
use muster_proto::channel::Tls;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use std::path::Path;

/// Writes the authority and the certificate below `dir`.
///
/// # Errors
/// The disk's, or no randomness.
pub fn certify(dir: &Path) -> Result<Tls> {
    let mut authority = CertificateParams::new(Vec::<String>::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let ca = authority.self_signed(&key)?.pem();
    let issuer = Issuer::new(authority, key);
    let mut node = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?;
    node.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let node_key = KeyPair::generate()?;
    let certificate = node.signed_by(&node_key, &issuer)?.pem();
    let tls =
        Tls { ca: dir.join("ca.pem"), certificate: dir.join("node.pem"), key: dir.join("node.key.pem") };
    std::fs::write(&tls.ca, ca)?;
    std::fs::write(&tls.certificate, certificate)?;
    std::fs::write(&tls.key, node_key.serialize_pem())?;
    Ok(tls)
}
