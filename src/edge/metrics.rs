//! The box's state for Prometheus, text format 0.0.4.

mod down;
mod family;

use crate::edge::status::{
    LaneStatus, LinkState, SourceState, SourceStatus, Stamp, Status, StopKind,
};
use crate::model::ClockQuality;
use family::{Family, seconds};

/// What the answer's `Content-Type` says.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of one moment. A metric whose value is not known is left out.
pub fn render(status: &Status) -> String {
    let mut out = String::with_capacity(8 * 1024);
    program(&mut out, status);
    link(&mut out, status);
    lanes(&mut out, status);
    store(&mut out, status);
    sources(&mut out, status);
    waiting_by_source(&mut out, status);
    if let Some(down) = &status.down {
        down::copies(&mut out, down);
        down::inbox(&mut out, down);
    }
    catalogue(&mut out, status);
    clock_and_certificate(&mut out, status);
    machine(&mut out, status);
    backup(&mut out, status);
    out
}

fn program(out: &mut String, status: &Status) {
    let labels = [
        ("version", status.version.as_str()),
        ("box", status.box_id.as_str()),
        ("agency", status.agency.as_str()),
    ];
    Family::gauge(out, "lienthong_info", "Version and identity of the box.").sample(&labels, 1);
    if let Some(since) = status.running_since {
        Family::gauge(
            out,
            "lienthong_start_timestamp_seconds",
            "When the daemon was started.",
        )
        .sample(&[], seconds(since));
    }
}

fn link(out: &mut String, status: &Status) {
    let link = &status.link;
    let up = i32::from(link.state == LinkState::Up);
    Family::gauge(
        out,
        "lienthong_link_up",
        "1 while the link to the hub stands.",
    )
    .sample(&[], up);
    if let Some(reason) = &link.reason {
        Family::gauge(
            out,
            "lienthong_link_down_reason",
            "1 for the reason why there is no link.",
        )
        .sample(&[("reason", &reason.code)], 1);
    }
    if let Some(since) = link.since {
        Family::gauge(
            out,
            "lienthong_link_since_timestamp_seconds",
            "Since when the link is in its present state.",
        )
        .sample(&[], seconds(since));
    }
    if let Some(at) = link.last_receipt {
        Family::gauge(
            out,
            "lienthong_last_receipt_timestamp_seconds",
            "When the hub's last receipt came.",
        )
        .sample(&[], seconds(at));
    }
    if let Some(down) = &status.down {
        if let Some(heard) = down.heard {
            Family::gauge(
                out,
                "lienthong_down_heard_timestamp_seconds",
                "When entries of the hub last came.",
            )
            .sample(&[], seconds(heard));
        }
        Family::gauge(
            out,
            "lienthong_down_store_bytes",
            "Bytes of what has come down.",
        )
        .sample(&[], down.used_bytes);
    }
    if let Some(refused) = &status.refused_by_hub {
        Family::gauge(
            out,
            "lienthong_refused_by_hub_timestamp_seconds",
            "When the hub last refused a batch.",
        )
        .sample(&[("code", &refused.code)], seconds(refused.at));
    }
}

/// One number of a lane.
type LaneValue = fn(&LaneStatus) -> u64;

fn lanes(out: &mut String, status: &Status) {
    if status.lanes.is_empty() {
        return;
    }
    let families: [(&str, &str, LaneValue); 5] = [
        (
            "lienthong_waiting_entries",
            "Entries that wait for the hub's receipt.",
            |lane| lane.waiting,
        ),
        (
            "lienthong_waiting_bytes",
            "Bytes of entries that wait for the hub's receipt.",
            |lane| lane.waiting_bytes,
        ),
        (
            "lienthong_oldest_waiting_seconds",
            "Age of the oldest entry that waits.",
            |lane| lane.oldest_s,
        ),
        (
            "lienthong_waiting_quota_bytes",
            "Bytes that may wait.",
            |lane| lane.quota_bytes,
        ),
        (
            "lienthong_lane_full",
            "1 while new records are refused because the lane is full.",
            |lane| u64::from(lane.full),
        ),
    ];
    for (name, help, value) in families {
        let mut family = Family::gauge(out, name, help);
        for lane in &status.lanes {
            family.sample(&[("lane", &lane.lane.to_string())], value(lane));
        }
    }
}

