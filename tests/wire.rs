//! The messages between boxes and hub: what goes out comes in, damage and bombs are refused, and
//! yesterday's bytes still mean what they meant.
//!
//! `WRITE_GOLDEN=1 cargo test --test wire golden` writes the golden messages of `tests/data/wire`
//! anew; that is right only for a new version of the protocol.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lienthong::evidence::{BatchClaim, PublicKey, SigningKey, chain_after};
use lienthong::model::limits::{
    BATCH_ENTRIES_MAX, BATCH_RAW_BYTES_MAX, DOWN_ENTRY_BYTES_MAX, MESSAGE_BYTES_MAX,
};
use lienthong::model::{BoxId, Chain, Epoch, Lane, Seq, UnixMs};
use lienthong::sync::{Ack, LogName};
use lienthong::wire::{Batch, BatchBuilder, BatchDecoder, Receipt, RefusalCode, WireError};
use proptest::prelude::*;

fn box_id() -> BoxId {
    "xa-tan-bien".parse().expect("valid")
}

/// What a batch says, without its entries.
#[derive(Debug, Clone, Copy)]
struct Numbers {
    lane: Lane,
    epoch: u64,
    begin: u64,
    oldest: u64,
    first: u64,
    base: [u8; 32],
}

fn claim_of<'a>(box_id: &'a BoxId, numbers: Numbers, entries: &[Vec<u8>]) -> BatchClaim<'a> {
    let base = Chain(numbers.base);
    BatchClaim {
        box_id,
        lane: numbers.lane,
        epoch: Epoch(numbers.epoch),
        begin: Seq(numbers.begin),
        oldest: Seq(numbers.oldest),
        first: Seq(numbers.first),
        last: Seq(numbers.first + entries.len() as u64 - 1),
        base,
        chain: entries
            .iter()
            .fold(base, |chain, entry| chain_after(chain, entry)),
    }
}

fn encode(
    numbers: Numbers,
    entries: &[Vec<u8>],
    signature: &[u8; 64],
    limit: usize,
) -> Result<Vec<u8>, WireError> {
    let mut builder = BatchBuilder::default();
    for entry in entries {
        assert!(builder.push(entry), "the test's entries fit a batch");
    }
    let box_id = box_id();
    builder.encode(&claim_of(&box_id, numbers, entries), signature, limit)
}

fn arbitrary_numbers() -> impl Strategy<Value = Numbers> {
    let number = 1..1_u64 << 38;
    let ordered = [number.clone(), number.clone(), number].prop_map(|mut numbers| {
        numbers.sort_unstable();
        numbers
    });
    (0..5_u64, 1..1_u64 << 63, ordered, any::<[u8; 32]>()).prop_map(
        |(lane, epoch, [begin, oldest, first], base)| Numbers {
            lane: Lane::from_index(lane).expect("five lanes"),
            epoch,
            begin,
            oldest,
            first,
            base,
        },
    )
}

fn arbitrary_entries() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let entry = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        prop::collection::vec(Just(b'a'), 0..5_000),
    ];
    prop::collection::vec(entry, 0..20)
}

fn arbitrary_signature() -> impl Strategy<Value = [u8; 64]> {
    any::<[[u8; 32]; 2]>().prop_map(|halves| std::array::from_fn(|at| halves[at / 32][at % 32]))
}

fn arbitrary_receipt() -> impl Strategy<Value = Receipt> {
    let log = (0..5_u64, 0..1_u64 << 63);
    let ack = (log, 0..=Seq::MAX.0, any::<bool>());
    (
        ack,
        any::<[u8; 32]>(),
        0..6_u8,
        any::<i64>(),
        arbitrary_signature(),
    )
        .prop_map(
            |(((lane, epoch), applied, resend), chain, refused, time, signature)| Receipt {
                ack: Ack {
                    log: LogName {
                        lane: Lane::from_index(lane).expect("five lanes"),
                        epoch: Epoch(epoch),
                    },
                    applied: Seq(applied),
                    resend,
                },
                chain: Chain(chain),
                refused: RefusalCode::from_number(refused),
                hub_time: UnixMs(time),
                signature,
            },
        )
}

/// What comes through the decoder keeps every limit and agrees with itself.
fn is_lawful(batch: &Batch) -> bool {
    let entries: Vec<&[u8]> = batch.entries().collect();
    batch.offer.is_well_formed()
        && entries.len() as u64 == batch.offer.first.count_to(batch.offer.last)
        && entries.len() <= BATCH_ENTRIES_MAX
        && entries
            .iter()
            .all(|entry| entry.len() <= DOWN_ENTRY_BYTES_MAX)
}

