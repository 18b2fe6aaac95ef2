//! `trucd import DIR`: takes what boxes have put on a stick, and writes the receipts beside it.
//!
//! Each message is a batch as it would have come over the line, and passes the same checks in the same
//! engine, beside a hub that runs: box known and active, signature, chain, order. What stands before a
//! damaged place was judged by itself, so it is kept and has its receipt; the box still holds the rest.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::catalogue::Catalogue;
use crate::engine::parts::{PartFiles, Parts, folder_beside, part_path};
use crate::engine::receiving::{self, Carried, HubEngine};
use crate::evidence::SigningKey;
use crate::hub::config::Config;
use crate::hub::grants::caller;
use crate::hub::{registry, run, seal};
use crate::model::chunk::Chunk;
use crate::model::{BoxId, Epoch, Lane, UnixMs};
use crate::shell::clock::Clock;
use crate::shell::replace::hand_over;
use crate::shell::sealed::{OpenKey, SealError, SealKey, Sealed};
use crate::shell::stick::{self, Stick, StickError};
use crate::store::StoreError;
use crate::store::hub::BoxState;
use crate::store::hub::rights::AuditRow;
use crate::wire::{Receipt, RefusalCode};

/// Messages that are committed together: small enough that a hub that runs beside waits for no long.
const ROUND_MESSAGES_MAX: usize = 64;
const ROUND_BYTES_MAX: usize = 2 << 20;
/// A store that another process writes to is tried again so often.
const TRIES_MAX: u32 = 6;

/// What a file says of itself, in the clear.
#[derive(Debug, Deserialize)]
struct Head {
    #[serde(rename = "box")]
    box_id: BoxId,
    /// Fingerprint of the key that it was sealed with.
    sealed_for: String,
}

/// What a stick has brought.
#[derive(Debug, Default, Serialize)]
pub struct Brought {
    pub boxes: Vec<OfBox>,
}

#[derive(Debug, Serialize)]
pub struct OfBox {
    #[serde(rename = "box")]
    pub box_id: BoxId,
    pub files: u64,
    /// Entries that the hub did not have.
    pub new: u64,
    /// Entries that had come already, over the line or by another stick.
    pub already_there: u64,
    /// Where the receipts lie; none where there are none.
    pub receipts: Option<PathBuf>,
    pub faults: Vec<FileFault>,
}

/// Why a file was not taken, or not to its end.
#[derive(Debug, Serialize)]
pub struct FileFault {
    pub file: String,
    /// Stable, such as `damaged`, `cut_off`, `other_hub`, `suspended`.
    pub code: &'static str,
    pub text_vi: String,
    pub text_en: String,
    pub hint_vi: String,
    pub hint_en: String,
}

impl Brought {
    pub fn is_good(&self) -> bool {
        self.boxes.iter().all(|of_box| of_box.faults.is_empty())
    }
}

impl fmt::Display for Brought {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.boxes.iter().all(|of_box| of_box.files == 0) {
            return writeln!(
                f,
                "USB không có tệp nào chờ nhập. / The stick holds no file to be imported."
            );
        }
        for of_box in self.boxes.iter().filter(|of_box| 0 < of_box.files) {
            writeln!(
                f,
                "{0}: {1} tệp, {2} bản ghi mới, {3} đã có từ trước / {1} files, {2} entries new, {3} already there",
                of_box.box_id, of_box.files, of_box.new, of_box.already_there
            )?;
            for fault in &of_box.faults {
                writeln!(f, "  {}: {} / {}", fault.file, fault.text_vi, fault.text_en)?;
                writeln!(f, "    {}\n    {}", fault.hint_vi, fault.hint_en)?;
            }
            if let Some(receipts) = &of_box.receipts {
                writeln!(
                    f,
                    "  Biên nhận / receipts: {}\n  Mang USB về trạm và chạy / carry the stick back and run: tramd \
                     import DIR",
                    receipts.display()
                )?;
            }
        }
        Ok(())
    }
}

