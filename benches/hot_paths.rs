//! What a record costs on its way: at the door, into the store, out of the store onto the wire, and
//! into the hub's store. `cargo bench --bench hot_paths`.

mod pair;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lienthong::wire::BatchDecoder;
use pair::{Edge, Pair, body, link_up, now, published, submission};

/// More than the first window of a connection takes.
const WAITING: u32 = 8_000;

/// The first window of a fresh connection.
fn window(edge: &mut Edge) -> Vec<Bytes> {
    published(edge.step(now(), vec![link_up()]).expect("a step"))
}

fn records_in(messages: &[Bytes]) -> u64 {
    let mut decoder = BatchDecoder::default();
    let mut count = |message| decoder.decode(message).expect("ours").entries().count() as u64;
    messages.iter().map(|message| count(message)).sum()
}

fn door(c: &mut Criterion) {
    let pair = Pair::new();
    let body = body(0..100);
    let mut group = c.benchmark_group("door");
    group.throughput(Throughput::Elements(100));
    group.bench_function("split_check_envelope_100", |b| b.iter(|| pair.admit(&body)));
    group.finish();
}

fn intake(c: &mut Criterion) {
    let pair = Pair::new();
    let mut group = c.benchmark_group("intake");
    group.sample_size(20);
    for size in [1_u32, 100, 1000] {
        let mut edge = pair.edge(&format!("intake-{size}"));
        let mut number = 0;
        group.throughput(Throughput::Elements(u64::from(size)));
        group.bench_function(format!("records_per_commit_{size}"), |b| {
            b.iter_batched(
                || {
                    number += size;
                    vec![submission(pair.records(number..number + size))]
                },
                |events| edge.step(now(), events).expect("kept"),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn outgoing(c: &mut Criterion) {
    let pair = Pair::new();
    let mut edge = pair.filled("outgoing", WAITING);
    let messages = window(&mut edge);
    let records = records_in(&messages);
    let bytes: usize = messages.iter().map(Bytes::len).sum();
    eprintln!(
        "{records} records in {} messages, {} bytes a record",
        messages.len(),
        bytes as u64 / records
    );
    let mut group = c.benchmark_group("outgoing");
    group.sample_size(20);
    group.throughput(Throughput::Elements(records));
    group.bench_function("read_hash_compress_sign", |b| b.iter(|| window(&mut edge)));
    group.finish();
}

fn incoming(c: &mut Criterion) {
    let pair = Pair::new();
    let messages = window(&mut pair.filled("incoming", WAITING));
    let mut group = c.benchmark_group("incoming");
    group.sample_size(10);
    group.throughput(Throughput::Elements(records_in(&messages)));
    let mut hubs = 0;
    group.bench_function("decode_verify_commit", |b| {
        b.iter_batched(
            || {
                hubs += 1;
                (pair.hub(&hubs.to_string()), pair.received(&messages))
            },
            |(mut hub, events)| {
                let effects = hub.step(now(), events).expect("committed");
                (hub, effects)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, door, intake, outgoing, incoming);
criterion_main!(benches);
