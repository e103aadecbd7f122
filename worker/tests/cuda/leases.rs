//! Tensors that another process lends on the device: computed where they lie, or refused.

use super::{answer, signed};
use crate::support::{BULK, Request, Rig, tensor};
use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio},
};
use wire::{Dtype, ErrorCode, payload::TensorWork};
use worker::{Args, Choice, cuda::Loan};

/// Set in a process that shall lend a tensor instead of running tests.
const AS_LENDER: &str = "BUTTERFLY_TEST_LENDER";

/// Not a test: what the lending process runs. It says its handle, and lends until its standard
/// input ends.
#[test]
fn lender_process() {
    if std::env::var_os(AS_LENDER).is_none() {
        return;
    }
    let loan = Loan::new(0, &tensor("hidden.safetensors", "hidden.f16")).expect("a device");
    let hex: String = loan.handle().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("\nhandle {hex}");
    std::io::stdout().flush().expect("heard");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    drop(loan);
    std::process::exit(0);
}

/// An inference engine that lends 256 hidden rows of 384 f16.
struct Engine {
    child: Child,
    handle: [u8; 64],
}

impl Engine {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "cuda::leases::lender_process", "--nocapture"])
            .env(AS_LENDER, "yes")
            .env("LD_LIBRARY_PATH", fake_cuda::folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let line = out
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("handle ").map(str::to_owned))
            .expect("it says its handle");
        let bytes = line.as_bytes().as_chunks::<2>().0;
        let byte = |pair: &[u8; 2]| {
            u8::from_str_radix(core::str::from_utf8(pair).expect("text"), 16).expect("hex")
        };
        let handle = core::array::from_fn(|at| byte(&bytes[at]));
        Self { child, handle }
    }

    fn lease(&self, offset: u64, stride: u64, device: u32) -> Vec<u8> {
        lease(self.handle, offset, stride, device)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn lease(handle: [u8; 64], offset: u64, stride: u64, device: u32) -> Vec<u8> {
    let mut bytes = handle.to_vec();
    bytes.extend_from_slice(&offset.to_le_bytes());
    bytes.extend_from_slice(&stride.to_le_bytes());
    bytes.extend_from_slice(&device.to_le_bytes());
    bytes.resize(wire::lease::LEASE_LEN, 0);
    bytes
}

/// COMP: every second row of a lent tensor, and a part of the columns, without a copy; the answer
/// is that to the same rows sent inline.
#[test]
fn comp_a_lent_tensor_is_compressed_where_it_lies() {
    let engine = Engine::start();
    let hidden = tensor("hidden.safetensors", "hidden.f16");
    let int8 = TensorWork::int8(Dtype::F16, 20, 384);
    let topk = TensorWork::topk(Dtype::F16, 5, 101, 9, Dtype::F32);
    let rows = |from: usize, step: usize, count: usize, len: usize| -> Vec<u8> {
        (0..count).flat_map(|row| hidden[from + row * step..][..len].to_vec()).collect()
    };
    let mut cpu = Rig::start(Args { backend: Choice::Cpu, ..Args::default() }, None);
    cpu.load(BULK, &Request::new(int8, &rows(768, 1536, 20, 768)));
    cpu.load(1, &Request::new(topk, &rows(10, 768, 5, 202)));
    cpu.run(&[BULK, 1]);

    let mut rig = Rig::process("cuda", None, &[]);
    for _ in 0..2 {
        rig.load(BULK, &Request::new(int8.leased(), &engine.lease(768, 1536, 0)));
        rig.load(1, &Request::new(topk.leased(), &engine.lease(10, 768, 0)));
        rig.run_all(&[BULK, 1]);
        assert_eq!(answer(&rig, BULK), answer(&cpu, BULK));
        assert_eq!(answer(&rig, 1), answer(&cpu, 1));
    }
    let mut auto = Rig::process("auto", None, &[]);
    auto.load(1, &Request::new(topk.leased(), &engine.lease(10, 768, 0)));
    auto.run(&[1]);
    assert_eq!(answer(&auto, 1), answer(&cpu, 1));
    assert_eq!(signed(&auto, 1), ("cuda".into(), "the rows are on the device".into()));
}

/// Leases that leave their allocation, name no allocation, or mean another device are refused one
/// by one, and the device goes on.
#[test]
fn comp_bad_leases_are_refused() {
    let engine = Engine::start();
    let work = TensorWork::int8(Dtype::F16, 4, 384);
    let whole = 256 * 768;
    let cases = [
        (engine.lease(whole - 4 * 768, 768, 0), None),
        (engine.lease(whole - 4 * 768 + 2, 768, 0), Some(ErrorCode::BadRequest)),
        (engine.lease(u64::MAX - 1, 768, 0), Some(ErrorCode::BadRequest)),
        (engine.lease(0, u64::MAX / 2, 0), Some(ErrorCode::BadRequest)),
        (engine.lease(0, 766, 0), Some(ErrorCode::BadRequest)),
        (engine.lease(1, 768, 0), Some(ErrorCode::BadRequest)),
        (engine.lease(0, 768, 1), Some(ErrorCode::NoCapableWorker)),
        (lease([0xEE; 64], 0, 768, 0), Some(ErrorCode::BadRequest)),
        (engine.lease(0, 768, 0), None),
    ];
    let mut rig = Rig::process("cuda", None, &[]);
    let slots: Vec<u32> = (0..cases.len() as u32).collect();
    for (slot, (lease, _)) in slots.iter().zip(&cases) {
        rig.load(*slot, &Request::new(work.leased(), lease));
    }
    rig.run_all(&slots);
    for (slot, (_, code)) in slots.iter().zip(&cases) {
        assert_eq!(rig.status(*slot), *code, "case {slot}");
    }
    assert!(rig.reply(8).hidden_states.is_some());
}

/// Without a device, and once it is lost, a lease cannot be served: no CPU reads that memory.
#[test]
fn comp_a_lease_without_a_device_is_refused() {
    let engine = Engine::start();
    let work = TensorWork::int8(Dtype::F16, 4, 384).leased();
    let lease = engine.lease(0, 768, 0);
    let cpu = Rig::start(Args { backend: Choice::Cpu, ..Args::default() }, None);
    let lost = Rig::process("cuda", None, &[("FAKE_CUDA_FAIL", "lost:1")]);
    for mut rig in [cpu, lost] {
        rig.load(0, &Request::new(work, &lease));
        rig.run(&[0]);
        assert_eq!(rig.status(0), Some(ErrorCode::NoCapableWorker));
    }
}

/// More lenders than stay open, in one batch and over and over.
#[test]
fn comp_many_lenders_are_served() {
    let engines: Vec<Engine> = (0..10).map(|_| Engine::start()).collect();
    let work = TensorWork::int8(Dtype::F16, 1, 384).leased();
    let mut rig = Rig::process("cuda", None, &[]);
    let slots: Vec<u32> = (0..20).collect();
    let mut first = Vec::new();
    for round in 0..2 {
        for slot in &slots {
            let engine = &engines[*slot as usize % engines.len()];
            let row = u64::from(*slot) * 768;
            rig.load(*slot, &Request::new(work, &engine.lease(row, 768, 0)));
        }
        rig.run_all(&slots);
        let answers: Vec<_> = slots.iter().map(|slot| answer(&rig, *slot)).collect();
        if round == 0 {
            first = answers;
        } else {
            assert_eq!(answers, first);
        }
    }
    first.dedup();
    assert_eq!(first.len(), slots.len(), "each its own row");
}
