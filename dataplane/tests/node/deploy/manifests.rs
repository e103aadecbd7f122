//! The manifests for Kubernetes, as `kubectl kustomize` unfolds them.

use super::{is_here, place};
use crate::rig::{butterfly, words};
use std::{fs, path::Path, process::Command};

/// What an overlay comes to.
fn unfolded(name: &str) -> String {
    let built =
        Command::new("kubectl").arg("kustomize").arg(place("kubernetes").join(name)).output();
    let built = built.expect("runs");
    assert!(built.status.success(), "{name}: {}", words(&built));
    String::from_utf8(built.stdout).expect("text")
}

/// The items of the list behind a key, where it stands alone.
fn list<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let mut lines = text.lines().skip_while(|line| line.trim_start_matches([' ', '-']) != key);
    lines.next();
    lines.map_while(|line| line.trim_start().strip_prefix("- ")).collect()
}

/// Numbers behind a key, everywhere.
fn numbers(text: &str, key: &str) -> Vec<u32> {
    let after = text.lines().filter_map(|line| {
        line.trim_start_matches([' ', '-']).strip_prefix(key)?.strip_prefix(": ")?.parse().ok()
    });
    after.collect()
}

#[test]
fn card_08_manifests_unfold_and_name_only_flags_that_serve_takes() {
    if !is_here("kubectl") {
        return;
    }
    for overlay in ["base", "overlays/gpu"] {
        let text = unfolded(overlay);
        for kind in [
            "DaemonSet",
            "ConfigMap",
            "Service",
            "ServiceAccount",
            "NetworkPolicy",
            "PodDisruptionBudget",
            "Namespace",
        ] {
            assert!(text.lines().any(|line| line == format!("kind: {kind}")), "{overlay}: {kind}");
        }
        // A budget in shares asks a workload for its scale; a DaemonSet has none, and no eviction
        // is allowed then.
        let budget = text.split("kind: PodDisruptionBudget").nth(1).unwrap_or_default();
        let budget = budget.split("\n---").next().unwrap_or_default();
        assert!(budget.contains("minAvailable: 1") && !budget.contains("maxUnavailable"), "{text}");
        let args = list(&text, "args:");
        assert_eq!(args.first(), Some(&"serve"), "{overlay}: {args:?}");
        // All flags are taken up to the configuration, which is not there.
        let nowhere = args.iter().map(|arg| match arg.strip_prefix("--config=") {
            Some(_) => "--config=/nowhere/at/all.toml",
            None => arg,
        });
        let output = butterfly().args(nowhere).output().expect("runs");
        assert!(words(&output).contains("cannot read the configuration"), "{}", words(&output));
        let gpu = args.contains(&"--backend=cuda") && text.contains("nvidia.com/gpu: 1");
        assert_eq!(gpu, overlay.ends_with("gpu"));
    }
}

#[test]
fn ops_ports_probes_and_times_of_the_manifests_fit_together() {
    if !is_here("kubectl") {
        return;
    }
    let text = unfolded("base");
    let args = list(&text, "args:");
    for port in numbers(&text, "containerPort") {
        let end = format!(":{port}");
        assert!(args.iter().any(|arg| arg.ends_with(&end)), "nothing listens at {port}: {args:?}");
    }
    // The probes' paths are those that the node serves.
    let site = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/src");
    let files = fs::read_dir(site).expect("the sources").flatten();
    let served: String = files.filter_map(|file| fs::read_to_string(file.path()).ok()).collect();
    let paths: Vec<&str> =
        text.lines().filter_map(|line| line.trim_start().strip_prefix("path: /")).collect();
    for path in ["healthz", "readyz"] {
        assert!(paths.contains(&path), "no probe asks for /{path}");
        assert!(served.contains(&format!("\"/{path}\"")), "nothing serves /{path}");
    }
    // What ends a pod waits for the drain and for what comes before it.
    let config = fs::read_to_string(place("kubernetes/base/butterfly.toml")).expect("there");
    let drain = config.split("drain_timeout = \"").nth(1).and_then(|rest| rest.split('s').next());
    let drain: u32 = drain.expect("a drain").parse().expect("seconds");
    let grace = numbers(&text, "terminationGracePeriodSeconds")[0];
    assert!(grace >= drain + 5 + 10, "{grace} s for a drain of {drain} s");
    // Nothing in it runs as root or writes where it should not.
    for line in ["runAsNonRoot: true", "readOnlyRootFilesystem: true", "type: Localhost"] {
        assert!(text.contains(line), "{line}");
    }
}
