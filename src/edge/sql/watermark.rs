//! Reading by a watermark: a column that only ever grows, or a time.
//!
//! *Increasing*: what lies after the greatest value that was kept is new. The values must be unique,
//! and the query must order by them; both are checked as rows come.
//!
//! *Time*: rows may become visible later than their time says, because their transaction took so long
//! or a clock was set. So everything from `overlap` before the latest time is read again, and what was
//! given already is told by its content and its time. When nothing new has come for as long as the
//! overlap, nothing late can come any more and the re-reading ends; when the database's clock is found
//! set back, reading goes back with it.

mod page;
pub mod stand;

use std::sync::Arc;

use crate::edge::config::sql::{Mode, SqlConfig};
use crate::edge::connectors::{Fault, Post};
use crate::edge::rows::{Batch, Round, Row, Rows};
use crate::edge::sql::driver::{Ask, Mark, Session};
use crate::edge::sql::mapping::Described;
use crate::edge::sql::value::Value;
use crate::edge::sql::{Taker, read};
use crate::store::rows::Beside;
use page::Page;
use stand::{Stand, begin, lower, set_back};

/// After so many rounds without news it is looked whether the watermark still lies in the table.
const PROBE_ROUNDS: u32 = 20;
/// A query's limit grows up to this while more rows have one and the same time.
const LIMIT_MAX: u64 = 1 << 40;

pub struct Reader {
    config: Arc<SqlConfig>,
    rows: Rows,
    stand: Stand,
    round: Round,
    rounds_without_news: u32,
}

impl Reader {
    pub async fn new(config: Arc<SqlConfig>, rows: Rows) -> Result<Reader, Fault> {
        let (round, cursor) = rows.begin().await?;
        Ok(Reader {
            config,
            rows,
            stand: Stand::read(cursor.as_deref())?,
            round,
            rounds_without_news: 0,
        })
    }

    /// Looks whether somebody has set the watermark since the last round.
    async fn mind_rewind(&mut self) -> Result<(), Fault> {
        let (round, cursor) = self.rows.begin().await?;
        if round != self.round {
            self.stand = Stand::read(cursor.as_deref())?;
            self.round = round;
        }
        Ok(())
    }

    /// Reads everything new; false when told to stop meanwhile.
    pub async fn poll(&mut self, session: &mut Session, post: &Post) -> Result<bool, Fault> {
        self.mind_rewind().await?;
        let config = Arc::clone(&self.config);
        let now_ms = post.clock().now().wall.0;
        let mut from = match &config.mode {
            Mode::Time { overlap_ms, .. } => {
                let clock = session.clock_micros().await?.unwrap_or(now_ms * 1_000);
                self.mind_clock(clock, now_ms, post).await;
                let overlap_micros = micros(*overlap_ms);
                lower(&self.stand, &config, overlap_micros, now_ms)
            }
            _ => begin(&self.stand, &config),
        };
        let mut limit = config.rows_max;
        let before = self.stand.clone();
        loop {
            let ask = Ask {
                after: from.clone(),
                limit,
            };
            let mut page = Page::new(self, post, now_ms);
            let all = read(session, &config, ask, &mut page).await?;
            let (read_rows, last) = (page.read_rows, page.last.take());
            if !all {
                return Ok(false);
            }
            if read_rows < limit {
                break;
            }
            let next = Mark::At(last.expect("a full result has a last row"));
            limit = match next == from {
                true => (limit * 2).min(LIMIT_MAX),
                false => config.rows_max,
            };
            from = next;
        }
        if !self.stand.loaded {
            self.stand.loaded = true;
            self.rows.hand_in(self.batch(Vec::new())).await?;
            post.progress(None);
        }
        match before == self.stand {
            true => self.rounds_without_news += 1,
            false => self.rounds_without_news = 0,
        }
        self.probe(session, post).await?;
        Ok(true)
    }

    /// Goes back with a clock that was set back.
    async fn mind_clock(&mut self, clock: i64, now_ms: i64, post: &Post) {
        let zone = self.config.zone_minutes;
        let back = set_back(&self.stand, clock, zone);
        self.stand.clock_micros = clock;
        let Some(back) = back else {
            return;
        };
        tracing::warn!(source = %self.rows.source(), "the clock of the source's database was set back; what it writes now is read again from there");
        post.warn(Some(&clock_fault())).await;
        self.stand.after = Some(back);
        self.stand.moved_ms = now_ms;
    }

    /// Looks now and then whether the row at the watermark is still there: where every row lies
    /// below, the table was set back or its numbers began anew.
    async fn probe(&mut self, session: &mut Session, post: &Post) -> Result<(), Fault> {
        let is_due = self.rounds_without_news % PROBE_ROUNDS == 1;
        let after: Option<i64> = self.stand.after.as_deref().and_then(|at| at.parse().ok());
        let (Mode::Increasing { .. }, true, Some(after)) = (&self.config.mode, is_due, after)
        else {
            return Ok(());
        };
        let ask = Ask {
            after: Mark::At(after.saturating_sub(1).to_string()),
            limit: 1,
        };
        let mut any = Any(false);
        let config = Arc::clone(&self.config);
        read(session, &config, ask, &mut any).await?;
        let fault = ahead(after, self.rows.source().as_str());
        if !any.0 {
            post.warn(Some(&fault)).await;
        }
        Ok(())
    }

    fn batch(&self, rows: Vec<Row>) -> Batch {
        Batch {
            rows,
            cursor: Some(self.stand.to_cursor()),
            round: Some(self.round),
            beside: Beside::default(),
        }
    }
}

/// Whether a query gives any row.
struct Any(bool);

impl Taker for Any {
    fn columns(&mut self, _: Vec<Described>) -> Result<(), Fault> {
        Ok(())
    }

    async fn rows(&mut self, page: Vec<Vec<Value>>) -> Result<bool, Fault> {
        self.0 |= !page.is_empty();
        Ok(false)
    }
}

fn micros(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX / 1_000) * 1_000
}

fn ahead(after: i64, source: &str) -> Fault {
    Fault::new(
        "watermark_ahead",
        [
            format!(
                "bảng nguồn không còn dòng nào từ {after} trở đi: dòng cuối bị xóa, bảng được phục hồi từ bản sao lưu, hoặc đánh số lại; dòng mới có số nhỏ hơn sẽ không được đọc"
            ),
            format!(
                "the source has no row from {after} on: the last row was deleted, the table was restored, or its numbers began anew; new rows with smaller numbers will not be read"
            ),
        ],
        [
            format!(
                "Nếu chỉ xóa dòng cuối thì không cần làm gì. Nếu bảng được phục hồi: tramd sources rewind {source} --to SỐ."
            ),
            format!(
                "If only the last row was deleted nothing is to be done. If the table was restored: tramd sources rewind {source} --to NUMBER."
            ),
        ],
    )
}

fn clock_fault() -> Fault {
    Fault::new(
        "clock_set_back",
        [
            "đồng hồ máy chủ cơ sở dữ liệu nguồn bị lùi lại; chương trình đã tự đọc lại từ thời điểm đó",
            "the clock of the source's server was set back; reading went back with it",
        ],
        [
            "Bật đồng bộ thời gian (NTP) trên máy chủ nguồn.",
            "Switch time synchronisation (NTP) on at the source's server.",
        ],
    )
}
