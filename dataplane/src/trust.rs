//! Keys: those that a node trusts, and those that its operators sign with.

use crate::{
    cli::{KeyArgs, KeyCommand, SignArgs},
    failure::Failure,
    gather::epoch_ns,
    say,
    settings::Settings,
};
use mesh::{limits::OPERATORS_MAX, node::Trust};
use serde_json::json;
use sign::{
    KeyId, NO_KEY, PublicKey, SecretKey,
    order::{self, Order},
    read_directory,
};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Whom a node will trust, as it was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TrustPlan {
    operators: Vec<PathBuf>,
    key: Option<PathBuf>,
    always: bool,
    two_person: bool,
    signed_acks: bool,
}

impl TrustPlan {
    /// `open`: the node listens, unencrypted, where others than this machine reach it, and cannot
    /// tell them apart.
    ///
    /// # Errors
    /// The key of the setting that makes no sense, and what to do.
    pub(crate) fn new(
        settings: &Settings,
        open: bool,
    ) -> Result<Self, (&'static str, &'static str)> {
        let on = |flag: Option<bool>| flag.unwrap_or(false);
        let plan = Self {
            operators: settings.operator_keys.clone(),
            key: settings.node_key.clone(),
            always: on(settings.require_signed_orders) || open,
            two_person: on(settings.two_person),
            signed_acks: on(settings.signed_acks),
        };
        let remedy = "needs keys of operators to tell who signed: name them with --operator-keys";
        for (key, is_set) in [
            ("require_signed_orders", on(settings.require_signed_orders)),
            ("two_person", plan.two_person),
        ] {
            if is_set && plan.operators.is_empty() {
                return Err((key, remedy));
            }
        }
        Ok(plan)
    }

    /// Reads the keys.
    ///
    /// # Errors
    /// Which file is of no use and what to do.
    pub(crate) fn load(&self, epoch_ns: u64) -> Result<Trust, String> {
        let mut operators: Vec<PublicKey> = Vec::new();
        for path in &self.operators {
            let keys = if path.is_dir() {
                read_directory(path)
            } else {
                PublicKey::read(path).map(|key| vec![key])
            };
            let keys = keys.map_err(|fault| format!("--operator-keys {fault}"))?;
            operators.extend(keys);
        }
        operators.sort_by_key(PublicKey::id);
        operators.dedup();
        if operators.len() > OPERATORS_MAX {
            return Err(format!("--operator-keys: at most {OPERATORS_MAX} keys; remove old ones"));
        }
        if self.two_person && operators.len() < 2 {
            return Err(
                "--two-person: two operators have two keys; add one to --operator-keys".to_owned()
            );
        }
        let key = self.key.as_deref().map(SecretKey::read).transpose();
        let key = key.map_err(|fault| format!("--node-key {fault}"))?;
        Ok(Trust {
            key: key.map(Arc::new),
            operators,
            always: self.always,
            two_person: self.two_person,
            signed_acks: self.signed_acks,
            since_ms: epoch_ns / 1_000_000,
        })
    }
}

/// Runs `key`.
pub(crate) fn run(args: &KeyArgs) -> Result<(), Failure> {
    let (path, json) = match &args.command {
        KeyCommand::New { file, json } => {
            let key = SecretKey::generate().map_err(Failure::run)?;
            key.write_new(file).map_err(Failure::setup)?;
            write_public(&public_path(file), key.public())?;
            (file, *json)
        }
        KeyCommand::Show { file, json } => (file, *json),
    };
    let key = match SecretKey::read(path) {
        Ok(key) => *key.public(),
        // A public key has no owner to keep it from.
        Err(fault) => PublicKey::read(path).map_err(|_| Failure::setup(fault))?,
    };
    let (id, public) = (hex(&key.id()), hex(&key.bytes()));
    if json {
        say::out(format!("{:#}", json!({ "id": id, "public_key": public })));
    } else {
        say::out(format!("id          {id}\npublic key  {public}\n{}", key.to_pem().trim_end()));
    }
    Ok(())
}

