//! Who a peer is, as its certificate says: a name and roles, in one URI.
//!
//! ```text
//!   butterfly:node-7?role=node,client
//! ```
//!
//! The URI stands among the certificate's alternative names. Nothing else in a certificate says who
//! a peer is: not its common name, not its DNS names, not its addresses.

use crate::Error;
use rustls::pki_types::CertificateDer;
use std::{fmt, str::FromStr};
use wire::{Role, Roles};

/// Bytes of a name at most.
pub const NAME_MAX: usize = 64;

const SCHEME: &str = "butterfly:";
const QUERY: &str = "?role=";

/// A peer whose certificate was checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    name: String,
    roles: Roles,
}

impl Identity {
    /// An identity of this name and these roles.
    ///
    /// # Errors
    /// A name that is not 1 to 64 of `A-Z a-z 0-9 . _ -`, or no role.
    pub fn new(name: &str, roles: Roles) -> Result<Self, Error> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(plain) {
            return Err(Error::Name(name.chars().take(NAME_MAX).collect()));
        }
        if roles.is_empty() {
            return Err(Error::NoRole);
        }
        Ok(Self { name: name.to_owned(), roles })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it may be.
    #[must_use]
    pub const fn roles(&self) -> Roles {
        self.roles
    }
}

impl fmt::Display for Identity {
    /// The URI.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{QUERY}", self.name)?;
        for (index, role) in self.roles.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}", role.name())?;
        }
        Ok(())
    }
}

impl FromStr for Identity {
    type Err = Error;

    /// Reads the URI in the one form in which it is written.
    fn from_str(uri: &str) -> Result<Self, Error> {
        let rest = uri.strip_prefix(SCHEME).ok_or(Error::NoIdentity)?;
        let (name, roles) = rest.split_once(QUERY).ok_or(Error::NoRole)?;
        let roles = roles.split(',').map(role).collect::<Result<Roles, _>>()?;
        Self::new(name, roles)
    }
}

/// The role of this name.
///
/// # Errors
/// [`Error::Role`].
pub fn role(name: &str) -> Result<Role, Error> {
    let found = Role::ALL.iter().find(|role| role.name() == name);
    found.copied().ok_or_else(|| Error::Role(name.chars().take(NAME_MAX).collect()))
}

/// Who presents this chain. Only the first certificate, the peer's own, says so. That the chain is
/// to be trusted is for the handshake to check, before.
///
/// # Errors
/// No certificate, one that cannot be read, or one that does not name exactly one identity.
pub fn peer_identity(chain: &[CertificateDer<'_>]) -> Result<Identity, Error> {
    let first = chain.first().ok_or(Error::NoIdentity)?;
    let certificate = webpki::EndEntityCert::try_from(first)
        .map_err(|error| Error::Certificate(error.to_string()))?;
    let mut uris = certificate.valid_uri_names().filter(|uri| uri.starts_with(SCHEME));
    match (uris.next(), uris.next()) {
        (Some(uri), None) => uri.parse(),
        (None, _) => Err(Error::NoIdentity),
        (Some(_), Some(_)) => Err(Error::TwoIdentities),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_uri() {
        let roles = Roles::of(Role::WorkerHost).with(Role::Client);
        let one = Identity::new("node-7.example_x", roles).unwrap();
        assert_eq!(one.to_string(), "butterfly:node-7.example_x?role=client,worker-host");
        assert_eq!(one.to_string().parse::<Identity>().unwrap(), one);
    }

    #[test]
    fn what_is_no_identity_says_what_is_wrong() {
        let long = format!("butterfly:{}?role=node", "x".repeat(NAME_MAX + 1));
        for (uri, says) in [
            ("https://example.org/", "identity"),
            ("butterfly:x", "role"),
            ("butterfly:x?role=", "role"),
            ("butterfly:x?role=king", "king"),
            ("butterfly:?role=node", "name"),
            ("butterfly:a b?role=node", "name"),
            ("butterfly:a/b?role=node", "name"),
            (&long, "name"),
        ] {
            let error = uri.parse::<Identity>().unwrap_err().to_string();
            assert!(error.contains(says), "{uri}: {error}");
        }
    }
}
