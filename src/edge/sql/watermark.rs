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

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::edge::config::sql::{Mode, SqlConfig};
use crate::edge::connectors::{Fault, Post};
use crate::edge::door::short_digest;
use crate::edge::rows::{Batch, Row, Rows};
use crate::edge::sql::driver::{Ask, Mark, Session};
use crate::edge::sql::mapping::{Described, Plan, place_of};
use crate::edge::sql::value::{Value, mark_at, mark_micros};
use crate::edge::sql::{Taker, config_digest, hex, read, same_schema, unreadable_cursor};
use crate::edge::status::Progress;
use crate::model::record::Op;
use crate::store::rows::{Beside, Seen, SeenChange, Short};

/// A row whose time lies further than this in the future does not move the watermark.
const FUTURE_MICROS_MIN: i64 = 3_600_000_000;
/// Clocks that step back by less are taken for exact.
const CLOCK_SLACK_MICROS: i64 = 2_000_000;
/// After so many rounds without news it is looked whether the watermark still lies in the table.
const PROBE_ROUNDS: u32 = 20;
/// A query's limit grows up to this while more rows have one and the same time.
const LIMIT_MAX: u64 = 1 << 40;

/// Where the source stands; kept with the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stand {
    /// The watermark up to which rows are kept.
    after: Option<String>,
    /// Rows of the initial load so far.
    rows: u64,
    /// The initial load is done.
    loaded: bool,
    /// Kinds of the columns, and digest of the configuration under which they were so.
    schema: String,
    config: String,
    /// When the watermark last moved, by our clock, milliseconds.
    moved_ms: i64,
    /// The database's clock at the last rows, microseconds.
    clock_micros: i64,
}

/// A cursor with another watermark.
pub fn rewound(cursor: Option<&str>, mark: &str) -> Result<String, Fault> {
    let cursor = cursor.ok_or_else(never_read)?;
    let mut stand: Stand = serde_json::from_str(cursor).map_err(|_| unreadable_cursor())?;
    stand.after = Some(mark.to_owned());
    stand.moved_ms = 0;
    Ok(serde_json::to_string(&stand).expect("a stand is plain JSON"))
}

fn never_read() -> Fault {
    Fault::new(
        "cursor",
        [
            "nguồn này chưa đọc được dòng nào",
            "nothing of this source was read yet",
        ],
        [
            "Đặt start trong cấu hình nguồn.",
            "Set start in the source's configuration.",
        ],
    )
}

pub struct Reader {
    config: Arc<SqlConfig>,
    rows: Rows,
    stand: Stand,
    rounds_without_news: u32,
    /// As it was last read from the store; somebody may set it back.
    cursor: Option<String>,
}

impl Reader {
    pub fn new(config: Arc<SqlConfig>, rows: Rows, cursor: Option<&str>) -> Result<Reader, Fault> {
        let stand = match cursor {
            None => Stand::default(),
            Some(cursor) => serde_json::from_str(cursor).map_err(|_| unreadable_cursor())?,
        };
        Ok(Reader {
            config,
            rows,
            stand,
            rounds_without_news: 0,
            cursor: cursor.map(str::to_owned),
        })
    }

