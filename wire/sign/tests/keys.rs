//! Signatures against RFC 8032 and against what strict verifiers must refuse; key files.

use sign::{KeyFault, PublicKey, SecretKey, read_directory};
use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex");
    assert_eq!(hex.len(), 2 * N);
    core::array::from_fn(byte)
}

/// RFC 8032, 7.1: seed, public key, message, signature.
const RFC_8032: [[&str; 4]; 3] = [
    [
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155\
         5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ],
    [
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
         085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ],
    [
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac\
         18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ],
];

#[test]
fn sign_04_keys_and_signatures_are_those_of_rfc_8032() {
    for [seed, public, message, signature] in RFC_8032 {
        let key = SecretKey::from_seed(&bytes(seed)).expect("a key");
        let message: Vec<u8> = (0..message.len() / 2)
            .map(|at| u8::from_str_radix(&message[2 * at..2 * at + 2], 16).expect("hex"))
            .collect();
        assert_eq!(key.public().bytes(), bytes(public));
        assert_eq!(key.sign(&message), bytes(signature));
        assert!(key.public().verify(&message, &bytes::<64>(signature)));
        assert!(!key.public().verify(b"another", &bytes::<64>(signature)));
    }
}

/// The eight points of small order, and the ways to write them that are not canonical.
const SMALL_ORDER: [&str; 14] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

#[test]
fn keys_of_small_order_are_no_keys() {
    for point in SMALL_ORDER {
        assert!(PublicKey::from_bytes(&bytes(point)).is_none(), "{point}");
    }
}

/// From "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko 2020), table 6c, case 2: a sound
/// equation with an R of small order.
#[test]
fn signatures_whose_point_is_of_small_order_are_refused() {
    let key = "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43";
    let message = "aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab";
    let signature = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa\
                     8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e";
    let key = PublicKey::from_bytes(&bytes(key)).expect("a point of mixed order");
    assert!(!key.verify(&bytes::<32>(message), &bytes::<64>(signature)));
}

#[test]
fn sign_02_a_malleable_s_is_refused_and_nothing_panics() {
    // The order of the group, little-endian.
    let order: [u8; 32] = bytes("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let key = SecretKey::from_seed(&[7; 32]).expect("a key");
    let sound = key.sign(b"once");
    let mut twin = sound;
    let mut carry = 0;
    for (digit, more) in twin[32..].iter_mut().zip(order) {
        let sum = u16::from(*digit) + u16::from(more) + carry;
        (*digit, carry) = (sum as u8, sum >> 8);
    }
    assert!(key.public().verify(b"once", &sound));
    assert!(!key.public().verify(b"once", &twin), "S + L is the same number, written otherwise");
    for len in 0..130 {
        assert!(!key.public().verify(b"once", &vec![0xA5; len]));
    }
    for at in 0..64 {
        let mut other = sound;
        other[at] ^= 1;
        assert!(!key.public().verify(b"once", &other), "bit of byte {at}");
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sign-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn key_files_come_back_and_are_for_their_owner_alone() {
    let folder = Folder::new("files");
    let (path, public) = (folder.0.join("a.key"), folder.0.join("a.pub"));
    let key = SecretKey::generate().expect("randomness");
    key.write_new(&path).expect("written");
    fs::write(&public, key.public().to_pem()).expect("written");
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    assert_eq!(SecretKey::read(&path).expect("reads").public(), key.public());
    assert_eq!(PublicKey::read(&public).expect("reads"), *key.public());
    assert_eq!(read_directory(&folder.0).expect("one"), [*key.public()]);
    assert!(matches!(key.write_new(&path), Err(KeyFault::Io(..))), "nothing is overwritten");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
    let said = SecretKey::read(&path).expect_err("open to a group").to_string();
    assert!(said.contains("640") && said.contains("chmod 600"), "{said}");
    assert!(matches!(PublicKey::read(&path), Err(KeyFault::NoKey(_))));
    fs::write(folder.0.join("b.pub"), "no key").expect("written");
    assert!(matches!(read_directory(&folder.0), Err(KeyFault::NoKey(_))));
    assert!(!format!("{key:?}").contains("SigningKey"));
}

/// Made by `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout`.
#[test]
fn keys_of_openssl_are_read() {
    let folder = Folder::new("openssl");
    let (secret, public) = (folder.0.join("o.key"), folder.0.join("o.pub"));
    fs::write(&secret, OPENSSL[0]).expect("written");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("set");
    fs::write(&public, OPENSSL[1]).expect("written");
    let key = SecretKey::read(&secret).expect("reads");
    assert_eq!(PublicKey::read(&public).expect("reads"), *key.public());
}

const OPENSSL: [&str; 2] = [
    "-----BEGIN PRIVATE KEY-----\n\
     MC4CAQAwBQYDK2VwBCIEIOUutZytIyaJZ5ZWXiaUOvrcWMY72BayjwFlP+Mf2Xy5\n\
     -----END PRIVATE KEY-----\n",
    "-----BEGIN PUBLIC KEY-----\n\
     MCowBQYDK2VwAyEAfzgPf3eBKGMnfFWx+fZ51bgs/ovbt+VnQoxIeBAMgSM=\n\
     -----END PUBLIC KEY-----\n",
];