/// A message as the wire may bring it: damaged in one of the ways that bytes are damaged.
fn damage(message: &mut Vec<u8>, (how, at, byte): (u8, usize, u8)) {
    let at = at % (message.len() + 1);
    match how % 4 {
        0 => message.truncate(at),
        1 => message.insert(at, byte),
        2 if at < message.len() => message[at] ^= byte | 1,
        _ => {
            let part = message[at..].to_vec();
            message.extend(part);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_batch_comes_in_as_it_went_out(
        numbers in arbitrary_numbers(),
        entries in arbitrary_entries(),
        signature in arbitrary_signature(),
    ) {
        let message = encode(numbers, &entries, &signature, MESSAGE_BYTES_MAX).expect("it fits");
        let batch = BatchDecoder::default().decode(&message).expect("our own");
        let box_id = box_id();
        let claim = claim_of(&box_id, numbers, &entries);
        prop_assert_eq!(batch.offer.log.lane, numbers.lane);
        prop_assert_eq!(batch.offer.log.epoch, Epoch(numbers.epoch));
        prop_assert_eq!(batch.offer.begin, claim.begin);
        prop_assert_eq!(batch.offer.oldest, claim.oldest);
        prop_assert_eq!(batch.offer.first, claim.first);
        prop_assert_eq!(batch.offer.last, claim.last);
        prop_assert_eq!(batch.base, claim.base);
        prop_assert_eq!(batch.signature, signature);
        prop_assert!(batch.entries().eq(entries.iter().map(Vec::as_slice)));
        prop_assert!(is_lawful(&batch));
    }

    #[test]
    fn a_receipt_comes_in_as_it_went_out(receipt in arbitrary_receipt()) {
        prop_assert_eq!(Receipt::decode(&receipt.encode()).expect("our own"), receipt);
    }

    #[test]
    fn what_a_link_cannot_carry_is_not_sent(
        numbers in arbitrary_numbers(),
        entries in arbitrary_entries(),
        limit in 0_usize..3_000,
    ) {
        match encode(numbers, &entries, &[0; 64], limit) {
            Ok(message) => prop_assert!(message.len() <= limit),
            Err(WireError::TooLarge { bytes, limit: told }) => {
                prop_assert!(limit < bytes && told == limit);
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_lawful(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for kind in [1_u8, 2] {
            let mut message = vec![b'L', b'T', 1, kind];
            message.extend(&bytes);
            if let Ok(batch) = BatchDecoder::default().decode(&message) {
                prop_assert!(is_lawful(&batch));
            }
            if let Ok(receipt) = Receipt::decode(&message) {
                prop_assert!(receipt.ack.applied <= Seq::MAX);
            }
        }
    }

    #[test]
    fn damaged_messages_are_refused_or_lawful(
        numbers in arbitrary_numbers(),
        entries in arbitrary_entries(),
        receipt in arbitrary_receipt(),
        wounds in prop::collection::vec(any::<(u8, usize, u8)>(), 1..4),
    ) {
        let batch = encode(numbers, &entries, &[9; 64], MESSAGE_BYTES_MAX).expect("it fits");
        for mut message in [batch, receipt.encode()] {
            wounds.iter().for_each(|wound| damage(&mut message, *wound));
            if let Ok(batch) = BatchDecoder::default().decode(&message) {
                prop_assert!(is_lawful(&batch));
            }
            if let Ok(receipt) = Receipt::decode(&message) {
                prop_assert!(receipt.ack.applied <= Seq::MAX);
            }
        }
    }
}

// === Limits and bombs ===

/// A batch frame with a body of one's choice, which no builder of ours would make.
fn frame(first: u64, count: u32, raw_bytes: u32, body: &[u8]) -> Vec<u8> {
    let mut message = b"LT\x01\x01".to_vec();
    let mut encoder = minicbor::Encoder::new(&mut message);
    let written = (|| {
        encoder
            .array(10)?
            .u8(2)?
            .u64(7)?
            .u64(1)?
            .u64(1)?
            .u64(first)?;
        encoder.u32(count)?.bytes(&[0; 64])?.bytes(&[0; 32])?;
        encoder.u32(raw_bytes)?.bytes(body)?;
        Ok::<_, minicbor::encode::Error<std::convert::Infallible>>(())
    })();
    written.expect("writing to memory");
    message
}

fn sequence(entries: &[&[u8]]) -> Vec<u8> {
    let mut raw = Vec::new();
    for entry in entries {
        minicbor::Encoder::new(&mut raw)
            .bytes(entry)
            .expect("writing to memory");
    }
    raw
}

fn packed(raw: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(raw, 1).expect("zstd compresses what is in memory")
}

#[track_caller]
fn refused(message: &[u8]) {
    let result = BatchDecoder::default().decode(message);
    assert!(result.is_err(), "{:?}", result.map(|batch| batch.offer));
}

#[test]
fn the_frames_of_this_test_are_like_ours() {
    let raw = sequence(&[b"mot", b"hai"]);
    let batch = BatchDecoder::default()
        .decode(&frame(5, 2, raw.len() as u32, &packed(&raw)))
        .expect("a lawful frame");
    assert!(batch.entries().eq([b"mot".as_slice(), b"hai"]));
    assert_eq!((batch.offer.first, batch.offer.last), (Seq(5), Seq(6)));
}

#[test]
fn a_zip_bomb_is_refused_without_being_unpacked() {
    let zeros = vec![0_u8; 200 << 20];
    let bomb = packed(&zeros);
    assert!(bomb.len() < 64 * 1024, "{} bytes", bomb.len());
    for claimed in [0, 1, BATCH_RAW_BYTES_MAX, zeros.len(), u32::MAX as usize] {
        refused(&frame(1, 1, claimed as u32, &bomb));
    }
}

#[test]
fn every_limit_holds_at_the_door() {
    let raw = sequence(&[b"mot"]);
    let bytes = raw.len() as u32;
    let body = packed(&raw);
    assert!(
        BatchDecoder::default()
            .decode(&frame(1, 1, bytes, &body))
            .is_ok()
    );
    refused(&frame(0, 1, bytes, &body));
    refused(&frame(1, 0, bytes, &body));
    refused(&frame(1, 2, bytes, &body));
    refused(&frame(1, 1, bytes + 1, &body));
    refused(&frame(1, 1, bytes - 1, &body));
    refused(&frame(1, 1, bytes, &[]));
    refused(&frame(Seq::MAX.0 + 1, 1, bytes, &body));
    refused(&frame(u64::MAX, 1, bytes, &body));
    assert!(
        BatchDecoder::default()
            .decode(&frame(Seq::MAX.0, 1, bytes, &body))
            .is_ok()
    );

    let many = vec![&b""[..]; BATCH_ENTRIES_MAX + 1];
    let raw = sequence(&many);
    refused(&frame(
        1,
        many.len() as u32,
        raw.len() as u32,
        &packed(&raw),
    ));

    let large = vec![b'a'; DOWN_ENTRY_BYTES_MAX + 1];
    let raw = sequence(&[&large]);
    refused(&frame(1, 1, raw.len() as u32, &packed(&raw)));

    let mut long = frame(1, 0, 0, &[]);
    assert!(BatchDecoder::default().decode(&long).is_ok());
    long.push(0);
    refused(&long);
    long.resize(MESSAGE_BYTES_MAX + 1, 0);
    refused(&long);
}

#[test]
fn other_versions_and_strangers_are_told_apart() {
    let greeting = frame(1, 0, 0, &[]);
    let with = |at: usize, byte: u8| {
        let mut message = greeting.clone();
        message[at] = byte;
        BatchDecoder::default().decode(&message)
    };
    assert!(matches!(with(2, 2), Err(WireError::Version(2))));
    assert!(matches!(with(0, b'X'), Err(WireError::Foreign)));
    assert!(matches!(with(3, 2), Err(WireError::Foreign)));
    assert!(matches!(
        Receipt::decode(&greeting),
        Err(WireError::Foreign)
    ));
    assert!(matches!(Receipt::decode(b""), Err(WireError::Foreign)));
}

// === Golden messages ===

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/wire")
        .join(name)
}

/// Lines `word value`; a `#` begins a remark.
fn read_golden(name: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(golden(name)).expect("the golden file is there");
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let (word, value) = line.split_once(' ').expect("word and value");
            (word.to_owned(), value.to_owned())
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal"))
        .collect()
}

const NUMBERS: Numbers = Numbers {
    lane: Lane::P1,
    epoch: 0x1122_3344_5566_7788,
    begin: 3,
    oldest: 5,
    first: 8,
    base: [0xab; 32],
};

fn golden_entries() -> Vec<Vec<u8>> {
    ["mot", "hai", "Tân Biên"]
        .map(|text| format!(r#"{{"capture":1,"data":"{text}"}}"#).into_bytes())
        .to_vec()
}

fn golden_receipts() -> [(&'static str, Receipt); 3] {
    let receipt = Receipt {
        ack: Ack {
            log: LogName {
                lane: Lane::P4,
                epoch: Epoch(NUMBERS.epoch),
            },
            applied: Seq(1_000_000),
            resend: false,
        },
        chain: Chain([0xcd; 32]),
        refused: None,
        hub_time: UnixMs(1_790_000_000_123),
        signature: [0; 64],
    };
    let refused = Receipt {
        ack: Ack {
            resend: true,
            ..receipt.ack
        },
        refused: Some(RefusalCode::BrokenChain),
        ..receipt
    };
    let greet = Receipt {
        ack: Ack::GREET,
        chain: Chain::ZERO,
        ..receipt
    };
    [
        ("receipt.txt", receipt),
        ("receipt-refused.txt", refused),
        ("receipt-greet.txt", greet),
    ]
}

#[test]
fn golden_messages_mean_what_they_meant() {
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        write_golden_messages();
    }
    golden_batches_mean_what_they_meant();
    golden_receipts_mean_what_they_meant();
}

fn golden_batches_mean_what_they_meant() {
    for (name, entries) in [("batch.txt", golden_entries()), ("greeting.txt", vec![])] {
        let golden = read_golden(name);
        let message = unhex(&golden["message"]);
        let batch = BatchDecoder::default().decode(&message).expect("our own");
        let box_id = box_id();
        let claim = claim_of(&box_id, NUMBERS, &entries);
        assert!(
            batch.entries().eq(entries.iter().map(Vec::as_slice)),
            "{name}"
        );
        assert_eq!(batch.claim(&box_id, claim.chain).base, claim.base);
        let key = PublicKey::from_bytes(&unhex(&golden["key"])).expect("a point");
        let signed = key.verify(&batch.claim(&box_id, claim.chain), &batch.signature);
        assert_eq!(
            signed,
            Ok(()),
            "{name}: the signature covers other bytes today"
        );
        if entries.is_empty() {
            let again = encode(NUMBERS, &entries, &batch.signature, MESSAGE_BYTES_MAX);
            assert_eq!(hex(&again.expect("it fits")), golden["message"]);
        }
    }
}

fn golden_receipts_mean_what_they_meant() {
    for (name, meant) in golden_receipts() {
        let golden = read_golden(name);
        let message = unhex(&golden["message"]);
        let receipt = Receipt::decode(&message).expect("our own");
        let unsigned = Receipt {
            signature: [0; 64],
            ..receipt
        };
        assert_eq!(unsigned, meant, "{name}");
        let key = PublicKey::from_bytes(&unhex(&golden["key"])).expect("a point");
        let signed = key.verify(&receipt.claim(&box_id()), &receipt.signature);
        assert_eq!(
            signed,
            Ok(()),
            "{name}: the signature covers other bytes today"
        );
        assert_eq!(hex(&receipt.encode()), golden["message"], "{name}");
    }
}

fn write_golden_messages() {
    let key = SigningKey::from_pkcs8(&SigningKey::generate()).expect("own key");
    let box_id = box_id();
    let write = |name: &str, meaning: &str, message: &[u8]| {
        let public = hex(key.public_key().as_bytes());
        let text = format!(
            "# {meaning}\nbox {box_id}\nkey {public}\nmessage {}\n",
            hex(message)
        );
        std::fs::write(golden(name), text).expect("the file can be written");
    };
    for (name, entries) in [("batch.txt", golden_entries()), ("greeting.txt", vec![])] {
        let signature = key.sign(&claim_of(&box_id, NUMBERS, &entries));
        let message = encode(NUMBERS, &entries, &signature, MESSAGE_BYTES_MAX).expect("it fits");
        let meaning = format!("{NUMBERS:?}, {} entries", entries.len());
        write(name, &meaning, &message);
    }
    for (name, mut receipt) in golden_receipts() {
        let meaning = format!("{:?}, refused {:?}", receipt.ack, receipt.refused);
        receipt.signature = key.sign(&receipt.claim(&box_id));
        write(name, &meaning, &receipt.encode());
    }
}
