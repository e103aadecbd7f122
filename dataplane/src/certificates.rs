//! The node's certificate while the node runs: who is let in, and what is read again when the files
//! change.

use crate::{plan::Security, say};
use dataplane_core::{
    driver::Caller,
    stats::{Source, Visit},
};
use dataplane_uring::Gate;
use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};
use tls::{Acceptor, Files, Identity, ca::Leaf};
use tokio::{signal::unix::Signal, time::sleep};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Identities that a node tells apart at most; one more is not let in.
const IDENTITIES_MAX: usize = 1 << 16;

/// The numbers of names, the same on every shard.
#[derive(Debug, Default)]
struct Identities(Mutex<HashMap<String, u32>>);

impl Identities {
    fn identify(&self, identity: &Identity) -> Option<Caller> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = u32::try_from(known.len() + 1).ok()?;
        let number = match known.get(identity.name()) {
            Some(number) => *number,
            None if known.len() >= IDENTITIES_MAX => return None,
            None => *known.entry(identity.name().to_owned()).or_insert(next),
        };
        Some(Caller { identity: number, roles: identity.roles() })
    }
}

/// How the node is secured, for those who ask.
#[derive(Debug)]
pub(crate) struct Certificates {
    acceptor: Option<Acceptor>,
    insecure: bool,
    expires: AtomicU64,
    reloads: AtomicU64,
    failures: AtomicU64,
}

impl Certificates {
    /// Reads the files, if the node has any.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn new(security: &Security) -> Result<Arc<Self>, String> {
        let acceptor = match &security.tls {
            None => None,
            Some(files) => Some(Acceptor::new(files.clone()).map_err(|error| error.to_string())?),
        };
        let certificates = Self {
            acceptor,
            insecure: security.insecure,
            expires: AtomicU64::new(0),
            reloads: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        };
        certificates.note_expiry();
        Ok(Arc::new(certificates))
    }

    /// What stands at listeners under TLS.
    pub(crate) fn gate(&self) -> Option<Gate> {
        let acceptor = self.acceptor.clone()?;
        let identities = Identities::default();
        let identify = move |identity: &Identity| identities.identify(identity);
        Some(Gate::new(acceptor, Arc::new(identify)))
    }

    fn note_expiry(&self) {
        let Some(acceptor) = &self.acceptor else { return };
        if let Ok(leaf) = Leaf::read(&acceptor.files().cert) {
            let until = leaf.until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.expires.store(until.as_secs(), Relaxed);
        }
    }

    /// Reads the files again when they have changed, and on SIGHUP. Ends with the runtime.
    pub(crate) async fn watch(self: Arc<Self>, mut hangup: Signal) {
        let Some(acceptor) = self.acceptor.clone() else { return };
        let mut in_use = stamps(acceptor.files());
        let mut last = in_use.clone();
        loop {
            let told = tokio::select! {
                _ = hangup.recv() => true,
                () = sleep(LOOK) => false,
            };
            let now = stamps(acceptor.files());
            // Certificate and key change one after the other: not before both are at rest.
            let changed = now != in_use && now == last;
            last.clone_from(&now);
            if told || changed {
                in_use = now;
                self.reload(&acceptor);
            }
        }
    }

    fn reload(&self, acceptor: &Acceptor) {
        match acceptor.reload() {
            Ok(()) => {
                self.note_expiry();
                self.reloads.fetch_add(1, Relaxed);
                say::note("certificates: read again");
            }
            Err(error) => {
                self.failures.fetch_add(1, Relaxed);
                say::note(format!("certificates: {error}; those in use stay in use"));
            }
        }
    }
}

/// What changes when a file is written or replaced.
type Stamp = Option<(u64, i64, i64, u64)>;

fn stamps(files: &Files) -> [Stamp; 3] {
    [&files.ca, &files.cert, &files.key].map(|path| {
        let meta = fs::metadata(path).ok()?;
        Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()))
    })
}

impl Source for Certificates {
    fn visit(&self, visit: Visit<'_>) {
        visit("butterfly_insecure", "", "", u64::from(self.insecure));
        if self.acceptor.is_some() {
            let expires = self.expires.load(Relaxed);
            visit("butterfly_certificate_expires_seconds", "", "", expires);
            visit("butterfly_certificate_reloads_total", "", "", self.reloads.load(Relaxed));
            let failures = self.failures.load(Relaxed);
            visit("butterfly_certificate_reload_failures_total", "", "", failures);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_number_and_the_roles_of_its_certificate() {
        let identities = Identities::default();
        let of = |uri: &str| {
            let identity: Identity = uri.parse().expect("valid");
            identities.identify(&identity).expect("there is room")
        };
        let (ann, bob) = (of("butterfly:ann?role=client"), of("butterfly:bob?role=client"));
        assert_eq!((ann.identity, bob.identity), (1, 2), "0 is everybody without a certificate");
        let again = of("butterfly:ann?role=agent");
        assert_eq!(again.identity, ann.identity);
        assert!(again.roles.has(wire::Role::Agent) && !again.roles.has(wire::Role::Client));
    }
}