    /// Looks whether somebody has set the watermark back since the last round.
    async fn mind_rewind(&mut self) -> Result<(), Fault> {
        let cursor = self.rows.cursor().await?;
        let own = serde_json::to_string(&self.stand).expect("a stand is plain JSON");
        if cursor != self.cursor && cursor.as_ref() != Some(&own) {
            let stand = cursor.as_deref().map(serde_json::from_str).transpose();
            self.stand = stand.map_err(|_| unreadable_cursor())?.unwrap_or_default();
        }
        self.cursor = cursor;
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
        let cursor = serde_json::to_string(&self.stand).expect("a stand is plain JSON");
        Batch {
            rows,
            cursor: Some(cursor),
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

/// One result, taken page by page.
struct Page<'r> {
    reader: &'r mut Reader,
    post: &'r Post,
    now_ms: i64,
    plan: Option<(Plan, usize)>,
    read_rows: u64,
    last: Option<String>,
}

impl<'r> Page<'r> {
    fn new(reader: &'r mut Reader, post: &'r Post, now_ms: i64) -> Page<'r> {
        Page {
            reader,
            post,
            now_ms,
            plan: None,
            read_rows: 0,
            last: None,
        }
    }

    /// The row's watermark; rows must come in its order.
    fn mark(&mut self, value: &Value) -> Result<String, Fault> {
        let name = self.reader.config.mode.watermark().unwrap_or_default();
        let mark = value.to_mark().ok_or_else(|| no_watermark(name))?;
        let zone = self.reader.config.zone_minutes;
        let in_order = match (&self.reader.config.mode, &self.last) {
            (_, None) => true,
            (Mode::Time { .. }, Some(last)) => mark_micros(last, zone) <= mark_micros(&mark, zone),
            (_, Some(last)) => is_after(&mark, last),
        };
        if matches!(self.reader.config.mode, Mode::Time { .. })
            && mark_micros(&mark, zone).is_none()
        {
            return Err(no_watermark(name));
        }
        match in_order {
            true => Ok(mark),
            false => Err(not_in_order(name)),
        }
    }

    fn op(&self) -> Op {
        match self.reader.stand.loaded {
            true => Op::Upsert,
            false => Op::Snapshot,
        }
    }

    async fn increasing(&mut self, page: Vec<Vec<Value>>) -> Result<Batch, Fault> {
        let mut rows = Vec::with_capacity(page.len());
        for values in &page {
            let place = self.plan.as_ref().expect("columns come first").1;
            let mark = self.mark(&values[place])?;
            let made = self
                .plan
                .as_ref()
                .expect("columns come first")
                .0
                .record(values);
            let mut row = Row::new(made.data, self.op());
            row.flaw = made.flaw;
            rows.push(row);
            self.last = Some(mark);
        }
        if self.last.is_some() {
            self.reader.stand.after.clone_from(&self.last);
            self.reader.stand.moved_ms = self.now_ms;
        }
        Ok(self.reader.batch(rows))
    }

    async fn by_time(
        &mut self,
        page: Vec<Vec<Value>>,
        overlap_micros: i64,
    ) -> Result<Batch, Fault> {
        let zone = self.reader.config.zone_minutes;
        let mut rows: BTreeMap<(usize, Short), (Row, i64)> = BTreeMap::new();
        let mut here: BTreeMap<Short, usize> = BTreeMap::new();
        for (number, values) in page.iter().enumerate() {
            let place = self.plan.as_ref().expect("columns come first").1;
            let mark = self.mark(&values[place])?;
            let made = self
                .plan
                .as_ref()
                .expect("columns come first")
                .0
                .record(values);
            let key = short_digest(&["row", &mark, made.data.get()]);
            let at = mark_micros(&mark, zone).expect("checked with the order");
            let mut row = Row::new(made.data, self.op());
            row.flaw = made.flaw;
            let id = hex(&key).parse();
            row.id = Some(id.expect("hexadecimal digits are a record id"));
            if here.insert(key, number).is_none() {
                rows.insert((number, key), (row, at));
            }
            self.last = Some(mark);
        }
        let keys: Vec<Short> = here.into_keys().collect();
        let known = self
            .reader
            .rows
            .look(move |view, source| view.seen(source.as_str(), keys.into_iter()))
            .await?;
        rows.retain(|(_, key), _| !known.contains_key(key));
        let stand = &mut self.reader.stand;
        let horizon = stand.clock_micros + overlap_micros.max(FUTURE_MICROS_MIN);
        let last = rows.values().map(|(_, at)| *at).filter(|at| *at <= horizon);
        let before = stand.after.as_deref().and_then(|at| mark_micros(at, zone));
        let newest = last.max().max(before);
        if let (Some(newest), Some(like)) = (newest, &self.last)
            && before < Some(newest)
        {
            stand.after = mark_at(newest, like, zone);
            stand.moved_ms = self.now_ms;
        }
        let lower = newest.map_or(i64::MIN, |newest| newest.saturating_sub(overlap_micros));
        let seen = rows.iter().filter(|(_, (_, at))| lower <= *at);
        let seen = seen.map(|((_, key), (_, at))| {
            SeenChange::Put(Seen {
                key: *key,
                hash: [0; 16],
                mark: *at,
                fields: Vec::new(),
            })
        });
        let beside = Beside {
            seen: seen.collect(),
            forget_below: (!rows.is_empty()).then_some(lower),
            ..Beside::default()
        };
        let rows = rows.into_values().map(|(row, _)| row).collect();
        let mut batch = self.reader.batch(rows);
        batch.beside = beside;
        Ok(batch)
    }
}

impl Taker for Page<'_> {
    fn columns(&mut self, described: Vec<Described>) -> Result<(), Fault> {
        let reader = &mut *self.reader;
        let name = reader.config.mode.watermark().unwrap_or_default();
        let dataset = reader.rows.door().dataset(reader.rows.dataset());
        let dataset = dataset.expect("the configuration names datasets of the catalogue");
        let (columns, zone) = (&reader.config.columns, reader.config.zone_minutes);
        let plan = Plan::new(columns, &described, &[name], dataset, zone)?;
        let place = place_of(&described, name)?;
        let (schema, config) = (plan.signature(), config_digest(&reader.config));
        if reader.stand.config == config {
            same_schema(&reader.stand.schema, &schema)?;
        }
        reader.stand.schema = schema;
        reader.stand.config = config;
        self.plan = Some((plan, place));
        Ok(())
    }

