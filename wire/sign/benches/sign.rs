//! What a signature costs: `cargo bench -p sign`.

use criterion::{Criterion, criterion_group, criterion_main};
use sign::{
    SecretKey, Window,
    agents::{ack_bytes, coordinate_bytes, sign_ack, sign_coordinate},
};
use std::hint::black_box;
use wire::payload::mesh::{Ack, Coordinate};

fn signatures(c: &mut Criterion) {
    let key = SecretKey::from_seed(&[7; 32]).expect("a key");
    let message = Coordinate {
        payload: vec![0; 64],
        requires_capabilities: vec!["gpu".into()],
        ..Coordinate::default()
    };
    let ack = Ack { handle: 7, ready_ns: 9, ..Ack::default() };
    c.bench_function("coordinate/sign", |b| {
        b.iter(|| sign_coordinate(black_box(&mut message.clone()), &key));
    });
    c.bench_function("coordinate/canonical", |b| {
        b.iter(|| coordinate_bytes(black_box(&message)));
    });
    c.bench_function("ack/sign", |b| b.iter(|| sign_ack(black_box(&mut ack.clone()), &key)));
    let mut signed = ack;
    sign_ack(&mut signed, &key);
    c.bench_function("ack/verify", |b| {
        b.iter(|| {
            let bytes = ack_bytes(black_box(&signed));
            assert!(key.public().verify(bytes.as_bytes(), &signed.signature));
        });
    });
    c.bench_function("window/take", |b| {
        let (mut window, mut now) = (Window::new(64, 0), 1_000_000);
        b.iter(|| {
            now += 1;
            window.take(black_box([7; 8]), now, now).expect("fresh");
        });
    });
}

criterion_group!(benches, signatures);
criterion_main!(benches);
