//! The inbox with a real store: once each, statuses from both sides, ways out with retries.

use serde_json::value::RawValue;

use super::*;
use crate::model::down::Down;
use crate::store::Options;
use crate::store::down_status::DownView;

struct Stage {
    folder: tempfile::TempDir,
    owner: DownStore,
    inbox: Inbox,
}

fn stage() -> Stage {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("down.db");
    let options = Options {
        quota_bytes: 64 << 20,
        cache_bytes: 1 << 20,
    };
    let owner = DownStore::open(&path, options, &"xa-a".parse().expect("valid")).expect("a store");
    let inbox = Inbox::open(&path).expect("the same store");
    Stage {
        folder,
        owner,
        inbox,
    }
}

fn letter(id: &str) -> Down {
    Down::Document(Box::new(Document {
        id: id.parse().expect("valid"),
        dataset: "van_ban_dien_tu".parse().expect("valid"),
        schema: 1,
        subject: "142/UBND".parse().expect("valid"),
        from: "H53.1".parse().expect("valid"),
        to: "H53.2".parse().expect("valid"),
        at: UnixMs(1),
        attachments: Vec::new(),
        data: RawValue::from_string(r#"{"so": 1.50}"#.to_owned()).expect("JSON"),
        original: Some("PGE+".to_owned()),
    }))
}

fn apply(stage: &mut Stage, down: &Down) {
    stage.owner.begin().expect("begun");
    assert!(stage.owner.apply(down, UnixMs(7)).expect("applied"));
    stage.owner.commit().expect("committed");
}

#[test]
fn a_document_comes_once_and_its_arrival_is_to_be_said_once() {
    let mut stage = stage();
    for id in ["m-1", "m-2", "m-1"] {
        apply(&mut stage, &letter(id));
    }
    let rows = stage.inbox.documents(0, true, 10).expect("read");
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].data, r#"{"so": 1.50}"#, "as it was written");
    assert_eq!(
        stage
            .inbox
            .original(rows[0].document)
            .expect("read")
            .as_deref(),
        Some("PGE+")
    );
    let unsaid = stage.inbox.unsaid(10).expect("read");
    assert_eq!(
        unsaid
            .iter()
            .map(|row| row.code.as_str())
            .collect::<Vec<_>>(),
        ["01", "01"]
    );
    stage.inbox.was_said(unsaid[0].status).expect("written");
    assert_eq!(stage.inbox.unsaid(10).expect("read").len(), 1);
    assert!(
        stage
            .inbox
            .done(rows[0].document, UnixMs(9))
            .expect("written")
    );
    assert!(
        stage
            .inbox
            .done(rows[0].document, UnixMs(10))
            .expect("written")
    );
    assert!(!stage.inbox.done(99, UnixMs(10)).expect("written"));
    let done = stage
        .inbox
        .document(rows[0].document)
        .expect("read")
        .expect("there");
    assert_eq!(done.done, Some(UnixMs(9)), "the first time counts");
    assert_eq!(stage.inbox.documents(0, true, 10).expect("read").len(), 1);
    assert_eq!(
        stage
            .inbox
            .documents(rows[0].document, false, 10)
            .expect("read")
            .len(),
        1
    );
    assert_eq!(stage.inbox.counts().expect("read"), (2, 1));
}

