//! Metrics of what the hub has sent: copies, the inbox with its ways and files, commands.

use super::family::{Family, seconds};
use crate::edge::status::down::{CopyStatus, DownStatus, WayStatus};

/// One number of a copy; none: not told.
type CopyValue = fn(&CopyStatus) -> Option<String>;

pub(super) fn copies(out: &mut String, down: &DownStatus) {
    let families: [(&str, &str, CopyValue); 8] = [
        (
            "lienthong_copy_subjects",
            "Subjects that a dataset's copy holds.",
            |copy| Some(copy.subjects.to_string()),
        ),
        (
            "lienthong_copy_as_of_timestamp_seconds",
            "When the hub last said something of a dataset.",
            |copy| Some(seconds(copy.as_of).to_string()),
        ),
        (
            "lienthong_copy_loading_seen",
            "Subjects of the hub's that the load that goes on has looked at.",
            |copy| copy.load.map(|load| load.seen.to_string()),
        ),
        (
            "lienthong_copy_loading_subjects",
            "Subjects at the hub when the load that goes on began.",
            |copy| copy.load.map(|load| load.of.to_string()),
        ),
        (
            "lienthong_copy_withdrawn",
            "1 for a dataset whose right has ended.",
            |copy| Some(u8::from(copy.withdrawn).to_string()),
        ),
        (
            "lienthong_copy_compare_timestamp_seconds",
            "When a copy was last compared with the hub's.",
            |copy| Some(seconds(copy.compared.as_ref()?.at).to_string()),
        ),
        (
            "lienthong_copy_compare_mended_subjects",
            "Subjects that were sent again in that comparison.",
            |copy| Some(copy.compared.as_ref()?.subjects.to_string()),
        ),
        (
            "lienthong_copy_compare_failed",
            "1 while the last comparison has left a difference.",
            |copy| Some(u8::from(copy.compared.as_ref()?.is_alarming()).to_string()),
        ),
    ];
    for (name, help, value) in families {
        let copies = down.copies.iter();
        let samples: Vec<_> = copies
            .filter_map(|copy| Some((copy, value(copy)?)))
            .collect();
        if samples.is_empty() {
            continue;
        }
        let mut family = Family::gauge(out, name, help);
        for (copy, value) in samples {
            family.sample(&[("dataset", copy.dataset.as_str())], value);
        }
    }
}

/// One number of a way out of the inbox.
type WayValue = fn(&WayStatus) -> u64;

pub(super) fn inbox(out: &mut String, down: &DownStatus) {
    let inbox = &down.inbox;
    let families = [
        (
            "lienthong_inbox_unread",
            "Documents that the office's software has not taken over.",
            inbox.unread,
        ),
        (
            "lienthong_inbox_oldest_unread_seconds",
            "Age of the oldest of them.",
            inbox.oldest_s,
        ),
        (
            "lienthong_inbox_unsaid_statuses",
            "Statuses of this office's that are not yet on their way.",
            inbox.unsaid,
        ),
        (
            "lienthong_files_coming",
            "Files that documents name and that are not whole yet.",
            down.files.coming,
        ),
        (
            "lienthong_files_coming_bytes",
            "Bytes of these that have not come.",
            down.files.coming_bytes,
        ),
        (
            "lienthong_files_bytes",
            "Bytes that the files take that came with documents.",
            down.files.used_bytes,
        ),
        (
            "lienthong_files_full",
            "Files for which there is no room.",
            down.files.full,
        ),
        (
            "lienthong_files_refused",
            "Files that the hub keeps back.",
            down.files.refused,
        ),
        (
            "lienthong_commands_pending",
            "Commands of the hub's that are not through.",
            down.pending(),
        ),
    ];
    for (name, help, value) in families {
        Family::gauge(out, name, help).sample(&[], value);
    }
    if !inbox.by_status.is_empty() {
        let mut family = Family::gauge(
            out,
            "lienthong_inbox_unread_by_status",
            "Documents that were not taken over, by their highest status.",
        );
        for (code, count) in &inbox.by_status {
            family.sample(&[("status", code)], count);
        }
    }
    let ways: [(&str, &str, WayValue); 2] = [
        (
            "lienthong_inbox_way_waiting",
            "Documents that have not gone out by a way.",
            |way| way.waiting,
        ),
        (
            "lienthong_inbox_way_failed",
            "Documents that were tried in vain by a way.",
            |way| way.failed,
        ),
    ];
    for (name, help, value) in ways.into_iter().filter(|_| !inbox.ways.is_empty()) {
        let mut family = Family::gauge(out, name, help);
        for way in &inbox.ways {
            family.sample(&[("inbox", &way.name)], value(way));
        }
    }
}
