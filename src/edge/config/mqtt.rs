//! Settings of kind `mqtt`: which local broker, which topics, and what a topic's levels say.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::edge::config::load::address_at;
use crate::edge::json_rows::Fields;
use crate::shell::dial::Address;
use crate::shell::settings::section::Section;
use crate::shell::settings::units::Wrong;
use crate::shell::systemd::credential;

const PORT: u16 = 1883;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const DAY_MS: u64 = 86_400_000;

#[derive(Debug, Clone)]
pub struct MqttConfig {
    pub broker: Address,
    pub topics: Vec<String>,
    /// None: made of the box's and the source's names.
    pub client_id: Option<String>,
    /// Whom to trust; without it there is no TLS.
    pub authority: Option<PathBuf>,
    pub user: Option<String>,
    /// File with the password.
    pub password: Option<PathBuf>,
    /// How long the broker keeps messages while the box is away.
    pub session_ms: u64,
    pub in_flight: u16,
    pub message_bytes_max: u64,
    /// JSON pointer to what makes a message unique.
    pub message_key: Option<String>,
    pub fields: Fields,
    /// Field of the dataset by the level of the topic that says it, from 1.
    pub topic_fields: BTreeMap<String, usize>,
}

pub fn read(mut section: Section) -> Option<MqttConfig> {
    let broker = section.value("broker", Some("127.0.0.1:1883"), |text| {
        address_at(text, PORT, "127.0.0.1:1883")
    });
    let topics = section.texts("topics", None, topic_filter);
    let client_id = section.optional("client_id", |text| Ok(text.to_owned()));
    let authority = section.optional_path("ca");
    let user = section.optional("user", |text| Ok(text.to_owned()));
    let password = section.optional_path("password_file");
    let session_ms = section.duration("session_keep", "7 d", 60_000..=365 * DAY_MS);
    let in_flight = section.number("in_flight", 16, 1..=1_000);
    let message_bytes_max = section.size("message_max", "256 KiB", KIB..=8 * MIB);
    let message_key = section.optional("message_key", pointer);
    let fields = section.rest("fields");
    let topic_fields: Option<BTreeMap<String, usize>> = section.rest("topic_fields");
    Some(MqttConfig {
        broker: broker?,
        topics: topics?,
        client_id: client_id?,
        authority: authority?,
        user: user?,
        password: password?.map(credential),
        session_ms: session_ms?,
        in_flight: u16::try_from(in_flight?).expect("bounded above"),
        message_bytes_max: message_bytes_max?,
        message_key: message_key?,
        fields: fields?,
        topic_fields: topic_fields?,
    })
}

/// A JSON pointer (RFC 6901).
pub fn pointer(text: &str) -> Result<String, Wrong> {
    match text.is_empty() || text.starts_with('/') {
        true => Ok(text.to_owned()),
        false => Err(Wrong {
            vi: format!("“{text}” không phải là con trỏ JSON"),
            en: format!("{text:?} is not a JSON pointer"),
            hint_vi: "Viết đường dẫn bắt đầu bằng dấu /, ví dụ \"/du_lieu/ma\".".to_owned(),
            hint_en: "Write a path that begins with /, such as \"/data/id\".".to_owned(),
        }),
    }
}

/// Where `#` and `+` may stand (MQTT 5, 4.7.1).
fn topic_filter(text: &str) -> Result<String, Wrong> {
    let levels: Vec<&str> = text.split('/').collect();
    let last = levels.len() - 1;
    let is_good = |(place, level): (usize, &&str)| match *level {
        "#" => place == last,
        "+" => true,
        level => !level.contains(['#', '+', '\0']),
    };
    if !text.is_empty() && levels.iter().enumerate().all(is_good) {
        return Ok(text.to_owned());
    }
    Err(Wrong {
        vi: format!("“{text}” không phải là bộ lọc chủ đề MQTT"),
        en: format!("{text:?} is not an MQTT topic filter"),
        hint_vi: "Dùng + cho một cấp và # ở cuối cho mọi cấp, ví dụ \"tram/+/so-lieu\".".to_owned(),
        hint_en: "Use + for one level and # at the end for all, such as \"station/+/data\"."
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_filters_have_their_marks_where_they_may_be() {
        for good in ["a", "a/+/b", "+", "#", "a/#", "/a"] {
            assert!(topic_filter(good).is_ok(), "{good}");
        }
        for bad in ["", "a/#/b", "a+", "a#", "a\0"] {
            assert!(topic_filter(bad).is_err(), "{bad:?}");
        }
    }
}
