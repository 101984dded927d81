//! Certificates in files.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::Site;

/// Files with certificates, and their keys.
pub struct Certificates<'a> {
    site: &'a Site,
    authority: Issuer<'static, KeyPair>,
}

impl<'a> Certificates<'a> {
    /// An authority, whose certificate is in `ca.pem`.
    pub fn new(site: &'a Site) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let key = KeyPair::generate().expect("a key");
        site.write("ca.pem", &params.self_signed(&key).expect("signed").pem());
        Self { site, authority: Issuer::new(params, key) }
    }

    /// Writes a certificate by the authority.
    pub fn issued(&self, name: &str, host: &str) -> [String; 2] {
        self.issued_with(name, CertificateParams::new([host.to_owned()]).expect("parameters"))
    }

    /// Writes a certificate with these names by the authority.
    pub fn issued_with(&self, name: &str, params: CertificateParams) -> [String; 2] {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.authority).expect("signed");
        self.write(name, &certificate.pem(), &key)
    }

    /// Writes a certificate that is signed with its own key.
    pub fn self_signed(&self, name: &str, is_ca: bool) -> [String; 2] {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("parameters");
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        self.write(name, &params.self_signed(&key).expect("signed").pem(), &key)
    }

    fn write(&self, name: &str, pem: &str, key: &KeyPair) -> [String; 2] {
        let file = |path: PathBuf| path.display().to_string();
        let key = self.site.write(&format!("{name}.key"), &key.serialize_pem());
        std::fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("permissions");
        [file(self.site.write(&format!("{name}.pem"), pem)), file(key)]
    }

    pub fn ca(&self) -> String {
        self.site.folder().join("ca.pem").display().to_string()
    }
}
