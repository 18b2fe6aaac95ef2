//! What a record costs on its way: at the door, into the store, out of the store onto the wire, and
//! into the hub's store. `cargo bench --bench hot_paths`.

use std::path::Path;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lienthong::engine::{receiving, sending};
use lienthong::evidence::SigningKey;
use lienthong::model::record::{Draft, Op, RecordType};
use lienthong::model::{BoxId, ClockQuality, Epoch, Lane, Now, UnixMs};
use lienthong::store::Options;
use lienthong::store::hub::{HubStore, NewBox};
use lienthong::sync::Limits;
use lienthong::wire::BatchDecoder;
use serde_json::value::RawValue;

const OPTIONS: Options = Options {
    quota_bytes: 8 << 30,
    cache_bytes: 2 << 20,
};

fn now(mono_ms: u64) -> Now {
    let wall = UnixMs(1_790_000_000_000 + mono_ms as i64);
    Now {
        mono_ms,
        wall,
        quality: ClockQuality::Synchronized,
    }
}

/// About 500 bytes of dossier, with the entropy of the real thing.
fn data(number: u64) -> Box<RawValue> {
    let mut dice = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d;
    let mut next = |below: u64| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        dice % below
    };
    let text = format!(
        r#"{{"ma_ho_so":"H53.12-261120-{number:06}","ma_tthc":"{}.{:06}","ten_tthc":"Đăng ký khai sinh","co_quan_tiep_nhan":"H53.12","co_quan_giai_quyet":"H53.12","kenh":"truc_tuyen","muc_dvc":"toan_trinh","nguoi_nop":{{"loai":"ca_nhan","ho_ten":"Trần Thị Bích {}","so_dinh_danh":"0720960{:05}"}},"ngay_tiep_nhan":"2026-11-20T08:{:02}:{:02}+07:00","trang_thai_goc":"Đang thụ lý","trang_thai_chuan":"DANG_XU_LY","buoc":{},"phi":{},"da_thu":true}}"#,
        next(2) + 1,
        next(1_000_000),
        next(1000),
        next(100_000),
        next(60),
        next(60),
        next(6),
        next(100) * 1000,
    );
    RawValue::from_string(text).expect("written as JSON")
}

fn record(number: u64) -> sending::NewRecord {
    let data = data(number);
    let draft = Draft {
        id: None,
        source: &"mot-cua".parse().expect("valid"),
        kind: RecordType {
            dataset: "ho_so_tthc".parse().expect("valid"),
            version: 1,
        },
        subject: format!("H53.12-261120-{number:06}").parse().expect("valid"),
        time: Some("2026-11-20T08:12:45+07:00".to_owned()),
        agency: &"H53.12".parse().expect("valid"),
        op: Op::Upsert,
        sensitivity: 2,
        classification: &[],
        attachments: &[],
        data: &data,
        original: None,
    };
    sending::NewRecord {
        lane: Lane::P1,
        tail: draft.to_tail(),
        id: None,
        once: None,
    }
}

struct Keys {
    edge: Vec<u8>,
    hub: Vec<u8>,
}

impl Keys {
    fn new() -> Keys {
        Keys {
            edge: SigningKey::generate(),
            hub: SigningKey::generate(),
        }
    }
}

fn key(pkcs8: &[u8]) -> SigningKey {
    SigningKey::from_pkcs8(pkcs8).expect("own key")
}

fn edge(folder: &Path, box_id: &BoxId, keys: &Keys) -> sending::EdgeEngine<()> {
    let mut epoch = 0;
    sending::EdgeEngine::open(sending::Config {
        store: folder.join(format!("{box_id}.db")),
        options: OPTIONS,
        box_id: box_id.clone(),
        key: key(&keys.edge),
        hub_keys: vec![key(&keys.hub).public_key()],
        limits: Limits::FIELD,
        space: sending::Space {
            lane_bytes_max: [4 << 30; 5],
            tail_ms: 0,
            tail_bytes: 0,
            once_keys: 1000,
        },
        mint: Box::new(move || {
            epoch += 1;
            Epoch(epoch)
        }),
    })
    .expect("a box")
}

fn submission(records: Vec<sending::NewRecord>) -> sending::Event<()> {
    let source = "mot-cua".parse().expect("valid");
    sending::Event::Submit(sending::Submission {
        reply: (),
        source,
        records,
        once: None,
        cursor: None,
    })
}