    async fn rows(&mut self, page: Vec<Vec<Value>>) -> Result<bool, Fault> {
        if self.post.is_stopping() {
            return Ok(false);
        }
        let count = page.len() as u64;
        self.read_rows += count;
        if count == 0 {
            return Ok(true);
        }
        if !self.reader.stand.loaded {
            self.reader.stand.rows += count;
            let rows = self.reader.stand.rows;
            self.post.progress(Some(Progress { rows, of: None }));
        }
        let batch = match self.reader.config.mode {
            Mode::Time { overlap_ms, .. } => self.by_time(page, micros(overlap_ms)).await?,
            _ => self.increasing(page).await?,
        };
        if !batch.rows.is_empty() {
            self.reader.rows.hand_in(batch).await?;
        }
        Ok(true)
    }
}

fn micros(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX / 1_000) * 1_000
}

/// Where to begin: after what is kept, or where the configuration says, or before everything.
fn begin(stand: &Stand, config: &SqlConfig) -> Mark {
    let start = || config.mode.start().map(str::to_owned);
    match stand.after.clone().or_else(start) {
        Some(mark) => Mark::At(mark),
        None => match config.mode {
            Mode::Time { .. } => Mark::BeginTime,
            _ => Mark::BeginNumber,
        },
    }
}

/// From which time on to read.
fn lower(stand: &Stand, config: &SqlConfig, overlap_micros: i64, now_ms: i64) -> Mark {
    let Some(after) = &stand.after else {
        return begin(stand, config);
    };
    let zone = config.zone_minutes;
    let Some(at) = mark_micros(after, zone) else {
        return Mark::At(after.clone());
    };
    let waited_ms = now_ms - stand.moved_ms;
    let is_settled = stand.loaded && overlap_micros / 1_000 < waited_ms;
    let from = match is_settled {
        true => at + 1,
        false => at.saturating_sub(overlap_micros),
    };
    match mark_at(from, after, zone) {
        Some(mark) => Mark::At(mark),
        None => Mark::BeginTime,
    }
}

/// The watermark to go back to, when the database's clock stands before where it stood.
fn set_back(stand: &Stand, clock: i64, zone: i32) -> Option<String> {
    let after = stand.after.as_deref()?;
    let is_back = clock < stand.clock_micros - CLOCK_SLACK_MICROS;
    let at = mark_micros(after, zone)?;
    (is_back && clock < at).then(|| mark_at(clock, after, zone))?
}

/// Whether a watermark of a growing column lies after another; texts that are no numbers are left to
/// the database's own order.
fn is_after(mark: &str, last: &str) -> bool {
    match (mark.parse::<i128>(), last.parse::<i128>()) {
        (Ok(mark), Ok(last)) => last < mark,
        _ => mark != last,
    }
}

fn no_watermark(name: &str) -> Fault {
    Fault::new(
        "watermark",
        [
            format!("cột watermark “{name}” có dòng trống hoặc không phải số, thời điểm"),
            format!("the watermark {name:?} is empty in a row, or is no number or time"),
        ],
        [
            "Chọn cột luôn có giá trị, hoặc loại dòng trống trong query; nếu không có cột như vậy thì dùng mode = \"snapshot\".",
            "Choose a column that always has a value, or leave such rows out in query; where there is none use mode = \"snapshot\".",
        ],
    )
}

