//! A session of ours with a rustls client at the other end, and a client that seals what it likes.

use crate::rig::World;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, ConnectionTrafficSecrets, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{
    io::{Cursor, Read, Write},
    sync::Arc,
};
use tls::{Acceptor, Fault, HEAD, Handshake, OWED_MAX, Opened, Session, TAIL, record_len};

/// A plain rustls client of this cipher suite, built here and not by the code under test.
pub(crate) fn client(world: &World, suite: CipherSuite) -> ClientConnection {
    let ring = rustls::crypto::ring::default_provider();
    let mut suites = ring.cipher_suites.clone();
    suites.retain(|one| one.suite() == suite);
    let provider = Arc::new(CryptoProvider { cipher_suites: suites, ..ring });
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&world.client.ca).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_file(&world.client.cert).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&world.client.key).unwrap();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.enable_secret_extraction = true;
    ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap()
}

/// All that a client has to send.
pub(crate) fn sent(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Gives bytes to a client.
pub(crate) fn give(client: &mut ClientConnection, bytes: &[u8]) -> Result<(), rustls::Error> {
    let mut bytes = Cursor::new(bytes);
    while client.read_tls(&mut bytes).unwrap() > 0 {
        client.process_new_packets()?;
    }
    Ok(())
}

/// What a client has received.
pub(crate) fn received(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    // An open connection without more to read says that it would have to wait.
    let _ = client.reader().read_to_end(&mut bytes);
    bytes
}

/// A client and a session, open.
pub(crate) struct Pair {
    pub(crate) client: ClientConnection,
    pub(crate) session: Session,
    /// Ciphertext at the server that is not a whole record yet.
    held: Vec<u8>,
}

impl Pair {
    pub(crate) fn new(world: &World) -> Self {
        Self::with(world, CipherSuite::TLS13_AES_128_GCM_SHA256, tls::RECORDS_PER_KEY, usize::MAX)
    }

    /// The same, with bytes that come to the server at most `step` at a time.
    pub(crate) fn with(world: &World, suite: CipherSuite, limit: u64, step: usize) -> Self {
        let acceptor = Acceptor::with_records_per_key(world.node.clone(), limit).unwrap();
        let mut client = client(world, suite);
        let mut shake = acceptor.handshake().unwrap();
        // What a client may send with its last word of the handshake comes with it.
        client.writer().write_all(b"at once").unwrap();
        let mut rest = Vec::new();
        while !shake.is_complete() {
            let bytes = sent(&mut client);
            assert!(!bytes.is_empty(), "the handshake goes on");
            rest = feed(&mut shake, &bytes, step);
            give(&mut client, shake.output()).unwrap();
            shake.sent(usize::MAX);
        }
        let session = shake.finish().unwrap();
        let mut pair = Self { client, session, held: rest };
        let more = sent(&mut pair.client);
        assert_eq!(pair.arrive(&more).unwrap(), (b"at once".to_vec(), false));
        pair
    }

    /// Gives ciphertext to the server: the plain bytes of its whole records, and whether the peer
    /// has ended.
    pub(crate) fn arrive(&mut self, bytes: &[u8]) -> Result<(Vec<u8>, bool), Fault> {
        self.held.extend_from_slice(bytes);
        let (mut plain, mut closed) = (Vec::new(), false);
        loop {
            let len = record_len(&self.held).inspect_err(|fault| self.session.fail(fault))?;
            let Some(len) = len.filter(|len| *len <= self.held.len()) else { break };
            let record = &mut self.held[..len];
            match self.session.open(record)? {
                Opened::Data(range) => plain.extend_from_slice(&record[range]),
                Opened::Nothing => {}
                Opened::Closed => closed = true,
            }
            self.held.drain(..len);
        }
        Ok((plain, closed))
    }

    /// From the client to the server.
    pub(crate) fn up(&mut self, data: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        // The client's own buffer is bounded.
        for part in data.chunks(40_000) {
            self.client.writer().write_all(part).unwrap();
            let bytes = sent(&mut self.client);
            plain.extend(self.arrive(&bytes).unwrap().0);
        }
        plain
    }

    /// From the server to the client, in records of this size.
    pub(crate) fn down(&mut self, data: &[u8], size: usize) -> Vec<u8> {
        let mut plain = Vec::new();
        for part in data.chunks(size) {
            let mut out = self.owed();
            let at = out.len();
            out.resize(at + HEAD, 0);
            out.extend_from_slice(part);
            out.resize(out.len() + TAIL, 0);
            self.session.seal(&mut out[at..]).unwrap();
            give(&mut self.client, &out).unwrap();
            plain.extend(received(&mut self.client));
        }
        plain
    }

    /// What the server owes.
    pub(crate) fn owed(&mut self) -> Vec<u8> {
        let mut out = vec![0; OWED_MAX];
        let len = self.session.write_owed(&mut out).unwrap();
        out.truncate(len);
        out
    }

    /// Turns the client into one that keeps no rules.
    pub(crate) fn forge(self) -> (Forger, Session) {
        let secrets = self.client.dangerous_extract_secrets().unwrap();
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets.tx.1 else {
            panic!("AES-128-GCM was agreed on");
        };
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key.as_ref()).unwrap());
        let iv = iv.as_ref().try_into().unwrap();
        (Forger { key, iv, number: secrets.tx.0 }, self.session)
    }
}

/// Feeds a handshake in steps: what is left when it is complete.
pub(crate) fn feed(shake: &mut Handshake, bytes: &[u8], step: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    while !bytes.is_empty() && !shake.is_complete() {
        let step = step.min(bytes.len());
        let used = shake.read(&bytes[..step]).unwrap();
        bytes.drain(..used);
    }
    bytes
}

/// A client with good keys and bad manners.
pub(crate) struct Forger {
    key: LessSafeKey,
    iv: [u8; 12],
    pub(crate) number: u64,
}

impl Forger {
    /// A record of these inner bytes: data, kind, padding.
    pub(crate) fn record(&mut self, inner: &[u8]) -> Vec<u8> {
        let [high, low] = ((inner.len() + 16) as u16).to_be_bytes();
        let head = [23, 3, 3, high, low];
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.number.to_be_bytes()) {
            *byte ^= number;
        }
        self.number += 1;
        let mut sealed = inner.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::from(&head), &mut sealed).unwrap();
        [&head[..], &sealed].concat()
    }
}
