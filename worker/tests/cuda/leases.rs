//! Tensors that another process lends on the device: computed where they lie, or refused.

use super::{answer, signed};
use crate::{
    coded::learned,
    support::{BULK, Request, Rig, sample, tensor},
};
use link::SharedFile;
use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio},
};
use wire::{Coding, Dtype, ErrorCode, payload::TensorWork};
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
    let loan = Loan::new(0, &lent()).expect("a device");
    let hex: String = loan.handle().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("\nhandle {hex}");
    std::io::stdout().flush().expect("heard");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    drop(loan);
    std::process::exit(0);
}

/// Hidden rows, and one that is not finite.
fn lent() -> Vec<u8> {
    let mut bytes = tensor("hidden.safetensors", "hidden.f16");
    let odd = [0x7E00_u16, 0x7C00, 0x3C00, 0xFC00, 0x0001, 0x8000];
    bytes.extend(odd.iter().cycle().take(384).flat_map(|bits| bits.to_le_bytes()));
    bytes
}

/// An inference engine that lends 257 hidden rows of 384 f16, the last of which is not finite.
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

/// COMP: answers to lent rows can be coded, too: what is coded from the device's results, what the
/// device codes, and a row that the host reads once more because it is carried as it is.
#[test]
fn comp_answers_to_lent_rows_are_coded() {
    let engine = Engine::start();
    let (lent, basis) = (lent(), &learned().1);
    let steps = TensorWork::topk(Dtype::F16, 5, 384, 20, Dtype::F16).coded(Coding::SetSteps, 0.9);
    let head = TensorWork::lm_head(Dtype::F32, 3, 384, 100, Dtype::F16);
    let hidden = |coding, quality, rows| TensorWork::hidden(Dtype::F16, rows, 384, coding, quality);
    let cases = [
        (BULK, steps, 0),
        (BULK + 1, head.coded(Coding::SetSteps, 0.0), 0),
        (0, TensorWork::lm_head(Dtype::F16, 2, 384, 20, Dtype::F16), 255),
        (1, TensorWork::lm_head(Dtype::Bf16, 3, 384, 20, Dtype::F16).coded(Coding::SetU8, 0.0), 9),
        (BULK + 2, hidden(Coding::Int8Group, 0.0, 7), 250),
        (BULK + 3, hidden(Coding::Int8Channel, 0.0, 7), 250),
        (BULK + 4, hidden(Coding::Rotated, 0.125, 7), 250),
        (BULK + 5, hidden(Coding::Pca, 0.0, 7), 250),
    ];
    let args = Args { backend: Choice::Cpu, ..Args::default() };
    let weights = SharedFile::load(&sample("lm_head.safetensors")).expect("weights");
    let mut cpu = Rig::offer(args, Some(&weights), |offer| offer.basis = Some(basis.fd()));
    for backend in ["cuda", "auto"] {
        let mut rig = Rig::process_learned(backend, Some(&weights), Some(basis), &[]);
        for (slot, work, row) in cases {
            let size = Dtype::from_code(work.dtype).expect("a type").size();
            let (from, row_len) = (row * 768, 384 * size);
            let rows = &lent[from..][..work.rows as usize * row_len];
            cpu.load(slot, &Request::new(work, rows));
            let lease = engine.lease(from as u64, row_len as u64, 0);
            rig.load(slot, &Request::new(work.leased(), &lease));
        }
        let slots = cases.map(|(slot, ..)| slot);
        cpu.run(&slots);
        rig.run_all(&slots);
        for slot in slots {
            assert_eq!(answer(&rig, slot), answer(&cpu, slot), "{backend}, slot {slot}");
            assert_eq!(signed(&rig, slot).0, "cuda");
        }
        let coded = rig.reply(BULK + 4).coded.expect("coded rows");
        assert_eq!(coded.row(6).len(), 1 + 768, "carried as it is");
        // No kernel codes these, and no CPU reads them.
        rig.load(
            BULK,
            &Request::new(hidden(Coding::Int8Centred, 0.0, 1).leased(), &engine.lease(0, 768, 0)),
        );
        rig.run(&[BULK]);
        assert_eq!(rig.status(BULK), Some(ErrorCode::NoCapableWorker));
    }
}

/// Leases that leave their allocation, name no allocation, or mean another device are refused one
/// by one, and the device goes on.
#[test]
fn comp_bad_leases_are_refused() {
    let engine = Engine::start();
    let work = TensorWork::int8(Dtype::F16, 4, 384);
    let whole = 257 * 768;
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