fn not_in_order(name: &str) -> Fault {
    Fault::new(
        "order",
        [
            format!("các dòng không theo thứ tự tăng dần của cột “{name}”, hoặc giá trị bị trùng"),
            format!("rows do not come in rising order of {name:?}, or a value stands twice"),
        ],
        [
            "Thêm ORDER BY theo cột watermark vào query; nếu giá trị có thể trùng thì dùng mode = \"time\" hoặc \"snapshot\".",
            "Order the query by the watermark; where values may repeat use mode = \"time\" or \"snapshot\".",
        ],
    )
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::config::sql::{Driver, Place};
    use crate::edge::sql::query::Query;

    const HOUR_MICROS: i64 = 3_600_000_000;

    fn config(mode: Mode) -> SqlConfig {
        SqlConfig {
            driver: Driver::Sqlite,
            place: Place::File("x.db".into()),
            query: Query::parse("SELECT :after, :limit").expect("a query"),
            mode,
            columns: Vec::new(),
            zone_minutes: 420,
            poll_ms: 1_000,
            rows_max: 100,
            statement_ms: 1_000,
            connect_ms: 1_000,
        }
    }

    fn by_time() -> SqlConfig {
        config(Mode::Time {
            watermark: "t".to_owned(),
            start: None,
            overlap_ms: 3_600_000,
        })
    }

    fn stand(after: &str) -> Stand {
        Stand {
            after: Some(after.to_owned()),
            loaded: true,
            moved_ms: 1_000,
            clock_micros: mark_micros(after, 420).unwrap_or(0),
            ..Stand::default()
        }
    }

    #[test]
    fn the_overlap_is_read_again_until_nothing_late_can_come() {
        let stand = stand("2026-11-20 08:00:00.000000");
        let from = |now_ms| lower(&stand, &by_time(), HOUR_MICROS, now_ms);
        let at = |text: &str| Mark::At(text.to_owned());
        assert_eq!(from(1_500), at("2026-11-20 07:00:00.000000"));
        assert_eq!(from(3_601_000), at("2026-11-20 07:00:00.000000"));
        assert_eq!(from(3_601_001), at("2026-11-20 08:00:00.000001"));
        assert_eq!(
            from(0),
            at("2026-11-20 07:00:00.000000"),
            "our clock was set back"
        );
    }

    #[test]
    fn a_clock_that_was_set_back_takes_the_watermark_with_it() {
        let stand = stand("2026-11-20 08:00:00.000000");
        let clock = stand.clock_micros;
        assert_eq!(set_back(&stand, clock - 1_000_000, 420), None);
        assert_eq!(set_back(&stand, clock + 1, 420), None);
        assert_eq!(
            set_back(&stand, clock - HOUR_MICROS, 420).as_deref(),
            Some("2026-11-20 07:00:00.000000")
        );
    }

    #[test]
    fn reading_begins_before_everything_or_where_it_was_told_to() {
        assert_eq!(begin(&Stand::default(), &by_time()), Mark::BeginTime);
        let growing = |start: Option<&str>| {
            config(Mode::Increasing {
                watermark: "id".to_owned(),
                start: start.map(str::to_owned),
            })
        };
        assert_eq!(begin(&Stand::default(), &growing(None)), Mark::BeginNumber);
        let told = begin(&Stand::default(), &growing(Some("500")));
        assert_eq!(told, Mark::At("500".to_owned()));
        let kept = begin(&stand("700"), &growing(Some("500")));
        assert_eq!(kept, Mark::At("700".to_owned()));
    }

    #[test]
    fn growing_values_grow_as_numbers() {
        assert!(is_after("10", "9") && !is_after("9", "10") && !is_after("9", "9"));
        assert!(is_after("170141183460469231731687303715884105727", "2"));
        assert!(is_after("b", "a") && !is_after("a", "a"));
    }

    #[test]
    fn what_is_kept_is_read_back_and_nothing_else() {
        let stand = stand("5");
        let text = serde_json::to_string(&stand).expect("JSON");
        assert_eq!(
            serde_json::from_str::<Stand>(&text).expect("a stand"),
            stand
        );
        assert!(serde_json::from_str::<Stand>("{\"sweep\":1}").is_err());
    }
}
