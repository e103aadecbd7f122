//! Records and handshakes on one core: `cargo bench -p tls`, or with a filter.
//!
//! - `open/*`: records of a peer, opened where they lie and copied into a slot; `seal/*`: plain
//!   bytes copied into an output buffer and sealed there. `aead` is the cipher alone over as many
//!   bytes, in place and without a copy.
//! - `handshake/*`: both ends on this core, the server's part alone, and one signature checked of
//!   each kind that a certificate could have.

use criterion::{Criterion, Throughput};
use ring::{
    aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair, UnparsedPublicKey, VerificationAlgorithm,
    },
};
use rustls::{ClientConfig, ClientConnection, ConnectionTrafficSecrets, pki_types::ServerName};
use std::{
    hint::black_box,
    io::Cursor,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tls::{
    Acceptor, Files, HEAD, Handshake, Identity, Opened, Session, TAIL,
    ca::{self, Authority, Request},
};
use wire::{Role, Roles};

const SIZES: [usize; 4] = [256, 1 << 10, 4 << 10, 16 << 10];
/// Records prepared ahead of a measurement.
const BATCH: usize = 64;

struct World {
    acceptor: Acceptor,
    client: Arc<ClientConfig>,
}

impl World {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("butterfly-bench-{}", std::process::id()));
        let now = SystemTime::now();
        let authority = Authority::create(&folder, "bench", now, true).expect("an authority");
        let issue = |name: &str, role: Role| -> Files {
            let identity = Identity::new(name, Roles::of(role)).expect("a name");
            let request = Request { identity, hosts: Vec::new(), life: ca::LIFE };
            authority.issue(&request, now, true).expect("a certificate")
        };
        let (node, client) = (issue("node", Role::Node), issue("client", Role::Client));
        let acceptor = Acceptor::new(node).expect("a node");
        let mut client = (*tls::client_config(&client).expect("a client")).clone();
        client.enable_secret_extraction = true;
        let _ = std::fs::remove_dir_all(&folder);
        Self { acceptor, client: Arc::new(client) }
    }

    /// A handshake to its end, and the time of the server's part.
    fn shake(&self) -> (ClientConnection, Handshake, Duration) {
        let name = ServerName::try_from("node").expect("a name");
        let mut client = ClientConnection::new(Arc::clone(&self.client), name).expect("a client");
        let begun = Instant::now();
        let mut server = self.acceptor.handshake().expect("a server");
        let mut spent = begun.elapsed();
        while !server.is_complete() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).expect("memory");
            }
            let begun = Instant::now();
            server.read(&bytes).expect("a handshake");
            spent += begun.elapsed();
            let mut answer = Cursor::new(server.output());
            while client.read_tls(&mut answer).expect("memory") > 0 {
                client.process_new_packets().expect("a handshake");
            }
            server.sent(usize::MAX);
        }
        (client, server, spent)
    }
}

/// A peer that seals records by hand.
struct Peer {
    key: LessSafeKey,
    iv: [u8; 12],
    number: u64,
}

impl Peer {
    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.number.to_be_bytes()) {
            *byte ^= number;
        }
        self.number += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    fn seal(&mut self, record: &mut Vec<u8>, len: usize) {
        let [high, low] = ((len + TAIL) as u16).to_be_bytes();
        let head = [23, 3, 3, high, low];
        let mut inner = vec![5; len];
        inner.push(23);
        let nonce = self.nonce();
        self.key.seal_in_place_append_tag(nonce, Aad::from(&head), &mut inner).expect("seals");
        record.clear();
        record.extend_from_slice(&head);
        record.extend_from_slice(&inner);
    }
}

fn open_pair(world: &World) -> (Peer, Session) {
    let (client, server, _) = world.shake();
    let secrets = client.dangerous_extract_secrets().expect("secrets");
    let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets.tx.1 else {
        panic!("AES-128-GCM is preferred");
    };
    let key = UnboundKey::new(&AES_128_GCM, key.as_ref()).expect("a key");
    let iv = iv.as_ref().try_into().expect("12 bytes");
    let peer = Peer { key: LessSafeKey::new(key), iv, number: secrets.tx.0 };
    (peer, server.finish().expect("a session"))
}

