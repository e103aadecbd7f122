//! A small authority of one's own: a folder with its certificate and key, and with the
//! certificates it issued.
//!
//! ```text
//!   folder/ (0700)   ca.pem   ca.key (0600)   NAME.pem   NAME.key (0600)   ...
//! ```
//!
//! Keys are Ed25519, the kind that the specification asks for: small, quick to sign with, and
//! nothing about them to choose wrongly. Certificates live for a month and are renewed after half of
//! it, with a new key; there are no revocation lists, so what has leaked is of use until it expires.

mod leaf;
mod store;

pub use leaf::Leaf;

use crate::{Error, Files, Identity, files};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose as Use, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType,
};
use rustls::pki_types::ServerName;
use std::{
    fmt, fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use store::Replace;
use time::OffsetDateTime;
use wire::Role;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Life of an authority.
pub const AUTHORITY_LIFE: Duration = DAY.saturating_mul(3650);
/// Life of a certificate unless told otherwise.
pub const LIFE: Duration = DAY.saturating_mul(30);
/// Longest life of a certificate: there is no way to call one back.
pub const LIFE_MAX: Duration = DAY.saturating_mul(398);
/// A certificate is valid from this long ago, so that a peer whose clock is behind takes it.
const BACKDATED: Duration = Duration::from_secs(5 * 60);
/// DNS names and addresses of one certificate at most.
pub const HOSTS_MAX: usize = 32;

/// An authority that can issue.
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    until: SystemTime,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// What is asked of an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// For whom.
    pub identity: Identity,
    /// DNS names and IP addresses under which it is reached. Only nodes need any, and only where
    /// peers do not call them by name.
    pub hosts: Vec<String>,
    /// For how long.
    pub life: Duration,
}

impl Authority {
    /// Makes an authority in this folder.
    ///
    /// # Errors
    /// The folder holds one already (`force` replaces it, and all it issued is worth nothing), is
    /// open to others, or cannot be written.
    pub fn create(folder: &Path, name: &str, now: SystemTime, force: bool) -> Result<Self, Error> {
        store::open_folder(folder)?;
        let (cert, key) = (folder.join("ca.pem"), folder.join("ca.key"));
        let replace = Replace::of(force);
        store::check(&[&cert, &key], replace)?;
        let pair = KeyPair::generate_for(&PKCS_ED25519)?;
        let mut params = params(&format!("{name} authority"), now, now + AUTHORITY_LIFE);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let made = params.self_signed(&pair)?;
        store::write(&key, &pair.serialize_pem(), replace)?;
        store::write(&cert, &made.pem(), replace)?;
        let until = now + AUTHORITY_LIFE;
        Ok(Self { folder: folder.to_owned(), issuer: Issuer::new(params, pair), until })
    }

    /// The authority of this folder.
    ///
    /// # Errors
    /// There is none, or its files cannot be read.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let (cert, key) = (folder.join("ca.pem"), folder.join("ca.key"));
        let text = fs::read_to_string(&key).map_err(Error::file(&key))?;
        let pair = KeyPair::from_pem(&text).map_err(|error| Error::content(&key, error))?;
        let first = files::certificates(&cert)?.swap_remove(0);
        let until = leaf::life(&cert, &first)?.1;
        let issuer =
            Issuer::from_ca_cert_der(&first, pair).map_err(|error| Error::content(&cert, error))?;
        Ok(Self { folder: folder.to_owned(), issuer, until })
    }

    /// Issues a certificate with a new key, into the authority's folder.
    ///
    /// # Errors
    /// A request out of bounds, a name that has a certificate already (`force` replaces it), or a
    /// folder that cannot be written.
    pub fn issue(&self, request: &Request, now: SystemTime, force: bool) -> Result<Files, Error> {
        let name = request.identity.name();
        if name == "ca" {
            return Err(Error::Name("ca".to_owned()));
        }
        let files = Files::of(&self.folder, name);
        let replace = Replace::of(force);
        store::check(&[&files.cert, &files.key], replace)?;
        let pair = KeyPair::generate_for(&PKCS_ED25519)?;
        let made = self.params(request, now)?.signed_by(&pair, &self.issuer)?;
        // The key first: who sees the new certificate finds its key.
        store::write(&files.key, &pair.serialize_pem(), replace)?;
        store::write(&files.cert, &made.pem(), replace)?;
        Ok(files)
    }

    fn params(&self, request: &Request, now: SystemTime) -> Result<CertificateParams, Error> {
        let until = (now + request.life.min(LIFE_MAX)).min(self.until);
        let mut params = params(request.identity.name(), now, until);
        params.subject_alt_names = names(request)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![Use::ClientAuth];
        if request.identity.roles().has(Role::Node) {
            params.extended_key_usages.push(Use::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }

    /// Renews every certificate of the folder that is past half of its life, or `all`: for the same
    /// identity, hosts and length of life, with a new key. Gives those renewed, by name.
    ///
    /// # Errors
    /// A certificate in the folder that cannot be read, or a folder that cannot be written; those
    /// before it are renewed.
    pub fn rotate(&self, now: SystemTime, all: bool) -> Result<Vec<Leaf>, Error> {
        let mut renewed = Vec::new();
        for leaf in issued(&self.folder)? {
            if !all && !leaf.is_past_half(now) {
                continue;
            }
            let request = Request {
                identity: leaf.identity.clone(),
                hosts: leaf.hosts.clone(),
                life: leaf.life().saturating_sub(BACKDATED),
            };
            let files = self.issue(&request, now, true)?;
            renewed.push(Leaf::read(&files.cert)?);
        }
        Ok(renewed)
    }
}

/// The certificates in an authority's folder, by name.
///
/// # Errors
/// The first that cannot be read.
pub fn issued(folder: &Path) -> Result<Vec<Leaf>, Error> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::file(folder))? {
        let path = entry.map_err(Error::file(folder))?.path();
        if path.extension().is_some_and(|end| end == "pem") && !path.ends_with("ca.pem") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| Leaf::read(path)).collect()
}

/// When the authority of this folder ends.
///
/// # Errors
/// There is none, or its certificate cannot be read.
pub fn authority_until(folder: &Path) -> Result<SystemTime, Error> {
    let path = folder.join("ca.pem");
    let first = files::certificates(&path)?.swap_remove(0);
    Ok(leaf::life(&path, &first)?.1)
}

fn params(name: &str, now: SystemTime, until: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = OffsetDateTime::from(now - BACKDATED);
    params.not_after = OffsetDateTime::from(until);
    params
}

/// The alternative names: the identity, then the hosts.
fn names(request: &Request) -> Result<Vec<SanType>, Error> {
    if request.hosts.len() > HOSTS_MAX {
        return Err(Error::Hosts(format!("more than {HOSTS_MAX} hosts")));
    }
    let mut names = vec![SanType::URI(request.identity.to_string().as_str().try_into()?)];
    for host in &request.hosts {
        let wrong = || Error::Hosts(format!("`{host}` is neither a DNS name nor an IP address"));
        names.push(match ServerName::try_from(host.as_str()).map_err(|_| wrong())? {
            ServerName::DnsName(name) => SanType::DnsName(name.as_ref().try_into()?),
            _ => SanType::IpAddress(host.parse::<IpAddr>().map_err(|_| wrong())?),
        });
    }
    Ok(names)
}
