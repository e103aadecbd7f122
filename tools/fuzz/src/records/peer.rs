//! A rustls client that went through a handshake, and then took the pen itself.

use crate::handshakes::ENDS;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::{
    ConnectionTrafficSecrets as Secrets,
    client::{ClientConnectionData, UnbufferedClientConnection},
    kernel::KernelConnection,
    pki_types::ServerName,
    unbuffered::ConnectionState,
};
use std::sync::Arc;
use tls::{HEAD, Handshake, Session, record_len};

/// Room for what a client says at once in a handshake.
const FLIGHT_MAX: usize = 8 << 10;

pub(super) struct Peer {
    kernel: KernelConnection<ClientConnectionData>,
    tx: Key,
    rx: Key,
    /// The alert that the session sent, after which it sends nothing.
    told: Option<u8>,
}

struct Key {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    number: u64,
}

/// A session whose keys last (or are soon used up), and its peer.
pub(super) fn pair(lasts: bool) -> (Session, Peer) {
    let acceptor = if lasts { &ENDS.acceptor } else { &ENDS.hasty };
    let name = ServerName::try_from("node").expect("a name");
    let client = UnbufferedClientConnection::new(Arc::clone(&ENDS.client), name);
    let (mut client, mut server) =
        (client.expect("a good configuration"), acceptor.handshake().expect("one too"));
    shake(&mut client, &mut server);
    let (secrets, kernel) = client.dangerous_into_kernel_connection().expect("a whole handshake");
    let (tx, rx) = (Key::new(secrets.tx), Key::new(secrets.rx));
    (server.finish().expect("a whole handshake"), Peer { kernel, tx, rx, told: None })
}

fn shake(client: &mut UnbufferedClientConnection, server: &mut Handshake) {
    let mut came = Vec::new();
    loop {
        let status = client.process_tls_records(&mut came);
        let discard = status.discard;
        match status.state.expect("a good server") {
            ConnectionState::EncodeTlsData(mut data) => {
                let mut flight = [0; FLIGHT_MAX];
                let len = data.encode(&mut flight).expect("room");
                assert_eq!(server.read(&flight[..len]), Ok(len));
            }
            ConnectionState::TransmitTlsData(sent) => sent.done(),
            _ if server.is_complete() => return,
            _ => {
                came.drain(..discard);
                assert!(!server.output().is_empty(), "the handshake goes on");
                came.extend_from_slice(server.output());
                server.sent(usize::MAX);
                continue;
            }
        }
        came.drain(..discard);
    }
}

impl Peer {
    pub(super) const fn told(&self) -> Option<u8> {
        self.told
    }

    pub(super) fn seal(&mut self, inner: &[u8]) -> Vec<u8> {
        self.tx.seal(inner)
    }

    /// The key after the one that was just called off.
    pub(super) fn next_key(&mut self) {
        self.tx = Key::new(self.kernel.update_tx_secret().expect("a key"));
    }

    /// Kind and message of a record.
    pub(super) fn open(&mut self, record: &[u8]) -> (u8, Vec<u8>) {
        assert_eq!(self.told, None, "nothing comes after an alert");
        self.rx.open(record)
    }

    /// What the session says besides data: how many records.
    pub(super) fn hear(&mut self, mut bytes: &[u8]) -> usize {
        let mut records = 0;
        while let Some(len) = record_len(bytes).expect("records") {
            let (record, rest) = bytes.split_at(len);
            match self.open(record) {
                (super::ALERT, alert) if alert.len() == 2 => self.told = Some(alert[1]),
                (super::HANDSHAKE, message) if message[..4] == super::NEW_KEY => {
                    self.rx = Key::new(self.kernel.update_rx_secret().expect("a key"));
                }
                other => panic!("{other:?} is not owed"),
            }
            bytes = rest;
            records += 1;
        }
        records
    }
}

impl Key {
    fn new((number, secrets): (u64, Secrets)) -> Self {
        let Secrets::Aes128Gcm { key, iv } = secrets else { panic!("the first that both have") };
        let key = UnboundKey::new(&AES_128_GCM, key.as_ref()).map(LessSafeKey::new).expect("a key");
        Self { key, iv: iv.as_ref().try_into().expect("as long"), number }
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.number.to_be_bytes()) {
            *byte ^= number;
        }
        self.number += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    fn seal(&mut self, inner: &[u8]) -> Vec<u8> {
        let [high, low] = ((inner.len() + AES_128_GCM.tag_len()) as u16).to_be_bytes();
        let head = [super::DATA, 3, 3, high, low];
        let (nonce, mut sealed) = (self.nonce(), inner.to_vec());
        let done = self.key.seal_in_place_append_tag(nonce, Aad::from(&head), &mut sealed);
        done.expect("not too long");
        [&head[..], &sealed].concat()
    }

    fn open(&mut self, record: &[u8]) -> (u8, Vec<u8>) {
        let (head, sealed) = record.split_at(HEAD);
        let (nonce, mut sealed) = (self.nonce(), sealed.to_vec());
        let opened = self.key.open_in_place(nonce, Aad::from(head), &mut sealed);
        let (kind, message) = opened.expect("sealed by the session").split_last().expect("a kind");
        (*kind, message.to_vec())
    }
}
