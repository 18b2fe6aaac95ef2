//! The office's software: submitters that repeat until they hear, and a poller of another database.

use lienthong::engine::sending::{Answer, NewRecord, Submission};
use lienthong::model::limits::CHUNK_BYTES_MAX;
use lienthong::model::record::{Attachment, Draft, Op, RecordType};
use lienthong::model::{Lane, RecordId, SourceName};
use lienthong::store::edge::OnceKey;
use lienthong::store::rows::Beside;

use crate::blobs::{self, Contents};
use crate::check::{ACCEPTED, Checked, Checker, Handed, sha256, violated};
use crate::dice::Dice;

/// Whom the engine's answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    pub source: usize,
    pub number: u64,
}

/// How a source makes its repeats harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// One key for the whole submission.
    Whole,
    /// Each record has its id; a repeat may bring more records.
    Each,
    /// Not at all: it never repeats.
    Never,
    /// It reads rows of another database behind its cursor.
    Poll,
}

#[derive(Clone)]
pub struct Source {
    pub name: SourceName,
    pub style: Style,
    agency: String,
    subjects: String,
    record_bytes: u64,
    /// Submissions, or rows of the other database, that are still to come.
    left: u64,
    number: u64,
    /// What was handed in last and not answered, or refused for want of room.
    open: Option<Vec<Made>>,
    /// An answered submission, which may be repeated all the same.
    done: Option<(u64, Vec<Made>)>,
    /// The other database; row `n` is at `n - 1`.
    rows: Vec<Made>,
    /// Up to which row the poller has heard "stored".
    read: u64,
    asked: bool,
    pub due: Option<u64>,
    dice: Dice,
    /// Of the files that its records name; none where they name none.
    file_dice: Option<Dice>,
    /// Its documents go to other offices of so many; none where there are none.
    offices: usize,
    office: usize,
    /// The file that it sent last.
    sent: Option<Vec<u8>>,
}

/// A record with its bytes.
#[derive(Clone)]
struct Made {
    uid: u64,
    new: NewRecord,
    file: Option<Vec<u8>>,
}

/// What a source needs to know of its world.
pub struct Surroundings<'a> {
    pub now_ms: u64,
    pub writing: bool,
    pub healed: bool,
    pub checker: &'a mut Checker,
    /// The machine's disk.
    pub contents: &'a Contents,
}

impl Source {
    pub fn new(
        name: &str,
        style: Style,
        office: usize,
        station: usize,
        left: u64,
        record_bytes: u64,
        mut dice: Dice,
    ) -> Self {
        Self {
            name: name.parse().expect("valid"),
            style,
            agency: format!("H53.{office}"),
            subjects: format!("{station}-{name}"),
            record_bytes,
            left,
            number: 0,
            open: None,
            done: None,
            rows: Vec::new(),
            read: 0,
            asked: false,
            due: Some(dice.between(0, 10_000)),
            dice,
            file_dice: None,
            offices: 0,
            office,
            sent: None,
        }
    }

    /// Its records name files from now on, and are for other offices where there are several.
    pub fn attach_files(&mut self, offices: usize, dice: Dice) {
        self.file_dice = Some(dice);
        self.offices = offices;
    }

    /// Whether everything that was to be handed in is stored.
    pub fn is_done(&self) -> bool {
        match self.style {
            Style::Poll => self.read == self.rows.len() as u64,
            _ => self.open.is_none(),
        }
    }

    /// The machine was cloned: the other database with it, but not what a person has under way.
    pub fn cloned(&self, mut dice: Dice) -> Option<Source> {
        (self.style == Style::Poll).then(|| Source {
            asked: false,
            due: Some(dice.between(0, 10_000)),
            dice,
            ..self.clone()
        })
    }

    /// The box's process was started anew: whoever waits inside it starts anew too.
    pub fn restarted(&mut self, now_ms: u64) {
        if self.style == Style::Poll {
            self.asked = false;
            self.due = Some(now_ms + self.dice.between(10, 3_000));
        }
    }

