//! The test's own certificate authority.

use anyhow::{Context, Result};
use muster_proto::channel::Tls;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// An authority and the directory of its files.
pub struct Pki {
    dir: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    /// Makes an authority.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn new(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "muster-chaos");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?).context("no authority")?;
        std::fs::write(dir.join("ca.pem"), authority.pem())?;
        Ok(Self { dir: dir.to_owned(), authority })
    }

    /// A certificate for `name`, good at these addresses.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn issue(&self, name: &str, addresses: &[IpAddr]) -> Result<Tls> {
        let names: Vec<String> =
            std::iter::once(name.to_owned()).chain(addresses.iter().map(IpAddr::to_string)).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.authority)?;
        let files = Tls {
            ca: self.dir.join("ca.pem"),
            certificate: self.dir.join(format!("{name}.pem")),
            key: self.dir.join(format!("{name}.key")),
        };
        std::fs::write(&files.certificate, certificate.pem())?;
        let mut open = std::fs::OpenOptions::new();
        let mut file = open.write(true).create(true).truncate(true).mode(0o600).open(&files.key)?;
        std::io::Write::write_all(&mut file, key.serialize_pem().as_bytes())?;
        Ok(files)
    }
}