/// Takes everything that a stick holds for this hub.
pub fn import(config: &Config, dir: &Path, now: UnixMs) -> anyhow::Result<Brought> {
    registry::existing_store(config)?;
    let boxes = Stick::boxes(dir).map_err(|error| of_stick(dir, error))?;
    let (open_key, seal_key) = seal::keys(config)?;
    let mut importer = Importer {
        config,
        clock: Clock::start(UnixMs(0)),
        catalogue: run::catalogue(config)?,
        open_key,
        seal_key,
    };
    let mut brought = Brought::default();
    for box_id in boxes {
        let stick = Stick::open(dir, &box_id).map_err(|error| of_stick(dir, error))?;
        let of_box = importer.take_box(dir, &stick, box_id, now)?;
        brought.boxes.push(of_box);
    }
    Ok(brought)
}

struct Importer<'a> {
    config: &'a Config,
    clock: Clock,
    catalogue: Option<Arc<Catalogue>>,
    open_key: OpenKey,
    seal_key: SealKey,
}

/// The last receipt of each log; one says it for all before.
type Receipts = BTreeMap<(Lane, Epoch), Bytes>;

/// What became of one file.
#[derive(Debug, Default)]
struct Taken {
    new: u64,
    offered: u64,
    /// It begins behind a place that the hub has not reached.
    has_gap: bool,
}

/// Why a file was not read to its end.
enum Stop {
    Fault(Why),
    /// The hub itself: nothing is to be said about the file.
    Hub(anyhow::Error),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Foreign,
    OtherHub,
    OtherBox,
    Damaged,
    CutOff,
    Gap,
    Refused(RefusalCode),
    Unreadable,
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Stop {
        let hint = error.hint();
        Stop::Hub(anyhow!("{error}. {hint}"))
    }
}

impl From<SealError> for Stop {
    fn from(error: SealError) -> Stop {
        Stop::Fault(match error {
            SealError::Foreign => Why::Foreign,
            SealError::NotOurs | SealError::Key => Why::Damaged,
            SealError::CutOff => Why::CutOff,
            SealError::Io(_) => Why::Unreadable,
        })
    }
}