    /// The source's time has come. `cursor` is what the box's store holds for it.
    pub fn act(
        &mut self,
        station: usize,
        index: usize,
        cursor: Option<u64>,
        around: &mut Surroundings<'_>,
    ) -> Option<Submission<Reply>> {
        self.due = Some(around.now_ms + self.dice.between(2_000, 20_000));
        let records = match self.style {
            Style::Poll => self.poll(station, cursor, around)?,
            _ => self.submit(station, around)?,
        };
        let last_row = self
            .rows
            .iter()
            .rposition(|row| records.last().is_some_and(|record| record.uid == row.uid));
        // An honest program puts a file before each time that it names it.
        for file in records.iter().filter_map(|made| made.file.as_deref()) {
            around.contents.put(file, around.now_ms);
        }
        let key = sha256([self.subjects.as_bytes(), &self.number.to_be_bytes()]);
        let content: Vec<u8> = records
            .iter()
            .flat_map(|made| made.new.tail.clone())
            .collect();
        Some(Submission {
            reply: Reply {
                source: index,
                number: self.number,
            },
            source: self.name.clone(),
            once: (self.style == Style::Whole).then(|| once(&key, &content)),
            cursor: last_row.map(|row| (row + 1).to_string()),
            beside: Beside::default(),
            records: records.into_iter().map(|made| made.new).collect(),
        })
    }

    fn submit(&mut self, station: usize, around: &mut Surroundings<'_>) -> Option<Vec<Made>> {
        if self.open.is_some() {
            if self.style == Style::Never {
                self.open = None; // It may have been stored, or not.
            } else if self.style == Style::Each && around.writing && self.dice.chance(20) {
                let more = self.make(station, around.checker);
                self.open.get_or_insert_default().push(more);
                self.number += 1;
            }
        } else if let Some((number, records)) = self.done.take_if(|_| self.style != Style::Never)
            && !around.healed
        {
            // It forgot that it was answered.
            if self.dice.chance(10) {
                self.number = number;
                self.open = Some(records);
            }
        }
        if self.open.is_none() {
            if !around.writing || self.left == 0 {
                self.due = None;
                return None;
            }
            self.left -= 1;
            self.number += 1 + self.dice.below(2);
            let most = self.dice.pick(&[1, 3, 8, 50]);
            let count = self.dice.between(1, most);
            let records = (0..count)
                .map(|_| self.make(station, around.checker))
                .collect();
            self.open = Some(records);
        }
        self.open.clone()
    }

    fn poll(
        &mut self,
        station: usize,
        cursor: Option<u64>,
        around: &mut Surroundings<'_>,
    ) -> Option<Vec<Made>> {
        if around.writing && 0 < self.left {
            self.left -= 1;
            for _ in 0..self.dice.between(1, 12) {
                let row = self.make(station, around.checker);
                self.rows.push(row);
            }
        }
        let read = cursor.unwrap_or(0) as usize;
        if !self.asked {
            self.read = read as u64;
        }
        if self.asked || self.rows.len() <= read {
            if !around.writing && self.is_done() {
                self.due = None;
            }
            return None;
        }
        self.asked = true;
        self.number += 1;
        let end = self
            .rows
            .len()
            .min(read + self.dice.between(1, 20) as usize);
        self.open = Some(self.rows[read..end].to_vec());
        self.open.clone()
    }

    /// The answer has come, unless it is lost on its way.
    pub fn answered(
        &mut self,
        number: u64,
        answer: &Answer,
        timeline: usize,
        around: &mut Surroundings<'_>,
    ) -> Checked {
        let Some(open) = self.open.as_ref().filter(|_| number == self.number) else {
            return Ok(()); // It waits for this answer no longer.
        };
        let stored = match answer {
            Answer::Stored { accepted, .. } => {
                let uids: Vec<u64> = open.iter().map(|made| made.uid).collect();
                let places: Vec<(usize, u64)> = accepted
                    .iter()
                    .map(|accepted| (accepted.lane.index(), accepted.seq.0))
                    .collect();
                around.checker.promise(timeline, &uids, &places)?;
                true
            }
            Answer::LaneFull(_) => false,
            Answer::OtherContent { .. } | Answer::TooLarge { .. } | Answer::NoAttachment { .. } => {
                return violated(ACCEPTED, format!("an honest source was told {answer:?}"));
            }
        };
        if self.style == Style::Poll {
            self.asked = false;
            self.due = Some(around.now_ms + self.dice.between(500, 8_000));
            return Ok(());
        }
        let heard = around.healed || !self.dice.chance(10);
        if stored && heard {
            self.done = self.open.take().map(|records| (number, records));
            self.due = Some(around.now_ms + self.dice.between(100, 15_000));
        } else if heard {
            self.due = Some(around.now_ms + self.dice.between(5_000, 30_000));
        }
        Ok(())
    }

