//! The catalogue file: what is written, and what it means. Every fault is told at once.

use std::collections::BTreeSet;

use serde_json::Value;
use unicode_normalization::is_nfc;

use super::condition::{Condition, Pattern, segments};
use super::written::{
    OneOrMany, Written, WrittenClassification, WrittenDeliver, WrittenLane, WrittenPacket,
    WrittenRefuse, WrittenStatus,
};
use super::{
    CatalogueFault, Dataset, DeliverRule, FieldScheme, LaneRules, PacketFields, RefuseRule,
    StatusFields, Variant, schema,
};
use crate::model::record::Classification;
use crate::model::{DatasetId, Lane};

/// Reads one file; `name` is its name, whose stem must be the dataset's id.
pub fn read(name: &str, text: &str) -> Result<Dataset, Vec<CatalogueFault>> {
    let written: Written =
        toml::from_str(text).map_err(|error| vec![not_toml(name, text, &error)])?;
    let schema: Value = serde_json::from_str(&written.schema).map_err(|error| {
        vec![CatalogueFault {
            file: name.to_owned(),
            place: format!("schema, {}:{}", error.line(), error.column()),
            message_vi: "lược đồ không phải là JSON đúng".to_owned(),
            message_en: format!("the schema is not JSON: {error}"),
            hint_vi: "Dòng và cột tính từ đầu phần schema.".to_owned(),
            hint_en: "Line and column count from the beginning of the schema.".to_owned(),
        }]
    })?;
    let mut reader = Reader {
        file: name,
        schema: &schema,
        faults: Vec::new(),
    };
    let dataset = reader.dataset(written);
    match dataset {
        Some(dataset) if reader.faults.is_empty() => Ok(dataset),
        _ => Err(reader.faults),
    }
}

/// `line:column` of a byte, both from 1.
pub(super) fn line_and_column(text: &str, at: usize) -> String {
    let before = &text[..text.floor_char_boundary(at)];
    let line = before.matches('\n').count() + 1;
    let last = before.rsplit('\n').next().unwrap_or_default();
    format!("{line}:{}", last.chars().count() + 1)
}

fn not_toml(file: &str, text: &str, error: &toml::de::Error) -> CatalogueFault {
    let place = error
        .span()
        .map_or("-".to_owned(), |span| line_and_column(text, span.start));
    let message = error.message().lines().collect::<Vec<_>>().join(" ");
    CatalogueFault {
        file: file.to_owned(),
        place,
        message_vi: format!("tệp danh mục viết sai: {message}"),
        message_en: message,
        hint_vi: "Xem lại tên và kiểu của mục tại dòng này; mẫu có trong thư mục catalogue."
            .to_owned(),
        hint_en: "Check the name and type of the setting at this line against a shipped file."
            .to_owned(),
    }
}

/// Turns what is written into what is meant and gathers faults on the way.
struct Reader<'a> {
    file: &'a str,
    schema: &'a Value,
    faults: Vec<CatalogueFault>,
}

