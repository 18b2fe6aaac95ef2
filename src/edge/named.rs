//! Files that a record names and that were put before it: in the `attachments` of a CloudEvents event, or
//! in the field of the record that its dataset says.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::catalogue::admit::Fault;
use crate::catalogue::condition::Pattern;
use crate::model::chunk::Digest;
use crate::model::record::Attachment;

/// Most files that a record names.
const FILES_MAX: usize = 100;
const MIME: &str = "application/octet-stream";

/// A file as a record's own field names it; what else stands there is the record's business.
#[derive(Deserialize)]
struct Written {
    #[serde(alias = "name")]
    ten: String,
    #[serde(default)]
    mime: Option<String>,
    bytes: u64,
    sha256: String,
}

/// The files of an event's attribute `attachments`; an error where it is no list of them.
pub fn of_event(attribute: &Value) -> Result<Vec<Attachment>, Fault> {
    if attribute.is_null() {
        return Ok(Vec::new());
    }
    let files = Vec::<Attachment>::deserialize(attribute).ok();
    files.filter(|files| is_sound(files)).ok_or_else(|| Fault {
        pointer: "/attachments".to_owned(),
        message_vi: "“attachments” phải là danh sách tối đa 100 tệp {name, mime, bytes, sha256}; sha256 là mã đã dùng khi PUT /v1/blobs/{sha256}".to_owned(),
        message_en: "\"attachments\" must be an array of at most 100 {name, mime, bytes, sha256}, with the sha256 of PUT /v1/blobs/{sha256}".to_owned(),
    })
}

/// The files that a record names in this field; none where the field is absent or null.
pub fn in_record(field: &Pattern, data: &RawValue) -> Result<Vec<Attachment>, Fault> {
    let Ok(data) = serde_json::from_str::<Value>(data.get()) else {
        return Ok(Vec::new());
    };
    let mut files = Some(Vec::new());
    field.find(&data, &mut |value| {
        let items = match value {
            Value::Null => &[],
            Value::Array(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        for item in items {
            match (Written::deserialize(item), &mut files) {
                (Ok(written), Some(files)) => files.push(attachment(written)),
                _ => files = None,
            }
        }
        false
    });
    files.filter(|files| is_sound(files)).ok_or_else(|| Fault {
        pointer: field.to_string(),
        message_vi: format!(
            "“{field}” phải nêu tối đa 100 tệp, mỗi tệp có ten, bytes và sha256; sha256 là mã đã dùng khi PUT /v1/blobs/{{sha256}}"
        ),
        message_en: format!(
            "{field} must name at most 100 files, each with ten, bytes and the sha256 of PUT /v1/blobs/{{sha256}}"
        ),
    })
}

fn attachment(written: Written) -> Attachment {
    Attachment {
        name: written.ten,
        mime: written.mime.unwrap_or_else(|| MIME.to_owned()),
        bytes: written.bytes,
        sha256: written.sha256,
        original: false,
    }
}

fn is_sound(files: &[Attachment]) -> bool {
    let is_name = |name: &str| {
        (1..=255).contains(&name.chars().count())
            && !name
                .chars()
                .any(|c| c.is_control() || c == '/' || c == '\\')
    };
    let is_file = |file: &Attachment| {
        is_name(&file.name)
            && is_name(&file.mime.replacen('/', "", 1))
            && file.sha256.parse::<Digest>().is_ok()
    };
    files.len() <= FILES_MAX && files.iter().all(is_file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn raw(value: &Value) -> Box<RawValue> {
        serde_json::value::to_raw_value(value).unwrap()
    }

    #[test]
    fn a_field_names_files_whole_or_not_at_all() {
        let field: Pattern = "/dinh_kem".parse().unwrap();
        let digest = "0a".repeat(32);
        let good = json!({"ten": "don.pdf", "bytes": 7, "sha256": digest, "trang": 3});
        let found = in_record(&field, &raw(&json!({ "dinh_kem": [good] }))).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].name.as_str(), found[0].mime.as_str()),
            ("don.pdf", MIME)
        );
        assert_eq!((found[0].bytes, &found[0].sha256), (7, &digest));
        for none in [
            json!({}),
            json!({"dinh_kem": null}),
            json!({"dinh_kem": []}),
        ] {
            assert!(in_record(&field, &raw(&none)).unwrap().is_empty(), "{none}");
        }
        for bad in [
            json!({"ten": "don.pdf", "bytes": 7}),
            json!({"ten": "../don.pdf", "bytes": 7, "sha256": digest}),
            json!({"ten": "don.pdf", "bytes": -7, "sha256": digest}),
            json!({"ten": "don.pdf", "bytes": 7, "sha256": digest.to_uppercase()}),
            json!("don.pdf"),
        ] {
            let record = json!({ "dinh_kem": [good, bad] });
            let fault = in_record(&field, &raw(&record)).unwrap_err();
            assert_eq!(fault.pointer, "/dinh_kem", "{bad}");
        }
        let many = json!({ "dinh_kem": vec![good; 101] });
        assert!(in_record(&field, &raw(&many)).is_err());
    }

    #[test]
    fn an_event_names_files_in_an_attribute() {
        let file = json!({"name": "a", "mime": "image/png", "bytes": 1, "sha256": "0a".repeat(32)});
        assert_eq!(of_event(&json!([file])).unwrap().len(), 1);
        assert!(of_event(&Value::Null).unwrap().is_empty());
        assert!(of_event(&json!([{"name": "a"}])).is_err() && of_event(&json!("a")).is_err());
    }
}
