//! Certificates of an authority of the test's own.

use dataplane_core::driver::Caller;
use dataplane_quic::Identify;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::SystemTime,
};
use tls::{
    Files, Identity,
    ca::{Authority, LIFE, Request},
};
use wire::{Role, Roles};

/// The name of the node in its certificate.
pub(crate) const NODE: &str = "node-1";

/// An authority in a folder that goes with it.
pub(crate) struct Papers {
    folder: PathBuf,
    authority: Authority,
}

impl Papers {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("butterfly-quic-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let authority =
            Authority::create(&folder, "test", SystemTime::now(), false).expect("an authority");
        Self { folder, authority }
    }

    fn issue(&self, name: &str, roles: Roles) -> Files {
        let identity = Identity::new(name, roles).expect("a name");
        let request = Request { identity, hosts: Vec::new(), life: LIFE };
        self.authority.issue(&request, SystemTime::now(), true).expect("a certificate")
    }

    /// What a node listens with.
    pub(crate) fn node(&self) -> Arc<rustls::ServerConfig> {
        tls::server_config(&self.issue(NODE, Roles::of(Role::Node))).expect("a configuration")
    }

    /// What a client of this name connects with; it resumes sessions and sends early if it can.
    pub(crate) fn client(&self, name: &str) -> rustls::ClientConfig {
        self.client_of(self, name)
    }

    /// The same with a certificate that another authority has issued.
    pub(crate) fn client_of(&self, others: &Self, name: &str) -> rustls::ClientConfig {
        let ca = self.folder.join("ca.pem");
        let files = Files { ca, ..others.issue(name, Roles::of(Role::Client)) };
        let mut config = (*tls::client_config(&files).expect("a configuration")).clone();
        config.resumption = rustls::client::Resumption::in_memory_sessions(8);
        config.enable_early_data = true;
        config
    }
}

/// How a client without a certificate connects.
pub(crate) fn nobody(of: &rustls::ClientConfig) -> rustls::ClientConfig {
    let mut config = of.clone();
    config.client_auth_cert_resolver = Arc::new(NoCertificate);
    config
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

impl Drop for Papers {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Everybody may come in but `stranger`; the identity is the length of the name.
pub(crate) fn identify() -> Identify {
    Box::new(|identity| {
        let caller = Caller { identity: identity.name().len() as u32, roles: identity.roles() };
        (identity.name() != "stranger").then_some(caller)
    })
}
