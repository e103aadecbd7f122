//! The authority's folder: who may read it, what is replaced, what is renewed.

use crate::rig::{Folder, World, request};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, SystemTime},
};
use tls::{
    Error,
    ca::{self, Authority, Leaf},
};
use wire::Role;

const DAY: Duration = Duration::from_secs(86_400);

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn sec_01_keys_are_their_owners_alone() {
    let world = World::new();
    assert_eq!(mode(world.folder.path()), 0o700);
    for file in ["ca.key", "node-1.key", "ann.key"] {
        assert_eq!(mode(&world.folder.path().join(file)), 0o600, "{file}");
    }
    let left: Vec<_> = fs::read_dir(world.folder.path()).unwrap().map(Result::unwrap).collect();
    assert_eq!(left.len(), 6, "nothing half written is left: {left:?}");
}

#[test]
fn a_folder_that_others_can_open_gets_no_keys() {
    let folder = Folder::new();
    fs::create_dir(folder.path()).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let error = Authority::create(folder.path(), "x", SystemTime::now(), false).unwrap_err();
    assert!(error.to_string().contains("chmod 700"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn nothing_is_replaced_unless_asked() {
    let world = World::new();
    let now = SystemTime::now();
    let before = fs::read(&world.client.key).unwrap();
    let again = request("ann", &[Role::Client], &[]);
    let refused = world.authority.issue(&again, now, false);
    assert!(matches!(refused, Err(Error::Exists(_))), "{refused:?}");
    assert_eq!(fs::read(&world.client.key).unwrap(), before);
    assert!(matches!(
        Authority::create(world.folder.path(), "x", now, false),
        Err(Error::Exists(_))
    ));
    world.authority.issue(&again, now, true).unwrap();
    assert_ne!(fs::read(&world.client.key).unwrap(), before);
    let reserved = world.authority.issue(&request("ca", &[Role::Client], &[]), now, true);
    assert!(matches!(reserved, Err(Error::Name(_))));
}

#[test]
fn sec_03_rotation_renews_what_is_past_half_of_its_life_with_a_new_key() {
    let world = World::new();
    let authority = Authority::open(world.folder.path()).unwrap();
    let now = SystemTime::now();
    assert_eq!(authority.rotate(now, false).unwrap(), [], "all are fresh");
    authority.issue(&request("old", &[Role::Agent], &["10.1.2.3"]), now - 16 * DAY, false).unwrap();
    let before = ca::issued(world.folder.path()).unwrap();
    let key = fs::read(world.folder.path().join("old.key")).unwrap();

    let renewed = authority.rotate(now, false).unwrap();
    let names: Vec<_> = renewed.iter().map(|leaf| leaf.identity.name()).collect();
    assert_eq!(names, ["old"]);
    let old = before.iter().find(|leaf| leaf.identity.name() == "old").unwrap();
    let new = Leaf::read(&world.folder.path().join("old.pem")).unwrap();
    assert_eq!((&new.identity, &new.hosts), (&old.identity, &old.hosts));
    assert_eq!(new.life(), old.life());
    assert!(new.until > now + 29 * DAY && !new.is_past_half(now));
    assert_ne!(fs::read(world.folder.path().join("old.key")).unwrap(), key);

    assert_eq!(authority.rotate(now, true).unwrap().len(), 3, "--all");
}

#[test]
fn no_certificate_outlives_its_authority() {
    let folder = Folder::new();
    let now = SystemTime::now();
    let then = now - ca::AUTHORITY_LIFE + 10 * DAY;
    let authority = Authority::create(folder.path(), "old", then, false).unwrap();
    let files = authority.issue(&request("x", &[Role::Client], &[]), now, false).unwrap();
    let until = Leaf::read(&files.cert).unwrap().until;
    assert!(until <= ca::authority_until(folder.path()).unwrap());
}

#[test]
fn hosts_are_names_or_addresses() {
    let world = World::new();
    let now = SystemTime::now();
    let hosts = ["node.example", "192.0.2.7", "2001:db8::7"];
    let files = world.authority.issue(&request("n", &[Role::Node], &hosts), now, false).unwrap();
    assert_eq!(Leaf::read(&files.cert).unwrap().hosts, hosts);
    for bad in ["a b", "", "http://x", "1.2.3.4:80"] {
        let refused = world.authority.issue(&request("m", &[Role::Node], &[bad]), now, false);
        assert!(matches!(refused, Err(Error::Hosts(_))), "{bad}: {refused:?}");
    }
}