impl Importer<'_> {
    fn take_box(
        &mut self,
        dir: &Path,
        stick: &Stick,
        box_id: BoxId,
        now: UnixMs,
    ) -> anyhow::Result<OfBox> {
        let files = stick.up_files().map_err(|error| of_stick(dir, error))?;
        let mut of_box = OfBox {
            box_id,
            files: files.len() as u64,
            new: 0,
            already_there: 0,
            receipts: None,
            faults: Vec::new(),
        };
        if let (Some(code), Some(file)) = (self.refusal(&of_box.box_id)?, files.first()) {
            of_box.faults.push(fault(file, Why::Refused(code)));
            return Ok(of_box);
        }
        let mut receipts = Receipts::new();
        // A clock that was set back gives files names in a wrong order: what begins too late is tried
        // again while others bring something.
        let mut rest = files;
        loop {
            let (mut late, mut new) = (Vec::new(), 0);
            of_box.faults.retain(|fault| fault.code != Why::Gap.code());
            for file in rest {
                let mut taken = Taken::default();
                let ended = self.take_file(&file, &of_box.box_id, &mut taken, &mut receipts);
                new += taken.new;
                of_box.new += taken.new;
                of_box.already_there += taken.offered - taken.new;
                match ended {
                    Err(Stop::Hub(error)) => {
                        self.write_receipts(dir, stick, &mut of_box, &receipts, now)?;
                        return Err(error);
                    }
                    Err(Stop::Fault(why)) => of_box.faults.push(fault(&file, why)),
                    Ok(()) if taken.has_gap => {
                        of_box.already_there -= taken.offered - taken.new;
                        of_box.faults.push(fault(&file, Why::Gap));
                        late.push(file);
                    }
                    Ok(()) => {}
                }
            }
            if late.is_empty() || new == 0 {
                break;
            }
            rest = late;
        }
        self.write_receipts(dir, stick, &mut of_box, &receipts, now)?;
        if 0 < of_box.files {
            let mut store = registry::open(self.config)?;
            store.begin()?;
            store.add_audit(&AuditRow {
                at: now,
                who: caller(None),
                action: "stick_imported".to_owned(),
                detail: format!(
                    "{} files {} new {} faults {}",
                    of_box.box_id,
                    of_box.files,
                    of_box.new,
                    of_box.faults.len()
                ),
            })?;
            store.commit()?;
        }
        Ok(of_box)
    }

    /// Why this hub takes nothing of a box, if that is so.
    fn refusal(&self, box_id: &BoxId) -> anyhow::Result<Option<RefusalCode>> {
        let known = registry::open(self.config)?.box_key(box_id)?;
        Ok(match known.map(|known| known.state) {
            None => Some(RefusalCode::UnknownBox),
            Some(BoxState::Active) => None,
            Some(_) => Some(RefusalCode::Suspended),
        })
    }

    fn write_receipts(
        &self,
        dir: &Path,
        stick: &Stick,
        of_box: &mut OfBox,
        receipts: &Receipts,
        now: UnixMs,
    ) -> anyhow::Result<()> {
        if receipts.is_empty() {
            return Ok(());
        }
        let receipts: Vec<&Bytes> = receipts.values().collect();
        let write = || -> Result<PathBuf, StickError> {
            stick.clear()?;
            stick.put_receipts(&stick.fresh_stamp(now)?, &receipts)
        };
        let path = write().map_err(|error| {
            of_stick(dir, error).context(format!(
                "{0}: dữ liệu đã được nhận đủ, nhưng không ghi được biên nhận; nhập lại USB này sau khi sửa / {0}: what \
                 the stick brought is kept, but its receipts cannot be written; import it again when this is mended",
                of_box.box_id
            ))
        })?;
        of_box.receipts = Some(path);
        Ok(())
    }

    fn take_file(
        &mut self,
        path: &Path,
        box_id: &BoxId,
        taken: &mut Taken,
        receipts: &mut Receipts,
    ) -> Result<(), Stop> {
        let unreadable = |_| Stop::Fault(Why::Unreadable);
        let input = BufReader::with_capacity(1 << 17, stick::open_file(path).map_err(unreadable)?);
        let sealed = Sealed::begin(input)?;
        let head: Head =
            serde_json::from_slice(sealed.head()).map_err(|_| Stop::Fault(Why::Foreign))?;
        if head.box_id != *box_id {
            return Err(Stop::Fault(Why::OtherBox));
        }
        if head.sealed_for != self.seal_key.fingerprint() {
            return Err(Stop::Fault(Why::OtherHub));
        }
        let mut opener = sealed.open(&self.open_key)?;
        let mut engine = self.engine()?;
        let mut round: Vec<Vec<u8>> = Vec::new();
        loop {
            // What was read before a damaged place is committed before the fault is told.
            let piece = opener.next_piece();
            let is_end = !matches!(piece, Ok(Some(_)));
            let bytes: usize = round.iter().map(Vec::len).sum();
            if is_end || ROUND_MESSAGES_MAX <= round.len() || ROUND_BYTES_MAX <= bytes {
                self.commit(&mut engine, box_id, &round, taken, receipts)?;
                round.clear();
            }
            match piece? {
                Some(message) => round.push(message),
                None => return Ok(()),
            }
        }
    }

    fn commit(
        &self,
        engine: &mut HubEngine,
        box_id: &BoxId,
        round: &[Vec<u8>],
        taken: &mut Taken,
        receipts: &mut Receipts,
    ) -> Result<(), Stop> {
        if round.is_empty() {
            return Ok(());
        }
        let mut tries = 1;
        let carried = loop {
            match engine.take_carried(self.clock.now(), box_id, round) {
                // The hub that runs beside was faster; nothing of this round is kept yet.
                Err(StoreError::Busy) if tries < TRIES_MAX => {
                    tries += 1;
                    *engine = self.engine()?;
                }
                carried => break carried?,
            }
        };
        let Carried {
            offered,
            new,
            receipts: given,
            refused,
        } = carried;
        taken.offered += offered.max(new);
        taken.new += new;
        for message in given {
            let receipt = Receipt::decode(&message).expect("the engine has made it");
            // A refusal is told here; the box would take it for one of the line's.
            if receipt.refused.is_none() {
                taken.has_gap |= receipt.ack.resend;
                let log = receipt.ack.log;
                receipts.insert((log.lane, log.epoch), message);
            }
        }
        match refused {
            Some(code) => Err(Stop::Fault(Why::Refused(code))),
            None => Ok(()),
        }
    }

    fn engine(&self) -> Result<HubEngine, Stop> {
        let store = &self.config.store.path;
        let key = run::read_receipt_key(self.config).map_err(Stop::Hub)?;
        let key = SigningKey::from_pkcs8(&key).map_err(|_| {
            Stop::Hub(anyhow!(
                "{} is no key for receipts",
                self.config.hub.receipt_key.display()
            ))
        })?;
        let mut engine = HubEngine::open(receiving::Config {
            store: store.clone(),
            options: registry::options(self.config),
            key: key.into(),
            parts: Box::new(HandedOver {
                parts: PartFiles::new(folder_beside(store)),
                store: store.clone(),
                written: Vec::new(),
            }),
        })?;
        if let Some(catalogue) = &self.catalogue {
            engine.set_catalogue(Arc::clone(catalogue));
        }
        Ok(engine)
    }
}

