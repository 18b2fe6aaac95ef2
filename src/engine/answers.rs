//! What a box says of itself in its own log: a record of dataset `lenh_tram`.

use serde::Deserialize;

use crate::model::BoxId;
use crate::model::order::ANSWERS;
use crate::model::record::Entry;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Answer {
    thiet_bi: BoxId,
    pub loai: String,
    pub ma: String,
    #[serde(default)]
    pub ten: String,
    #[serde(default)]
    pub trang_thai: String,
    #[serde(default)]
    pub chi_tiet: String,
}

/// The answer that an entry is, if it is one: a box speaks for itself only.
pub(super) fn answer(box_id: &BoxId, entry: &Entry<'_>) -> Option<Answer> {
    if entry.kind.dataset.as_str() != ANSWERS {
        return None;
    }
    let answer: Answer = serde_json::from_str(entry.data.get()).ok()?;
    (answer.thiet_bi == *box_id).then_some(answer)
}
