//! `tramd drill`: the yearly rehearsal. What a box has to survive is done for real with this box's own
//! store, disk and keys, on copies that go afterwards, and told in a report for the file.
//!
//! Asked for by provinces' plans: a drill with realistic scenarios every year (Tuyên Quang,
//! 100/KH-UBND).

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::json;

use crate::edge::backup::{copy_stores, make};
use crate::edge::commands::Failure;
use crate::edge::config::Config;
use crate::edge::config::load::{Loaded, OWN_SOURCE, load};
use crate::edge::identity::Keys;
use crate::edge::run::engines::mint;
use crate::edge::status::LinkState;
use crate::edge::talk;
use crate::engine::content::NoContent;
use crate::engine::proof::verify_logs;
use crate::engine::sending::{
    self, Answer, EdgeEngine, Effect, Event, NewRecord, Space, Submission,
};
use crate::evidence::SigningKey;
use crate::model::limits::MESSAGE_BYTES_MAX;
use crate::model::record::{Draft, Op, RecordType};
use crate::model::{Lane, MonoMs, Now, UnixMs};
use crate::shell::clock::Clock;
use crate::shell::replace::{Scratch, folder_of};
use crate::store::edge::EdgeStore;
use crate::store::edge_status::EdgeView;
use crate::store::rows::Beside;
use crate::store::{Options, StoreError};
use crate::sync::Limits;

/// Records that are taken in while there is no line.
const RECORDS: u32 = 200;
const CACHE_BYTES: u64 = 1024 * 1024;
/// What the rehearsed store may still grow before it is full.
const ROOM_BYTES: u64 = 256 * 1024;
/// Each holds so much, so that the store is full soon.
const PADDING_CHARS: usize = 1_500;
const FULL_AFTER_MAX: u32 = 100_000;
const DAY_MS: i64 = 86_400_000;
/// The hub's receipt for the marker is waited for so long.
const RECEIPT_WAIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(500);

/// What no program can rehearse on copies, or what would disturb the office.
const NOT_REHEARSED: [&str; 5] = [
    "rút cáp mạng hoặc đổi sang đường truyền dự phòng (ở đây chỉ mô phỏng không có đường truyền)",
    "ngắt điện thật của máy và thời gian UPS giữ được",
    "làm đầy ổ đĩa vật lý (ở đây kho đầy theo hạn mức, đi cùng một đường xử lý)",
    "bắt tay TLS với trục bằng chứng thư đã hết hạn và việc xin cấp lại",
    "khôi phục bản sao lưu trên một máy khác",
];

/// What was rehearsed, and how it went.
struct Rehearsal {
    name: &'static str,
    /// What was done.
    what: &'static str,
    /// What is to come of it.
    expected: &'static str,
    /// What came of it; the error says what failed.
    result: anyhow::Result<String>,
}

/// Runs every rehearsal and gives the report; a failed one makes the exit code 1.
pub fn drill(path: &Path) -> Result<String, Failure> {
    let Loaded { config, .. } = load(path).map_err(Failure::Configuration)?;
    let clock = Clock::start(UnixMs(0));
    let keys = Keys::load(&config, &clock).map_err(Failure::Configuration)?;
    // The box's store may know that the machine's clock is behind.
    if let Ok(facts) = EdgeView::open(&config.store.path).and_then(|view| view.facts()) {
        clock.raise_floor(facts.time_floor);
    }
    let began = clock.now().wall;
    let stage = Stage {
        config: &config,
        clock: &clock,
    };
    let rehearsals = [
        Rehearsal {
            name: "Đứt đường truyền và mất điện",
            what: "Nhận bản ghi khi không có đường truyền, rồi ngắt đột ngột và mở lại kho",
            expected: "Không mất bản ghi nào đã nhận, chuỗi băm đúng, có đường truyền là gửi tiếp",
            result: stage.without_line(),
        },
        Rehearsal {
            name: "Kho đầy",
            what: "Nhận bản ghi cho đến khi hết chỗ",
            expected: "Kho từ chối rõ ràng khi đầy; bản ghi đã nhận còn nguyên, không nhận thừa",
            result: stage.full_store(),
        },
        Rehearsal {
            name: "Chứng thư hết hạn",
            what: "Cho đồng hồ chạy đến sau ngày hết hạn của chứng thư",
            expected: "Chứng thư thật còn hạn; khi hết hạn trạm báo rõ và vẫn nhận, giữ dữ liệu",
            result: stage.expired(&keys),
        },
        Rehearsal {
            name: "Khôi phục từ bản sao lưu",
            what: "Sao lưu kho, khôi phục thử bản sao lưu, đối chiếu từng mục",
            expected: "Bản sao lưu khôi phục được, đủ số mục, chuỗi băm đúng",
            result: stage.restore(),
        },
        Rehearsal {
            name: "Gửi thật về trục",
            what: "Đưa một bản ghi đánh dấu “dien_tap” vào trạm và chờ biên nhận của trục",
            expected: "Trạm nhận bản ghi; trục ký biên nhận, hoặc bản ghi chờ trong kho khi chưa có đường truyền",
            result: stage.marker(),
        },
    ];
    let is_good = rehearsals.iter().all(|one| one.result.is_ok());
    let text = report(&config, began, clock.now().wall, &rehearsals);
    match is_good {
        true => Ok(text),
        false => Err(Failure::Found(text)),
    }
}

