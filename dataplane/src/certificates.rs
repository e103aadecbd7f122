//! The node's certificate while the node runs: who is let in, and what is read again when the files
//! change.

use crate::{quic, say, security::Security, supervisor::Supervisor};
use dataplane_core::{
    Identities,
    driver::Caller,
    stats::{Source, Visit},
};
use dataplane_uring::Gate;
use rustix::time::{ClockId, clock_gettime};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};
use tls::{Acceptor, Files, Identity, ca::Leaf};
use tokio::{signal::unix::Signal, time::sleep};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

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
    pub(crate) fn gate(&self, identities: &Arc<Identities>) -> Option<Gate> {
        let acceptor = self.acceptor.clone()?;
        Some(Gate::new(acceptor, Arc::new(identify(identities))))
    }

    /// What handshakes begin with, if the node has certificates.
    pub(crate) const fn acceptor(&self) -> Option<&Acceptor> {
        self.acceptor.as_ref()
    }

    fn note_expiry(&self) {
        let Some(acceptor) = &self.acceptor else { return };
        if let Ok(leaf) = Leaf::read(&acceptor.files().cert) {
            let until = leaf.until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.expires.store(until.as_secs(), Relaxed);
        }
    }

    /// Reads the files again when they have changed, and on SIGHUP. Ends with the runtime.
    pub(crate) async fn watch(
        self: Arc<Self>,
        mut hangup: Signal,
        quic: quic::Listeners,
        above: Rc<Supervisor>,
    ) {
        let Some(acceptor) = self.acceptor.clone() else { return };
        let mut in_use = stamps(acceptor.files());
        let mut last = in_use;
        loop {
            let told = tokio::select! {
                _ = hangup.recv() => true,
                () = sleep(LOOK) => false,
            };
            let now = stamps(acceptor.files());
            // Certificate and key change one after the other: not before both are at rest.
            let changed = now != in_use && now == last;
            last = now;
            if told || changed {
                in_use = now;
                let begun = clock_gettime(ClockId::Monotonic);
                self.reload(&acceptor, &quic);
                above.reloaded(begun);
            }
        }
    }

    fn reload(&self, acceptor: &Acceptor, quic: &quic::Listeners) {
        match acceptor.reload() {
            Ok(()) => {
                quic.reload(acceptor);
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

/// Who a peer is here: asked for each of its connections.
pub(crate) fn identify(
    identities: &Arc<Identities>,
) -> impl Fn(&Identity) -> Option<Caller> + Send + Sync + use<> {
    let identities = Arc::clone(identities);
    move |peer| identities.identify(peer.name(), peer.roles())
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
            visit("butterfly_certificate_expiry_timestamp_seconds", "", "", expires);
            visit("butterfly_certificate_reloads_total", "", "", self.reloads.load(Relaxed));
            let failures = self.failures.load(Relaxed);
            visit("butterfly_certificate_reload_failures_total", "", "", failures);
        }
    }
}