impl Reader<'_> {
    fn dataset(&mut self, written: Written) -> Option<Dataset> {
        let id = self.id(&written.id);
        self.texts(&written);
        self.numbers(&written);
        self.schema_root();
        let variants = written.variant.into_iter().enumerate().map(|(n, variant)| {
            let place = format!("variant[{}]", n + 1);
            Variant {
                when: self.condition(&place, variant.pointer, variant.values),
                key: self.key(&format!("{place}.key"), variant.key),
                time: self.pointers(&format!("{place}.time"), variant.time),
            }
        });
        let variants = variants.collect();
        let key = self.key("key", written.key);
        let time = self.pointers("time", written.time);
        let lanes = self.lanes(written.lane);
        let (classification, classified_by) = self.classification(written.classification);
        let refuse = self.refuse(written.refuse);
        let area = self.fields("area", written.area);
        let search = self.fields("search", written.search);
        let deliver = self.deliver(written.deliver);
        let status = written.status.and_then(|status| self.status(status));
        let attachments = written.attachments;
        let attachments = attachments.and_then(|text| self.field("attachments", &text));
        let packet = written.packet.and_then(|packet| self.packet(packet));
        #[cfg(feature = "edge")]
        self.compilable();
        Some(Dataset {
            id: id?,
            version: written.version,
            code: written.code,
            title_vi: written.title_vi,
            title_en: written.title_en,
            owner: written.owner,
            owner_en: written.owner_en,
            variants,
            key,
            hide_key: written.hide_key,
            time,
            sensitivity: written.sensitivity,
            retention_days: written.retention_days,
            lanes: lanes?,
            classification,
            classified_by,
            refuse,
            area,
            search,
            deliver,
            status,
            packet,
            attachments,
            coded: super::codes::fields(self.schema),
            codes: std::sync::Arc::default(),
            schema: written.schema,
            #[cfg(feature = "edge")]
            checker: std::sync::OnceLock::new(),
        })
    }

    fn fault(&mut self, place: &str, message: [String; 2], hint: [&str; 2]) {
        let [message_vi, message_en] = message;
        self.faults.push(CatalogueFault {
            file: self.file.to_owned(),
            place: place.to_owned(),
            message_vi,
            message_en,
            hint_vi: hint[0].to_owned(),
            hint_en: hint[1].to_owned(),
        });
    }

    fn id(&mut self, text: &str) -> Option<DatasetId> {
        let id: DatasetId = match text.parse() {
            Ok(id) => id,
            Err(error) => {
                self.fault(
                    "id",
                    [
                        format!("{text:?} không phải là mã bộ dữ liệu"),
                        error.to_string(),
                    ],
                    [
                        "Mã gồm 1 đến 40 ký tự a-z, 0-9 và dấu gạch dưới, bắt đầu bằng chữ.",
                        "Use 1 to 40 of a-z, 0-9 and '_', beginning with a letter.",
                    ],
                );
                return None;
            }
        };
        if self.file.strip_suffix(".toml") != Some(text) {
            self.fault(
                "id",
                [
                    format!("mã {text} khác với tên tệp"),
                    format!("id {text} differs from the file's name"),
                ],
                ["Đặt tên tệp là <id>.toml.", "Name the file <id>.toml."],
            );
        }
        Some(id)
    }

    fn texts(&mut self, written: &Written) {
        for (place, text) in [
            ("code", &written.code),
            ("title_vi", &written.title_vi),
            ("title_en", &written.title_en),
            ("owner", &written.owner),
            ("owner_en", &written.owner_en),
        ] {
            self.text(place, text);
        }
    }

    fn text(&mut self, place: &str, text: &str) {
        if text.trim().is_empty() {
            self.fault(
                place,
                ["không được để trống".to_owned(), "is empty".to_owned()],
                [
                    "Ghi nội dung cho người đọc.",
                    "Write what a person is to read.",
                ],
            );
        }
        if !is_nfc(text) {
            self.fault(
                place,
                [
                    "không ở dạng Unicode dựng sẵn (NFC)".to_owned(),
                    "is not in Unicode NFC".to_owned(),
                ],
                [
                    "Gõ lại bằng bộ gõ ở bảng mã Unicode dựng sẵn.",
                    "Type it again with precomposed letters.",
                ],
            );
        }
    }

    fn numbers(&mut self, written: &Written) {
        if written.version == 0 {
            self.fault(
                "version",
                [
                    "phiên bản phải từ 1".to_owned(),
                    "version must be at least 1".to_owned(),
                ],
                ["Bắt đầu từ 1.", "Begin with 1."],
            );
        }
        if written.sensitivity > 3 {
            self.fault(
                "sensitivity",
                [
                    "mức nhạy cảm phải từ 0 đến 3".to_owned(),
                    "sensitivity must be 0 to 3".to_owned(),
                ],
                [
                    "0 công khai, 1 nội bộ, 2 dữ liệu cá nhân, 3 dữ liệu cá nhân nhạy cảm.",
                    "0 public, 1 internal, 2 personal, 3 sensitive personal.",
                ],
            );
        }
        if written.retention_days == 0 {
            self.fault(
                "retention_days",
                [
                    "thời hạn lưu phải từ 1 ngày".to_owned(),
                    "retention must be at least 1 day".to_owned(),
                ],
                [
                    "Ghi số ngày lưu ở trung tâm.",
                    "Write how many days the hub keeps records.",
                ],
            );
        }
    }

    fn schema_root(&mut self) {
        let root = self.schema;
        if root.get("type").and_then(Value::as_str) != Some("object") {
            self.fault(
                "schema.type",
                [
                    "lược đồ phải mô tả một đối tượng".to_owned(),
                    "the schema must describe an object".to_owned(),
                ],
                [
                    "Ghi \"type\": \"object\" ở mức ngoài cùng.",
                    "Write \"type\": \"object\" at the top.",
                ],
            );
        }
        let draft = "https://json-schema.org/draft/2020-12/schema";
        if root
            .get("$schema")
            .is_some_and(|uri| uri.as_str() != Some(draft))
        {
            self.fault(
                "schema.$schema",
                [
                    "lược đồ phải theo JSON Schema 2020-12".to_owned(),
                    "the schema must be JSON Schema 2020-12".to_owned(),
                ],
                [
                    "Bỏ $schema hoặc ghi bản 2020-12.",
                    "Leave out $schema or name the 2020-12 draft.",
                ],
            );
        }
        let mut crooked = BTreeSet::new();
        crooked_texts(root, &mut crooked);
        for text in crooked {
            self.text("schema", &text);
        }
    }

    /// A subject needs at least one field.
    fn key(&mut self, place: &str, written: OneOrMany) -> Vec<String> {
        let texts = written.into_vec();
        if texts.is_empty() {
            self.fault(
                place,
                ["thiếu trường khóa".to_owned(), "names no field".to_owned()],
                [
                    "Ghi ít nhất một trường xác định đối tượng của bản ghi.",
                    "Name at least one field that tells what a record is about.",
                ],
            );
        }
        self.pointers(place, OneOrMany::Many(texts))
    }

    /// Plain pointers to fields that the schema knows.
    fn pointers(&mut self, place: &str, written: OneOrMany) -> Vec<String> {
        let mut pointers = Vec::new();
        for text in written.into_vec() {
            match segments(&text) {
                Some(names) if !names.is_empty() => {
                    self.known(
                        place,
                        &text,
                        &names.iter().map(String::as_str).collect::<Vec<_>>(),
                    );
                    pointers.push(text);
                }
                _ => self.not_a_pointer(place, &text),
            }
        }
        pointers
    }

    fn pattern(&mut self, place: &str, text: &str) -> Option<Pattern> {
        match text.parse::<Pattern>() {
            Ok(pattern) => Some(pattern),
            Err(_) => {
                self.not_a_pointer(place, text);
                None
            }
        }
    }

    /// A pointer without `**` to a field that the schema knows.
    fn field(&mut self, place: &str, text: &str) -> Option<Pattern> {
        let pattern = self.pattern(place, text)?;
        match pattern.names() {
            Some(names) => self.known(place, text, &names),
            None => self.not_a_pointer(place, text),
        }
        Some(pattern)
    }

    fn fields(&mut self, place: &str, written: OneOrMany) -> Vec<Pattern> {
        let texts = written.into_vec().into_iter();
        texts.filter_map(|text| self.field(place, &text)).collect()
    }

    fn deliver(&mut self, written: Vec<WrittenDeliver>) -> Vec<DeliverRule> {
        let mut rules = Vec::new();
        for (n, rule) in written.into_iter().enumerate() {
            let place = format!("deliver[{}]", n + 1);
            let pointers = rule.pointer.into_vec();
            let when = (!pointers.is_empty() || !rule.values.is_empty())
                .then(|| self.condition(&place, OneOrMany::Many(pointers), rule.values));
            if let Some(to) = self.field(&format!("{place}.to"), &rule.to) {
                rules.push(DeliverRule { when, to });
            }
        }
        rules
    }

    fn status(&mut self, written: WrittenStatus) -> Option<StatusFields> {
        let mut field = |name: &str, text: &str| self.field(&format!("status.{name}"), text);
        Some(StatusFields {
            document: field("document", &written.document)?,
            from: field("from", &written.from)?,
            to: field("to", &written.to)?,
            code: field("code", &written.code)?,
            note: field("note", &written.note)?,
        })
    }

    fn packet(&mut self, written: WrittenPacket) -> Option<PacketFields> {
        let when = self.condition("packet", written.pointer, written.values);
        let mut field = |name: &str, text: &str| self.field(&format!("packet.{name}"), text);
        Some(PacketFields {
            when,
            subject: field("subject", &written.subject)?,
            code: field("code", &written.code)?,
            note: field("note", &written.note)?,
        })
    }

    fn not_a_pointer(&mut self, place: &str, text: &str) {
        self.fault(
            place,
            [format!("{text:?} không phải là con trỏ JSON"), format!("{text:?} is not a JSON pointer")],
            [
                "Viết như /nguoi_nop/loai; dùng * cho mọi phần tử của danh sách, ** cho mọi độ sâu.",
                "Write it as /nguoi_nop/loai; * is any element of a list, ** any depth.",
            ],
        );
    }

    /// A pointer into nowhere is a misspelt one.
    fn known(&mut self, place: &str, text: &str, names: &[&str]) {
        if schema::describing(self.schema, names).is_empty() {
            self.fault(
                place,
                [
                    format!("trường {text} không có trong lược đồ"),
                    format!("field {text} is not in the schema"),
                ],
                [
                    "Sửa tên trường hoặc khai báo trường trong lược đồ.",
                    "Mend the name or declare the field in the schema.",
                ],
            );
        }
    }

    fn condition(&mut self, place: &str, pointer: OneOrMany, values: Vec<Value>) -> Condition {
        let place_of_pointer = format!("{place}.pointer");
        let mut patterns = Vec::new();
        for text in pointer.into_vec() {
            if let Some(pattern) = self.pattern(&place_of_pointer, &text) {
                if let Some(names) = pattern.names() {
                    self.known(&place_of_pointer, &text, &names);
                }
                patterns.push(pattern);
            }
        }
        if values.is_empty()
            || values
                .iter()
                .any(|value| value.is_array() || value.is_object())
        {
            self.fault(
                &format!("{place}.in"),
                [
                    "phải là danh sách có chuỗi, số hoặc true/false".to_owned(),
                    "must list texts, numbers or booleans".to_owned(),
                ],
                [
                    "Ví dụ: in = [\"hoa_toc\"].",
                    "For example: in = [\"hoa_toc\"].",
                ],
            );
        }
        Condition::new(patterns, values)
    }

    fn lane(&mut self, place: &str, text: &str) -> Option<Lane> {
        match text.parse() {
            Ok(lane) => Some(lane),
            Err(_) => {
                self.fault(
                    place,
                    [
                        format!("{text:?} không phải là làn"),
                        format!("{text:?} is not a lane"),
                    ],
                    [
                        "Các làn là P0, P1, P2, P3, P4.",
                        "Lanes are P0, P1, P2, P3, P4.",
                    ],
                );
                None
            }
        }
    }

    fn lanes(&mut self, written: WrittenLane) -> Option<LaneRules> {
        let default = self.lane("lane.default", &written.default);
        let mut rules = Vec::new();
        for (n, rule) in written.rule.into_iter().enumerate() {
            let place = format!("lane.rule[{}]", n + 1);
            let condition = self.condition(&place, rule.pointer, rule.values);
            if let Some(lane) = self.lane(&format!("{place}.lane"), &rule.lane) {
                rules.push((condition, lane));
            }
        }
        Some(LaneRules {
            default: default?,
            rules,
        })
    }

    fn classification(
        &mut self,
        written: Vec<WrittenClassification>,
    ) -> (Vec<Classification>, Vec<FieldScheme>) {
        let (mut fixed, mut by_field) = (Vec::new(), Vec::new());
        for (
            n,
            WrittenClassification {
                scheme,
                code,
                pointer,
            },
        ) in written.into_iter().enumerate()
        {
            let place = format!("classification[{}]", n + 1);
            match (code, pointer) {
                (Some(code), None) => fixed.push(Classification { scheme, code }),
                (None, Some(text)) => {
                    if let Some(pattern) = self.pattern(&format!("{place}.pointer"), &text) {
                        by_field.push(FieldScheme { scheme, pointer: pattern });
                    }
                }
                _ => self.fault(
                    &place,
                    [
                        "cần đúng một trong hai mục code và pointer".to_owned(),
                        "needs either code or pointer".to_owned(),
                    ],
                    [
                        "code là mã chung của mọi bản ghi; pointer là trường chứa mã của từng bản ghi.",
                        "code is the same for all records; pointer names the field with each record's code.",
                    ],
                ),
            }
        }
        (fixed, by_field)
    }

    fn refuse(&mut self, written: Vec<WrittenRefuse>) -> Vec<RefuseRule> {
        let mut rules = Vec::new();
        for (n, rule) in written.into_iter().enumerate() {
            let place = format!("refuse[{}]", n + 1);
            self.text(&format!("{place}.reason_vi"), &rule.reason_vi);
            self.text(&format!("{place}.reason_en"), &rule.reason_en);
            rules.push(RefuseRule {
                when: self.condition(&place, rule.pointer, rule.values),
                reason_vi: rule.reason_vi,
                reason_en: rule.reason_en,
                alarm: rule.alarm,
            });
        }
        rules
    }

    #[cfg(feature = "edge")]
    fn compilable(&mut self) {
        if let Err(reason) = super::admit::Checker::compile(self.schema, &std::sync::Arc::default())
        {
            self.fault(
                "schema",
                [
                    format!("lược đồ không dùng được: {reason}"),
                    format!("the schema is not usable: {reason}"),
                ],
                [
                    "Lược đồ theo JSON Schema 2020-12, không tham chiếu ra ngoài tệp.",
                    "Write JSON Schema 2020-12 without references to other files.",
                ],
            );
        }
    }
}

/// Titles and descriptions of a schema that are not in NFC.
fn crooked_texts(value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if !is_nfc(text) => {
            out.insert(text.clone());
        }
        Value::Array(parts) => parts.iter().for_each(|part| crooked_texts(part, out)),
        Value::Object(parts) => parts.values().for_each(|part| crooked_texts(part, out)),
        _ => {}
    }
}