fn records(criterion: &mut Criterion, world: &World) {
    for size in SIZES {
        let mut group = criterion.benchmark_group("open");
        group.throughput(Throughput::Bytes(size as u64));
        let (mut peer, mut session) = open_pair(world);
        let mut batch = vec![Vec::new(); BATCH];
        let mut slot = vec![0; size];
        group.bench_function(format!("{size}/record-into-slot"), |b| {
            b.iter_custom(|count| {
                batched(count, |now| {
                    batch.iter_mut().take(now).for_each(|record| peer.seal(record, size));
                    let begun = Instant::now();
                    for record in batch.iter_mut().take(now) {
                        let Ok(Opened::Data(range)) = session.open(record) else {
                            panic!("data");
                        };
                        slot.copy_from_slice(&record[range]);
                        black_box(&mut slot);
                    }
                    begun.elapsed()
                })
            });
        });
        let (mut peer, _) = open_pair(world);
        group.bench_function(format!("{size}/aead"), |b| {
            b.iter_custom(|count| {
                batched(count, |now| {
                    let first = peer.number;
                    batch.iter_mut().take(now).for_each(|record| peer.seal(record, size));
                    peer.number = first;
                    let begun = Instant::now();
                    for record in batch.iter_mut().take(now) {
                        let nonce = peer.nonce();
                        let (head, sealed) = record.split_at_mut(HEAD);
                        let opened = peer.key.open_in_place(nonce, Aad::from(&*head), sealed);
                        black_box(opened.expect("opens"));
                    }
                    begun.elapsed()
                })
            });
        });
        group.finish();
        seal(criterion, world, size);
    }
}

/// Runs `work`, which measures itself, in batches.
fn batched(count: u64, mut work: impl FnMut(usize) -> Duration) -> Duration {
    let mut left = count;
    let mut spent = Duration::ZERO;
    while left > 0 {
        let now = left.min(BATCH as u64);
        spent += work(now as usize);
        left -= now;
    }
    spent
}

fn seal(criterion: &mut Criterion, world: &World, size: usize) {
    let mut group = criterion.benchmark_group("seal");
    group.throughput(Throughput::Bytes(size as u64));
    let (mut peer, mut session) = open_pair(world);
    let plain = vec![5; size];
    let mut record = vec![0; HEAD + size + TAIL];
    group.bench_function(format!("{size}/copy-and-seal"), |b| {
        b.iter(|| {
            if session.owes() {
                session.write_owed(&mut [0; tls::OWED_MAX]).expect("room");
            }
            record[HEAD..HEAD + size].copy_from_slice(black_box(&plain));
            session.seal(&mut record).expect("seals");
            black_box(&mut record);
        });
    });
    group.bench_function(format!("{size}/aead"), |b| {
        b.iter(|| {
            let nonce = peer.nonce();
            let (head, inner) = record.split_at_mut(HEAD);
            let tag = peer.key.seal_in_place_separate_tag(nonce, Aad::from(&*head), inner);
            let _ = black_box(tag.expect("seals"));
        });
    });
    group.finish();
}

fn handshakes(criterion: &mut Criterion, world: &World) {
    let mut group = criterion.benchmark_group("handshake");
    group.bench_function("both-ends", |b| b.iter(|| world.shake().1.is_complete()));
    group.bench_function("server", |b| {
        b.iter_custom(|count| (0..count).map(|_| world.shake().2).sum());
    });
    let random = SystemRandom::new();
    let message = [7; 130];
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a key");
    let (key, signature) = (pair.public_key().as_ref(), pair.sign(&message));
    verify(&mut group, "verify-ed25519", &ED25519, key, &message, signature.as_ref());
    let kind = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("a key");
    let pair = EcdsaKeyPair::from_pkcs8(kind, pkcs8.as_ref(), &random).expect("a key");
    let signature = pair.sign(&random, &message).expect("signs");
    let (key, name) = (pair.public_key().as_ref(), "verify-p256");
    verify(&mut group, name, &ECDSA_P256_SHA256_FIXED, key, &message, signature.as_ref());
    group.finish();
}

fn verify(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    name: &str,
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) {
    let key = UnparsedPublicKey::new(algorithm, key);
    group.bench_function(name, |b| b.iter(|| key.verify(message, signature).expect("valid")));
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let world = World::new();
    records(&mut criterion, &world);
    handshakes(&mut criterion, &world);
    criterion.final_summary();
}