fn store(out: &mut String, status: &Status) {
    let store = &status.store;
    let up = i32::from(store.trouble.is_none());
    Family::gauge(out, "lienthong_store_up", "1 while the store works.").sample(&[], up);
    let families = [
        (
            "lienthong_store_used_bytes",
            "Bytes of the store in use.",
            Some(store.used_bytes),
        ),
        (
            "lienthong_store_free_bytes",
            "Free bytes inside the store's file.",
            Some(store.free_bytes),
        ),
        (
            "lienthong_store_quota_bytes",
            "Bytes that the store may take.",
            Some(store.quota_bytes),
        ),
        (
            "lienthong_disk_free_bytes",
            "Free bytes on the store's disk.",
            store.disk_free_bytes,
        ),
        (
            "lienthong_card_rated_bytes",
            "Bytes that the card's maker lets it be written in its life.",
            Some(store.card.rated_bytes),
        ),
        (
            "lienthong_card_written_per_day_bytes",
            "Bytes that the program has written to the disk a day, over the last fortnight.",
            store.card.written_per_day_bytes,
        ),
    ];
    for (name, help, value) in families {
        if let Some(value) = value {
            Family::gauge(out, name, help).sample(&[], value);
        }
    }
    Family::counter(
        out,
        "lienthong_card_written_bytes_total",
        "Bytes that the program has written to the disk since the store was created.",
    )
    .sample(&[], store.card.written_bytes);
}

fn sources(out: &mut String, status: &Status) {
    if status.sources.is_empty() {
        return;
    }
    let mut accepted = Family::counter(
        out,
        "lienthong_source_accepted_total",
        "Records accepted from a source.",
    );
    for source in &status.sources {
        accepted.sample(&[("source", &source.name)], source.accepted);
    }
    let mut refused = Family::counter(
        out,
        "lienthong_source_refused_total",
        "Records of a source refused at the door.",
    );
    for source in &status.sources {
        refused.sample(&[("source", &source.name)], source.refused);
    }
    let mut parked = Family::gauge(
        out,
        "lienthong_source_parked_rows",
        "Rows of a source that are parked.",
    );
    for source in &status.sources {
        parked.sample(&[("source", &source.name)], source.parked);
    }
    if status.sources.iter().any(|source| source.state.is_some()) {
        let mut failed = Family::gauge(
            out,
            "lienthong_source_failed",
            "1 while a source does not work and is tried again.",
        );
        for source in &status.sources {
            if let Some(state) = source.state {
                let is_failed = i32::from(state == SourceState::Failed);
                failed.sample(&[("source", &source.name)], is_failed);
            }
        }
    }
    let families: [(&str, &str, SourceTime); 2] = [
        (
            "lienthong_source_last_accepted_timestamp_seconds",
            "When a source's last records were accepted.",
            |source| source.last_accepted,
        ),
        (
            "lienthong_source_last_refused_timestamp_seconds",
            "When records of a source were last refused.",
            |source| source.last_refused,
        ),
    ];
    for (name, help, when) in families {
        if status.sources.iter().all(|source| when(source).is_none()) {
            continue;
        }
        let mut family = Family::gauge(out, name, help);
        for source in &status.sources {
            if let Some(at) = when(source) {
                family.sample(&[("source", &source.name)], seconds(at));
            }
        }
    }
}

/// A moment of a source's; none: never.
type SourceTime = fn(&SourceStatus) -> Option<Stamp>;

/// What the kernel says of the machine; what it lacks is left out.
fn machine(out: &mut String, status: &Status) {
    let machine = &status.machine;
    if let Some(memory) = machine.memory {
        let families = [
            (
                "lienthong_memory_bytes",
                "Memory of the machine.",
                memory.total_bytes,
            ),
            (
                "lienthong_memory_available_bytes",
                "Memory that programs can still get.",
                memory.available_bytes,
            ),
        ];
        for (name, help, value) in families {
            Family::gauge(out, name, help).sample(&[], value);
        }
    }
    if let Some(heat) = machine.temperature_c {
        Family::gauge(
            out,
            "lienthong_temperature_celsius",
            "The machine's hottest sensor.",
        )
        .sample(&[], heat);
    }
    if let Some(on_battery) = machine.is_on_battery() {
        Family::gauge(
            out,
            "lienthong_on_battery",
            "1 while the machine lives on a battery or UPS.",
        )
        .sample(&[], u8::from(on_battery));
    }
    if let Some(percent) = machine.charge_percent() {
        Family::gauge(
            out,
            "lienthong_battery_charge_ratio",
            "Charge of the battery or UPS, 0 to 1; the least of several.",
        )
        .sample(&[], format!("{}.{:02}", percent / 100, percent % 100));
    }
    if let Some(stop) = status.last_stop {
        let kind = match stop.kind {
            StopKind::Power => "power",
            StopKind::Killed => "killed",
        };
        Family::gauge(
            out,
            "lienthong_last_unordered_stop_timestamp_seconds",
            "The last sign of life before the last stop that nobody ordered.",
        )
        .sample(&[("kind", kind)], seconds(stop.after));
    }
}