fn public_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

fn write_public(path: &Path, key: &PublicKey) -> Result<(), Failure> {
    let file = fs::OpenOptions::new().write(true).create_new(true).open(path);
    file.and_then(|mut file| file.write_all(key.to_pem().as_bytes()))
        .map_err(|error| Failure::setup(format!("{}: {error}", path.display())))
}

/// Signs an order with the keys that the command names, if it names any.
pub(crate) fn sign<T: Order>(order: &mut T, args: &SignArgs) -> Result<(), Failure> {
    let audience = args.for_node.map_or(NO_KEY, |id| id.0);
    for path in &args.sign_key {
        let key =
            SecretKey::read(path).map_err(|fault| Failure::setup(format!("--sign-key {fault}")))?;
        let taken = order.signatures().iter().map(|one| one.stamp_ms).max().unwrap_or(0);
        order::sign(order, &key, audience, order::next_stamp(taken, epoch_ns()));
    }
    Ok(())
}

/// A key id as people write it: sixteen hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HexId(pub(crate) KeyId);

impl std::str::FromStr for HexId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write the 16 digits that `butterfly key show` gives as id".to_owned();
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = u64::from_str_radix(text, 16).ok().filter(|_| digits).ok_or_else(wrong)?;
        Ok(Self(id.to_be_bytes()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;
    use wire::payload::mesh::Freeze;

    fn new(file: PathBuf) {
        run(&KeyArgs { command: KeyCommand::New { file, json: true } }).expect("made");
    }

    #[test]
    fn sign_04_a_node_loads_what_key_new_wrote_and_refuses_what_cannot_work() {
        let folder = Folder::new("trust");
        new(folder.0.join("a.key"));
        new(folder.0.join("node.key"));
        fs::rename(folder.0.join("node.key.pub"), folder.0.join("node")).expect("moved");
        let settings = Settings {
            operator_keys: vec![folder.0.clone()],
            node_key: Some(folder.0.join("node.key")),
            ..Settings::default()
        };
        let trust = TrustPlan::new(&settings, false).expect("stands").load(5_000_000).expect("ok");
        assert_eq!((trust.operators.len(), trust.always, trust.since_ms), (1, false, 5));
        assert!(trust.key.is_some());
        assert!(TrustPlan::new(&settings, true).expect("stands").always, "peers all look local");
        let both = Settings { two_person: Some(true), ..settings };
        let alone = TrustPlan::new(&both, false).expect("stands").load(0).expect_err("one key");
        assert!(alone.contains("--two-person"), "{alone}");
        let none = Settings { two_person: Some(true), ..Settings::default() };
        assert_eq!(TrustPlan::new(&none, false).expect_err("no keys").0, "two_person");
        let taken =
            KeyArgs { command: KeyCommand::New { file: folder.0.join("a.key"), json: true } };
        assert!(matches!(run(&taken), Err(Failure::Setup(_))), "nothing is overwritten");
    }

    #[test]
    fn an_order_is_signed_by_each_key_in_turn_for_the_node_that_is_named() {
        let folder = Folder::new("sign");
        let path = |name: &str| folder.0.join(name);
        new(path("a"));
        new(path("b"));
        let mut order = Freeze::default();
        let for_node = Some("00000000000000ff".parse().expect("an id"));
        let args = SignArgs { sign_key: vec![path("a"), path("b")], for_node };
        sign(&mut order, &args).expect("signed");
        let [a, b] = order.signatures[..] else { panic!("two") };
        assert!(a.key_id != b.key_id && a.stamp_ms < b.stamp_ms);
        assert_eq!(a.audience, [0, 0, 0, 0, 0, 0, 0, 255]);
        assert!("ff".parse::<HexId>().is_err() && "+0000000000000ff".parse::<HexId>().is_err());
        let mut bare = Freeze::default();
        sign(&mut bare, &SignArgs::default()).expect("nothing to do");
        assert!(bare.signatures.is_empty());
    }
}
