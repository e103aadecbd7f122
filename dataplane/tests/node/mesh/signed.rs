//! Keys, over real sockets: a node that obeys only who signs, agents that believe only their node.

use super::crowd::{Crowd, all_ready, command, config, gather, n, outcome};
use crate::rig::{Folder, Node, run, words};
use blast::agents::config::Proof;
use std::path::Path;

/// A folder with the keys of two operators for the node to trust, and the node's own.
struct Keys {
    folder: Folder,
    trusted: String,
    node: String,
}

impl Keys {
    fn new() -> Self {
        let folder = Folder::new();
        let trusted = folder.file("trusted");
        std::fs::create_dir(&trusted).expect("made");
        for name in ["ann", "bob", "node"] {
            let path = folder.file(name);
            let made = run(&["key", "new", text(&path), "--json"]);
            assert!(made.status.success(), "{}", words(&made));
            if name != "node" {
                let public = folder.file(&format!("{name}.pub"));
                std::fs::copy(public, trusted.join(format!("{name}.pub"))).expect("copied");
            }
        }
        let (trusted, node) = (text(&trusted).to_owned(), text(&folder.file("node")).to_owned());
        Self { folder, trusted, node }
    }

    fn key(&self, name: &str) -> String {
        text(&self.folder.file(name)).to_owned()
    }

    fn node(&self, more: &[&str]) -> Node {
        let words = ["--operator-keys", &self.trusted, "--node-key", &self.node];
        Node::start(&[&words, more].concat())
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

#[test]
fn sign_04_only_signed_orders_are_obeyed_and_only_the_nodes_messages_believed() {
    let keys = Keys::new();
    let node = keys.node(&["--require-signed-orders", "--signed-acks"]);
    let proof = Proof { verify: true, node_key: None, sign: true };
    let crowd = Crowd::at(&node, blast::agents::Config { proof, ..config(&node, 60) });
    let bare = command(&node, &["gather", "--json"]);
    assert_eq!(bare.status.code(), Some(1));
    assert!(words(&bare).contains("signature"), "{}", words(&bare));
    let ann = keys.key("ann");
    let (code, report) = gather(&node, &["--sign-key", &ann]);
    assert_eq!(code, 0, "{report}");
    all_ready(&report, 60);
    let sent = n(&report, "sent");
    node.await_count("butterfly_mesh_signed_answers_total", "result", "verified", sent);
    node.await_count("butterfly_mesh_signed_orders_total", "result", "unsigned", 1);
    let truth = crowd.finish();
    assert_eq!((truth.of("orders"), truth.of("orders_unverified")), (sent, 0));
    // Another key than the one that was set up is believed in nothing.
    let other = sign::PublicKey::read(Path::new(&keys.key("ann.pub"))).expect("a key");
    let proof = Proof { verify: true, node_key: Some(other), sign: true };
    let others = blast::agents::Config { proof, seed: 2, ..config(&node, 10) };
    let crowd = Crowd::at(&node, others);
    let words = ["gather", "--sign-key", &ann, "--window", "1s", "--timeout", "3s", "--json"];
    let (code, report) = outcome(&command(&node, &words));
    assert_eq!((code, n(&report, "ready")), (3, 0), "{report}");
    assert_eq!(crowd.finish().of("orders_unverified"), n(&report, "sent"));
    assert!(n(&report, "sent") > 0);
}

#[test]
fn sec_08_the_whole_mesh_is_frozen_by_two_operators() {
    let keys = Keys::new();
    let node = keys.node(&["--two-person"]);
    let order = keys.key("freeze.order");
    let (ann, bob) = (keys.key("ann"), keys.key("bob"));
    let by_one = ["freeze", "--scope", "all", "--sign-key", &ann, "--save", &order];
    let held = command(&node, &by_one);
    assert_eq!(held.status.code(), Some(1));
    assert!(words(&held).contains("countersign"), "{}", words(&held));
    assert_eq!(node.counted("butterfly_mesh_orders_total", "kind", "freeze"), 0);
    let again = command(&node, &["countersign", &order, "--sign-key", &ann]);
    assert_eq!(again.status.code(), Some(1), "the same person twice");
    let both = command(&node, &["countersign", &order, "--sign-key", &bob]);
    assert!(both.status.success(), "{}", words(&both));
    assert!(words(&both).contains("freeze all"), "{}", words(&both));
    node.await_count("butterfly_mesh_orders_total", "kind", "freeze", 1);
    // A part of the mesh is one person's to freeze.
    let part = command(&node, &["freeze", "--scope", "cluster=0/1"]);
    assert!(part.status.success(), "{}", words(&part));
}

#[test]
fn a_node_says_which_key_is_of_no_use() {
    let keys = Keys::new();
    for (args, said) in [
        (vec!["--two-person"], "operator-keys"),
        (vec!["--operator-keys", "/nowhere"], "/nowhere"),
        (vec!["--node-key", &keys.trusted], "--node-key"),
    ] {
        let all = [&["serve", "--listen", "127.0.0.1:0"], &args[..]].concat();
        let ended = run(&all);
        assert_eq!(ended.status.code(), Some(2), "{}", words(&ended));
        assert!(words(&ended).contains(said), "{}", words(&ended));
    }
}