/// The nightly backup, where one is configured.
fn backup(out: &mut String, status: &Status) {
    let Some(backup) = &status.backup else {
        return;
    };
    Family::gauge(
        out,
        "lienthong_backup_failed",
        "1 while the last try of a backup has failed.",
    )
    .sample(&[], u8::from(backup.fault.is_some()));
    let Some(last) = &backup.last else {
        return;
    };
    Family::gauge(
        out,
        "lienthong_backup_last_success_timestamp_seconds",
        "When the last backup was made that was restored on trial.",
    )
    .sample(&[], seconds(last.at));
    let families = [
        (
            "lienthong_backup_last_size_bytes",
            "Size of the last good backup.",
            last.bytes,
        ),
        (
            "lienthong_backup_last_entries",
            "Entries in the last good backup.",
            last.entries,
        ),
        (
            "lienthong_backup_on_same_disk",
            "1 while backups lie on the disk of the store itself.",
            u64::from(last.same_disk),
        ),
    ];
    for (name, help, value) in families {
        Family::gauge(out, name, help).sample(&[], value);
    }
}

/// What waits by source, where it was counted.
fn waiting_by_source(out: &mut String, status: &Status) {
    let Some(counted) = &status.waiting_by_source else {
        return;
    };
    if counted.sources.is_empty() {
        return;
    }
    let mut entries = Family::gauge(
        out,
        "lienthong_source_waiting_entries",
        "Entries of a source that wait for the hub's receipt; source is empty for attachments.",
    );
    for waiting in &counted.sources {
        let source = waiting.source.as_deref().unwrap_or_default();
        entries.sample(&[("source", source)], waiting.entries);
    }
}

fn catalogue(out: &mut String, status: &Status) {
    let editions = [
        ("current", &status.catalogue.current),
        ("next", &status.catalogue.next),
    ];
    let known = || {
        let editions = editions.iter();
        editions.filter_map(|(state, edition)| Some((*state, edition.as_ref()?)))
    };
    if known().next().is_some() {
        let mut family = Family::gauge(
            out,
            "lienthong_catalogue_version",
            "Version of the catalogue that holds, and of the one that is to come.",
        );
        for (state, edition) in known() {
            family.sample(&[("state", state)], edition.version);
        }
    }
    if let Some(kbps) = status.bandwidth_kbps {
        Family::gauge(
            out,
            "lienthong_bandwidth_kbps",
            "Kilobits a second that the lanes P2 to P4 may use now.",
        )
        .sample(&[], kbps);
    }
}