/// Part files that belong to the hub's user, whoever runs the command.
struct HandedOver {
    parts: PartFiles,
    store: PathBuf,
    written: Vec<PathBuf>,
}

impl Parts for HandedOver {
    fn write(&mut self, sender: &BoxId, chunk: &Chunk, content: &[u8]) -> io::Result<bool> {
        let is_written = self.parts.write(sender, chunk, content)?;
        let path = part_path(&folder_beside(&self.store), sender, chunk.blob);
        if is_written && self.written.last() != Some(&path) {
            self.written.push(path);
        }
        Ok(is_written)
    }

    fn sync(&mut self) -> io::Result<()> {
        if !self.written.is_empty() {
            let blobs = folder_beside(&self.store);
            for path in [blobs.clone(), blobs.join("parts")]
                .into_iter()
                .chain(self.written.drain(..))
            {
                hand_over(&File::open(path)?, &self.store);
            }
        }
        self.parts.sync()
    }
}

/// A fault of the stick as a whole.
fn of_stick(dir: &Path, error: StickError) -> anyhow::Error {
    let shown = dir.display();
    match error {
        StickError::NotThere(_) => anyhow!(
            "không có thư mục {shown}; cắm và gắn (mount) USB trước / there is no folder {shown}; plug the stick in \
             and mount it first"
        ),
        StickError::NotPrepared => anyhow!(
            "USB không có thư mục lienthong, tức là chưa có trạm nào ghi vào; kiểm tra đúng USB chưa / the stick has no \
             folder lienthong: no box has written to it; see whether it is the right one"
        ),
        StickError::ReadOnly => anyhow!(
            "không ghi được vào USB {shown}: bị khóa ghi hoặc thiếu quyền; mở khóa ghi, hoặc gắn lại cho phép ghi / \
             the stick at {shown} cannot be written to: unlock it, or mount it writable for this user"
        ),
        StickError::Full => anyhow!(
            "USB {shown} đầy; xóa bớt tệp khác trên USB / the stick at {shown} is full; remove other files from it"
        ),
        error => anyhow!(
            "USB {shown} không đọc hoặc ghi được ({error}); cắm lại, hoặc dùng USB khác / the stick at {shown} cannot \
             be used ({error}); plug it in again, or use another"
        ),
    }
}

