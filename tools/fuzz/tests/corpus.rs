//! Every input of the corpus, and some made from each, through its target.

use fuzz::{TARGETS, mutate::Random};
use std::{fs, path::Path};

/// Inputs made from each input.
const CHILDREN: usize = 20;

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name)
}

fn files(name: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = match fs::read_dir(folder(name)) {
        Ok(entries) => entries.map(|entry| entry.expect("readable").path()).collect(),
        Err(_) => Vec::new(),
    };
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).expect("readable")).collect()
}

#[test]
fn sec_no_input_of_the_corpus_breaks_its_target() {
    let mut random = Random(5);
    for target in TARGETS {
        let mut inputs = (target.seeds)();
        assert!(!inputs.is_empty(), "{} has seeds", target.name);
        inputs.extend(files(target.name));
        (target.run)(&[]);
        for input in &inputs {
            (target.run)(input);
            for _ in 0..CHILDREN {
                let mut child = input.clone();
                let other = random.below(inputs.len());
                random.mutate(&mut child, &inputs[other]);
                (target.run)(&child);
            }
        }
    }
}

#[test]
fn the_corpus_is_small_and_belongs_to_targets() {
    let mut total = 0;
    for entry in fs::read_dir(folder("")).into_iter().flatten() {
        let name = entry.expect("readable").file_name().into_string().expect("a name");
        assert!(fuzz::find(&name).is_ok(), "corpus/{name} belongs to no target");
        total += files(&name).iter().map(Vec::len).sum::<usize>();
    }
    assert!(total <= 1 << 20, "{total} bytes");
}