fn clock_and_certificate(out: &mut String, status: &Status) {
    let synchronized = status.clock.quality == ClockQuality::Synchronized;
    Family::gauge(
        out,
        "lienthong_clock_synchronized",
        "1 while a time server is known to discipline the clock.",
    )
    .sample(&[], i32::from(synchronized));
    let believed = status.clock.quality != ClockQuality::Floor;
    Family::gauge(
        out,
        "lienthong_clock_believed",
        "0 while the system's clock stands before a time that is known to be past.",
    )
    .sample(&[], i32::from(believed));
    if let Some(certificate) = &status.certificate {
        Family::gauge(
            out,
            "lienthong_certificate_expiry_timestamp_seconds",
            "When the box's certificate ends.",
        )
        .sample(&[], seconds(certificate.not_after));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::edge::page::tests::{HOSTILE, bare, failed_backup, full};
    use crate::model::UnixMs;

    /// Reads the text as a scraper does: every sample after its HELP and TYPE, each family in one
    /// group, values numbers, counters ending in `_total`.
    fn read(text: &str) -> BTreeMap<String, f64> {
        assert!(text.ends_with('\n'));
        let (mut samples, mut families) = (BTreeMap::new(), Vec::new());
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("name and help");
                assert!(
                    !help.is_empty() && !families.contains(&name),
                    "{name} stands twice"
                );
                families.push(name);
                let kind = lines.next().expect("a TYPE after each HELP");
                let kind = kind
                    .strip_prefix(&format!("# TYPE {name} "))
                    .expect("its TYPE");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                assert!(name.starts_with("lienthong_"));
                assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
                continue;
            }
            let (series, value) = line.rsplit_once(' ').expect("a sample");
            let name = series.split('{').next().expect("a name");
            assert_eq!(
                Some(&name),
                families.last(),
                "{series} outside of its family"
            );
            let value: f64 = value.parse().expect("a number");
            assert!(
                samples.insert(series.to_owned(), value).is_none(),
                "{series} twice"
            );
        }
        samples
    }

    #[test]
    fn a_running_box_is_told_in_numbers() {
        let samples = read(&render(&full()));
        let value = |series: &str| {
            *samples
                .get(series)
                .unwrap_or_else(|| panic!("{series} in {samples:?}"))
        };
        assert_eq!(value("lienthong_waiting_entries{lane=\"P2\"}"), 12_345.0);
        assert_eq!(
            value("lienthong_oldest_waiting_seconds{lane=\"P2\"}"),
            120.0
        );
        assert_eq!(value("lienthong_link_up"), 1.0);
        assert_eq!(value("lienthong_store_up"), 1.0);
        assert_eq!(
            value("lienthong_source_accepted_total{source=\"quan-trac\"}"),
            1_000.0
        );
        for (series, number) in [
            ("lienthong_copy_subjects{dataset=\"ho_so_tthc\"}", 45_678.0),
            ("lienthong_copy_withdrawn{dataset=\"ho_so_tthc\"}", 0.0),
            (
                "lienthong_copy_compare_mended_subjects{dataset=\"ho_so_tthc\"}",
                9.0,
            ),
            ("lienthong_inbox_unread", 2.0),
            ("lienthong_inbox_oldest_unread_seconds", 600.0),
            ("lienthong_inbox_unread_by_status{status=\"01\"}", 2.0),
            ("lienthong_inbox_way_failed{inbox=\"qlvb-web\"}", 0.0),
            ("lienthong_commands_pending", 0.0),
            (
                "lienthong_source_waiting_entries{source=\"quan-trac\"}",
                12_000.0,
            ),
            ("lienthong_temperature_celsius", 48.3),
            ("lienthong_memory_available_bytes", 629_145_600.0),
            ("lienthong_on_battery", 0.0),
            ("lienthong_battery_charge_ratio", 1.0),
            ("lienthong_backup_failed", 0.0),
            (
                "lienthong_backup_last_success_timestamp_seconds",
                1_789_964_000.0,
            ),
            ("lienthong_backup_last_size_bytes", 3_500_000.0),
        ] {
            assert_eq!(value(series), number, "{series}");
        }
        assert!(!samples.keys().any(|series| series.contains("loading")));
        assert_eq!(
            value("lienthong_certificate_expiry_timestamp_seconds"),
            1_850_000_000.0
        );
    }

    #[test]
    fn an_unreadable_store_leaves_out_what_is_not_known() {
        let text = render(&bare());
        let samples = read(&text);
        assert_eq!(samples["lienthong_link_up"], 0.0);
        assert_eq!(samples["lienthong_store_up"], 0.0);
        assert!(!text.contains("lienthong_waiting_entries"), "{text}");
        assert!(!text.contains("certificate"), "{text}");
    }

    #[test]
    fn a_backup_that_failed_is_told_and_none_that_nobody_wants() {
        let mut status = full();
        status.backup = Some(failed_backup());
        assert_eq!(read(&render(&status))["lienthong_backup_failed"], 1.0);
        status.backup = None;
        assert!(!render(&status).contains("backup"));
    }

    #[test]
    fn labels_are_escaped() {
        let mut status = full();
        status.sources[0].name = format!("{HOSTILE}\\\n");
        let text = render(&status);
        read(&text);
        assert!(
            text.contains(r#"accepted_total{source="\"><script>alert('x')</script>&\\\n"} "#),
            "{text}"
        );
    }

    #[test]
    fn times_keep_their_milliseconds() {
        assert_eq!(
            seconds(Stamp(UnixMs(1_790_000_000_007))).to_string(),
            "1790000000.007"
        );
        assert_eq!(seconds(Stamp(UnixMs(-1_500))).to_string(), "-1.500");
    }
}
