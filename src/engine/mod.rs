//! Joins the pure core to the store: events in, one SQLite transaction, effects out.
//!
//! `step(now, events)` begins a transaction, applies every event, drains every `poll_*` of the
//! core, commits, and only then returns what is to be published or answered. So the promises hold
//! by construction, and a burst of captures costs one sync. After an error the engine is to be
//! dropped and opened again: recovery is the start path.

mod answers;
pub mod carry;
pub mod compare;
pub mod content;
pub mod copying;
mod feed;
mod files;
mod inlet;
mod log;
mod outlet;
pub mod parts;
pub mod posting;
pub mod proof;
pub mod receiving;
pub mod sending;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::content::NoContent;
    use super::parts::{PartFiles, folder_beside};
    use super::{receiving, sending};
    use crate::evidence::{PublicKey, SigningKey};
    use crate::model::record::{Draft, Op, RecordType};
    use crate::model::{BoxId, ClockQuality, Epoch, Lane, Now, UnixMs};
    use crate::store::Options;
    use crate::store::edge::OnceKey;
    use crate::store::hub::{HubStore, NewBox};
    use crate::store::rows::Beside;
    use crate::sync::Limits;

    const OPTIONS: Options = Options {
        quota_bytes: 64 << 20,
        cache_bytes: 1 << 20,
    };
    const TOKEN: u32 = 7;

    fn now(mono_ms: u64) -> Now {
        let wall = UnixMs(1_790_000_000_000 + mono_ms as i64);
        Now {
            mono_ms,
            wall,
            quality: ClockQuality::Synchronized,
        }
    }

    fn record(number: u32) -> sending::NewRecord {
        let data = serde_json::value::RawValue::from_string(format!(r#"{{ "so": {number} }}"#))
            .expect("the test writes JSON");
        let draft = Draft {
            id: None,
            source: &"thu".parse().expect("valid"),
            kind: RecordType {
                dataset: "ho_so_tthc".parse().expect("valid"),
                version: 1,
            },
            subject: format!("H53.01-261121-{number:04}").parse().expect("valid"),
            time: None,
            agency: &"H53.01".parse().expect("valid"),
            op: Op::Upsert,
            sensitivity: 2,
            classification: &[],
            attachments: &[],
            codeflags: &[],
            data: &data,
            original: None,
        };
        sending::NewRecord {
            lane: Lane::P2,
            tail: draft.to_tail(),
            id: None,
            once: None,
            attachments: Vec::new(),
        }
    }

    fn open_box(folder: &std::path::Path) -> sending::EdgeEngine<u32> {
        sending::EdgeEngine::open(sending::Config {
            store: folder.join("box.db"),
            options: OPTIONS,
            box_id: "xa-tan-bien".parse().expect("valid"),
            key: SigningKey::from_pkcs8(&SigningKey::generate())
                .expect("own key")
                .into(),
            hub_keys: Vec::new(),
            limits: Limits::FIELD,
            space: sending::Space {
                lane_bytes_max: [8 << 20; 5],
                tail_ms: 0,
                tail_bytes: 0,
                once_keys: 100,
                blob_bytes_max: 64 << 20,
            },
            content: Box::new(NoContent),
            mint: Box::new(|| Epoch(40)),
        })
        .expect("a box")
    }

    fn answer_to(
        edge: &mut sending::EdgeEngine<u32>,
        records: Vec<sending::NewRecord>,
    ) -> sending::Answer {
        let submission = sending::Submission {
            reply: TOKEN,
            source: "thu".parse().expect("valid"),
            records,
            once: None,
            cursor: None,
            beside: Beside::default(),
        };
        let effects = edge.step(now(0), vec![sending::Event::Submit(submission)]);
        match effects.expect("a step").pop() {
            Some(sending::Effect::Answer { answer, .. }) => answer,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_key_stands_for_one_content_also_within_a_submission() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut edge = open_box(folder.path());
        let keyed = |number: u32, digest: u8| sending::NewRecord {
            once: Some(OnceKey {
                key: [7; 16],
                digest: [digest; 16],
            }),
            ..record(number)
        };
        let refused = answer_to(&mut edge, vec![keyed(1, 1), keyed(2, 2)]);
        assert_eq!(refused, sending::Answer::OtherContent { index: Some(1) });
        assert_eq!(edge.waiting(), [0; 5], "nothing of it is kept");
        match answer_to(&mut edge, vec![keyed(1, 1), keyed(1, 1)]) {
            sending::Answer::Stored { accepted, .. } => assert_eq!(accepted[0], accepted[1]),
            other => panic!("{other:?}"),
        }
        assert_eq!(edge.waiting(), [0, 0, 1, 0, 0]);
    }

    #[test]
    fn records_reach_the_hub_once_and_the_receipt_comes_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys: [Vec<u8>; 2] = std::array::from_fn(|_| SigningKey::generate());
        let key = |index: usize| SigningKey::from_pkcs8(&keys[index]).expect("own key");
        let box_id: BoxId = "xa-tan-bien".parse().expect("valid");
        let hub_path = folder.path().join("hub.db");
        let mut registry = HubStore::open(&hub_path, OPTIONS).expect("a new store");
        let public_key: PublicKey = key(0).public_key();
        let new = NewBox {
            box_id: &box_id,
            agency: &"H53.01".parse().expect("valid"),
            public_key: public_key.as_bytes(),
            serial: "01",
            not_after: UnixMs(i64::MAX),
        };
        assert!(registry.add_box(&new, UnixMs(0)).expect("written"));
        let mut hub = receiving::HubEngine::open(receiving::Config {
            store: hub_path.clone(),
            options: OPTIONS,
            key: key(1).into(),
            parts: Box::new(PartFiles::new(folder_beside(&hub_path))),
        })
        .expect("a hub");
        let mut epochs = 40;
        let mut edge = sending::EdgeEngine::open(sending::Config {
            store: folder.path().join("box.db"),
            options: OPTIONS,
            box_id: box_id.clone(),
            key: key(0).into(),
            hub_keys: vec![key(1).public_key()],
            limits: Limits::FIELD,
            space: sending::Space {
                lane_bytes_max: [8 << 20; 5],
                tail_ms: 0,
                tail_bytes: 0,
                once_keys: 100,
                blob_bytes_max: 64 << 20,
            },
            content: Box::new(NoContent),
            mint: Box::new(move || {
                epochs += 1;
                Epoch(epochs)
            }),
        })
        .expect("a box");
        let submission = sending::Submission {
            reply: TOKEN,
            source: "thu".parse().expect("valid"),
            records: (0..2_500).map(record).collect(),
            once: None,
            cursor: Some("2500".to_owned()),
            beside: Beside::default(),
        };
        let mut events = vec![
            sending::Event::Submit(submission),
            sending::Event::LinkUp {
                message_bytes_max: 64 * 1024,
            },
        ];
        let mut answered = 0;
        for round in 0..100 {
            let mut to_hub: Vec<Bytes> = Vec::new();
            for effect in edge
                .step(now(round * 10), std::mem::take(&mut events))
                .expect("a step")
            {
                match effect {
                    sending::Effect::Publish(message) => to_hub.push(message),
                    sending::Effect::Answer {
                        reply: TOKEN,
                        answer: sending::Answer::Stored { accepted, .. },
                    } => {
                        answered = accepted.len();
                    }
                    sending::Effect::HubTime(_) => {}
                    other => panic!("{other:?}"),
                }
            }
            let received = to_hub
                .into_iter()
                .map(|message| receiving::Event::Received {
                    box_id: box_id.clone(),
                    message,
                })
                .collect();
            for effect in hub.step(now(round * 10), received).expect("a step") {
                if let receiving::effect::Effect::Publish { message, .. } = effect {
                    events.push(sending::Event::Received(message));
                }
            }
        }
        assert_eq!(answered, 2_500);
        assert_eq!(edge.waiting(), [0; 5]);
        let log = registry
            .log(&box_id, Lane::P2, edge.epoch())
            .expect("read")
            .expect("there");
        assert_eq!(log.applied.0, 2_500);
        assert_eq!(edge.cursor("thu").expect("read").as_deref(), Some("2500"));
    }
}
