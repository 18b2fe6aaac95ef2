//! The owner, with a store that fails as told.

use std::sync::Mutex;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use super::*;
use crate::edge::blobs::Blobs;
use crate::edge::intake::{self, Intake};
use crate::edge::sweep::Sweep;
use crate::engine::content::NoContent;
use crate::engine::sending::{self, NewRecord, Space};
use crate::evidence::SigningKey;
use crate::model::order::Timetable;
use crate::model::{Epoch, Lane};
use crate::store::Options;
use crate::store::rows::Beside;
use crate::sync::Limits;

struct Rig {
    folder: tempfile::TempDir,
    intake: Intake,
    live: Arc<Live>,
    /// What the next openings answer; nothing means that they work.
    faults: Arc<Mutex<Vec<StoreError>>>,
    ended: std::sync::mpsc::Receiver<()>,
}

fn open(path: PathBuf) -> Result<EdgeEngine<Reply>, StoreError> {
    EdgeEngine::open(sending::Config {
        store: path,
        options: Options {
            quota_bytes: 64 << 20,
            cache_bytes: 1 << 20,
        },
        box_id: "xa-tan-bien".parse().expect("valid"),
        key: SigningKey::from_pkcs8(&SigningKey::generate())
            .expect("own key")
            .into(),
        hub_keys: Vec::new(),
        limits: Limits::FIELD,
        space: Space {
            lane_bytes_max: [1 << 20; 5],
            tail_ms: 0,
            tail_bytes: 0,
            once_keys: 10,
            blob_bytes_max: 64 << 20,
        },
        content: Box::new(NoContent),
        mint: Box::new(|| Epoch(7)),
    })
}

fn owner(
    folder: &Path,
    faults: &Arc<Mutex<Vec<StoreError>>>,
    live: &Arc<Live>,
) -> Result<Owner, StoreError> {
    let store = folder.join("tramd.db");
    let (faults, path) = (Arc::clone(faults), store.clone());
    let open: OpenEngine = Box::new(move || match faults.lock().expect("no panic").pop() {
        Some(fault) => Err(fault),
        None => open(path.clone()),
    });
    let clock = Clock::start(UnixMs(0));
    let (outbox, _) = mpsc::channel(8);
    let reserve = Reserve::beside(&store, 0);
    let blobs = Arc::new(Blobs::beside(&store, 1 << 20));
    let sweep = Sweep::new(blobs, clock.mono_ms());
    Owner::new(
        open,
        &store,
        reserve,
        clock,
        Arc::clone(live),
        outbox,
        sweep,
    )
}

fn rig(faults: Vec<StoreError>) -> Rig {
    // On the disk of the sources, because the kernel counts no writes to memory.
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a folder");
    let faults = Arc::new(Mutex::new(faults));
    let live = Arc::new(Live::new(
        UnixMs(0),
        Arc::default(),
        Arc::default(),
        Timetable::default(),
    ));
    let owner = owner(folder.path(), &faults, &live).expect("it may begin");
    let (intake, queue) = intake::channel();
    let (end, ended): (SyncSender<()>, _) = sync_channel(1);
    thread::spawn(move || {
        owner.run(queue);
        end.send(()).expect("the test waits");
    });
    Rig {
        folder,
        intake,
        live,
        faults,
        ended,
    }
}