    fn make(&mut self, station: usize, checker: &mut Checker) -> Made {
        let uid = checker.handed.len() as u64 + 1;
        let subject = format!("{}-{}", self.subjects, self.dice.below(3));
        let lane = Lane::ALL[self.dice.index(5)];
        let deleted = self.dice.chance(10);
        let padding: String = (0..self.dice.below(self.record_bytes / 2 + 1))
            .map(|_| char::from(b'a' + self.dice.below(26) as u8))
            .collect();
        let data = format!(r#"{{"uid":{uid},"so":{station},"pad":"{padding}"}}"#);
        let id: Option<RecordId> = (self.style == Style::Each)
            .then(|| format!("{}-{uid}", self.subjects).parse().expect("valid"));
        let (file, to) = self.file(uid);
        let (deleted, subject, data) = match to {
            Some(office) => (false, format!("{subject}-vb-{uid}"), document(uid, office)),
            None => (deleted, subject, data),
        };
        let attachments: Vec<Attachment> = file
            .iter()
            .map(|content| Attachment {
                name: "tep.pdf".to_owned(),
                mime: "application/pdf".to_owned(),
                bytes: content.len() as u64,
                sha256: blobs::digest(content).to_string(),
                original: to.is_some() && CHUNK_BYTES_MAX < content.len(),
            })
            .collect();
        let draft = Draft {
            id: id.clone(),
            source: &self.name,
            kind: RecordType {
                dataset: if to.is_some() {
                    "van_ban_dien_tu"
                } else {
                    "ho_so_tthc"
                }
                .parse()
                .expect("valid"),
                version: 1,
            },
            subject: subject.parse().expect("valid"),
            time: None,
            agency: &self.agency.parse().expect("valid"),
            op: if deleted { Op::Delete } else { Op::Upsert },
            sensitivity: 2,
            classification: &[],
            attachments: &attachments,
            codeflags: &[],
            data: &serde_json::value::RawValue::from_string(data).expect("JSON"),
            original: None,
        };
        let tail = draft.to_tail();
        let handed = Handed {
            tail: tail.clone(),
            subject,
            deleted,
            file: file.as_deref().map(blobs::digest),
            to,
        };
        if let (Some(office), Some(digest)) = (to, handed.file) {
            checker.addressed.entry(digest).or_default().insert(office);
        }
        if let Some(content) = &file {
            let known = &mut checker.contents;
            known.insert(blobs::digest(content), content.clone());
        }
        checker.handed.insert(uid, handed);
        let key = sha256([b"record", &uid.to_be_bytes()]);
        let once = id.is_some().then(|| once(&key, &tail));
        Made {
            uid,
            new: NewRecord {
                lane,
                tail,
                id,
                once,
                attachments,
            },
            file,
        }
    }

    /// A file for a record, and the office that both are for.
    fn file(&mut self, uid: u64) -> (Option<Vec<u8>>, Option<usize>) {
        let Some(dice) = &mut self.file_dice else {
            return (None, None);
        };
        if !dice.chance(20) {
            return (None, None);
        }
        if self.offices == 0 || dice.chance(40) {
            return (Some(blobs::content(uid, 40, dice)), None);
        }
        // Several documents may name one file.
        let again = self.sent.take().filter(|_| dice.chance(20));
        let content = again.unwrap_or_else(|| blobs::content(uid, 8, dice));
        self.sent = Some(content.clone());
        let to = (self.office + 1 + dice.index(self.offices - 1)) % self.offices;
        (Some(content), Some(to))
    }

    /// Rows that the store must hold, once the poller is done.
    pub fn rows_read(&self) -> impl Iterator<Item = u64> {
        self.rows.iter().map(|row| row.uid)
    }
}

/// A document's record.
fn document(uid: u64, to: usize) -> String {
    format!(
        r#"{{"uid":{uid},"loai_ban_ghi":"van_ban","ma_van_ban":"vb-{uid}","den":[{{"ma":"H53.{to}"}}]}}"#
    )
}

fn once(key: &[u8; 32], content: &[u8]) -> OnceKey {
    let digest = sha256([b"content", content]);
    OnceKey {
        key: std::array::from_fn(|at| key[at]),
        digest: std::array::from_fn(|at| digest[at]),
    }
}
