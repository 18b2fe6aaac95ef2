//! What box and hub say to each other.

use std::cell::RefCell;

use lienthong::evidence::{PublicKey, SigningKey, entry_digest, sha256};
use lienthong::model::limits::{BATCH_ENTRIES_MAX, DOWN_ENTRY_BYTES_MAX, MESSAGE_BYTES_MAX};
use lienthong::model::record::{Entry, derived_id};
use lienthong::model::{BoxId, Chain, Lane};
use lienthong::wire::{BatchBuilder, BatchDecoder, Receipt, parse_topic};

fn box_id() -> BoxId {
    "xa-tan-bien".parse().expect("an id")
}

thread_local! {
    static DECODER: RefCell<BatchDecoder> = RefCell::default();
}

/// A message, and a topic.
pub fn wire(bytes: &[u8]) {
    if let Ok(receipt) = Receipt::decode(bytes) {
        let again = Receipt::decode(&receipt.encode()).expect("our own receipt");
        assert_eq!(again, receipt);
    }
    let decode = |message: &[u8]| DECODER.with_borrow_mut(|decoder| decoder.decode(message));
    if let Ok(batch) = decode(bytes) {
        let entries: Vec<&[u8]> = batch.entries().collect();
        assert!(batch.offer.is_well_formed());
        assert_eq!(
            entries.len() as u64,
            batch.offer.first.count_to(batch.offer.last)
        );
        assert!(entries.len() <= BATCH_ENTRIES_MAX);
        assert!(
            entries
                .iter()
                .all(|entry| entry.len() <= DOWN_ENTRY_BYTES_MAX)
        );
        let mut builder = BatchBuilder::default();
        for entry in &entries {
            assert!(builder.push(entry), "what was received can be sent");
        }
        let box_id = box_id();
        let claim = batch.claim(&box_id, Chain::ZERO);
        if let Ok(message) = builder.encode(&claim, &batch.signature, MESSAGE_BYTES_MAX) {
            let again = decode(&message).expect("our own batch");
            assert_eq!(again.offer, batch.offer);
            assert!(again.entries().eq(entries.iter().copied()));
        }
    }
    if let Ok(topic) = std::str::from_utf8(bytes)
        && let Some((box_id, _)) = parse_topic(topic)
    {
        assert!(topic.contains(box_id.as_str()));
    }
}

/// Keys and signatures: a public key and a receipt, or a private key.
pub fn evidence(bytes: &[u8]) {
    if let Ok(key) = SigningKey::from_pkcs8(bytes) {
        assert_eq!(
            PublicKey::from_bytes(key.public_key().as_bytes()),
            Ok(key.public_key())
        );
    }
    let Some((key, receipt)) = bytes.split_at_checked(65) else {
        return;
    };
    if let (Ok(key), Ok(receipt)) = (PublicKey::from_bytes(key), Receipt::decode(receipt)) {
        let box_id = box_id();
        let verified = key.verify(&receipt.claim(&box_id), &receipt.signature);
        let other: BoxId = "xa-khac".parse().expect("an id");
        assert!(
            verified.is_err()
                || key
                    .verify(&receipt.claim(&other), &receipt.signature)
                    .is_err(),
            "a receipt is for one box"
        );
    }
}

/// An entry of the log, which the hub shows as a CloudEvent.
pub fn entry(bytes: &[u8]) {
    let Ok(entry) = Entry::parse(bytes) else {
        return;
    };
    let id = derived_id(&entry_digest(&box_id(), bytes));
    let event = entry.to_cloud_event(&box_id(), Lane::P2, &id);
    let text = serde_json::to_string(&event).expect("an event is JSON");
    let value: serde_json::Value = serde_json::from_str(&text).expect("an event is JSON");
    assert_eq!(value["specversion"], "1.0");
    assert_eq!(value["subject"], entry.subject.as_str());
    assert_ne!(sha256(bytes), [0; 32]);
}