#[test]
fn each_office_says_a_code_once_and_all_are_kept_with_their_times() {
    let mut stage = stage();
    let (sender, id): (AgencyCode, RecordId) = ("H53.1".parse().unwrap(), "m-1".parse().unwrap());
    let mut said = |code: &str, by: &str, at| {
        let status = Down::Status(DocumentStatus {
            document: id.clone(),
            from: sender.clone(),
            code: code.to_owned(),
            by: by.parse().expect("valid"),
            at: UnixMs(at),
            note: String::new(),
        });
        apply(&mut stage, &status);
    };
    said("06", "H53.2", 60);
    said("01", "H53.2", 10);
    said("01", "H53.2", 99);
    said("01", "H53.3", 11);
    said("77", "H53.2", 12);
    assert!(
        stage
            .inbox
            .say(&sender, &id, "H53.2", ("13", "gửi nhầm"), UnixMs(13))
            .expect("written")
    );
    assert!(
        !stage
            .inbox
            .say(&sender, &id, "H53.2", ("13", ""), UnixMs(14))
            .expect("written")
    );
    let rows = stage.inbox.statuses(&sender, &id).expect("read");
    let seen: Vec<(&str, i64)> = rows
        .iter()
        .map(|row| (row.code.as_str(), row.at.0))
        .collect();
    assert_eq!(
        seen,
        [("01", 10), ("01", 11), ("77", 12), ("13", 13), ("06", 60)]
    );
    assert_eq!(
        stage.inbox.unsaid(10).expect("read").len(),
        1,
        "only what this office says"
    );
}

#[test]
fn each_way_out_takes_every_document_and_tries_again() {
    let mut stage = stage();
    for id in ["m-1", "m-2"] {
        apply(&mut stage, &letter(id));
    }
    let waiting = |inbox: &Inbox, name: &str, now| {
        let rows = inbox.to_hand(name, UnixMs(now), 10).expect("read");
        rows.into_iter().map(|row| row.document).collect::<Vec<_>>()
    };
    assert_eq!(waiting(&stage.inbox, "a", 0), [1, 2]);
    assert_eq!(
        stage
            .inbox
            .was_not_handed("a", 1, UnixMs(50), "đầy")
            .expect("written"),
        1
    );
    stage.inbox.was_handed("a", 2, UnixMs(1)).expect("written");
    assert_eq!(waiting(&stage.inbox, "a", 49), [0i64; 0]);
    assert_eq!(waiting(&stage.inbox, "a", 50), [1]);
    assert_eq!(
        waiting(&stage.inbox, "b", 0),
        [1, 2],
        "the other way is not touched"
    );
    assert_eq!(stage.inbox.tries("a", 1).expect("read"), 1);
    stage.inbox.was_handed("a", 1, UnixMs(51)).expect("written");
    assert_eq!(waiting(&stage.inbox, "a", 99), [0i64; 0]);
}

#[test]
fn the_status_tells_what_waits_and_for_how_long() {
    let mut stage = stage();
    for id in ["m-1", "m-2", "m-3"] {
        apply(&mut stage, &letter(id));
    }
    let rows = stage.inbox.documents(0, true, 10).expect("read");
    let said = |code: &'static str| (code, "");
    let (sender, id) = (&rows[1].sender, &rows[1].id);
    for code in ["03", "05", "04"] {
        let new = stage.inbox.say(sender, id, "", said(code), UnixMs(20));
        assert!(new.expect("written"));
    }
    stage
        .inbox
        .done(rows[0].document, UnixMs(9))
        .expect("written");
    stage
        .inbox
        .was_handed("qlvb", rows[0].document, UnixMs(9))
        .expect("written");
    stage
        .inbox
        .was_not_handed("qlvb", rows[1].document, UnixMs(50), "đĩa đầy")
        .expect("written");
    let path = stage.folder.path().join("down.db");
    let view = DownView::open(&path).expect("read").expect("there");
    let inbox = view.facts().expect("read").expect("there").inbox;
    assert_eq!((inbox.open, inbox.oldest), (2, Some(UnixMs(7))));
    assert_eq!(
        inbox.by_status,
        [("01".to_owned(), 1), ("05".to_owned(), 1)].into()
    );
    assert_eq!(inbox.unsaid, 6);
    let way = view.way("qlvb").expect("read");
    assert_eq!((way.waiting, way.failed), (2, 1));
    assert_eq!(
        (way.retry, way.error.as_deref()),
        (Some(UnixMs(50)), Some("đĩa đầy"))
    );
    assert_eq!(view.way("moi").expect("read").waiting, 3);
}
