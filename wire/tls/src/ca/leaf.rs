//! What an issued certificate says.

use crate::{Error, Identity, files, peer_identity};
use rustls::pki_types::CertificateDer;
use std::{
    net::IpAddr,
    path::Path,
    time::{Duration, SystemTime},
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A certificate of a party.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Whose.
    pub identity: Identity,
    /// DNS names and IP addresses.
    pub hosts: Vec<String>,
    /// Valid from.
    pub from: SystemTime,
    /// Valid until.
    pub until: SystemTime,
}

impl Leaf {
    /// Reads the first certificate of a PEM file.
    ///
    /// # Errors
    /// A file that cannot be read, or a certificate without an identity.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let chain = files::certificates(path)?;
        let identity = peer_identity(&chain).map_err(|error| Error::content(path, error))?;
        let first = &chain[0];
        let (from, until) = life(path, first)?;
        Ok(Self { identity, hosts: hosts(path, first)?, from, until })
    }

    /// How long it is valid.
    #[must_use]
    pub fn life(&self) -> Duration {
        self.until.duration_since(self.from).unwrap_or_default()
    }

    /// True from the middle of its life on.
    #[must_use]
    pub fn is_past_half(&self, now: SystemTime) -> bool {
        now >= self.from + self.life() / 2
    }
}

fn parse<'a>(path: &Path, der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(error) => Err(Error::content(path, format!("no well-formed certificate: {error}"))),
    }
}

/// From when until when.
pub(super) fn life(
    path: &Path,
    der: &CertificateDer<'_>,
) -> Result<(SystemTime, SystemTime), Error> {
    let certificate = parse(path, der)?;
    let validity = certificate.validity();
    let (from, until) = (validity.not_before.to_datetime(), validity.not_after.to_datetime());
    Ok((from.into(), until.into()))
}

fn hosts(path: &Path, der: &CertificateDer<'_>) -> Result<Vec<String>, Error> {
    let certificate = parse(path, der)?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| Error::content(path, format!("its names cannot be read: {error}")))?;
    let Some(names) = names else { return Ok(Vec::new()) };
    Ok(names.value.general_names.iter().filter_map(host).collect())
}

fn host(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let address = <[u8; 4]>::try_from(*bytes)
                .map(IpAddr::from)
                .or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            Some(address.ok()?.to_string())
        }
        _ => None,
    }
}
