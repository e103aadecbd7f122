//! `tls`: certificates and identities as strangers write them, and handshakes that begin with
//! anything.

use crate::bytes::Input;
use rustls::{
    ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection,
    pki_types::{CertificateDer, ServerName},
};
use std::{
    fs,
    io::Cursor,
    sync::{Arc, LazyLock},
    time::SystemTime,
};
use tls::{
    Acceptor, Identity,
    ca::{self, Authority, Request},
};
use wire::{Role, Roles};

/// Both ends of a node that knows one authority, and a certificate that it issued.
pub(crate) struct Ends {
    server: Arc<ServerConfig>,
    /// Gives its keys away when a handshake is done.
    pub(crate) client: Arc<ClientConfig>,
    certificate: Vec<u8>,
    pub(crate) acceptor: Acceptor,
    /// One that replaces every key after three records.
    pub(crate) hasty: Acceptor,
}

pub(crate) static ENDS: LazyLock<Ends> = LazyLock::new(|| make().expect("a folder for a moment"));

fn make() -> Result<Ends, Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join(format!("butterfly-fuzz-{}", std::process::id()));
    let now = SystemTime::now();
    let authority = Authority::create(&folder, "fuzz", now, true)?;
    let identity = Identity::new("node", Roles::of(Role::Node).with(Role::Client))?;
    let request = Request { identity, hosts: Vec::new(), life: ca::LIFE };
    let files = authority.issue(&request, now, true)?;
    let acceptor = Acceptor::new(files.clone())?;
    let hasty = Acceptor::with_records_per_key(files.clone(), 3)?;
    let mut client = ClientConfig::clone(&*tls::client_config(&files)?);
    client.enable_secret_extraction = true;
    let chain = rustls::pki_types::pem::PemObject::from_pem_slice(&fs::read(&files.cert)?);
    let certificate: CertificateDer<'_> = chain.map_err(|error| format!("{error:?}"))?;
    fs::remove_dir_all(&folder)?;
    let certificate = certificate.to_vec();
    Ok(Ends { server: acceptor.config(), client: Arc::new(client), certificate, acceptor, hasty })
}

/// A certificate's bytes, and a name in one.
pub(crate) fn identities(bytes: &[u8]) {
    let said = tls::peer_identity(&[CertificateDer::from(bytes)]).ok();
    let uri = core::str::from_utf8(bytes).ok().and_then(|text| text.parse::<Identity>().ok());
    for identity in said.into_iter().chain(uri) {
        assert!(!identity.roles().is_empty() && !identity.name().is_empty());
        assert_eq!(identity.to_string().parse::<Identity>().ok(), Some(identity));
    }
}

pub(crate) fn identity_seeds() -> Vec<Vec<u8>> {
    let uri = b"butterfly:node-7?role=client,node".to_vec();
    vec![ENDS.certificate.clone(), uri]
}

fn begin(as_server: bool) -> Connection {
    let ends = &*ENDS;
    if as_server {
        ServerConnection::new(Arc::clone(&ends.server)).map(Connection::from)
    } else {
        let name = ServerName::try_from("node").expect("a name");
        ClientConnection::new(Arc::clone(&ends.client), name).map(Connection::from)
    }
    .expect("a good configuration")
}

/// What a peer sends first, in pieces: no bytes that were not made for this very handshake end it.
pub(crate) fn handshake(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut connection = begin(input.byte().is_multiple_of(2));
    while !input.is_empty() {
        let mut piece = Cursor::new(input.take(1 + 16 * usize::from(input.clone().byte())));
        while connection.wants_read() && connection.read_tls(&mut piece).is_ok_and(|n| n > 0) {
            if connection.process_new_packets().is_err() {
                return;
            }
        }
        let mut sent = Vec::new();
        while connection.wants_write() && connection.write_tls(&mut sent).is_ok_and(|n| n > 0) {}
        assert!(connection.is_handshaking(), "nobody is let in without a key of the authority");
        assert!(connection.peer_certificates().is_none());
    }
}

pub(crate) fn handshake_seeds() -> Vec<Vec<u8>> {
    let mut hello = vec![0];
    let sent = begin(false).write_tls(&mut hello);
    let whole = [&[0, 0xFF][..], &hello[1..]].concat();
    sent.map_or_else(|_| Vec::new(), |_| vec![hello, whole])
}