impl Why {
    fn code(self) -> &'static str {
        match self {
            Why::Foreign => "foreign",
            Why::OtherHub => "other_hub",
            Why::OtherBox => "other_box",
            Why::Damaged => "damaged",
            Why::CutOff => "cut_off",
            Why::Gap => "gap",
            Why::Refused(code) => code.as_str(),
            Why::Unreadable => "unreadable_file",
        }
    }

    /// What is wrong, and what to do: Vietnamese and English.
    fn texts(self) -> ([&'static str; 2], [&'static str; 2]) {
        const AGAIN: [&str; 2] = [
            "Trạm vẫn giữ đủ dữ liệu: ghi lại USB tại trạm (tramd export) rồi nhập lại; mang cả biên nhận về trạm.",
            "The box still holds everything: write the stick anew there (tramd export) and import it; carry the receipts back too.",
        ];
        match self {
            Why::Foreign => (
                [
                    "không phải tệp do trạm ghi, hoặc của phiên bản mới hơn",
                    "no file of a box, or of a newer program",
                ],
                AGAIN,
            ),
            Why::OtherHub => (
                [
                    "được mã hóa cho một trục khác",
                    "it was sealed for another hub",
                ],
                [
                    "Mang USB đến đúng trục; hoặc chép seal.pub của trục này (trucd seal-key) vào trạm rồi ghi lại USB.",
                    "Carry the stick to that hub; or copy this hub's seal.pub (trucd seal-key) to the box and write the stick anew.",
                ],
            ),
            Why::OtherBox => (
                [
                    "nằm trong thư mục của một trạm khác",
                    "it lies in the folder of another box",
                ],
                [
                    "Chuyển tệp về đúng thư mục lienthong/<trạm> rồi nhập lại.",
                    "Move it into the folder lienthong/<box> of its own box and import again.",
                ],
            ),
            Why::Damaged => (
                [
                    "bị hỏng hoặc bị sửa; phần đứng trước chỗ hỏng đã được nhận",
                    "damaged or tampered with; what stands before that place was taken",
                ],
                AGAIN,
            ),
            Why::CutOff => (
                [
                    "bị cắt cụt; phần còn lại trên USB đã được nhận",
                    "cut off; what is left of it was taken",
                ],
                AGAIN,
            ),
            Why::Gap => (
                [
                    "bắt đầu sau chỗ trục đang có, còn thiếu phần ở giữa",
                    "it begins behind the place that the hub has reached; something in between is missing",
                ],
                [
                    "Nhập USB ghi trước đó; hoặc mang biên nhận về trạm (tramd import), rồi ghi lại USB.",
                    "Import the stick that was written before; or carry the receipts back (tramd import) and write the stick anew.",
                ],
            ),
            Why::Refused(RefusalCode::UnknownBox) => (
                ["trục này không có trạm đó", "this hub knows no such box"],
                [
                    "Kiểm tra đúng trục chưa; đăng ký trạm bằng trucd box add.",
                    "See whether this is the right hub; trucd box add registers a box.",
                ],
            ),
            Why::Refused(RefusalCode::Suspended) => (
                [
                    "trạm đang bị tạm dừng hoặc đã bị thu hồi",
                    "the box is suspended or revoked",
                ],
                [
                    "Nếu trạm được phép gửi, chạy trucd box resume rồi nhập lại; trạm bị thu hồi thì không nhận nữa.",
                    "If the box may send, run trucd box resume and import again; of a revoked box nothing is taken.",
                ],
            ),
            Why::Refused(RefusalCode::Forged) => (
                [
                    "có gói không do khóa của trạm ký",
                    "it holds a batch that the box's key has not signed",
                ],
                [
                    "Không dùng USB này; kiểm tra USB từ đâu đến, và chứng thư của trạm (trucd box list).",
                    "Do not use this stick; find out where it comes from, and look at the box's certificate (trucd box list).",
                ],
            ),
            Why::Refused(_) => (
                [
                    "có gói không nối tiếp được với dữ liệu trục đang có",
                    "it holds a batch that does not continue what the hub has",
                ],
                AGAIN,
            ),
            Why::Unreadable => (
                ["không đọc được từ USB", "the stick does not give it"],
                [
                    "Cắm lại USB, hoặc ghi lại tại trạm lên USB khác.",
                    "Plug the stick in again, or write another one at the box.",
                ],
            ),
        }
    }
}

fn fault(file: &Path, why: Why) -> FileFault {
    let ([text_vi, text_en], [hint_vi, hint_en]) = why.texts();
    FileFault {
        file: file
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        code: why.code(),
        text_vi: text_vi.to_owned(),
        text_en: text_en.to_owned(),
        hint_vi: hint_vi.to_owned(),
        hint_en: hint_en.to_owned(),
    }
}
