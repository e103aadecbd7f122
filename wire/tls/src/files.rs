//! The three PEM files of a party: whom it trusts, who it is, and its key.

use crate::Error;
use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Certificates of one file at most: a chain, or authorities of which one replaces the other.
const CERTIFICATES_MAX: usize = 16;

/// Where a party's certificates lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Authorities to trust: one, or two while one takes over from the other.
    pub ca: PathBuf,
    /// The party's own certificate, with those between it and the authority if there are any.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What the files held.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Files {
    /// The files of `name` in a folder that [`ca`](crate::ca) filled.
    #[must_use]
    pub fn of(folder: &Path, name: &str) -> Self {
        Self {
            ca: folder.join("ca.pem"),
            cert: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
        }
    }

    pub(crate) fn load(&self) -> Result<Loaded, Error> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(&self.ca)? {
            roots.add(authority).map_err(|error| {
                Error::content(&self.ca, format!("no certificate of an authority: {error}"))
            })?;
        }
        let chain = certificates(&self.cert)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| explain(&self.key, "private key", error))?;
        Ok(Loaded { roots: Arc::new(roots), chain, key })
    }
}

/// The certificates of a file, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let fail = |error| explain(path, "certificate", error);
    let found = CertificateDer::pem_file_iter(path)
        .map_err(fail)?
        .take(CERTIFICATES_MAX + 1)
        .collect::<Result<Vec<_>, _>>()
        .map_err(fail)?;
    match found.len() {
        0 => Err(explain(path, "certificate", pem::Error::NoItemsFound)),
        1..=CERTIFICATES_MAX => Ok(found),
        _ => Err(Error::content(path, format!("more than {CERTIFICATES_MAX} certificates"))),
    }
}

fn explain(path: &Path, what: &str, error: pem::Error) -> Error {
    match error {
        pem::Error::Io(source) => Error::file(path)(source),
        pem::Error::NoItemsFound => Error::content(path, format!("no PEM of a {what} in it")),
        other => Error::content(path, format!("no well-formed PEM: {other}")),
    }
}