fn report(config: &Config, began: UnixMs, ended: UnixMs, rehearsals: &[Rehearsal]) -> String {
    let mut text = String::new();
    let mut line = |words: std::fmt::Arguments<'_>| {
        writeln!(text, "{words}").expect("a string takes any text");
    };
    line(format_args!("BIÊN BẢN DIỄN TẬP TRẠM LIÊN THÔNG"));
    line(format_args!(
        "Trạm: {}    Cơ quan: {}    Phiên bản: tramd {}",
        config.box_id,
        config.agency,
        env!("CARGO_PKG_VERSION")
    ));
    line(format_args!(
        "Bắt đầu: {}    Kết thúc: {}",
        local(began),
        local(ended)
    ));
    line(format_args!(
        "Máy: {}    Tài khoản thực hiện lệnh: {}",
        machine(),
        account()
    ));
    line(format_args!(
        "Diễn tập trên bản sao của kho; dữ liệu thật của trạm không bị thay đổi, trừ bản ghi đánh dấu ở mục cuối."
    ));
    for (number, one) in (1..).zip(rehearsals) {
        let (verdict, detail) = match &one.result {
            Ok(detail) => ("ĐẠT", detail.clone()),
            Err(error) => ("KHÔNG ĐẠT", format!("{error:#}")),
        };
        line(format_args!("\n{number}. {}: {verdict}", one.name));
        line(format_args!("   Cách làm: {}.", one.what));
        line(format_args!("   Mong đợi: {}.", one.expected));
        line(format_args!("   Kết quả: {detail}."));
    }
    let failed = rehearsals.iter().filter(|one| one.result.is_err()).count();
    line(format_args!(
        "\nKết luận: {}",
        match failed {
            0 => "trạm đạt tất cả các tình huống.".to_owned(),
            failed => format!(
                "{failed} tình huống không đạt; xử lý theo kết quả ở trên rồi diễn tập lại."
            ),
        }
    ));
    line(format_args!(
        "\nChưa diễn tập trong buổi này, cần làm trên máy thật khi có thể:"
    ));
    for left in NOT_REHEARSED {
        line(format_args!("- {left}."));
    }
    line(format_args!(
        "\nNgười thực hiện:                    Đại diện cơ quan:\n(ký, ghi rõ họ tên)                  (ký, ghi rõ họ tên)\n\n\n\nNgày ...... tháng ...... năm ......"
    ));
    text
}

