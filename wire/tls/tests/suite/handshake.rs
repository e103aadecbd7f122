//! Who is let in and who is not, with rustls at both ends.

use crate::rig::{World, client, request, server, shake};
use std::time::{Duration, SystemTime};
use tls::{Error, Files, ca::Authority, peer_identity};
use wire::Role;

#[test]
fn sec_03_both_ends_prove_who_they_are() {
    let world = World::new();
    let (mut left, mut right) = (client(&world.client, "localhost"), server(&world.node));
    shake(&mut left, &mut right).unwrap();
    let ann = peer_identity(right.peer_certificates().unwrap()).unwrap();
    assert_eq!(ann.to_string(), "butterfly:ann?role=client,agent");
    let node = peer_identity(left.peer_certificates().unwrap()).unwrap();
    assert_eq!(node.name(), "node-1");
    assert_eq!(left.alpn_protocol(), Some(tls::ALPN));
}

#[test]
fn trans_03_only_tls_1_3_is_spoken() {
    let world = World::new();
    let (mut left, mut right) = (client(&world.client, "localhost"), server(&world.node));
    shake(&mut left, &mut right).unwrap();
    assert_eq!(right.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let suites = &tls::provider().cipher_suites;
    assert!(!suites.is_empty() && suites.iter().all(|suite| suite.tls13().is_some()));
}

#[test]
fn a_node_answers_to_its_host_its_address_and_its_name() {
    let world = World::new();
    for name in ["localhost", "127.0.0.1", "node-1"] {
        let (mut left, mut right) = (client(&world.client, name), server(&world.node));
        shake(&mut left, &mut right).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    for name in ["node-2", "example.org", "127.0.0.2"] {
        let (mut left, mut right) = (client(&world.client, name), server(&world.node));
        let error = shake(&mut left, &mut right).unwrap_err();
        assert!(error.starts_with("client: ") && error.contains("not valid for name"), "{error}");
    }
}

#[test]
fn only_a_node_s_certificate_serves() {
    let world = World::new();
    let now = SystemTime::now();
    let request = request("localhost", &[Role::Agent, Role::Client], &["localhost"]);
    let liar = world.authority.issue(&request, now, false).unwrap();
    let (mut left, mut right) = (client(&world.client, "localhost"), server(&liar));
    let error = shake(&mut left, &mut right).unwrap_err();
    assert!(error.starts_with("client: ") && error.contains("server authentication"), "{error}");
}

#[test]
fn strangers_and_the_expired_are_refused() {
    let world = World::new();
    let other = World::new();
    let mixed = Files { ca: world.node.ca.clone(), ..other.client.clone() };
    let (mut left, mut right) = (client(&mixed, "localhost"), server(&world.node));
    let error = shake(&mut left, &mut right).unwrap_err();
    assert!(error.starts_with("server: "), "another authority: {error}");

    let then = SystemTime::now() - Duration::from_secs(40 * 86_400);
    let old = request("old", &[Role::Client], &[]);
    let old = world.authority.issue(&old, then, false).unwrap();
    let (mut left, mut right) = (client(&old, "localhost"), server(&world.node));
    let error = shake(&mut left, &mut right).unwrap_err();
    assert!(error.starts_with("server: ") && error.contains("xpired"), "{error}");
}

#[test]
fn one_authority_takes_over_from_another() {
    let (old, new) = (World::new(), World::new());
    let both = old.folder.path().join("both.txt");
    let text = |path| std::fs::read_to_string(path).unwrap();
    std::fs::write(&both, text(&old.node.ca) + &text(&new.node.ca)).unwrap();
    let node = Files { ca: both, ..old.node.clone() };
    for files in [&old.client, &new.client] {
        let files = Files { ca: old.node.ca.clone(), ..files.clone() };
        let (mut left, mut right) = (client(&files, "localhost"), server(&node));
        shake(&mut left, &mut right).unwrap();
    }
}

#[test]
fn a_key_of_another_certificate_and_files_without_content_are_refused_by_name() {
    let world = World::new();
    let wrong = Files { key: world.client.key.clone(), ..world.node.clone() };
    assert!(matches!(tls::server_config(&wrong), Err(Error::Unusable(_))));
    let wrong = Files { cert: world.node.key.clone(), ..world.node.clone() };
    let error = tls::server_config(&wrong).unwrap_err().to_string();
    assert!(error.contains("node-1.key") && error.contains("certificate"), "{error}");
    let wrong = Files { key: "/nowhere/x.key".into(), ..world.node.clone() };
    let error = tls::client_config(&wrong).unwrap_err().to_string();
    assert!(error.contains("/nowhere/x.key"), "{error}");
    let wrong = Files { cert: world.node.ca.clone(), ..world.node };
    assert!(matches!(tls::server_config(&wrong), Err(Error::NoIdentity)));
    assert!(Authority::open(std::path::Path::new("/nowhere")).is_err());
}

/// Two providers in one program are one too many: which of them is used would depend on the order
/// in which features were turned on.
#[test]
fn one_provider_of_cryptography_is_linked() {
    let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock");
    let lock = std::fs::read_to_string(lock).unwrap();
    let named = |name: &str| lock.matches(&format!("\nname = \"{name}\"\n")).count();
    assert_eq!(named("ring"), 1);
    assert_eq!(named("rustls"), 1);
    for other in ["aws-lc-rs", "aws-lc-sys", "openssl-sys", "boring-sys", "native-tls"] {
        assert_eq!(named(other), 0, "{other}");
    }
}
