//! One result of a watermark's query, taken page by page.

use std::collections::BTreeMap;

use crate::edge::config::sql::Mode;
use crate::edge::connectors::{Fault, Post};
use crate::edge::rows::{Batch, Row};
use crate::edge::sql::mapping::{Described, Made, Plan};
use crate::edge::sql::value::{Value, mark_at, mark_micros};
use crate::edge::sql::watermark::{Reader, micros};
use crate::edge::sql::{Taker, hex, planned};
use crate::edge::status::Progress;
use crate::model::record::Op;
use crate::store::rows::{Beside, Seen, SeenChange, Short};

/// A row whose time lies further than this in the future does not move the watermark.
const FUTURE_MICROS_MIN: i64 = 3_600_000_000;

/// One result, taken page by page.
pub struct Page<'r> {
    reader: &'r mut Reader,
    post: &'r Post,
    now_ms: i64,
    /// How rows become records, and the watermark's place.
    plan: Option<(Plan, usize)>,
    pub read_rows: u64,
    pub last: Option<String>,
}

impl<'r> Page<'r> {
    pub fn new(reader: &'r mut Reader, post: &'r Post, now_ms: i64) -> Page<'r> {
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

    /// A row's record and its watermark.
    fn made(&mut self, values: Vec<Value>) -> Result<(Made, String), Fault> {
        let place = self.plan.as_ref().expect("columns come first").1;
        let mark = self.mark(&values[place])?;
        let plan = &self.plan.as_ref().expect("columns come first").0;
        let made = plan.record(values);
        self.last = Some(mark.clone());
        Ok((made, mark))
    }

    async fn increasing(&mut self, page: Vec<Vec<Value>>) -> Result<Batch, Fault> {
        let mut rows = Vec::with_capacity(page.len());
        for values in page {
            let (made, _) = self.made(values)?;
            rows.push(made.into_row(self.op()));
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
        for (number, values) in page.into_iter().enumerate() {
            let (made, mark) = self.made(values)?;
            let key = made.digest(&["row", &mark]);
            let at = mark_micros(&mark, zone).expect("checked with the order");
            let mut row = made.into_row(self.op());
            let id = hex(&key).parse();
            row.id = Some(id.expect("hexadecimal digits are a record id"));
            if here.insert(key, number).is_none() {
                rows.insert((number, key), (row, at));
            }
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
        let stand = &mut reader.stand;
        let before = (&mut stand.schema, &mut stand.config);
        let (plan, places) = planned(&reader.config, &reader.rows, &described, &[name], before)?;
        self.plan = Some((plan, places[0]));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growing_values_grow_as_numbers() {
        assert!(is_after("10", "9") && !is_after("9", "10") && !is_after("9", "9"));
        assert!(is_after("170141183460469231731687303715884105727", "2"));
        assert!(is_after("b", "a") && !is_after("a", "a"));
    }
}