/// A box with so many records waiting.
fn filled(folder: &Path, box_id: &BoxId, keys: &Keys, records: u64) -> sending::EdgeEngine<()> {
    let mut engine = edge(folder, box_id, keys);
    for start in (0..records).step_by(1000) {
        let batch = (start..(start + 1000).min(records)).map(record).collect();
        engine
            .step(now(start), vec![submission(batch)])
            .expect("kept");
    }
    engine
}

/// The first window of a fresh connection: the batches and how many records they hold.
fn window(engine: &mut sending::EdgeEngine<()>) -> (Vec<Bytes>, u64) {
    let up = sending::Event::LinkUp {
        message_bytes_max: 128 * 1024,
    };
    let mut messages = Vec::new();
    for effect in engine.step(now(1), vec![up]).expect("a step") {
        if let sending::Effect::Publish(message) = effect {
            messages.push(message);
        }
    }
    let mut decoder = BatchDecoder::default();
    let records = messages
        .iter()
        .map(|message| {
            decoder
                .decode(message)
                .expect("own message")
                .entries()
                .count() as u64
        })
        .sum();
    (messages, records)
}

fn door(c: &mut Criterion) {
    let mut group = c.benchmark_group("door");
    group.throughput(Throughput::Elements(1));
    let mut number = 0;
    group.bench_function("draft_to_tail", |b| {
        b.iter_batched(
            || {
                number += 1;
                number
            },
            record,
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn intake(c: &mut Criterion) {
    let keys = Keys::new();
    let box_id: BoxId = "bench".parse().expect("valid");
    let mut group = c.benchmark_group("intake");
    group.sample_size(20);
    for size in [1_u64, 10, 100, 1000] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut engine = edge(folder.path(), &box_id, &keys);
        let mut number = 0;
        group.throughput(Throughput::Elements(size));
        group.bench_function(format!("records_per_commit_{size}"), |b| {
            b.iter_batched(
                || {
                    number += size;
                    (number..number + size).map(record).collect::<Vec<_>>()
                },
                |records| {
                    engine
                        .step(now(1), vec![submission(records)])
                        .expect("kept")
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn outgoing(c: &mut Criterion) {
    let keys = Keys::new();
    let box_id: BoxId = "bench".parse().expect("valid");
    let folder = tempfile::tempdir().expect("a folder");
    let mut engine = filled(folder.path(), &box_id, &keys, 20_000);
    let mut group = c.benchmark_group("outgoing");
    group.sample_size(20);
    let (messages, records) = window(&mut engine);
    let bytes: usize = messages.iter().map(Bytes::len).sum();
    eprintln!("{records} records make {bytes} bytes on the wire");
    group.throughput(Throughput::Elements(records));
    group.bench_function("read_hash_compress_sign", |b| {
        let up = || {
            vec![sending::Event::LinkUp {
                message_bytes_max: 128 * 1024,
            }]
        };
        b.iter(|| engine.step(now(1), up()).expect("a step"));
    });
    group.finish();
}

fn incoming(c: &mut Criterion) {
    let keys = Keys::new();
    let box_id: BoxId = "bench".parse().expect("valid");
    let folder = tempfile::tempdir().expect("a folder");
    let mut edge = filled(folder.path(), &box_id, &keys, 20_000);
    let mut group = c.benchmark_group("incoming");
    group.sample_size(10);
    let (messages, records) = window(&mut edge);
    group.throughput(Throughput::Elements(records));
    let mut hubs = 0;
    group.bench_function("hub_commits", |b| {
        b.iter_batched(
            || {
                hubs += 1;
                let path = folder.path().join(format!("hub{hubs}.db"));
                let mut registry = HubStore::open(&path, OPTIONS).expect("a store");
                let public_key = key(&keys.edge).public_key();
                let new = NewBox {
                    box_id: &box_id,
                    agency: &"H53.12".parse().expect("valid"),
                    public_key: public_key.as_bytes(),
                    serial: "01",
                    not_after: UnixMs(i64::MAX),
                };
                registry.add_box(&new, UnixMs(0)).expect("registered");
                let config = receiving::Config {
                    store: path,
                    options: OPTIONS,
                    key: key(&keys.hub),
                };
                let received = |message: &Bytes| receiving::Event::Received {
                    box_id: box_id.clone(),
                    message: message.clone(),
                };
                let events: Vec<_> = messages.iter().map(received).collect();
                (receiving::HubEngine::open(config).expect("a hub"), events)
            },
            |(mut hub, events)| hub.step(now(1), events).expect("committed"),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, door, intake, outgoing, incoming);
criterion_main!(benches);
