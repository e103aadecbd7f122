//! Prometheus' own judge of metrics, where it is installed.

use std::{
    io::Write,
    process::{Command, Stdio},
};

/// Fails where `promtool check metrics` finds anything; says so where it is not here.
pub(crate) fn check(text: &str) {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        println!("promtool is not here (apt-get install prometheus): the metrics were not checked");
        return;
    };
    promtool.stdin.take().expect("piped").write_all(text.as_bytes()).expect("writes");
    let output = promtool.wait_with_output().expect("runs");
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{out}{err}\n{text}");
}