fn machine() -> String {
    let name = nix::unistd::gethostname().ok();
    name.map_or("-".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Whose word it was: with sudo, who has called it.
fn account() -> String {
    std::env::var("SUDO_USER")
        .or_else(|_| std::env::var("USER"))
        .unwrap_or_else(|_| format!("uid {}", nix::unistd::getuid()))
}

/// `22/11/2026 20:15:04`, Vietnam time.
fn local(at: UnixMs) -> String {
    let text = at.to_string();
    let (date, time) = text.split_at(10);
    let mut parts = date.split('-');
    let mut part = || parts.next().unwrap_or_default().to_owned();
    let (year, month, day) = (part(), part(), part());
    format!("{day}/{month}/{year} {}", &time[1..9])
}

struct Stage<'a> {
    config: &'a Config,
    clock: &'a Clock,
}

impl Stage<'_> {
    /// A copy of the stores in a folder of its own.
    fn copy(&self) -> anyhow::Result<Scratch> {
        let scratch = Scratch::make(&folder_of(&self.config.store.path).join("drill.tmp"))?;
        copy_stores(&self.config.store, &scratch.0)?;
        Ok(scratch)
    }

    fn open(&self, store: &Path, quota_bytes: u64) -> Result<EdgeEngine<()>, StoreError> {
        EdgeEngine::open(sending::Config {
            store: store.to_owned(),
            options: Options {
                quota_bytes,
                cache_bytes: CACHE_BYTES,
            },
            box_id: self.config.box_id.clone(),
            key: SigningKey::from_pkcs8(&SigningKey::generate())
                .expect("it was made just now")
                .into(),
            hub_keys: Vec::new(),
            limits: Limits::FIELD,
            space: Space {
                lane_bytes_max: self.config.store.lane_bytes_max(),
                tail_ms: self.config.store.tail_keep_ms,
                tail_bytes: self.config.store.tail_bytes,
                once_keys: self.config.store.once_keys,
                blob_bytes_max: self.config.store.blobs_bytes_max,
            },
            content: Box::new(NoContent),
            mint: Box::new(mint),
        })
    }

    fn without_line(&self) -> anyhow::Result<String> {
        let scratch = self.copy()?;
        let store = scratch.0.join("box.db");
        let mut engine = self.open(&store, u64::MAX >> 8)?;
        let before: u64 = engine.waiting().iter().sum();
        let began = self.clock.mono_ms();
        for number in 0..RECORDS {
            let stored = self.submit(&mut engine, number, self.clock.now())?;
            ensure!(stored, "bản ghi thứ {number} không được nhận");
        }
        let took_ms = (self.clock.mono_ms() - began).max(1);
        // Without any farewell, as when the power goes.
        drop(engine);
        let mut engine = self.open(&store, u64::MAX >> 8)?;
        let after: u64 = engine.waiting().iter().sum();
        ensure!(
            after == before + u64::from(RECORDS),
            "sau khi mở lại còn {after} bản ghi chờ, đáng lẽ {}",
            before + u64::from(RECORDS)
        );
        verify(&store, self.config)?;
        let up = Event::LinkUp {
            message_bytes_max: MESSAGE_BYTES_MAX,
        };
        let effects = engine.step(self.clock.now(), vec![up])?;
        ensure!(
            effects
                .iter()
                .any(|effect| matches!(effect, Effect::Publish(_))),
            "có đường truyền lại mà trạm không gửi gì"
        );
        Ok(format!(
            "nhận {RECORDS} bản ghi khi không có đường truyền ({} bản ghi/giây, mỗi bản ghi đã xuống đĩa), sau khi \
             ngắt và mở lại còn đủ {RECORDS}, chuỗi băm đúng, có đường truyền là gửi tiếp ngay",
            MonoMs::from(RECORDS) * 1_000 / took_ms
        ))
    }

    fn full_store(&self) -> anyhow::Result<String> {
        let scratch = self.copy()?;
        let store = scratch.0.join("box.db");
        let quota_bytes = fs::metadata(&store)?.len() + ROOM_BYTES;
        let mut engine = self.open(&store, quota_bytes)?;
        let before: u64 = engine.waiting().iter().sum();
        let mut accepted = 0;
        loop {
            ensure!(accepted < FULL_AFTER_MAX, "kho không đầy");
            match self.submit(&mut engine, accepted, self.clock.now()) {
                Ok(true) => accepted += 1,
                Ok(false) => break,
                Err(error) => match error.downcast_ref::<StoreError>() {
                    Some(StoreError::Full) => break,
                    _ => return Err(error),
                },
            }
        }
        drop(engine);
        let engine = self.open(&store, u64::MAX >> 8)?;
        let after: u64 = engine.waiting().iter().sum();
        ensure!(
            after == before + u64::from(accepted),
            "đã nhận {accepted} bản ghi nhưng kho giữ {}",
            after - before
        );
        verify(&store, self.config)?;
        Ok(format!(
            "kho nhận {accepted} bản ghi rồi từ chối rõ ràng, không nhận thừa; mọi bản ghi đã nhận còn nguyên"
        ))
    }

    fn expired(&self, keys: &Keys) -> anyhow::Result<String> {
        let not_after = keys.identity.facts.not_after;
        let days = (not_after.0 - self.clock.now().wall.0).div_euclid(DAY_MS);
        ensure!(0 <= days, "chứng thư đã hết hạn thật; xin cấp lại ngay");
        let later = UnixMs(not_after.0 + DAY_MS);
        let Err(fault) = keys.identity.check(later) else {
            bail!("chứng thư hết hạn mà trạm không nhận ra");
        };
        let scratch = self.copy()?;
        let mut engine = self.open(&scratch.0.join("box.db"), u64::MAX >> 8)?;
        let now = Now {
            wall: later,
            ..self.clock.now()
        };
        ensure!(
            self.submit(&mut engine, 0, now)?,
            "chứng thư hết hạn làm trạm ngừng nhận dữ liệu"
        );
        let [hint_vi, _] = fault.hints();
        Ok(format!(
            "chứng thư thật còn {days} ngày; khi hết hạn trạm vẫn nhận và giữ dữ liệu, và báo: {}",
            hint_vi.trim_end_matches('.')
        ))
    }

    fn restore(&self) -> anyhow::Result<String> {
        let scratch = Scratch::make(&folder_of(&self.config.store.path).join("drill.tmp"))?;
        let began = self.clock.mono_ms();
        let now = self.clock.now().wall;
        let made = make(self.config, &scratch.0.join("dien-tap.tar.zst"), now)?;
        let seconds = (self.clock.mono_ms() - began).div_ceil(1_000);
        Ok(format!(
            "sao lưu {} byte và khôi phục thử trong {seconds} giây; {} mục, {} tệp, chuỗi băm đúng, số thứ tự cũ \
             không dùng lại",
            made.bytes, made.facts.entries, made.files
        ))
    }

    /// A record that says what it is, through the running daemon to the hub.
    fn marker(&self) -> anyhow::Result<String> {
        let store = &self.config.store.path;
        let data = json!({
            "loai_ban_ghi": "su_kien",
            "thiet_bi": self.config.box_id,
            "su_kien": "dien_tap",
            "muc": "thong_tin",
            "thoi_diem": self.clock.now().wall.to_string(),
            "mo_ta": "Bản ghi đánh dấu của buổi diễn tập",
        });
        let place = format!("/v1/records/{}", self.config.alarm_dataset);
        let headers = [("Content-Type", "application/json")];
        let Ok(reply) = talk::post(store, &place, &headers, data.to_string().as_bytes()) else {
            return Ok("dịch vụ không chạy nên không gửi bản ghi đánh dấu".to_owned());
        };
        let reply = reply.context("dịch vụ không trả lời")?;
        let answer: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let seq = answer["accepted"][0]["seq"].as_u64();
        let lane = answer["accepted"][0]["lane"]
            .as_str()
            .and_then(|lane| lane.parse::<Lane>().ok());
        let (Some(seq), Some(lane)) = (seq, lane) else {
            bail!("trạm không nhận bản ghi đánh dấu: {}", reply.status);
        };
        let began = self.clock.mono_ms();
        loop {
            let status = talk::status(store).context("dịch vụ không trả lời")?;
            let waited = self.clock.mono_ms() - began;
            let facts = status.lanes.iter().find(|facts| facts.lane == lane);
            if facts.is_some_and(|facts| seq <= facts.received.0) {
                return Ok(format!(
                    "trục đã ký biên nhận sau {} giây",
                    waited.div_ceil(1_000)
                ));
            }
            if status.link.state != LinkState::Up {
                return Ok(
                    "hiện không có đường truyền; bản ghi đánh dấu đã nằm trong kho và sẽ được gửi khi có"
                        .to_owned(),
                );
            }
            ensure!(
                u128::from(waited) < RECEIPT_WAIT.as_millis(),
                "có đường truyền mà sau {} giây chưa có biên nhận; chạy tramd check",
                RECEIPT_WAIT.as_secs()
            );
            std::thread::sleep(LOOK);
        }
    }

    /// True: kept. False: refused, because the lane is full.
    fn submit(&self, engine: &mut EdgeEngine<()>, number: u32, now: Now) -> anyhow::Result<bool> {
        let data = json!({ "dien_tap": number, "mo_ta": "x".repeat(PADDING_CHARS) });
        let data = serde_json::value::to_raw_value(&data).expect("it is plain JSON");
        let source = OWN_SOURCE.parse().expect("our own name is a source's name");
        let draft = Draft {
            id: None,
            source: &source,
            kind: RecordType {
                dataset: self.config.alarm_dataset.clone(),
                version: 1,
            },
            subject: format!("dien-tap-{number}").parse().expect("a short text"),
            time: None,
            agency: &self.config.agency,
            op: Op::Upsert,
            sensitivity: 1,
            classification: &[],
            attachments: &[],
            codeflags: &[],
            data: &data,
            original: None,
        };
        let record = NewRecord {
            lane: Lane::P3,
            tail: draft.to_tail(),
            id: None,
            once: None,
            attachments: Vec::new(),
        };
        let submission = Submission {
            reply: (),
            source,
            records: vec![record],
            once: None,
            cursor: None,
            beside: Beside::default(),
        };
        let effects = engine.step(now, vec![Event::Submit(submission)])?;
        for effect in effects {
            if let Effect::Answer { answer, .. } = effect {
                return match answer {
                    Answer::Stored { .. } => Ok(true),
                    Answer::LaneFull(_) => Ok(false),
                    other => bail!("{other:?}"),
                };
            }
        }
        bail!("không có câu trả lời")
    }
}

fn verify(store: &Path, config: &Config) -> anyhow::Result<()> {
    let options = Options {
        quota_bytes: u64::MAX >> 8,
        cache_bytes: CACHE_BYTES,
    };
    verify_logs(&EdgeStore::open(store, options, &config.box_id, mint())?)?;
    Ok(())
}
