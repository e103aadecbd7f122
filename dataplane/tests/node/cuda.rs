//! A node whose workers have a CUDA driver, one without a device: the way from socket to reply.

use crate::rig::{Node, butterfly, sample};
use client::Client;
use safetensors::SafeTensors;
use wire::{
    Dtype,
    payload::{QueryRequest, TensorWork},
};

/// The driver without a device, and what shall fail.
fn variables(fail: &str) -> Vec<(&str, &str)> {
    let folder = fake_cuda::folder().to_str().expect("a plain path");
    vec![("LD_LIBRARY_PATH", folder), ("FAKE_CUDA_FAIL", fail)]
}

/// Top-k of a real row; who answered, why, and the best index.
fn ask(client: &mut Client) -> (String, String, u32) {
    let file = std::fs::read(sample("logits.safetensors")).expect("sample");
    let tensors = SafeTensors::deserialize(&file).expect("safetensors");
    let rows = tensors.tensor("head.f32").expect("tensor").data();
    let work = TensorWork::topk(Dtype::F32, 1, 30_522, 100, Dtype::F16);
    let mut request = QueryRequest { work, ..QueryRequest::default() };
    let response = client.request(&mut request, &rows[..30_522 * 4]).expect("an answer");
    let metadata = &response.root.metadata;
    let set = response.logits.expect("a set");
    (metadata.backend.to_string(), metadata.backend_reason.to_string(), set.row_indices(0)[0])
}

/// COMP, QUERY: a client's row is computed by the device, and status says so.
#[test]
fn query_a_device_answers_a_client() {
    let cpu = Node::start(&["--backend", "cpu"]);
    let (_, _, best) = ask(&mut cpu.client());
    let node = Node::start_in(&["--backend", "cuda"], &variables("nothing"));
    assert!(node.preface.iter().any(|line| line.contains("Fake 0")), "{:?}", node.preface);
    let (backend, reason, index) = ask(&mut node.client());
    assert_eq!((backend.as_str(), reason.as_str(), index), ("cuda", "asked for", best));
    let metrics = node.metrics();
    let info = metrics.metrics.iter().find(|metric| metric.name == "butterfly_info");
    let info = &info.expect("facts").labels;
    assert_eq!((info["backend"].as_str(), info["gpus"].as_str()), ("cuda", "1"));
    assert_eq!(metrics.total("butterfly_worker_degraded_total"), Some(0));
}

/// CARD: the node hears of a lost device, counts it, and shows it; the client notices nothing but
/// the reason.
#[test]
fn card_a_lost_device_is_told_to_the_node() {
    let node = Node::start_in(&["--backend", "cuda"], &variables("lost:1"));
    let mut client = node.client();
    let (backend, reason, _) = ask(&mut client);
    assert_eq!(backend, "cpu");
    assert!(reason.contains("the device was lost"), "{reason}");
    let note = node.await_note("goes on with cpu");
    assert!(note.contains("the device was lost"), "{note}");
    node.await_total("butterfly_worker_degraded_total", 1);
    let metrics = node.metrics();
    let info = metrics.metrics.iter().find(|metric| metric.name == "butterfly_info");
    assert_eq!(info.expect("facts").labels["backend"], "cpu");
    assert_eq!(ask(&mut client).0, "cpu");
    assert_eq!(metrics.total("butterfly_worker_starts_total"), Some(1), "the worker lives on");
}

/// Workers share the devices out among them.
#[test]
fn each_device_has_its_worker() {
    let mut variables = variables("nothing");
    variables.push(("FAKE_CUDA_DEVICES", "2"));
    let node = Node::start_in(&["--workers", "2"], &variables);
    assert_eq!(node.workers().len(), 2);
    let notes = [node.await_note("ready: pid"), node.await_note("ready: pid")];
    for device in ["Fake 0", "Fake 1"] {
        assert!(notes.iter().any(|note| note.contains(device)), "{notes:?}");
    }
}

/// `check` names the devices and says what becomes of them.
#[test]
fn check_lists_devices() {
    let mut command = butterfly();
    let output =
        command.args(["check", "--json"]).envs(variables("nothing")).output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("Fake 0 (9.0, 4 GiB)") && text.contains("one worker per GPU"), "{text}");
    let output =
        butterfly().args(["check", "--json"]).envs(variables("init")).output().expect("runs");
    assert!(String::from_utf8_lossy(&output.stdout).contains("SYSTEM_DRIVER_MISMATCH"));
}
