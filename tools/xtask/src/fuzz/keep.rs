//! What of a working corpus goes into the tree: the smallest inputs that together reach what all of
//! them reach.

use std::{fs, path::Path, process::Command};

/// Bytes of all corpora in the tree.
const TREE_MAX: u64 = 1 << 20;

/// Replaces the tree's corpora of these targets.
pub(crate) fn keep(harness: &Path, made: &Path, tree: &Path, names: &[&str]) -> Result<(), String> {
    for name in names {
        let merged = made.join("merged").join(name);
        let _ = fs::remove_dir_all(&merged);
        create(&merged)?;
        let (work, kept) = (made.join("corpus").join(name), tree.join(name));
        create(&kept)?;
        let status = Command::new(harness)
            .env("FUZZ_TARGET", name)
            .env("ASAN_OPTIONS", super::ASAN)
            .args(["-merge=1", "-max_len=16384"])
            .args([&merged, &work, &kept])
            .output()
            .map_err(|error| error.to_string())?;
        if !status.status.success() {
            return Err(format!("{name}: its corpus cannot be merged"));
        }
        replace(&merged, &kept, share(names.len()))?;
    }
    Ok(())
}

/// A target's part of the bytes, some left over for those that come.
const fn share(targets: usize) -> u64 {
    let expected = if targets < 20 { 20 } else { targets };
    TREE_MAX / expected as u64
}

/// Moves what fits, the smallest first.
fn replace(from: &Path, to: &Path, budget: u64) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{}: {error}", to.display());
    fs::remove_dir_all(to).map_err(said)?;
    create(to)?;
    let mut files = Vec::new();
    for entry in fs::read_dir(from).map_err(said)? {
        let entry = entry.map_err(said)?;
        files.push((entry.metadata().map_err(said)?.len(), entry.file_name()));
    }
    files.sort();
    let mut left = budget;
    for (len, name) in files {
        if len > left {
            break;
        }
        left -= len;
        fs::copy(from.join(&name), to.join(&name)).map_err(said)?;
    }
    Ok(())
}

fn create(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_inputs_are_kept_up_to_the_budget() {
        let base = std::env::temp_dir().join(format!("butterfly-keep-{}", std::process::id()));
        let (from, to) = (base.join("from"), base.join("to"));
        create(&from).unwrap();
        create(&to).unwrap();
        for (name, len) in [("a", 50), ("b", 10), ("c", 30)] {
            fs::write(from.join(name), vec![0; len]).unwrap();
        }
        fs::write(to.join("old"), b"x").unwrap();
        replace(&from, &to, 45).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["b", "c"]);
        fs::remove_dir_all(&base).unwrap();
    }
}