fn submission(n: u32) -> Submission<()> {
    let record = NewRecord {
        lane: Lane::P2,
        tail: format!(r#""source":"thu","n":{n}}}"#).into_bytes(),
        id: None,
        once: None,
        attachments: Vec::new(),
    };
    Submission {
        reply: (),
        source: "thu".parse().expect("valid"),
        records: vec![record],
        once: None,
        cursor: Some(n.to_string()),
        beside: Beside::default(),
    }
}

#[tokio::test]
async fn what_comes_while_the_store_is_closed_is_refused_and_never_kept_in_memory() {
    let rig = rig(vec![StoreError::Busy, StoreError::ReadOnly]);
    assert_eq!(
        rig.intake.submit(submission(1)).await,
        Err(IntakeError::StoreClosed)
    );
    assert!(!rig.intake.ping().await.expect("it lives").is_ready);
    let trouble = rig.live.facts().trouble.expect("the page says so");
    assert_eq!(trouble.code, "store_read_only");
    let mut tries = 0;
    let answer = loop {
        match rig.intake.submit(submission(2)).await {
            Err(IntakeError::StoreClosed) if tries < 100 => tries += 1,
            answer => break answer,
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert!(matches!(answer, Ok(Answer::Stored { .. })), "{answer:?}");
    assert_eq!(rig.live.facts().trouble, None);
    assert!(rig.intake.ping().await.expect("it lives").is_ready);
    let source: SourceName = "thu".parse().expect("valid");
    assert_eq!(rig.intake.cursor(source).await, Ok(Some("2".to_owned())));
    assert!(rig.faults.lock().expect("no panic").is_empty());
}

#[tokio::test]
async fn a_full_store_refuses_for_a_while_and_says_so() {
    let rig = rig(vec![StoreError::Full]);
    assert_eq!(
        rig.intake.submit(submission(1)).await,
        Err(IntakeError::StoreFull)
    );
    assert_eq!(
        rig.live.facts().trouble.expect("the page says so").code,
        "store_full"
    );
    // Open again at once, for receipts and deletes, but not for records.
    let is_open =
        || crate::store::edge_status::EdgeView::open(&rig.folder.path().join("tramd.db")).is_ok();
    for _ in 0..40 {
        if is_open() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(is_open());
    assert_eq!(
        rig.intake.submit(submission(2)).await,
        Err(IntakeError::StoreFull)
    );
}

#[tokio::test]
async fn the_stop_takes_what_is_queued_before_it_and_nothing_after() {
    let rig = rig(Vec::new());
    assert!(matches!(
        rig.intake.submit(submission(1)).await,
        Ok(Answer::Stored { .. })
    ));
    rig.intake.stop().await;
    rig.ended
        .recv_timeout(std::time::Duration::from_secs(5))
        .expect("it ends");
    assert_eq!(
        rig.intake.submit(submission(2)).await,
        Err(IntakeError::Stopping)
    );
    let view = crate::store::edge_status::EdgeView::open(&rig.folder.path().join("tramd.db"))
        .expect("closed in order");
    assert_eq!(
        view.sources().expect("read")[0].tally.accepted,
        1,
        "the counts are written down"
    );
}

#[test]
fn what_a_restart_cannot_mend_is_no_state() {
    let folder = tempfile::tempdir().expect("a folder");
    let live = Arc::new(Live::new(
        UnixMs(0),
        Arc::default(),
        Arc::default(),
        Timetable::default(),
    ));
    let faults = Arc::new(Mutex::new(vec![StoreError::Newer { found: 9, known: 1 }]));
    let refused = owner(folder.path(), &faults, &live).map(|_| ());
    assert!(matches!(refused, Err(StoreError::Newer { .. })));
}

#[tokio::test]
async fn a_store_that_is_damaged_twice_is_set_aside() {
    let rig = rig(vec![StoreError::Damaged, StoreError::Damaged]);
    let path = rig.folder.path().join("tramd.db");
    std::fs::write(&path, "what is left").expect("written");
    let mut tries = 0;
    while !rig.intake.ping().await.expect("it lives").is_ready {
        tries += 1;
        assert!(tries < 100, "{:?}", rig.live.facts().trouble);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let names = std::fs::read_dir(rig.folder.path()).expect("the folder");
    let aside = names
        .filter_map(|entry| entry.expect("an entry").file_name().into_string().ok())
        .find(|name| name.starts_with("tramd.db.damaged-"))
        .expect("set aside");
    let kept = std::fs::read(rig.folder.path().join(aside)).expect("kept");
    assert_eq!(kept, b"what is left");
    assert!(matches!(
        rig.intake.submit(submission(1)).await,
        Ok(Answer::Stored { .. })
    ));
    let view = crate::store::edge_status::EdgeView::open(&path).expect("a new store");
    let codes: Vec<String> = view
        .events(9)
        .expect("read")
        .into_iter()
        .map(|event| event.code)
        .collect();
    assert!(codes.contains(&"store_set_aside".to_owned()), "{codes:?}");
}

#[tokio::test]
async fn what_was_written_is_counted_at_the_latest_when_it_stops() {
    let rig = rig(Vec::new());
    let answer = rig.intake.submit(submission(1)).await;
    assert!(matches!(answer, Ok(Answer::Stored { .. })), "{answer:?}");
    rig.intake.stop().await;
    rig.ended.recv().expect("it ends in order");
    let path = rig.folder.path().join("tramd.db");
    let view = crate::store::edge_status::EdgeView::open(&path).expect("a view");
    let facts = view.written(UnixMs(i64::MAX / 2), 1).expect("facts");
    assert!(4_096 <= facts.bytes, "{facts:?}");
}
